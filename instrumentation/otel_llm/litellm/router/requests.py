"""One request to LiteLLM's Router, from its first attempt to its answer: the request span and what is counted on the way.

The attempts are spans of their own: the ordinary ones of LiteLLM's calls, which ask `attempt_attributes` for what the
Router chose. An attempt that failed before it called a server (refused by a limit that the Router keeps, no deployment
left) has no such span and gets one here. Where the Router is followed is in `router`.
"""

from collections.abc import Mapping
from contextvars import Token
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from otel_llm import fault, semconv
from otel_llm.litellm.read.fields import hidden_params, text
from otel_llm.litellm.router.metrics import RouterInstruments
from otel_llm.records import Value

_ROUTING: Final = otel_context.create_key("otel_llm.routing")
_MAX_NAMES: Final = 32  # of deployments on one span
# As LiteLLM names them in replies, and as providers do, whose own names errors have.
_REMAINING_REQUESTS: Final = ("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining")
_REMAINING_TOKENS: Final = ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining")


@dataclass(frozen=True, slots=True)
class RouterTelemetry:
    """What the requests of Routers are recorded with."""

    tracer: Tracer
    instruments: RouterInstruments


def _enclosing() -> "Routing | None":
    found = otel_context.get_value(_ROUTING)
    # A task that a finished request left behind still carries its context.
    return found if isinstance(found, Routing) and found.is_open else None


@fault.guarded("a Router's request")
def current() -> "Routing | None":
    """Return the open request that encloses this place in the program, if any."""
    return _enclosing()


def attempt_attributes(arguments: Mapping[str, Any]) -> dict[str, Value]:
    """Return what the Router decided about a call, from the call's arguments; nothing for a call that is no attempt of it."""
    routing = _enclosing()
    if routing is None:
        return {}
    info = arguments.get("model_info")
    return routing.asks(text(info.get("id")) if isinstance(info, Mapping) else None, arguments.get("order"))


class Routing:
    """One request. Followed by one task at a time, as the Router works; ends once; no method raises."""

    __slots__ = (
        "__weakref__",
        "_asks",
        "_attempt_started_ns",
        "_attempts_before",
        "_attempts_in_group",
        "_before",
        "_cooling",
        "_deployment",
        "_failure",
        "_fallbacks",
        "_group",
        "_group_now",
        "_open",
        "_retries",
        "_started",
        "_telemetry",
        "attempt_number",
        "context",
        "span",
        "strategy",
    )

    def __init__(
        self,
        telemetry: RouterTelemetry,
        group: str | None,
        before: "Routing | None" = None,
        failure: BaseException | None = None,
    ) -> None:
        """Begin a request for a model group; with `before`, the rest of one whose stream broke, at its first fallback."""
        self._telemetry = telemetry
        self._group = self._group_now = group
        self._before = before
        self.attempt_number: int = before.attempt_number if before is not None else 0
        self._attempts_before = self.attempt_number
        self._attempts_in_group = self._retries = 0
        self._attempt_started_ns = 0
        self._asks = False  # whether the present attempt has come to a call
        self._deployment: str | None = None  # of the present attempt
        self._failure = type(failure).__qualname__ if failure is not None else None  # of the attempt before
        self._fallbacks: list[str] = []
        self._cooling: dict[str, None] = {}
        self.span: Span = INVALID_SPAN
        self._started: float | None = None
        self._open = True
        self.strategy: str | None = None
        self.context: Context = otel_context.set_value(_ROUTING, self)
        if before is None:
            self._start()

    @property
    def is_open(self) -> bool:
        """Whether neither `complete` nor `fail` has been called yet."""
        return self._open

    @fault.guarded("a Router's request")
    def enter(self) -> Token[Context]:
        """Make the request's span current, for what the Router does on behalf of it."""
        return otel_context.attach(self.context)

    @fault.guarded("a Router's request")
    def leave(self, token: Token[Context] | None) -> None:
        """Undo `enter`; does nothing where its context is not at hand, as in a coroutine closed by another."""
        if token is not None and otel_context.get_value(_ROUTING) is self:
            otel_context.detach(token)

    @fault.guarded("a Router's request")
    def falls_back(self, group: str | None) -> None:
        """Note that the Router goes on with another model group, or with the next order of the same."""
        try:
            if self._started is None:
                self._start()
            before, self._group_now, self._attempts_in_group = self._group_now, group, 0
            self._fallbacks.append(group or "")
            self._telemetry.instruments.fell_back(before, group, self._failure, self.context)
        except Exception as own:
            fault.report("fallback of a Router", own)

    @fault.guarded("a Router's request")
    def attempts(self) -> None:
        """Note that an attempt begins."""
        try:
            self.attempt_number += 1
            self._attempts_in_group += 1
            self._attempt_started_ns, self._asks, self._deployment = time_ns(), False, None
            if self._attempts_in_group > 1:
                self._retries += 1
                self._telemetry.instruments.retried(self._group_now, self._failure, self.context)
        except Exception as own:
            fault.report("attempt of a Router", own)

    def asks(self, deployment: str | None, order: object) -> dict[str, Value]:
        """Note that the attempt has come to a call of LiteLLM's, and return the attributes of its span."""
        self._asks = True
        if deployment is None:  # a call on the way, of a classifier for one
            return {}
        self._deployment = deployment
        found = self._describe_attempt(deployment)
        if isinstance(order, int):
            found[semconv.ROUTER_DEPLOYMENT_ORDER] = order
        return found

    def passes_over(self, deployments: list[str]) -> None:
        """Note deployments that were not considered because they are cooling down."""
        for deployment in deployments[: _MAX_NAMES - len(self._cooling)]:
            self._cooling[deployment] = None

    @fault.guarded("a Router's request")
    def is_answered(self, reply: object) -> None:
        """Note what a reply says about the deployment it came from."""
        try:
            hidden = hidden_params(reply)
            deployment = self._deployment = self._deployment or text(hidden.get("model_id"))
            headers = hidden.get("additional_headers")
            if deployment is not None and isinstance(headers, Mapping):
                self._read_remaining(deployment, headers)
        except Exception as own:
            fault.report("reply to a Router", own)

    @fault.guarded("a Router's request")
    def is_refused(self, error: BaseException) -> None:
        """Note that an attempt failed."""
        try:
            self._failure = type(error).__qualname__
            deployment = self._deployment or text(getattr(error, "failed_deployment_id", None))
            if not self._asks:
                self._record_attempt(error, deployment)
            headers = getattr(error, "litellm_response_headers", None)
            if deployment is not None and isinstance(headers, Mapping):
                self._read_remaining(deployment, headers)
        except Exception as own:
            fault.report("failed attempt of a Router", own)

    @fault.guarded("a Router's request")
    def complete(self) -> None:
        """End a request that was answered, or whose stream is handed out."""
        self._end(None)

    @fault.guarded("a Router's request")
    def fail(self, error: BaseException) -> None:
        """End a request that failed or was cancelled."""
        self._end(error)

    def _start(self) -> None:
        attributes: dict[str, Value] = {}
        if self._group is not None:
            attributes[semconv.ROUTER_MODEL_GROUP] = self._group
        parent = None
        if self._before is not None:
            attributes[semconv.ROUTER_MID_STREAM] = True
            parent = set_span_in_context(self._before.span)
        self._started = perf_counter()
        self.span = self._telemetry.tracer.start_span(
            f"route {self._group}" if self._group is not None else "route", parent, SpanKind.INTERNAL, attributes
        )
        self.context = set_span_in_context(self.span, self.context)

    def _describe_attempt(self, deployment: str | None) -> dict[str, Value]:
        found: dict[str, Value] = {semconv.ROUTER_ATTEMPT: self.attempt_number}
        if self._group_now is not None:
            found[semconv.ROUTER_MODEL_GROUP] = self._group_now
        if deployment is not None:
            found[semconv.ROUTER_DEPLOYMENT_ID] = deployment
        return found

    def _record_attempt(self, error: BaseException, deployment: str | None) -> None:
        span = self._telemetry.tracer.start_span(
            f"attempt {self._group_now}" if self._group_now is not None else "attempt",
            self.context,
            SpanKind.INTERNAL,
            {**self._describe_attempt(deployment), semconv.ERROR_TYPE: type(error).__qualname__},
            start_time=self._attempt_started_ns,
        )
        span.set_status(_status(error))
        span.end()

    def _read_remaining(self, deployment: str, headers: Mapping[str, object]) -> None:
        requests, tokens = _count(headers, _REMAINING_REQUESTS), _count(headers, _REMAINING_TOKENS)
        if requests is not None or tokens is not None:
            self._telemetry.instruments.remaining(self._group_now, deployment, requests, tokens, self.context)

    def _end(self, error: BaseException | None) -> None:
        was_open, self._open = self._open, False
        if not was_open or self._started is None:
            return
        elapsed_s = perf_counter() - self._started
        try:
            if self.span.is_recording():
                self.span.set_attributes(self._describe(error))
                if error is not None:
                    self.span.set_status(_status(error))
            error_type = type(error).__qualname__ if error is not None else None
            self._telemetry.instruments.request_ended(self._group, error_type, elapsed_s, self.context)
        except Exception as own:
            fault.report("end of a Router's request", own)
        finally:
            try:
                self.span.end()
            except Exception as own:
                fault.report("end of a Router's span", own)

    def _describe(self, error: BaseException | None) -> dict[str, Value]:
        found: dict[str, Value] = {
            semconv.ROUTER_ATTEMPTS: self.attempt_number - self._attempts_before,
            semconv.ROUTER_RETRIES: self._retries,
            semconv.ROUTER_FALLBACKS: len(self._fallbacks),
        }
        if self.strategy is not None:
            found[semconv.ROUTER_STRATEGY] = self.strategy
        if self._fallbacks:
            found[semconv.ROUTER_FALLBACK_GROUPS] = tuple(self._fallbacks)
        if self._cooling:
            found[semconv.ROUTER_COOLING] = tuple(self._cooling)
        if error is not None:
            found[semconv.ERROR_TYPE] = type(error).__qualname__
        elif self._deployment is not None:
            found[semconv.ROUTER_DEPLOYMENT_ID] = self._deployment
        return found


def _status(error: BaseException) -> Status:
    status, name = getattr(error, "status_code", None), type(error).__qualname__
    return Status(StatusCode.ERROR, f"{name} (HTTP {status})" if isinstance(status, int) else name)


def _count(headers: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = headers.get(name)
        # Headers are strings; a number is the Router's own reckoning of a group, which it adds where there is none.
        if isinstance(value, str) and value.isdecimal():
            return int(value)
    return None
