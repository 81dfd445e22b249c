"""One engine as its statistics describe it: totals since it was first heard of, and the scheduler's last word.

`Engine.step` runs once an engine step, on the event loop that serves all requests: integer additions and attribute reads,
nothing else. Fields that this vLLM does not have are left out, so their metrics are absent. Turning it into points is
left to `metrics.py`, finished requests one by one to `requests.py`.
"""

from collections.abc import Mapping
from typing import Any, Final

from otel_llm.records import Value

from .limits import Capacity, Limit, limit_of

PHASES: Final = (("queue", "queued_time"), ("prefill", "prefill_time"), ("decode", "decode_time"))
"""The phases of a request, and the fields of FinishedRequestStats that hold their times."""
_LONGEST_S: Final = 30 * 24 * 3600.0  # more is no time of a request but a clock itself


def interval(finished: Any, field: str) -> float | None:
    """Return a time of a finished request; vLLM takes differences, and one that lacks an end is negative, or a clock."""
    seconds: float | None = getattr(finished, field, None)
    return seconds if seconds is not None and 0.0 <= seconds < _LONGEST_S else None


class Tally:
    """Running totals of some whole-number fields of one kind of statistics; a field that never came has none."""

    __slots__ = ("fields", "totals")

    def __init__(self, *fields: str) -> None:
        self.fields: Final = fields
        self.totals: Final[dict[str, int]] = {}

    def add(self, statistics: Any) -> None:
        """Add what one message tells."""
        totals = self.totals
        for field in self.fields:
            value = getattr(statistics, field, None)
            if value is not None:
                totals[field] = totals.get(field, 0) + value


class Engine:
    """The state of one engine. Written by vLLM's event loop, read by whoever collects metrics."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_ended_now",
        "_ended_tokens",
        "_preempted_now",
        "_started",
        "attributes",
        "capacity",
        "external_prefix",
        "finished",
        "is_first_server",
        "iteration",
        "multimodal",
        "phases_s",
        "prefix",
        "prompt",
        "scheduler",
        "sleep_level",
        "speculative",
        "unaccounted_requests",
        "unaccounted_tokens",
    )

    def __init__(self, attributes: Mapping[str, Value], capacity: Capacity, *, is_first_server: bool = True) -> None:
        """Start from nothing; `attributes` tell this engine from others on every point."""
        self.attributes: Final = attributes
        self.capacity = capacity
        self.is_first_server: Final = is_first_server
        self.iteration: Final = Tally("num_generation_tokens", "num_preempted_reqs")
        self.prompt: Final = Tally("computed", "local_cache_hit", "external_kv_transfer")
        self.prefix: Final = Tally("queries", "hits")
        self.external_prefix: Final = Tally("queries", "hits")
        self.multimodal: Final = Tally("queries", "hits")
        self.speculative: Final = Tally("num_drafts", "num_draft_tokens", "num_accepted_tokens")
        self.finished: Final[dict[str, int]] = {}  # by reason, in vLLM's words
        self.phases_s: Final[dict[str, float]] = {}  # of finished requests, together
        self.scheduler: Any = None  # the last SchedulerStats, whole: nobody changes it once it is here
        self.sleep_level = 0
        self.unaccounted_requests: int | None = None
        self.unaccounted_tokens: int | None = None
        self._started = self._ended = self._ended_tokens = self._ended_now = 0
        self._preempted_now = False

    def step(self, scheduler: Any, iteration: Any, multimodal: Any) -> None:
        """Take in what one step of the engine tells; each of the three may be None."""
        if iteration is not None:
            self._iterated(iteration)
        else:  # a step that gave no output
            self._ended_now, self._preempted_now = 0, False
        if scheduler is not None:
            self.scheduler = scheduler
            self.prefix.add(getattr(scheduler, "prefix_cache_stats", None))
            external = getattr(scheduler, "connector_prefix_cache_stats", None)
            if external is not None:
                self.external_prefix.add(external)
            speculative = getattr(scheduler, "spec_decoding_stats", None)
            if speculative is not None:
                self.speculative.add(speculative)
            self._settle(scheduler)
        if multimodal is not None:
            self.multimodal.add(multimodal)

    def limit(self) -> Limit | None:
        """Return what held the engine back in its last step; None before it has made one."""
        told = self.scheduler
        running, waiting = (getattr(told, name, None) for name in ("num_running_reqs", "num_waiting_reqs"))
        if running is None or waiting is None:
            return None
        prompts = self.prompt.totals
        return limit_of(
            running=running,
            waiting=waiting,
            deferred=getattr(told, "num_skipped_waiting_reqs", 0),
            ended=self._ended_now,
            preempted=self._preempted_now,
            kv_utilization=getattr(told, "kv_cache_usage", None),
            mean_prompt_tokens=sum(prompts.values()) / self._started if self._started and prompts else None,
            capacity=self.capacity,
        )

    def _iterated(self, iteration: Any) -> None:
        self.iteration.add(iteration)
        first_tokens = getattr(iteration, "time_to_first_tokens_iter", None)
        if first_tokens or not self.prompt.totals:  # prompts are counted in the message of their first token
            self._started += len(first_tokens or ())
            self.prompt.add(getattr(iteration, "prompt_token_stats", None))
        finished = getattr(iteration, "finished_requests", ())
        for request in finished:
            reason = str(request.finish_reason)
            self.finished[reason] = self.finished.get(reason, 0) + 1
            self._ended_tokens += request.num_generation_tokens
            for phase, field in PHASES:
                seconds = interval(request, field)
                if seconds is not None:
                    self.phases_s[phase] = self.phases_s.get(phase, 0.0) + seconds
        self._ended_now = len(finished)
        self._ended += self._ended_now
        self._preempted_now = bool(getattr(iteration, "num_preempted_reqs", 0))

    def _settle(self, scheduler: Any) -> None:
        """Raise the count of requests that vLLM has lost sight of, which are those that were aborted, by the balance.

        A request that gave its first token is in the engine, or has ended with statistics, or was aborted: vLLM keeps none
        of those. At most all that run and wait now are in the engine with a token to their name, and at most
        `max_model_len` tokens belong to each; what is missing beyond that is missing for good. Both figures are lower
        bounds that only rise, and exact whenever the engine has nothing to do.
        """
        running = getattr(scheduler, "num_running_reqs", None)
        waiting = getattr(scheduler, "num_waiting_reqs", None)
        longest = self.capacity.request_tokens
        generated = self.iteration.totals.get("num_generation_tokens")
        if running is None or waiting is None or longest is None or generated is None:
            return
        in_engine = running + waiting + getattr(scheduler, "num_skipped_waiting_reqs", 0)
        tokens = generated - self._ended_tokens
        # A session whose input streams starts again with every piece of it; but who is lost has left a token at least.
        requests = min(self._started - self._ended - in_engine, tokens)
        if requests > (self.unaccounted_requests or 0) or self.unaccounted_requests is None:
            self.unaccounted_requests = max(requests, 0)
        tokens -= in_engine * longest
        if tokens > (self.unaccounted_tokens or 0) or self.unaccounted_tokens is None:
            self.unaccounted_tokens = max(tokens, 0)
