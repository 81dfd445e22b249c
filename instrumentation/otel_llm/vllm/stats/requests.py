"""Recording finished requests one by one, each with the context its id names, so that exemplars lead to its trace.

What vLLM cannot know is not recorded: no time to first token of a request without a token, no time per token of a reply of
one, no time of which an end was never noted. What the engine does as a whole is left to `engine.py`.
"""

from typing import Any, Final

from opentelemetry.metrics import Meter

from otel_llm import semconv
from otel_llm.metrics import histogram
from otel_llm.records import Value
from otel_llm.vllm.operations import operation_of_id

from . import metrics
from .engine import PHASES, Engine, interval
from .request_id import context_of

PROVIDER: Final = "vllm"
_FAILED: Final = frozenset(("abort", "error"))
"""Finish reasons that are no success. A client that goes away leaves no statistics: its abort is not among them."""

Attributes = dict[str, Value]


class Requests:
    """The histograms of one meter."""

    def __init__(self, meter: Meter, *, proposed_names: bool) -> None:
        """Make the instruments, those under proposed names only where asked."""
        self._duration = histogram(meter, metrics.REQUEST_DURATION)
        self._first_token = histogram(meter, metrics.TIME_TO_FIRST_TOKEN)
        self._output_token = histogram(meter, metrics.TIME_PER_OUTPUT_TOKEN)
        self._proposed = histogram(meter, metrics.PROPOSED_PHASE_DURATION) if proposed_names else None

    def record(self, finished: Any, engine: Engine, otherwise: str | None) -> None:
        """Record one FinishedRequestStats; `otherwise` is the operation where its id does not tell."""
        request_id = getattr(finished, "request_id", None)
        context = context_of(request_id)
        reason = str(finished.finish_reason)
        point = self._point(engine, operation_of_id(request_id) or otherwise, reason if reason in _FAILED else None)
        whole_s = interval(finished, "e2e_latency")
        if whole_s is not None:
            self._duration.record(whole_s, point, context)
        tokens = finished.num_generation_tokens
        if tokens > 0:
            queue_s, prefill_s = interval(finished, "queued_time"), interval(finished, "prefill_time")
            if queue_s is not None and prefill_s is not None:
                self._first_token.record(queue_s + prefill_s, point, context)
        if tokens > 1:
            mean_s = interval(finished, "mean_time_per_output_token")
            if mean_s is not None:
                self._output_token.record(mean_s, point, context)
        if self._proposed is not None:
            for phase, field in PHASES:
                seconds = interval(finished, field)
                if seconds is not None:
                    self._proposed.record(seconds, {**point, semconv.PROPOSED_PHASE: phase}, context)

    @staticmethod
    def _point(engine: Engine, operation: str | None, error: str | None) -> Attributes:
        point: Attributes = {**engine.attributes, semconv.PROVIDER_NAME: PROVIDER}
        if operation is not None:
            point[semconv.OPERATION_NAME] = operation
        if error is not None:
            point[semconv.ERROR_TYPE] = error
        return point
