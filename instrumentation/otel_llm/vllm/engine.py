"""The asynchronous engine, `AsyncLLM`, which `vllm serve` and applications with a loop of their own use: a span a request.

`generate` and `encode` stay async generator functions: nothing happens before the first step; what the consumer throws in,
an early end and a cancellation reach vLLM as they would without us. The span is current while the front end takes the
request in, not across a `yield`, where it would leak into the consumer.

Where vLLM's own tracing is on (`--otlp-traces-endpoint`), the engine is told that our span is the parent of its
`llm_request`: that one stays, for who switched it on reads it, and ours is above it, for it also covers requests that were
given up or failed, of which vLLM writes nothing. Where it is off, the headers are not handed on: vLLM would only warn that
it drops a context which has arrived already. No client metrics are made here; a server's are those of the stat logger.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_llm import fault, semconv
from otel_llm.invocation import Telemetry
from otel_llm.wrapping import Function, Wrappers

from .names import model_of
from .open_request import OpenRequest, enclosing
from .operations import operation_of
from .wrappers import State


@dataclass(frozen=True)
class _Method:
    """One async generator method: what its parameters are called, and what it does where neither id nor parameters say."""

    params: str
    operation: str
    engine: str | None = None  # where its object has the engine; None: it is the engine
    is_whole: bool = True  # one request to the engine, not many


_GENERATE: Final = _Method("sampling_params", semconv.OPERATION_TEXT_COMPLETION)
_ENCODE: Final = _Method("pooling_params", semconv.OPERATION_POOLING)
_BEAM_SEARCH: Final = _Method("params", semconv.OPERATION_TEXT_COMPLETION, "engine_client", is_whole=False)


class _Call(NamedTuple):
    """A request, and the arguments with which the engine is to be called for it."""

    request: OpenRequest
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def _following(method: _Method) -> Callable[[Function], Function]:
    def make(original: Function) -> Function:
        names = tuple(inspect.signature(original).parameters)[1:]

        @functools.wraps(original)
        async def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            call = _begin(method, self, names, args, kwargs)
            request = None if call is None else call.request
            inner = original(self, *args, **kwargs) if call is None else original(self, *call.args, **call.kwargs)
            try:
                if request is None:
                    output = await anext(inner)
                else:
                    token = request.enter()
                    try:
                        output = await anext(inner)
                    finally:
                        request.leave(token)
                while True:
                    if request is not None:
                        try:  # here and not in a decorator, whose call would cost more than what it guards
                            request.chunk(output)
                        except Exception as own:
                            fault.report("an output of a request", own)
                    try:
                        yield output
                    except GeneratorExit:
                        if request is not None:
                            request.closing()
                        await inner.aclose()
                        raise
                    except BaseException as thrown:
                        output = await inner.athrow(thrown)
                    else:
                        output = await anext(inner)
            except StopAsyncIteration:
                if request is not None:
                    request.finished()
            except GeneratorExit:
                if request is not None:
                    request.closed()
                raise
            except BaseException as error:
                if request is not None:
                    request.failed(error)
                raise

        return wrapper

    return make


@fault.guarded("start of a request")
def _begin(
    method: _Method, owner: Any, names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> _Call | None:
    telemetry = State.active
    if telemetry is None or not is_instrumentation_enabled() or enclosing() is not None:
        return None
    engine = owner if method.engine is None else getattr(owner, method.engine)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    params, request_id = given.get(method.params), given.get("request_id")
    request = OpenRequest(
        telemetry,
        operation_of(request_id, params, method.operation),
        model_of(engine.model_config),
        request_id if isinstance(request_id, str) else None,
        params,
        given.get("trace_headers"),
        is_whole=method.is_whole,
    )
    return _Call(request, *_with_parent(request, engine, names, args, kwargs))


def _with_parent(
    request: OpenRequest, engine: Any, names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments with trace headers that name our span, or with none where vLLM itself does not trace."""
    if "trace_headers" not in names:
        return args, kwargs
    config = getattr(engine, "observability_config", None)
    is_traced = getattr(config, "otlp_traces_endpoint", None) is not None
    headers = request.headers() if is_traced else None
    place = names.index("trace_headers")
    if place < len(args):
        return (*args[:place], headers, *args[place + 1 :]), kwargs
    if headers is None and "trace_headers" not in kwargs:
        return args, kwargs
    return args, {**kwargs, "trace_headers": headers}


def _in_no_request(original: Function) -> Function:
    """Start the task that takes in all outputs in a context of its own; it would carry that of the first request for good."""

    @functools.wraps(original)
    def run_output_handler(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "output_handler", None) is not None:
            return original(self, *args, **kwargs)
        token = otel_context.attach(Context())
        try:
            return original(self, *args, **kwargs)
        finally:
            otel_context.detach(token)

    return run_output_handler


def put(module: Any, telemetry: Telemetry, wrappers: Wrappers) -> None:  # noqa: ARG001 - as every part
    """Wrap the methods of `AsyncLLM`."""
    methods = {"generate": _following(_GENERATE), "encode": _following(_ENCODE), "_run_output_handler": _in_no_request}
    wrappers.put_methods(module.AsyncLLM, methods)


def put_beam_search(module: Any, telemetry: Telemetry, wrappers: Wrappers) -> None:  # noqa: ARG001 - as every part
    """Wrap the server's beam search, which asks the engine for one token of one beam at a time: one request, not hundreds."""
    wrappers.put_methods(module.BeamSearchOnlineMixin, {"beam_search": _following(_BEAM_SEARCH)})


PARTS: Final = (
    ("vllm.v1.engine.async_llm", "the asynchronous engine", put),
    ("vllm.entrypoints.generate.beam_search.online", "the server's beam search", put_beam_search),
)
