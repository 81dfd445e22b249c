"""The span of one request to an engine in this process: begun once, ended once, with the phases of its time in the engine.

It may be written as the request goes (`AsyncLLM`) or after the fact, with the times the statistics tell (`LLM`, which
hands over finished requests only). What the request asks for is read by `parameters`, what came of it by `outputs`.
"""

from collections.abc import Mapping, Sequence
from contextvars import Token
from time import time_ns
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context

from otel_llm import fault, semconv
from otel_llm.failure import describe_failure
from otel_llm.invocation import Telemetry
from otel_llm.records import Value
from otel_llm.settings import Phases as Recorded

from .outputs import Facts, Phases

PROVIDER: Final = "vllm"
_NS: Final = 1_000_000_000


class RequestSpan:
    """One span of kind internal, `{operation} {model}`. No method raises; thread-safe as far as the SDK's spans are."""

    __slots__ = ("_is_open", "_started_ns", "_telemetry", "context", "span")

    def __init__(
        self,
        telemetry: Telemetry,
        operation: str,
        model: str | None,
        attributes: Mapping[str, Value],
        *,
        parent: Context | None = None,
        links: Sequence[Link] = (),
        started_ns: int | None = None,
    ) -> None:
        """Start now or at a moment that has passed, below the span of `parent` (None: the current context)."""
        known: dict[str, Value] = {semconv.OPERATION_NAME: operation, semconv.PROVIDER_NAME: PROVIDER}
        if model is not None:
            known[semconv.REQUEST_MODEL] = model
        known.update(attributes)
        self._telemetry = telemetry
        self._is_open = True
        self._started_ns = time_ns() if started_ns is None else started_ns
        self.span: Span = telemetry.tracer.start_span(
            operation if model is None else f"{operation} {model}",
            context=parent,
            kind=SpanKind.INTERNAL,
            attributes=telemetry.generations.rename(known),
            links=links,
            start_time=self._started_ns,
        )
        self.context: Context = set_span_in_context(self.span, parent)

    @property
    def is_open(self) -> bool:
        """Whether it has not been ended yet."""
        return self._is_open

    @fault.guarded("start of a step of a request")
    def enter(self) -> Token[Context]:
        """Make the span current; for a step of the request, not across a `yield`."""
        return otel_context.attach(self.context)

    @fault.guarded("end of a step of a request")
    def leave(self, token: Token[Context] | None) -> None:
        """Undo `enter`."""
        if token is not None:
            otel_context.detach(token)

    @fault.guarded("end of a request")
    def finish(self, facts: Facts, ended_ns: int | None = None) -> None:
        """End a request that ran to its end, or that the engine itself gave up on (`facts.error`)."""
        self._end(facts, None, None, ended_ns)

    @fault.guarded("end of a request")
    def abort(self, reason: str, facts: Facts | None = None, ended_ns: int | None = None) -> None:
        """End a request that was given up from outside, with what had come of it; that is nobody's error."""
        self._end(facts, reason, None, ended_ns)

    @fault.guarded("end of a request")
    def fail(self, error: BaseException, facts: Facts | None = None, ended_ns: int | None = None) -> None:
        """End a request that raised, with what had come of it."""
        self._end(facts, None, error, ended_ns)

    def _end(self, facts: Facts | None, aborted: str | None, error: BaseException | None, ended_ns: int | None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        ended_ns = max(self._started_ns, time_ns() if ended_ns is None else ended_ns)
        try:
            if self.span.is_recording():
                self._describe(facts, aborted, error, ended_ns)
        except Exception as own:
            fault.report("description of a request", own)
        finally:
            self.span.end(ended_ns)

    def _describe(
        self, facts: Facts | None, aborted: str | None, error: BaseException | None, ended_ns: int
    ) -> None:  # fmt: skip
        span = self.span
        if facts is not None:
            span.set_attributes(self._telemetry.generations.rename(described(facts)))
            if facts.phases is not None and self._telemetry.settings.vllm_phases is Recorded.SPANS:
                self._draw(facts.phases, ended_ns)
        if error is not None:
            span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
            describe_failure(span, error, self._telemetry.mask_of_errors, ended_ns)
        elif aborted is not None:
            span.set_attribute(semconv.ABORT_REASON, aborted)
        elif facts is not None and facts.error is not None:
            span.set_attribute(semconv.ERROR_TYPE, facts.error)
            span.set_status(Status(StatusCode.ERROR, facts.error))

    def _draw(self, phases: Phases, ended_ns: int) -> None:
        """Draw the phases as spans below this one.

        The front end takes the first token in some time after the engine had it, hence they may seem to reach beyond the
        end; that is the limit of the last token, so all of them are moved back to it, their lengths kept.
        """
        drawn = moments(phases)
        late = max(0, drawn[-1][2] - ended_ns) if drawn else 0
        for name, *when in drawn:
            start, end = (max(moment - late, self._started_ns) for moment in when)
            self._telemetry.tracer.start_span(name, self.context, start_time=start).end(end)


def described(facts: Facts) -> dict[str, Value]:
    """Return facts as attributes; what is unknown is left out."""
    found: dict[str, Value] = {}
    if facts.request_id is not None:
        found[semconv.REQUEST_ID] = facts.request_id
    if facts.input_tokens is not None:
        found[semconv.USAGE_INPUT_TOKENS] = facts.input_tokens
    if facts.output_tokens is not None:
        found[semconv.USAGE_OUTPUT_TOKENS] = facts.output_tokens
    if facts.cached_tokens is not None:
        found[semconv.USAGE_CACHE_READ_INPUT_TOKENS] = facts.cached_tokens
    if facts.cache_write_tokens is not None:
        found[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS] = facts.cache_write_tokens
    if facts.finish_reasons:
        found[semconv.RESPONSE_FINISH_REASONS] = facts.finish_reasons
    if facts.lora is not None:
        found[semconv.LORA_NAME] = facts.lora
    phases = facts.phases
    if phases is not None:
        if phases.queue_s is not None:
            found[semconv.ENGINE_QUEUE_TIME] = phases.queue_s
        if phases.prefill_s is not None:
            found[semconv.ENGINE_PREFILL_TIME] = phases.prefill_s
        if phases.decode_s is not None:
            found[semconv.ENGINE_GENERATION_TIME] = phases.decode_s
        if phases.first_token_s is not None and phases.generates:
            found[semconv.ENGINE_TIME_TO_FIRST_TOKEN] = phases.first_token_s
        if phases.preemptions:
            found[semconv.ENGINE_PREEMPTIONS] = phases.preemptions
    return found


def moments(phases: Phases) -> list[tuple[str, int, int]]:
    """Lay the phases out on the wall clock: name, start and end in nanoseconds.

    The anchor is the first token, the one event of which both clocks are known: the front end notes its latency since
    `arrival_time` when it takes in the very message that has `first_token_ts`. From there, lengths by the engine's clock.
    """
    first_ns = first_token_ns(phases)
    if first_ns is None:
        return []
    found: list[tuple[str, int, int]] = []
    if phases.prefill_s is not None:
        scheduled_ns = first_ns - _ns(phases.prefill_s)
        if phases.queue_s is not None:
            found.append(("queue", scheduled_ns - _ns(phases.queue_s), scheduled_ns))
        found.append(("prefill", scheduled_ns, first_ns))
    if phases.decode_s is not None:
        found.append(("decode", first_ns, first_ns + _ns(phases.decode_s)))
    return found


def first_token_ns(phases: Phases) -> int | None:
    """Return the moment of the first token on the wall clock, where it is known."""
    if phases.arrived_s is None or phases.first_token_s is None:
        return None
    return _ns(phases.arrived_s) + _ns(phases.first_token_s)


def _ns(seconds: float) -> int:
    return int(seconds * _NS)
