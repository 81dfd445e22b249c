"""The engine on the real clock: steps that take their time, callers that wait for their tokens and may leave.

Everything here runs on one event loop; steps and callers take turns.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from otel_agent.simulate.engine import Engine, Step
from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.sequence import Sequence
from otel_agent.simulate.tallies import EngineTallies


class EngineDead(Exception):
    """The engine died, and with it everything that it was working on."""

    def __init__(self) -> None:
        super().__init__("EngineCore encountered an issue. See stack trace (above) for the root cause.")


class QueueFull(Exception):
    """More sequences would be unfinished than may be."""

    def __init__(self) -> None:
        super().__init__(
            "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
        )


@dataclass(eq=False)
class Call:
    """One HTTP request's business with the engine: its sequences, and what their spans say beyond them."""

    id: str
    sequences: list[Sequence]
    headers: Mapping[str, str] = field(default_factory=dict)  # traceparent and tracestate, as far as they came
    temperature: float | None = None
    top_p: float | None = None
    arrived_s: float = field(default_factory=time.time)  # on the wall clock, unlike all times of a sequence
    dead: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self) -> None:
        """Wait until a token or an end has come since the last time; raises EngineDead."""
        await self._news.wait()
        self._news.clear()
        if self.dead:
            raise EngineDead

    async def end(self) -> None:
        """Wait until all sequences are at their end; raises EngineDead."""
        while not all(sequence.finish for sequence in self.sequences):
            await self.change()

    def wake(self) -> None:
        """Let the caller look again."""
        self._news.set()


Ended = Callable[[Call, Sequence, float], None]


class LiveEngine:
    """An engine that runs while there is work; `ended` hears of every sequence that the engine itself ended."""

    def __init__(self, options: EngineOptions, tallies: EngineTallies, ended: Ended = lambda *_: None) -> None:
        self.engine = Engine(options)
        self.dead = False
        self.sleeping: int | None = None
        self._most = options.max_num_queued_reqs
        self._tallies = tallies
        self._ended = ended
        self._calls: dict[Sequence, Call] = {}
        self._work, self._idle = asyncio.Event(), asyncio.Event()

    @property
    def calls(self) -> int:
        """How many calls are being served."""
        return len(set(self._calls.values()))

    def admit(self, sequences: int) -> None:
        """Say whether so many more may be submitted; raises EngineDead or QueueFull."""
        if self.dead:
            raise EngineDead
        if len(self._calls) + sequences > self._most:
            self._tallies.turned_away()
            raise QueueFull

    def submit(self, call: Call) -> None:
        """Queue a call's sequences; raises as `admit` does, and ValueError where one can never be served."""
        self.admit(len(call.sequences))
        now = time.monotonic()
        for sequence in call.sequences:
            self.engine.add(sequence, now)
            self._calls[sequence] = call
        self._work.set()

    def abandon(self, call: Call) -> None:
        """Abort what is left of a call whose client has gone; vLLM's statistics never hear of it."""
        for sequence in call.sequences:
            if self._calls.pop(sequence, None):
                self.engine.abort(sequence)
        call.wake()

    async def run(self) -> None:
        """Work until cancelled."""
        while not self.dead:
            step = self.engine.begin(time.monotonic())
            if step is None:
                self._work.clear()
                self._idle.set()
                await self._work.wait()
                continue
            self._idle.clear()
            await asyncio.sleep(step.duration_s)
            if not self.dead:
                self._done(step)

    def _done(self, step: Step) -> None:
        self.engine.finish(step, time.monotonic())
        self._tallies.record(step)
        self._tell_ended(step.finished)
        for sequence in step.spoke:
            if call := self._calls.get(sequence):
                call.wake()
        for sequence in step.finished:
            self._calls.pop(sequence, None)

    def _tell_ended(self, sequences: Iterable[Sequence]) -> None:
        now = time.time()
        for sequence in sequences:
            if call := self._calls.get(sequence):
                self._ended(call, sequence, now)

    def die(self) -> None:
        """Die as an engine core does: what runs fails, and nothing is served any more."""
        self.dead = True
        for call in set(self._calls.values()):
            call.dead = True
            call.wake()
        self._calls.clear()
        self._work.set()
        self._idle.set()

    async def sleep(self, level: int, mode: str) -> None:
        """Fall asleep: 0 only stops, 1 and 2 forget the cache too; what is in flight is aborted, kept or waited for."""
        engine = self.engine
        engine.paused = "all" if mode == "keep" else "new"
        if mode == "abort":
            ending = [*engine.running, *engine.waiting]
            for sequence in ending:
                engine.abort(sequence)
                self._tallies.ended(sequence)
            self._tell_ended(ending)
            for sequence in ending:
                self._calls.pop(sequence).wake()
        if mode == "wait" and engine.running:
            await self._idle.wait()
        if level >= 1:
            engine.blocks.forget()
        self.sleeping = level
        self._tallies.slept(level)

    def wake_up(self) -> None:
        """Go on with what has queued up meanwhile."""
        self.engine.paused = None
        self.sleeping = None
        self._tallies.slept(None)
        self._work.set()
