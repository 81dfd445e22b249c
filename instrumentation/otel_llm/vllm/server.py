"""vLLM's own server: the trace from the HTTP request to the engine, and that there is one tracer provider, not two.

Below the ASGI or FastAPI instrumentation its HTTP span is current wherever the server calls the engine, for tasks begun
while a request is handled copy its context; nothing has to be done. Without them the context of the client is taken from
the headers here, as the process's propagators do (`OTEL_PROPAGATORS`), for every route; vLLM itself looks at `traceparent`
alone, on some of them. No span is made of the HTTP request: that is the other instrumentation's.

Also seen here, because nobody else can tell: whether a client went away before it had its answer. And left out here: the
other instrumentation's span of every chunk it sends (`otel_llm.asgi`).

vLLM's tracing (`--otlp-traces-endpoint`) makes a tracer provider and sets it for the process. Where one is set, as below
`opentelemetry-instrument`, that fails with a warning, and the second one idles with a thread of its own while vLLM's spans
go through the first. It is not made then.
"""

import functools
import logging
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Token
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context

from otel_llm import asgi, fault
from otel_llm.invocation import Telemetry
from otel_llm.wrapping import Function, Wrappers, is_wrapped

from .incoming import INCOMING, Incoming
from .wrappers import State

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOG = logging.getLogger(__name__)
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


class Arrivals:
    """ASGI middleware: each request in the context of its client, and whether that client is still there."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        incoming = _arrived(scope)
        if incoming is None:
            await self._app(scope, receive, send)
            return

        async def received() -> Message:
            message = await receive()
            _heard(incoming, message)
            return message

        async def sent(message: Message) -> None:
            _answers(incoming, message)
            try:
                await send(message)
            except OSError:  # how servers of newer ASGI versions tell it
                _lost(incoming)
                raise

        mark = INCOMING.set(incoming)
        token = _take_context(scope)
        try:
            await self._app(scope, received, sent)
        finally:
            _leave(mark, token)


@fault.guarded("arrival of a client's request")
def _arrived(scope: Scope) -> Incoming | None:
    return Incoming() if State.active is not None and scope["type"] in ("http", "websocket") else None


@fault.guarded("a message of a client")
def _heard(incoming: Incoming, message: Message) -> None:
    if message["type"] in ("http.disconnect", "websocket.disconnect"):
        incoming.left()


@fault.guarded("a message to a client")
def _answers(incoming: Incoming, message: Message) -> None:
    if message["type"] == "http.response.body" and not message.get("more_body", False):
        incoming.is_answered = True


@fault.guarded("the loss of a client")
def _lost(incoming: Incoming) -> None:
    incoming.left()


@fault.guarded("end of a client's request")
def _leave(mark: Token[Incoming | None], token: Token[Context] | None) -> None:
    if token is not None:
        otel_context.detach(token)
    INCOMING.reset(mark)


@fault.guarded("context of a client")
def _take_context(scope: Scope) -> Token[Context] | None:
    """Make the client's context current, unless a span is: then somebody who knows more has taken it."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    wanted = {name.lower() for name in propagate.get_global_textmap().fields}
    carrier: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        if name in wanted:
            value = raw_value.decode("latin-1")
            carrier[name] = f"{carrier[name]},{value}" if name in carrier else value  # one header may come in parts
    return otel_context.attach(propagate.extract(carrier)) if carrier else None


def put_app(module: Any, telemetry: Telemetry, wrappers: Wrappers) -> None:
    """Wrap the step in which the server's application gets its middleware; once built, it takes no more."""
    asgi.put(telemetry, wrappers)
    original = module.init_entrypoints_middleware
    if not is_wrapped(original):
        wrappers.put(module, "init_entrypoints_middleware", _with_ours(original), original)


def _with_ours(original: Function) -> Function:
    @functools.wraps(original)
    def init_entrypoints_middleware(args: Any, app: Any, *others: Any, **kwargs: Any) -> Any:
        result = original(args, app, *others, **kwargs)
        if State.active is not None:
            _add_middleware(app)
        return result

    return init_entrypoints_middleware


@fault.guarded("the server's application")
def _add_middleware(app: Any) -> None:
    app.add_middleware(Arrivals)


def put_tracing(module: Any, telemetry: Telemetry, wrappers: Wrappers) -> None:  # noqa: ARG001 - as every part
    """Wrap what sets up vLLM's tracing, here and where it has been taken from here by name."""
    for name, make in (("init_tracer", _init_tracer), ("maybe_init_worker_tracer", _init_worker_tracer)):
        original = getattr(module, name, None)
        if original is None or is_wrapped(original):
            continue
        wrapper = make(original)
        for holder in (module, *(sys.modules.get(known) for known in _HOLDERS)):
            if holder is not None and vars(holder).get(name) is original:
                wrappers.put(holder, name, wrapper, original)


_HOLDERS: Final = (
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.llm_engine",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
)


def _init_tracer(original: Function) -> Function:
    @functools.wraps(original)
    def init_tracer(instrumenting_module_name: str, otlp_traces_endpoint: str, *args: Any, **kwargs: Any) -> Any:
        if State.active is None or not _is_provided():
            return original(instrumenting_module_name, otlp_traces_endpoint, *args, **kwargs)
        # For the processes it starts, which may be without a provider; as vLLM does, save that what is set stays.
        os.environ.setdefault(_ENDPOINT, otlp_traces_endpoint)
        _LOG.info(
            "otel_llm: vLLM's spans go where this process's tracer provider sends them, as they would without us, "
            "and not to --otlp-traces-endpoint %s",
            otlp_traces_endpoint,
        )
        return trace.get_tracer(instrumenting_module_name)

    return init_tracer


def _init_worker_tracer(original: Function) -> Function:
    @functools.wraps(original)
    def maybe_init_worker_tracer(instrumenting_module_name: str, *args: Any, **kwargs: Any) -> Any:
        if State.active is None or not os.environ.get(_ENDPOINT) or not _is_provided():
            return original(instrumenting_module_name, *args, **kwargs)
        return trace.get_tracer(instrumenting_module_name)

    return maybe_init_worker_tracer


@fault.guarded("the process's tracer provider", otherwise=False)
def _is_provided() -> bool:
    """Whether a tracer provider has been set for this process, one that records or one that was chosen not to."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


PARTS: Final = (
    ("vllm.entrypoints.launchers.app", "the server's application", put_app),
    ("vllm.tracing", "vLLM's own tracing", put_tracing),
)
