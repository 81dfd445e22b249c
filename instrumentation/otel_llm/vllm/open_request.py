"""One request to the asynchronous engine while it is open: its span, the times of its outputs, and each way it can end.

`engine` tells what the generator does, `aborts` what vLLM's front end keeps of the request and why it gave it up. Nothing
is counted per token: the counts are vLLM's own, read once at the end.
"""

import weakref
from asyncio import CancelledError
from collections.abc import Mapping
from contextvars import Token
from time import perf_counter, time_ns
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_llm import fault, leftovers, semconv
from otel_llm.invocation import Telemetry
from otel_llm.records import Value
from otel_llm.semconv import AbortReason, StreamEnd

from .carried import carried
from .incoming import INCOMING, Incoming
from .outputs import Facts, facts_of
from .parameters import parameters_of
from .request_span import RequestSpan
from .states import State, facts_of_states

_OPEN: Final = otel_context.create_key("otel_llm.vllm.open_request")
_TRACE: Final = TraceContextTextMapPropagator()
_LEFT: Final = {
    StreamEnd.ABANDONED: AbortReason.ABANDONED,
    StreamEnd.EXIT: AbortReason.EXIT,
    StreamEnd.UNINSTRUMENTED: AbortReason.UNINSTRUMENTED,
}


@fault.guarded("the request that is open here")
def enclosing() -> "OpenRequest | None":
    """Return the open request on whose behalf this place in the program works."""
    found = otel_context.get_value(_OPEN)
    # Held weakly: background tasks that begin during a request keep its context for good.
    request = found() if isinstance(found, weakref.ref) else None
    return request if isinstance(request, OpenRequest) and request.is_open else None


def reason_of(passing: BaseException | None, incoming: Incoming | None = None) -> AbortReason:
    """Return why a request is given up while this exception passes (None: because somebody asked for it)."""
    if passing is None:
        return AbortReason.REQUESTED
    if not isinstance(passing, CancelledError | GeneratorExit):
        return AbortReason.FAILED
    if incoming is not None and incoming.is_gone:
        return AbortReason.CLIENT_DISCONNECTED
    return AbortReason.CANCELLED if isinstance(passing, CancelledError) else AbortReason.CLOSED


class OpenRequest:
    """Begins with the first step of the generator and ends once; of one consumer at a time, as generators are."""

    __slots__ = (
        "__weakref__", "_chunks", "_first", "_is_streamed", "_is_whole", "_last", "_longest_s", "_output", "_reasons",
        "_span", "_started", "_states", "incoming", "model", "reason",
    )  # fmt: skip

    def __init__(
        self,
        telemetry: Telemetry,
        operation: str,
        model: str | None,
        request_id: str | None,
        params: Any,
        trace_headers: Mapping[str, str] | None,
        *,
        is_whole: bool = True,
    ) -> None:
        """Begin now, below the current span; where there is none, below the one that `trace_headers` name.

        Not whole is a request that the front end makes of many (beam search): what came of it stands in its output alone.
        """
        self.model = model
        self._is_whole = is_whole
        self.reason: AbortReason | None = None  # set by whoever gives it up
        self.incoming = INCOMING.get()
        self._states: list[State] = []
        self._output: Any = None
        # The choices of a stream end one by one; the reasons of the others come with the last output.
        self._reasons: dict[int, str] | None = {} if (getattr(params, "n", 1) or 1) > 1 else None
        kind = getattr(getattr(params, "output_kind", None), "name", None)
        self._is_streamed = kind in ("CUMULATIVE", "DELTA")
        parent, links = _parent(trace_headers)
        attributes: dict[str, Value] = {**parameters_of(params), **carried(telemetry.settings, parent)}
        if request_id is not None:
            attributes[semconv.REQUEST_ID] = request_id
        if self._is_streamed:
            attributes[semconv.REQUEST_STREAM] = True
        self._span = RequestSpan(telemetry, operation, model, attributes, parent=parent, links=links)
        self._started = self._first = self._last = perf_counter()
        self._longest_s = 0.0
        self._chunks = 0
        leftovers.watch(self)

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return self._span.is_open

    @property
    def context(self) -> Context:
        """The context of its span."""
        return self._span.context

    def headers(self) -> dict[str, str]:
        """Return the headers that name this span as the parent of what the engine writes."""
        found: dict[str, str] = {}
        _TRACE.inject(found, self._span.context)
        return found

    @fault.guarded("start of a step of a request")
    def enter(self) -> Token[Context]:
        """Make the span current while the front end takes the request in."""
        return otel_context.attach(otel_context.set_value(_OPEN, weakref.ref(self), self._span.context))

    @fault.guarded("end of a step of a request")
    def leave(self, token: Token[Context] | None) -> None:
        """Undo `enter`; does nothing where its context is not at hand, as in a coroutine closed by another."""
        if token is None:
            return
        found = otel_context.get_value(_OPEN)
        if isinstance(found, weakref.ref) and found() is self:
            otel_context.detach(token)

    def kept_as(self, state: State) -> None:
        """Note what the front end keeps of one choice."""
        if self._is_whole and not any(known is state for known in self._states):
            self._states.append(state)

    def chunk(self, output: Any) -> None:
        """Note that the engine handed over an output."""
        now = perf_counter()
        if self._chunks:
            elapsed_s = now - self._last
            if elapsed_s > self._longest_s:  # noqa: PLR1730 - once a token, and `max` costs several times as much
                self._longest_s = elapsed_s
        else:
            self._first = now
        self._chunks += 1
        self._last = now
        self._output = output
        if self._reasons is not None:
            self._note_reasons(output)

    @fault.guarded("finish reasons of a stream")
    def _note_reasons(self, output: Any) -> None:
        if self._reasons is not None:
            for choice in output.outputs:
                if choice.finish_reason is not None:
                    self._reasons[choice.index] = str(choice.finish_reason)

    @fault.guarded("why a request was given up")
    def closing(self) -> None:
        """Note that the consumer stops reading, before the front end gives the request up for it."""
        self.reason = self.reason or reason_of(GeneratorExit(), self.incoming)

    @fault.guarded("end of a request")
    def finished(self) -> None:
        """End with the generator, which handed over its last output: of a whole reply, or of one given up elsewhere."""
        if not self.is_open:
            return
        facts = self._facts()
        # Of pooling, the last output gives no reason: who gave the request up has told.
        if self.reason is AbortReason.REQUESTED or "abort" in facts.finish_reasons:
            self._abort(self.reason or AbortReason.ENGINE, facts)
            return
        if "error" in facts.finish_reasons:
            facts = facts._replace(error=facts.error or "engine_error")
        # Not now: the consumer may have taken its time before it asked for more.
        ended_ns = time_ns() - int((perf_counter() - self._last) * 1e9) if self._chunks else None
        self._describe()
        self._span.finish(facts, ended_ns)
        self._release()

    @fault.guarded("end of a request")
    def closed(self) -> None:
        """End with the generator, which its consumer closed."""
        if self._output is not None and self._output.finished:  # he had it all, and did not ask for what comes behind
            self.finished()
        elif self.is_open:
            self._abort(self.reason or reason_of(GeneratorExit(), self.incoming), self._facts())

    @fault.guarded("end of a request")
    def failed(self, error: BaseException) -> None:
        """End with the generator, which raised; a client that went away is nobody's error."""
        if not self.is_open:
            return
        cancelled = isinstance(error, CancelledError)
        reason = self.reason or (reason_of(error, self.incoming) if cancelled else None)
        if reason is AbortReason.CLIENT_DISCONNECTED:
            self._abort(reason, self._facts())
            return
        self._describe(reason)
        self._span.fail(error, self._facts())
        self._release()

    def end(self, how: StreamEnd) -> None:
        """End a request that nobody read to its end: what `leftovers` does to those it watches."""
        if self.is_open:
            self._abort(_LEFT.get(how, AbortReason.ABANDONED), self._facts())

    def __del__(self) -> None:
        # The collector may run inside any lock, the SDK's own included: nothing may be recorded from here.
        try:
            if self.is_open:
                leftovers.hand_over(self)
        except Exception as own:
            fault.report("a request left behind", own)

    def _abort(self, reason: AbortReason, facts: Facts) -> None:
        self.reason = reason
        self._describe()
        self._span.abort(reason.value, facts)
        self._release()

    def _release(self) -> None:
        self._states.clear()
        self._output = None
        leftovers.forget(self)

    @fault.guarded("description of a request")  # whatever comes of it, the request is to end
    def _describe(self, reason: AbortReason | None = None) -> None:
        if reason is not None:
            self._span.span.set_attribute(semconv.ABORT_REASON, reason.value)
        if not self._is_streamed or not self._chunks or not self._span.span.is_recording():
            return
        found: dict[str, Value] = {
            semconv.RESPONSE_TIME_TO_FIRST_CHUNK: self._first - self._started,
            semconv.CHUNK_COUNT: self._chunks,
        }
        if self._chunks > 1:
            found[semconv.CHUNK_INTERVAL_MEAN] = (self._last - self._first) / (self._chunks - 1)
            found[semconv.CHUNK_INTERVAL_MAX] = self._longest_s
        self._span.span.set_attributes(found)

    def _facts(self) -> Facts:
        told, kept = Facts(), None
        if self._output is not None:
            try:
                told = facts_of(self._output)
            except Exception as own:
                fault.report("output of a request", own)
        if self._states:
            try:
                kept = facts_of_states(self._states)
            except Exception as own:
                fault.report("state of a request", own)
        reasons = tuple(self._reasons[index] for index in sorted(self._reasons)) if self._reasons else ()
        reasons = reasons or told.finish_reasons
        if kept is not None:
            return kept._replace(finish_reasons=reasons, error=told.error)
        # Without the states an output tells only its own tokens, which are all of them when it is the only one.
        tokens = told.output_tokens if self._chunks == 1 and getattr(self._output, "finished", False) else None
        return told._replace(output_tokens=tokens, finish_reasons=reasons)


def _parent(given: Mapping[str, str] | None) -> tuple[Context, tuple[Link, ...]]:
    """Return the context to begin in: the current span wins, and one of another trace that was named is linked to."""
    context = otel_context.get_current()
    if not given or not isinstance(given, Mapping):
        return context, ()
    told = get_current_span(_TRACE.extract(given, Context()))
    named, here = told.get_span_context(), get_current_span(context).get_span_context()
    if not named.is_valid:
        return context, ()
    if not here.is_valid:
        return set_span_in_context(told, context), ()
    return context, () if named.trace_id == here.trace_id else (Link(named),)
