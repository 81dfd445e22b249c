"""What is added to the HTTP requests that LiteLLM sends for a call: trace headers, and the question for a stream's usage.

The seam is the method by which httpx sends one single request. It lies below LiteLLM's cache, its clients and its retries,
above its aiohttp transport, and takes each redirect as the request to another host that it is. The request object has
more on it while it is sent and is handed back as it was: whoever looks at it, or builds the next one from it, finds
nothing of ours. Outside an open call the cost is one look-up in the context.

Not covered: what LiteLLM sends without httpx, by a vendor's SDK, by plain aiohttp (`aiohttp_openai/`) or by its part in
Rust (OCR, Bedrock's transcription, and what `LITELLM_RUST` switches on).
"""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from otel_llm import fault, semconv
from otel_llm.invocation import Invocation, Telemetry, current
from otel_llm.litellm.usage_chunk import REFUSED, Refusals, asking
from otel_llm.propagation import TRACEPARENT, TRACESTATE, is_target, self_hosted, trace_headers
from otel_llm.settings import Settings, Targets

_MODULES: Final = ("httpx", "httpx2")  # LiteLLM's own, and that of newer OpenAI SDKs; same names, different classes
_PORTS: Final = {"http": 80, "https": 443}
_OPERATIONS_WITH_USAGE_CHUNK: Final = frozenset((semconv.OPERATION_CHAT, semconv.OPERATION_TEXT_COMPLETION))
_TRACEPARENT: Final = TRACEPARENT.encode()
_W3C: Final = frozenset((_TRACEPARENT, TRACESTATE.encode()))
_FORM: Final = b"application/x-www-form-urlencoded"

Function = Callable[..., Any]
_Headers = list[tuple[bytes, bytes]]
_Server = tuple[str, int | None, str | None]  # host, port, model


class PutMethods(Protocol):
    """Wraps methods of a class, by name, until the instrumentation ends."""

    def __call__(self, owner: type, methods: Mapping[str, Callable[[Function], Function]], /) -> None: ...


def apply(telemetry: Telemetry, put_methods: PutMethods) -> None:
    """Wrap the clients of each httpx there is, and add to what they send from now on."""
    for name in _MODULES:
        module = sys.modules.get(name)
        if module is not None:
            put_methods(module.Client, {"_send_single_request": _sync_wrapper})
            put_methods(module.AsyncClient, {"_send_single_request": _async_wrapper})
    _State.active = _Active(telemetry.settings)


def remove() -> None:
    """Add nothing from now on; wrappers that others still hold pass everything through."""
    _State.active = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one request goes out; as a context, the time in which it carries what is added."""

    request: Any
    given: Any  # its headers as they were
    headers: Any
    first: Any | None  # sent in its place, where usage is asked for
    server: _Server
    refusals: Refusals

    @fault.guarded("a request of a LiteLLM call")
    def __enter__(self) -> None:
        if self.first is None:
            self.carry()

    @fault.guarded("a request of a LiteLLM call")
    def carry(self) -> None:
        """Put the headers on the request."""
        self.request.headers = self.headers

    @fault.guarded("a request of a LiteLLM call")
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.request.headers = self.given
        if error is not None and self.first is not None:
            self._is_of_the_request(error)

    @fault.guarded("a request of a LiteLLM call", otherwise=True)
    def is_answered(self, response: Any) -> bool:
        """Whether the question was no hindrance; where it was, the request is sent as the caller made it."""
        self._is_of_the_request(response)
        return response.status_code not in REFUSED

    @fault.guarded("a request of a LiteLLM call")
    def learn(self, response: Any) -> None:
        """Remember a server that refused the question alone; one that refuses the request as well proves nothing."""
        try:
            if self.first is not None and response.status_code < 400:
                self.refusals.add(self.server)
        except Exception as own:
            fault.report("a server that refused stream options", own)

    def _is_of_the_request(self, outcome: Any) -> None:
        # Responses and errors name their request; httpx raises RuntimeError for those that have none.
        try:
            if outcome.request is self.first:
                outcome.request = self.request
        except (AttributeError, RuntimeError):
            return


class _Active:
    """What is sent to whom, by the settings of this process."""

    def __init__(self, settings: Settings) -> None:
        self._propagate_to: Final = settings.propagate_to
        self._ask_usage: Final = settings.ask_usage
        self._baggage: Final = settings.propagate_baggage
        self._is_self_hosted: Final = self_hosted(settings.self_hosted_hosts)
        self._refusals: Final = Refusals()

    @fault.guarded("a request of a LiteLLM call")
    def plan(self, invocation: Invocation, request: Any) -> _Plan | None:
        """Decide on a request about to be sent; None where it goes out as it is."""
        try:
            return self._plan(invocation, request)
        except Exception as own:
            fault.report("a request of a LiteLLM call", own)
            return None

    def _plan(self, invocation: Invocation, request: Any) -> _Plan | None:
        url, headers = request.url, request.headers.raw
        names = {name.lower(): value for name, value in headers}
        port = url.port or _PORTS.get(url.scheme)
        # A token fetched by a form, or a picture fetched for a prompt, may come before the request to the model.
        if request.method == "POST" and not names.get(b"content-type", b"").startswith(_FORM):
            invocation.server_is(url.host, port)
        host = url.raw_host.decode("ascii")
        added = headers
        if is_target(self._propagate_to, host, self._is_self_hosted):
            added = _with_trace(headers, names, trace_headers(invocation.context, self._baggage))
        server = (host, port, invocation.request.model)
        body = self._asking(invocation, request, server)
        if added is headers and body is None:
            return None
        first = _request(request, added, body) if body is not None else None
        carried = type(request.headers)(added)
        return _Plan(request, request.headers, carried, first, server, self._refusals)

    def _asking(self, invocation: Invocation, request: Any, server: _Server) -> bytes | None:
        asked = invocation.request
        if (
            self._ask_usage is Targets.NEVER
            or not asked.is_stream
            or asked.operation not in _OPERATIONS_WITH_USAGE_CHUNK
            or request.method != "POST"
            or not request.url.path.endswith("/completions")
            or not is_target(self._ask_usage, server[0], self._is_self_hosted)
            or server in self._refusals
        ):
            return None
        return asking(request.content)


class _State:
    active: _Active | None = None


def _with_trace(headers: _Headers, names: Mapping[bytes, bytes], trace: Mapping[str, str]) -> _Headers:
    if not trace:
        return headers
    kept, taken = headers, set(names)
    given = names.get(_TRACEPARENT)
    if given is not None and given[3:35] == trace[TRACEPARENT][3:35].encode():
        # It names this very trace: a proxy or the application's own code passed it on. The span of this call comes
        # after the one it names, and connects the two.
        kept, taken = [pair for pair in headers if pair[0].lower() not in _W3C], taken - _W3C
    elif given is not None:
        taken |= _W3C
    return [
        *kept,
        *((name.encode(), value.encode()) for name, value in trace.items() if name.lower().encode() not in taken),
    ]


def _request(request: Any, headers: _Headers, body: bytes) -> Any:
    length = b"%d" % len(body)
    headers = [(name, length if name.lower() == b"content-length" else value) for name, value in headers]
    stream = type(request.stream)(body)  # of bytes, as the request has its whole body at hand
    first = type(request)(request.method, request.url, headers=headers, stream=stream, extensions=request.extensions)
    first.read()
    return first


def _sync_wrapper(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any, request: Any) -> Any:
        invocation = current()
        if (
            invocation is None
            or (active := _State.active) is None
            or (plan := active.plan(invocation, request)) is None
        ):
            return original(self, request)
        with plan:
            if plan.first is not None:
                response = original(self, plan.first)
                if plan.is_answered(response):
                    return response
                try:
                    response.close()
                except Exception as error:
                    fault.report("closing a refused reply", error)
                plan.carry()
            response = original(self, request)
            plan.learn(response)
            return response

    return wrapper


def _async_wrapper(original: Function) -> Function:
    @functools.wraps(original)
    async def wrapper(self: Any, request: Any) -> Any:
        invocation = current()
        if (
            invocation is None
            or (active := _State.active) is None
            or (plan := active.plan(invocation, request)) is None
        ):
            return await original(self, request)
        with plan:
            if plan.first is not None:
                response = await original(self, plan.first)
                if plan.is_answered(response):
                    return response
                try:
                    await response.aclose()
                except Exception as error:
                    fault.report("closing a refused reply", error)
                plan.carry()
            response = await original(self, request)
            plan.learn(response)
            return response

    return wrapper
