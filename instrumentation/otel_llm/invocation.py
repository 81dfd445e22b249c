"""One call to a model from its start to its one end: the span, the metric points, the context in between.

A library's wrapper starts an `Invocation`, makes the library's call inside `enter`/`leave`, and ends it with
`complete` or `fail`. What a request and a reply say is read by the library's own module; how a stream is followed is in
`streams`. No method raises: what goes wrong in here goes to `fault`.
"""

import threading
import traceback
from collections.abc import Sequence
from contextvars import Token
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider, get_meter
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
from .metrics import TIME_PER_OUTPUT_CHUNK, ClientInstruments, create_instruments
from .records import Reply, Request, Streamed, Value
from .settings import Settings

_CURRENT: Final = otel_context.create_key("otel_llm.invocation")
_MAX_MESSAGE_CHARACTERS: Final = 1024
_MAX_STACKTRACE_CHARACTERS: Final = 8192


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What an instrumented process records with, made once when an instrumentor starts."""

    tracer: Tracer
    instruments: ClientInstruments
    settings: Settings


def open_telemetry(
    name: str,
    version: str,
    settings: Settings,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Telemetry:
    """Make tracer and instruments from the given providers, or from the process-wide ones."""
    meter = get_meter(name, version, meter_provider)
    return Telemetry(get_tracer(name, version, tracer_provider), create_instruments(meter), settings)


def current() -> "Invocation | None":
    """Return the open invocation that encloses this place in the program, if any."""
    found = otel_context.get_value(_CURRENT)
    # A task left behind by a finished call still carries its context; what it calls is a call of its own.
    return found if isinstance(found, Invocation) and found.is_open else None


def may_start() -> bool:
    """Whether a call made here is one of its own: telemetry is not suppressed, and no open invocation encloses it."""
    return is_instrumentation_enabled() and current() is None


class Invocation:
    """One call. Ends once: whatever comes after the first `complete` or `fail` changes nothing. Thread-safe."""

    __slots__ = ("__weakref__", "_attributes", "_lock", "_open", "_telemetry", "context", "request", "span", "started")

    def __init__(self, telemetry: Telemetry, request: Request) -> None:
        attributes: dict[str, Value] = {semconv.OPERATION_NAME: request.operation}
        if request.provider is not None:
            attributes[semconv.PROVIDER_NAME] = request.provider
        if request.model is not None:
            attributes[semconv.REQUEST_MODEL] = request.model
        if request.server_address is not None:
            attributes[semconv.SERVER_ADDRESS] = request.server_address
            if request.server_port is not None:
                attributes[semconv.SERVER_PORT] = request.server_port
        self._telemetry = telemetry
        self.request = request
        self._attributes = attributes  # of the metrics: few values each; the span has the parameters besides
        self._lock = threading.Lock()
        self._open = True
        self.started = perf_counter()
        self.span: Span = telemetry.tracer.start_span(
            f"{request.operation} {request.model}" if request.model is not None else request.operation,
            kind=SpanKind.CLIENT,
            attributes={**attributes, **request.parameters},
        )
        self.context: Context = otel_context.set_value(_CURRENT, self, set_span_in_context(self.span))

    @property
    def is_open(self) -> bool:
        """Whether neither `complete` nor `fail` has been called yet."""
        return self._open

    def server_is(self, address: str, port: int | None) -> None:
        """Note which server is asked, where only the outgoing request tells; the first one counts."""
        if semconv.SERVER_ADDRESS in self._attributes:
            return
        found: dict[str, Value] = {semconv.SERVER_ADDRESS: address}
        if port is not None:
            found[semconv.SERVER_PORT] = port
        self._attributes = {**self._attributes, **found}
        self.span.set_attributes(found)

    def enter(self) -> Token[Context]:
        """Make the span current, for what the library does on behalf of this call."""
        return otel_context.attach(self.context)

    def leave(self, token: Token[Context]) -> None:
        """Undo `enter`; does nothing where the context of `enter` is not at hand, as in a coroutine closed by another."""
        if otel_context.get_value(_CURRENT) is self:
            otel_context.detach(token)

    def complete(self, reply: Reply, streamed: Streamed | None = None) -> None:
        """End a call that was answered."""
        if self._take():
            self._end(reply, streamed, None)

    def fail(self, error: BaseException, reply: Reply | None = None, streamed: Streamed | None = None) -> None:
        """End a call that failed or was cancelled, with what had arrived of its reply."""
        if self._take():
            self._end(reply, streamed, error)

    def record_chunk_intervals(self, intervals_s: Sequence[float]) -> None:
        """Record times from one chunk to the next; before the end, where a stream is too long to hold them all."""
        record, context, known = (
            self._telemetry.instruments.time_per_output_chunk.record,
            self.context,
            self._attributes,
        )
        point = {name: known[name] for name in TIME_PER_OUTPUT_CHUNK.attributes if name in known}
        for seconds in intervals_s:
            record(seconds, point, context)

    def _take(self) -> bool:
        with self._lock:
            was_open, self._open = self._open, False
        return was_open

    def _point(self, response_model: str | None) -> dict[str, Value]:
        return (
            self._attributes if response_model is None else {**self._attributes, semconv.RESPONSE_MODEL: response_model}
        )

    def _end(self, reply: Reply | None, streamed: Streamed | None, error: BaseException | None) -> None:
        ended, ended_ns = perf_counter(), None
        try:
            if streamed is not None and streamed.ended is not None:
                ended, ended_ns = streamed.ended
            end: dict[str, Value] = {}
            if reply is not None and reply.provider is not None and semconv.PROVIDER_NAME not in self._attributes:
                self._attributes[semconv.PROVIDER_NAME] = end[semconv.PROVIDER_NAME] = reply.provider
            if self.span.is_recording():
                if reply is not None:
                    _describe(reply, end)
                if streamed is not None:
                    end[semconv.STREAM_END] = streamed.end
                    if streamed.first_chunk_s is not None:
                        end[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = streamed.first_chunk_s
                if error is not None:
                    end[semconv.ERROR_TYPE] = type(error).__qualname__
                    self._describe_error(error)
                self.span.set_attributes(end)
            self._record(ended - self.started, reply, streamed, error)
        except Exception as own:
            fault.report("end of an invocation", own)
        finally:
            # The SDK guards its processors; what a span of another make raises must not reach the caller either.
            try:
                self.span.end(ended_ns)
            except Exception as own:
                fault.report("end of a span", own)

    def _record(
        self, elapsed_s: float, reply: Reply | None, streamed: Streamed | None, error: BaseException | None
    ) -> None:
        instruments, context = self._telemetry.instruments, self.context
        point = self._point(reply.model if reply is not None else None)
        if reply is not None and reply.usage is not None:
            for count, kind in (
                (reply.usage.input_tokens, semconv.TOKEN_INPUT),
                (reply.usage.output_tokens, semconv.TOKEN_OUTPUT),
            ):
                if count is not None:
                    instruments.token_usage.record(count, {**point, semconv.TOKEN_TYPE: kind}, context)
        if streamed is not None:
            if streamed.first_chunk_s is not None:
                instruments.time_to_first_chunk.record(streamed.first_chunk_s, point, context)
            self.record_chunk_intervals(streamed.intervals_s)
        if error is not None:
            point = {**point, semconv.ERROR_TYPE: type(error).__qualname__}
        instruments.duration.record(elapsed_s, point, context)

    def _describe_error(self, error: BaseException) -> None:
        kind = type(error)
        status = getattr(error, "status_code", None)
        summary = f"{kind.__qualname__} (HTTP {status})" if isinstance(status, int) else kind.__qualname__
        event = {
            semconv.EXCEPTION_TYPE: f"{kind.__module__}.{kind.__qualname__}",
            # Frames only: the usual last line of a traceback repeats the message.
            semconv.EXCEPTION_STACKTRACE: "".join(traceback.format_tb(error.__traceback__))[
                -_MAX_STACKTRACE_CHARACTERS:
            ],
        }
        if self._telemetry.settings.capture_error_message:
            message = event[semconv.EXCEPTION_MESSAGE] = str(error)[:_MAX_MESSAGE_CHARACTERS]
            summary = f"{summary}: {message}"
        self.span.add_event(semconv.EXCEPTION_EVENT, event)
        self.span.set_status(Status(StatusCode.ERROR, summary))


def _describe(reply: Reply, end: dict[str, Value]) -> None:
    if reply.id is not None:
        end[semconv.RESPONSE_ID] = reply.id
    if reply.model is not None:
        end[semconv.RESPONSE_MODEL] = reply.model
    if reply.finish_reasons:
        end[semconv.RESPONSE_FINISH_REASONS] = reply.finish_reasons
    if reply.response_length is not None:
        end[semconv.RESPONSE_LENGTH] = reply.response_length
    usage = reply.usage
    if usage is None:
        return
    if usage.input_tokens is not None:
        end[semconv.USAGE_INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens is not None:
        end[semconv.USAGE_OUTPUT_TOKENS] = usage.output_tokens
    if usage.cache_read_tokens is not None:
        end[semconv.USAGE_CACHE_READ_INPUT_TOKENS] = usage.cache_read_tokens
    if usage.cache_write_tokens is not None:
        end[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS] = usage.cache_write_tokens
    if usage.reasoning_tokens is not None:
        end[semconv.USAGE_REASONING_OUTPUT_TOKENS] = usage.reasoning_tokens
