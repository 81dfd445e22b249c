"""Continuous batching, as vLLM's scheduler does it, without a model: who is read, who gets a token, who has to wait.

Pure: no clock, no threads, no I/O. `begin(now)` decides what one step does and takes the memory for it, `finish(step, now)` says
that it is done; in between, sequences may be added and aborted. `step(now)` does both, for as long as the step takes.

The order of vLLM holds: those that run come first, each with one token or the next part of its prompt, within a budget of
tokens a step; then those that wait are let in, oldest first, while there are budget, seats and blocks. When a running one needs a
block and none is free, the one let in last is preempted: it gives its blocks back and is read again later, from the start.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from otel_agent.simulate.blocks import START, Blocks, block_hash, prefix_hashes
from otel_agent.simulate.options import BLOCK_TOKENS, EngineOptions
from otel_agent.simulate.sequence import Reason, Sequence


@dataclass(slots=True)
class Step:
    """One step of the engine: what it works on, how long that takes, and, once it is finished, what came of it."""

    began_s: float
    work: list[tuple[Sequence, int]] = field(default_factory=list)  # with the number of tokens computed
    admitted: list[Sequence] = field(default_factory=list)  # for the first time
    preempted: list[Sequence] = field(default_factory=list)
    duration_s: float = 0.0
    ended_s: float | None = None
    began_to_speak: list[Sequence] = field(
        default_factory=list
    )  # got their first token, or were read whole and have no answer
    gaps_s: list[float] = field(default_factory=list)  # between the last two tokens of each of the others that got one
    spoke: list[Sequence] = field(default_factory=list)  # both of these
    finished: list[Sequence] = field(default_factory=list)


class Engine:
    """The scheduler, its queue and its KV cache."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self.blocks = Blocks(options.kv_blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.paused: Literal["new", "all"] | None = None  # nobody is let in, or nothing is done at all

    def add(self, sequence: Sequence, now: float) -> None:
        """Put a sequence into the queue; raises ValueError for one that can never be served."""
        if not sequence.prompt:
            raise ValueError("the prompt is empty")
        wanted = len(sequence.prompt) + (sequence.answer.tokens if sequence.answer else 0)
        if wanted > self._options.max_model_len:
            raise ValueError(f"{wanted} tokens are more than the {self._options.max_model_len} of the model")
        sequence.queued_s = now
        sequence.hashes = prefix_hashes(sequence.prompt)
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence, reason: Reason = "abort") -> bool:
        """End a sequence wherever it is and take its blocks back; False where it had ended by itself."""
        if sequence.finish:
            return False
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
        self._end(sequence, reason)
        return True

    def step(self, now: float) -> Step | None:
        """Do one step that begins now and takes as long as it takes; None where there is nothing to do."""
        if step := self.begin(now):
            self.finish(step, now + step.duration_s)
        return step

    def begin(self, now: float) -> Step | None:
        """Decide on the next step and take the blocks that it needs; None where there is nothing to do."""
        if self.paused == "all":
            return None
        step = Step(now)
        budget = self._continue(step, self._options.max_num_batched_tokens)
        if not step.preempted and not self.paused:  # what preemption freed is for those that run
            self._admit(step, budget)
        if not step.work:
            return None
        step.duration_s = self._duration(step)
        return step

    def finish(self, step: Step, now: float) -> None:
        """Take note that a step is done: tokens are there, and some sequences are at their end."""
        step.ended_s = now
        for sequence, count in step.work:
            if sequence.finish:  # aborted meanwhile
                continue
            sequence.computed += count
            self._remember(sequence)
            if sequence.computed == sequence.length and self._speak(sequence, step, now):
                self.running.remove(sequence)
                step.finished.append(sequence)

    def _continue(self, step: Step, budget: int) -> int:
        at = 0
        while at < len(self.running) and budget:
            sequence = self.running[at]
            count = min(sequence.length - sequence.computed, budget)
            if not self._make_room(sequence, count, step):
                break
            step.work.append((sequence, count))
            budget -= count
            at += 1
        return budget

    def _make_room(self, sequence: Sequence, count: int, step: Step) -> bool:
        missing = -(-(sequence.computed + count) // BLOCK_TOKENS) - len(sequence.blocks)
        if missing <= 0:
            return True
        while (new := self.blocks.take(missing)) is None:
            last = self.running.pop()
            self._preempt(last)
            step.preempted.append(last)
            if last is sequence:
                return False
        sequence.blocks += new
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.blocks.give_back(sequence.blocks)
        sequence.blocks, sequence.computed, sequence.filled = [], 0, 0
        sequence.preemptions += 1
        self.waiting.appendleft(sequence)

    def _admit(self, step: Step, budget: int) -> None:
        while budget and self.waiting and len(self.running) < self._options.max_num_seqs:
            sequence = self.waiting[0]
            # The last token is always computed: the next one comes out of it.
            shared = self.blocks.known(sequence.hashes[: (sequence.length - 1) // BLOCK_TOKENS])
            cached = len(shared) * BLOCK_TOKENS
            count = min(sequence.length - cached, budget)
            blocks = self.blocks.take(-(-(cached + count) // BLOCK_TOKENS) - len(shared), shared)
            if blocks is None:
                break
            self.waiting.popleft()
            self.running.append(sequence)
            sequence.blocks, sequence.computed, sequence.filled = blocks, cached, len(shared)
            if sequence.scheduled_s is None:
                sequence.scheduled_s, sequence.cached = step.began_s, cached
                step.admitted.append(sequence)
            step.work.append((sequence, count))
            budget -= count

    def _duration(self, step: Step) -> float:
        options = self._options
        # Who has a single token to compute decodes; the rest is prompt, which is read in bulk.
        prompt = sum(count for _, count in step.work if count > 1)
        reading = prompt / options.prefill_tokens_per_s if options.prefill_tokens_per_s else 0.0
        return options.step_s + (len(step.work) - 1) * options.sequence_s + reading

    def _remember(self, sequence: Sequence) -> None:
        full = sequence.computed // BLOCK_TOKENS
        while sequence.filled < full:
            at = sequence.filled
            if at == len(sequence.hashes):
                before = sequence.hashes[-1] if sequence.hashes else START
                sequence.hashes.append(block_hash(before, sequence.tokens(at * BLOCK_TOKENS, (at + 1) * BLOCK_TOKENS)))
            self.blocks.filled(sequence.blocks[at], sequence.hashes[at])
            sequence.filled += 1

    def _speak(self, sequence: Sequence, step: Step, now: float) -> bool:
        """Take note of one more token, or of the end of reading; True where it was the last."""
        step.spoke.append(sequence)
        if sequence.last_s is None:
            sequence.first_s = now
            step.began_to_speak.append(sequence)
        else:
            step.gaps_s.append(now - sequence.last_s)
        sequence.last_s = now
        if sequence.answer is None:
            return self._end(sequence, "stop")
        sequence.generated += 1
        if sequence.generated == sequence.error_after:
            return self._end(sequence, "error")
        return sequence.generated == sequence.answer.tokens and self._end(sequence, sequence.answer.reason)

    def _end(self, sequence: Sequence, reason: Reason) -> Literal[True]:
        sequence.finish = reason
        self.blocks.give_back(sequence.blocks)
        sequence.blocks = []
        return True
