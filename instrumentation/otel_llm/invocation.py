"""One call to a model from its start to its one end: the span, the metric points, the context in between.

A library's wrapper starts an `Invocation`, makes the library's call inside `enter`/`leave`, and ends it with
`complete` or `fail`. What a request and a reply say is read by the library's own module; how a stream is followed is in
`streams`. No method but `attach` and `detach` raises: what goes wrong in here goes to `fault`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry._logs import LoggerProvider
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import Meter, MeterProvider, get_meter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_tracer,
    set_span_in_context,
)

from . import fault, semconv
from .coexistence import mark, outer_call, unmark
from .content import ContentRecorder, open_content
from .conventions import Generations, generations
from .describe import describe
from .failure import describe_failure
from .masks import read_masks
from .points import Points
from .pricing import Prices, read_prices
from .records import Reply, Request, Streamed, Value
from .settings import Settings

Moment = tuple[float, int]
"""A moment by two clocks: seconds of the one that durations are taken from, and time_ns()."""

_CURRENT: Final = otel_context.create_key("otel_llm.invocation")
_ENDED: Final = Context()
_MAX_MESSAGE_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What an instrumented process records with, made once when an instrumentor starts."""

    tracer: Tracer
    meter: Meter
    points: Points
    settings: Settings
    generations: Generations = field(default_factory=Generations)
    content: ContentRecorder | None = None
    mask: Callable[[str], str] = str
    prices: Prices = field(default_factory=Prices)

    @property
    def mask_of_errors(self) -> Callable[[str], str] | None:
        """What messages of exceptions go through; None where they are not recorded."""
        return self.mask if self.settings.capture_error_message else None


def open_telemetry(
    name: str,
    version: str,
    settings: Settings,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> Telemetry:
    """Make tracer, instruments and what captures content from the given providers, or from the process-wide ones."""
    spoken = generations(settings.stability_opt_in)
    meter = get_meter(name, version, meter_provider)
    tracer = get_tracer(name, version, tracer_provider)
    masks = read_masks(settings)
    return Telemetry(
        tracer,
        meter,
        Points(meter, settings, spoken),
        settings,
        spoken,
        open_content(settings, logger_provider, masks=masks, name=name, version=version),
        lambda text: masks.head(text, _MAX_MESSAGE_CHARACTERS)[0],
        read_prices(settings.prices),
    )


def enclosing() -> "Invocation | None":
    """Return the invocation whose context this is, open or ended."""
    found = otel_context.get_value(_CURRENT)
    return found if isinstance(found, Invocation) else None


@fault.guarded("the enclosing call")
def current() -> "Invocation | None":
    """Return the open invocation that encloses this place in the program, if any."""
    found = enclosing()
    # A task left behind by a finished call still carries its context; what it calls is a call of its own.
    return found if found is not None and found.is_open else None


def may_start() -> bool:
    """Whether a call made here is one of its own: telemetry is not suppressed, and no open invocation encloses it."""
    around = enclosing()
    return (around is None or not around.is_open) and is_instrumentation_enabled()


class Invocation:
    """One call. Ends once: whatever comes after the first `complete` or `fail` changes nothing. Thread-safe."""

    __slots__ = (
        "__weakref__", "_is_covered", "_lock", "_open", "_point", "_telemetry", "context", "ended", "request", "span",
        "started",
    )  # fmt: skip

    def __init__(self, telemetry: Telemetry, request: Request, began: Moment | None = None) -> None:
        """Start now, or at the moment it `began`; `ended` can then be set to the moment it ended."""
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._open = True
        self.request = request
        self.started = perf_counter() if began is None else began[0]
        self.ended: Moment | None = None
        self._point: dict[str, Value] = telemetry.points.point_of(request)
        around = otel_context.get_current()
        outer = outer_call(request.operation)
        self._is_covered = outer is not None
        if outer is not None:
            self.span: Span = outer
            outer.set_attributes(self._known())
            self.context: Context = otel_context.set_value(_CURRENT, self, around)
            return
        self.span = telemetry.tracer.start_span(
            f"{request.operation} {request.model}" if request.model is not None else request.operation,
            around,
            SpanKind.CLIENT,
            attributes=telemetry.generations.rename(self._known()),
            start_time=began[1] if began is not None else None,
        )
        context = Context({**set_span_in_context(self.span, around), _CURRENT: self})
        self.context = mark(context, request.operation)

    def _known(self) -> dict[str, Value]:
        request = self.request
        known = {**self._point, **request.parameters}
        if request.model is not None:  # points may have it capped
            known[semconv.REQUEST_MODEL] = request.model
        if request.server_address is not None:
            known[semconv.SERVER_ADDRESS] = request.server_address
        return known

    @property
    def is_open(self) -> bool:
        """Whether neither `complete` nor `fail` has been called yet."""
        return self._open

    def server_is(self, address: str, port: int | None) -> None:
        """Note which server is asked, where only the outgoing request tells; the first one counts."""
        if semconv.SERVER_ADDRESS in self._point:
            return
        found: dict[str, Value] = {semconv.SERVER_ADDRESS: address}
        if port is not None:
            found[semconv.SERVER_PORT] = port
        self.span.set_attributes(found)
        found[semconv.SERVER_ADDRESS] = self._telemetry.points.server(address)
        self._point = {**self._point, **found}

    def attach(self) -> Token[Context]:
        """Make the span current, for what the library does on behalf of this call."""
        return otel_context.attach(self.context)

    def detach(self, token: Token[Context] | None) -> None:
        """Undo `attach`; does nothing where the context of `attach` is not at hand, as in a coroutine closed by another."""
        if token is not None and otel_context.get_value(_CURRENT) is self:
            otel_context.detach(token)

    enter = fault.guarded("start of a step")(attach)
    leave = fault.guarded("end of a step")(detach)

    @fault.guarded("end of an invocation")
    def complete(self, reply: Reply, streamed: Streamed | None = None) -> None:
        """End a call that was answered."""
        if self._take():
            self._end(reply, streamed, None)

    @fault.guarded("end of an invocation")
    def fail(self, error: BaseException, reply: Reply | None = None, streamed: Streamed | None = None) -> None:
        """End a call that failed or was cancelled, with what had arrived of its reply."""
        if self._take():
            self._end(reply, streamed, error)

    def record_chunk_intervals(self, intervals_s: Sequence[float]) -> None:
        """Record times from one chunk to the next; before the end, where a stream is too long to hold them all."""
        if self._is_covered:
            return
        self._telemetry.points.intervals(intervals_s, self._telemetry.generations.rename(self._point), self.context)

    def _take(self) -> bool:
        with self._lock:
            was_open, self._open = self._open, False
        return was_open

    def _end(self, reply: Reply | None, streamed: Streamed | None, error: BaseException | None) -> None:
        told = streamed.ended if streamed is not None and streamed.ended is not None else self.ended
        ended, ended_ns = told if told is not None else (perf_counter(), None)
        try:
            elapsed_s = ended - self.started
            if reply is not None and reply.provider is not None and semconv.PROVIDER_NAME not in self._point:
                self._point = {**self._point, semconv.PROVIDER_NAME: reply.provider}
            failed = type(error).__qualname__ if error is not None else reply.error if reply is not None else None
            end: dict[str, Value] = {}
            if self.span.is_recording():
                end = self._describe(elapsed_s, reply, streamed, failed)
                if error is not None:
                    describe_failure(self.span, error, self._telemetry.mask_of_errors)
                elif failed is not None:
                    self.span.set_status(Status(StatusCode.ERROR, failed))
            if self._is_covered:
                return
            unmark(self.context, self.request.operation)
            if self.request.content is not None:
                self._record_content(end, reply)
            self._telemetry.points.call(elapsed_s, self._point, reply, streamed, failed, self.context)
        except Exception as own:
            fault.report("end of an invocation", own)
        finally:
            # The SDK guards its processors; what a span of another make raises must not reach the caller either.
            try:
                self.span.end(ended_ns)
            except Exception as own:
                fault.report("end of a span", own)
            self.context = _ENDED  # it holds this object: a cycle, that only the collector could free

    def _describe(
        self, elapsed_s: float, reply: Reply | None, streamed: Streamed | None, failed: str | None
    ) -> dict[str, Value]:
        end: dict[str, Value] = {}
        if reply is not None:
            describe(reply, end, elapsed_s, operation=self.request.operation, failed=failed is not None)
            if reply.provider is not None and self.request.provider is None:
                end[semconv.PROVIDER_NAME] = reply.provider
        if streamed is not None:
            end[semconv.STREAM_END] = streamed.end
            if streamed.first_chunk_s is not None:
                end[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = streamed.first_chunk_s
        if failed is not None:
            end[semconv.ERROR_TYPE] = failed
        end = self._telemetry.generations.rename(end)
        self.span.set_attributes(end)
        return end

    def _record_content(self, end: Mapping[str, Value], reply: Reply | None) -> None:
        if self._telemetry.content is None:
            return
        known = {**self._telemetry.generations.rename(self._known()), **end}
        said = reply.content if reply is not None else None
        self._telemetry.content.record(self.span, self.context, known, self.request.content, said)
