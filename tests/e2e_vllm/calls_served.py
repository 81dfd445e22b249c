"""Calls of `AsyncLLM` and of vLLM's server over scripted engines, as rows of the table in `outcomes`."""

import asyncio
import gc
import inspect
import os
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import fastapi
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from vllm import PoolingParams
from vllm.v1.engine import FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from otel_llm.vllm import VLLMInstrumentor
from tests.e2e_vllm.scripted_core import ScriptedCore, delta, prompt, when, whole_reply
from tests.e2e_vllm.scripted_server import Client

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
HEADERS = {"x-request-id": "r-1", "traceparent": f"00-{0xA:032x}-{0xB:016x}-01", "baggage": "session.id=s-1"}
TRACED = {"traceparent": HEADERS["traceparent"]}


class World:
    """vLLM's server and its engine, one for generation and one for pooling, over scripted cores; one for many calls."""

    def __init__(self, app: Any, core: ScriptedCore, pooling: AsyncLLM, pooling_core: ScriptedCore) -> None:
        self.app, self.core, self.engine = app, core, app.state.engine_client
        self.pooling, self.pooling_core = pooling, pooling_core

    async def renew(self) -> None:
        """Forget the last call: an engine that died lives again."""
        for engine, core in ((self.engine, self.core), (self.pooling, self.pooling_core)):
            if engine.output_handler is not None:
                engine.output_handler.cancel()
                await asyncio.gather(engine.output_handler, return_exceptions=True)
                engine.output_handler = None
            core.__init__()
            processor = engine.output_processor
            for kept in (processor.request_states, processor.external_req_ids, processor.parent_requests):
                kept.clear()


Row = Callable[[World], Any]

# -- the asynchronous engine -------------------------------------------------------------------------------------------


class Reading:
    """A consumer in a task of its own, and whether the context around each output was its own."""

    def __init__(self, stream: Any) -> None:
        self.outputs: list[Any] = []
        self.contexts: list[bool] = []
        self.task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: Any) -> None:
        own = otel_context.get_current()
        try:
            async for output in stream:
                self.outputs.append(output)
                self.contexts.append(otel_context.get_current() is own)
        finally:
            self.contexts.append(otel_context.get_current() is own)

    async def ended(self) -> list[Any]:
        (error,) = await asyncio.gather(self.task, return_exceptions=True)
        return [self.outputs, self.contexts, error]


async def first_of(stream: Any, core: ScriptedCore) -> Any:
    """Take the first output of a stream."""
    first = asyncio.ensure_future(anext(stream))
    (request,) = await core.arrived()
    core.now += 1
    core.step(request.request_id)
    return await first


async def _stream(world: World, ask: Any = None, request_id: Any = "chatcmpl-a", **more: Any) -> Any:
    core, own = world.core, delta(temperature=0.5, stop=["never"]) if ask is None else ask
    reading = Reading(world.engine.generate(prompt(), own, request_id, **more))
    requests = await core.arrived(own.n)
    for number in range(1, 4):
        core.now += 1
        core.step(*(one.request_id for one in requests), finish=FinishReason.LENGTH if number == 3 else None)
        await when(lambda: core.waiting == 0)  # taken in one by one, or two outputs may come as one
        for _ in range(20):
            await asyncio.sleep(0)
    return await reading.ended(), own


async def _choices(world: World) -> Any:
    core = world.core
    reading = Reading(world.engine.generate(prompt(), whole_reply(n=2), "cmpl-b-0"))
    one, two = [request.request_id for request in await core.arrived(2)]
    core.step(one, two, cached=2)
    core.step(one, finish=FinishReason.STOP)
    core.step(two, tokens=3, finish=FinishReason.LENGTH)
    return await reading.ended()


async def _encode(world: World) -> Any:
    given = PoolingParams(task="embed")
    reading = Reading(world.pooling.encode(prompt(), given, "embd-a", None, TRACED))
    (request,) = await world.pooling_core.arrived()
    world.pooling_core.step(request.request_id, tokens=0, finish=FinishReason.STOP)
    return await reading.ended(), given


async def _traced_encode(world: World) -> Any:
    with mock.patch.object(world.pooling.observability_config, "otlp_traces_endpoint", "http://127.0.0.1:1"):
        result = await _encode(world)
    world.pooling_core.added.clear()  # their headers name our span
    return result


async def _left(world: World, leave: Callable[[Any], Any]) -> Any:
    stream = world.engine.generate(prompt(), delta(), "chatcmpl-d")
    first = await first_of(stream, world.core)
    try:
        came = await leave(stream)
    except BaseException as error:
        came = error
    del stream
    return first, came


async def _dropped(world: World) -> Any:
    stream = world.engine.generate(prompt(), delta(), "chatcmpl-d")
    first = await first_of(stream, world.core)
    del stream
    gc.collect()
    await when(lambda: world.core.aborted)
    return first


async def _ending(world: World, end: Callable[[World, Reading, str], Any]) -> Any:
    reading = Reading(world.engine.generate(prompt(), delta(), "chatcmpl-d"))
    (request,) = await world.core.arrived()
    world.core.step(request.request_id)
    await when(lambda: reading.outputs)
    if inspect.isawaitable(waiting := end(world, reading, request.request_id)):
        await waiting
    return await reading.ended()


class Calls(AsyncLLM):
    """A subclass of an application."""

    async def generate(self, *args: Any, **given: Any) -> Any:
        async for output in super().generate(*args, **given):
            yield output, "mine"


async def _subclass(world: World) -> Any:
    world.engine.__class__ = Calls
    try:
        return await _stream(world)
    finally:
        world.engine.__class__ = AsyncLLM


async def _twice(world: World) -> Any:
    readings = [Reading(world.engine.generate(prompt(), delta(), "chatcmpl-same")) for _ in range(2)]
    for request in await world.core.arrived(2):
        world.core.step(request.request_id, finish=FinishReason.STOP)
    return [await reading.ended() for reading in readings]


async def _off(world: World, _: Reading, request_id: str) -> None:
    if VLLMInstrumentor().is_instrumented_by_opentelemetry:
        VLLMInstrumentor().uninstrument()
    world.core.step(request_id, finish=FinishReason.STOP)


async def _refused(world: World, *given: Any, **more: Any) -> Any:
    return await anext(world.engine.generate(*given, **more))


async def _dead(world: World) -> Any:
    world.core.resources.engine_dead = True
    return await anext(world.engine.generate(prompt(), delta(), "chatcmpl-f"))


async def _never_asked(world: World) -> Any:
    stream = world.engine.generate(prompt(), delta(), "chatcmpl-g")
    await stream.aclose()
    return type(stream)


async def _added_directly(world: World) -> Any:
    queue = await world.engine.add_request("own", prompt(), delta())
    await world.engine.abort([queue.request_id], internal=True)
    return world.engine.output_processor.abort_requests(iter(("nobody",)), internal=False)


ENGINE: Mapping[str, Row] = {
    "stream": _stream,
    "stream of several choices": lambda world: _stream(world, delta(n=2)),
    "stream of an engine that runs": lambda world: _stream(world, request_id="an id of the application's own"),
    "stream with headers": lambda world: _stream(world, trace_headers=TRACED),
    "choices in one reply": _choices,
    "encode": _encode,
    "encode where vLLM traces": _traced_encode,
    "left stream": lambda world: _left(world, lambda stream: stream.aclose()),
    "dropped stream": _dropped,
    "thrown into": lambda world: _left(world, lambda stream: stream.athrow(KeyError("thrown in"))),
    "interrupted": lambda world: _left(world, lambda stream: stream.athrow(asyncio.CancelledError("mine"))),
    "closed twice": lambda world: _left(world, lambda stream: asyncio.gather(stream.aclose())),
    "cancelled": lambda world: _ending(world, lambda _, reading, __: reading.task.cancel("mine")),
    "aborted by id": lambda world: _ending(world, lambda world, _, __: world.engine.abort("chatcmpl-d")),
    "aborted by the engine": lambda world: _ending(
        world, lambda world, _, request_id: world.core.step(request_id, tokens=0, finish=FinishReason.ABORT)
    ),
    "failed by the engine": lambda world: _ending(
        world, lambda world, _, request_id: world.core.step(request_id, tokens=0, finish=FinishReason.ERROR)
    ),
    "an engine that dies": lambda world: _ending(world, lambda world, _, __: world.core.die(EngineDeadError())),
    "taken off in the middle": lambda world: _ending(world, _off),
    "a dead engine": _dead,
    "a subclass": _subclass,
    "an id used twice": _twice,
    "never asked": _never_asked,
    "added by hand": _added_directly,
    "none for a prompt": lambda world: _refused(world, None, delta(), "a"),
    "an empty prompt": lambda world: _refused(world, {"prompt_token_ids": []}, delta(), "a"),
    "a number for an id": lambda world: _stream(world, request_id=7),
    "parameters of a wrong kind": lambda world: _refused(world, prompt(), "nonsense", "a"),
    "headers of a wrong kind": lambda world: _stream(world, trace_headers=7),
    "too few arguments": _refused,
    "an argument nobody knows": lambda world: _refused(world, prompt(), delta(), "a", bogus=1),
    "an object that is no engine": lambda _: anext(AsyncLLM.generate(object(), prompt(), delta(), "a")),  # type: ignore[call-overload]
}

# -- the server --------------------------------------------------------------------------------------------------------


async def _asked(world: World, body: Any = CHAT, path: str = "/v1/chat/completions", count: int = 1) -> Any:
    client = Client(world.app, path, body, HEADERS)
    requests = [one.request_id for one in await world.core.arrived(count)]
    world.core.step(*requests)
    await when(lambda: world.core.waiting == 0)
    world.core.step(*requests, finish=FinishReason.STOP)
    await client.served
    return client.status, client.answer


async def _leaving(world: World, is_stream: bool) -> Any:
    client = Client(world.app, "/v1/chat/completions", {**CHAT, "stream": is_stream}, HEADERS)
    (request,) = await world.core.arrived()
    world.core.step(request.request_id)
    await when(lambda: client.answer or world.core.waiting == 0)
    client.leave()
    (came,) = await asyncio.gather(client.served, return_exceptions=True)
    await when(lambda: world.core.aborted)
    return came, client.status


async def _not_asked(world: World, body: Any, path: str = "/v1/chat/completions") -> Any:
    client = Client(world.app, path, body, HEADERS)
    (came,) = await asyncio.gather(client.served, return_exceptions=True)
    return came, client.status, client.answer


async def _small_app(_: World) -> Any:
    """Built as vLLM builds its own, in a hundredth of the time."""
    from vllm.entrypoints.launchers import app as launcher

    app = fastapi.FastAPI()

    @app.post("/")
    async def answer() -> dict[str, str]:
        return {"answer": "yes"}

    args = SimpleNamespace(allowed_origins=[], allow_credentials=False, allowed_methods=[], allowed_headers=[])
    vars(args).update(api_key=None, enable_request_id_headers=False, middleware=[], ssl_keyfile=None)
    launcher.init_entrypoints_middleware(args, app, ("generate",))
    client = Client(app, "/", {}, HEADERS)
    await client.served
    return client.status, client.answer


async def _send_fails(world: World) -> Any:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        raise OSError("closed")

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/health",
        "raw_path": b"/health",
        "query_string": b"",
        "headers": [],
    }
    return await world.app(
        {**scope, "http_version": "1.1", "scheme": "http", "root_path": "", "server": None}, receive, send
    )


def _own_tracing(_: World) -> Any:
    """vLLM's tracing where the process has a tracer provider: it makes a second one, or not."""
    import vllm.v1.engine.async_llm as async_llm
    from vllm.tracing import maybe_init_worker_tracer

    processor = SimpleSpanProcessor(InMemorySpanExporter())  # and none that sends
    made = mock.patch("vllm.tracing.otel.BatchSpanProcessor", return_value=processor)
    own = mock.patch.object(trace, "_TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
    with made, own, mock.patch("atexit.register"), mock.patch.dict(os.environ):
        tracers = [
            async_llm.init_tracer("vllm.llm_engine", "http://127.0.0.1:1"),
            maybe_init_worker_tracer("vllm.worker", "worker", "w"),
        ]
        return [type(one) for one in tracers], os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]


SERVER: Mapping[str, Row] = {
    "chat": _asked,
    "streamed chat": lambda world: _asked(world, {**CHAT, "stream": True}),
    "two prompts": lambda world: _asked(
        world, {"model": "tiny", "prompt": ["a", "b"], "max_tokens": 8}, "/v1/completions", 2
    ),
    "beam search that fails": lambda world: _asked(world, {**CHAT, "use_beam_search": True, "n": 1, "temperature": 0}),
    "a client that leaves": lambda world: _leaving(world, is_stream=False),
    "a client that leaves a stream": lambda world: _leaving(world, is_stream=True),
    "a bad request": lambda world: _not_asked(world, {"model": "tiny", "messages": 7}),
    "no route": lambda world: _not_asked(world, {}, "/nowhere"),
    "a small application": _small_app,
    "a connection that fails": _send_fails,
    "vLLM's own tracing": _own_tracing,
}
