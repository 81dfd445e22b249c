"""A table of calls of vLLM over scripted engines, and what each gives, as plain values that can be compared: see `test_no_harm`.

What an outcome is: the result or the exception, down to types, fields and causes; what the engine was asked; the caller's
parameters and context afterwards.
"""

import asyncio
import gc
import inspect
import os
import re
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import fastapi
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from vllm import LLM, PoolingParams, SamplingParams
from vllm.sampling_params import BeamSearchParams
from vllm.v1.engine import FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import StatLoggerManager
from vllm.v1.metrics.stats import RequestStateStats, SchedulerStats

from otel_llm.vllm import VLLMInstrumentor
from otel_llm.vllm.stats import OtelStatLogger
from tests.e2e_vllm.scripted_core import ScriptedCore, delta, prompt, when, whole_reply
from tests.e2e_vllm.scripted_llm import Core, scripted
from tests.e2e_vllm.scripted_server import Client
from tests.e2e_vllm.watched import finished, iteration

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
HEADERS = {"x-request-id": "r-1", "traceparent": f"00-{0xA:032x}-{0xB:016x}-01", "baggage": "session.id=s-1"}
DEADLINE_S = 3.0  # of a call that takes some milliseconds
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


# -- the offline API ---------------------------------------------------------------------------------------------------


class Calls(LLM):
    """A subclass of an application."""

    def generate(self, prompts: Any, *args: Any, **given: Any) -> Any:
        first = self.chat([{"role": "user", "content": "first"}], params(), use_tqdm=False)
        return [*first, *super().generate(prompts, *args, **given)]


class Beams(LLM):
    """A beam search of no step; its steps need logarithms that no script tells."""

    def _beam_search_step(self, *_: Any, **__: Any) -> bool:
        return True


def params(**given: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 8, "temperature": 0.5, "stop": None, "detokenize": False, **given})


def offline(call: Callable[[Any], Any], kind: type[LLM] = LLM, **of_the_core: Any) -> Row:
    def row(_: World) -> Any:
        core = Core()
        vars(core).update(of_the_core)
        llm = scripted(core, kind, statistics=True)
        try:
            return call(llm), core.headers
        except BaseException as error:
            return error, core.headers, [type(one) for one in llm.llm_engine.output_processor.request_states.values()]

    return row


def generate(*prompts: Any, **more: Any) -> Callable[[Any], Any]:
    given = {"sampling_params": params(), "use_tqdm": False, **more}
    return lambda llm: (llm.generate(list(prompts), **given), given["sampling_params"])


def _enqueued(llm: Any) -> Any:
    ids = llm.enqueue(["a", "b c"], params(), use_tqdm=False)
    more = llm.enqueue_chat([{"role": "user", "content": "d"}], params(), use_tqdm=False)
    return ids, more, llm.wait_for_completion(use_tqdm=False)


def _interrupted(llm: Any) -> Any:
    llm.enqueue(["a", "b c"], params(), use_tqdm=False)
    core = llm.llm_engine.engine_core
    try:
        llm.wait_for_completion(use_tqdm=False)
    except KeyboardInterrupt as error:
        core.dies_after = None
        return error, llm.wait_for_completion(use_tqdm=False)


def _beam_search(llm: Any) -> Any:
    llm.renderer.get_tokenizer = lambda: SimpleNamespace(eos_token_id=0, decode=lambda *_, **__: "text")
    llm.llm_engine.input_processor.resolve_watermarking = lambda _: None
    return llm.beam_search([{"prompt_token_ids": [1, 2]}], BeamSearchParams(beam_width=2, max_tokens=2))


def _suppressed(llm: Any) -> Any:
    with suppress_instrumentation():
        return generate("a b")(llm)


def _traced(llm: Any) -> Any:
    llm.llm_engine.observability_config.otlp_traces_endpoint = "http://127.0.0.1:1"
    result = generate("a b")(llm)
    llm.llm_engine.engine_core.headers.clear()  # those are ours
    return result


OFFLINE: Mapping[str, Row] = {
    "generate": offline(generate("a b c", {"prompt_token_ids": [5, 6]})),
    "chat": offline(lambda llm: llm.chat([{"role": "user", "content": "a b"}], params(), use_tqdm=False)),
    "two choices": offline(generate("a b", "c", sampling_params=params(n=2))),
    "parameters of each": offline(generate("a", "b", sampling_params=[params(max_tokens=5), params(seed=1)])),
    "enqueue and wait": offline(_enqueued),
    "interrupted wait": offline(_interrupted, dies_after=2, raises=KeyboardInterrupt()),
    "beam search": offline(_beam_search, Beams),
    "encode of a model that generates": offline(lambda llm: llm.encode(["a"], pooling_task="embed")),
    "embed, which calls encode": offline(lambda llm: llm.embed("a b")),
    "refused prompt": offline(generate("a b", "")),
    "an engine that dies": offline(generate("a", "b", "c", "d"), dies_after=4, raises=EngineDeadError()),
    "an exit": offline(generate("a"), dies_after=1, raises=SystemExit(3)),
    "aborted by the engine": offline(generate("a", "b"), finish=FinishReason.ABORT),
    "failed by the engine": offline(generate("a"), finish=FinishReason.ERROR, preempts=True),
    "a subclass": offline(generate("a b"), Calls),
    "suppressed": offline(_suppressed),
    "vLLM traces": offline(_traced),
    "empty batch": offline(generate()),
    "none for a prompt": offline(generate(None)),
    "none for prompts": offline(lambda llm: llm.generate(None, params(), use_tqdm=False)),
    "no prompts": offline(lambda llm: llm.generate()),
    "token ids": offline(generate([5, 6, 7])),
    "a mapping with neither text nor ids": offline(generate({"nothing": 1})),
    "many choices": offline(generate("a", sampling_params=params(n=300))),
    "unicode": offline(generate("\N{GRINNING FACE} \ud800 \x00 ﷽")),
    "no parameters": offline(lambda llm: llm.generate(["a"], use_tqdm=False)),
    "parameters of a wrong kind": offline(generate("a", sampling_params=7)),
    "too few parameters": offline(generate("a", "b", sampling_params=[params()])),
    "an argument nobody knows": offline(generate("a", bogus=1)),
    "an object without an engine": lambda _: LLM.generate(object.__new__(LLM), ["a"], params()),  # type: ignore[list-item]
}


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


async def _twice(world: World) -> Any:
    readings = [Reading(world.engine.generate(prompt(), delta(), "chatcmpl-same")) for _ in range(2)]
    for request in await world.core.arrived(2):
        world.core.step(request.request_id, finish=FinishReason.STOP)
    return [await reading.ended() for reading in readings]


async def _off(world: World, reading: Reading, request_id: str) -> None:
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
    "an id used twice": _twice,
    "never asked": _never_asked,
    "added by hand": _added_directly,
    "none for a prompt": lambda world: _refused(world, None, delta(), "a"),
    "an empty prompt": lambda world: _refused(world, {"prompt_token_ids": []}, delta(), "a"),
    "a number for an id": lambda world: _stream(world, request_id=7),
    "parameters of a wrong kind": lambda world: _refused(world, prompt(), "nonsense", "a"),
    "headers of a wrong kind": lambda world: _refused(world, None, delta(), "a", trace_headers=7),
    "too few arguments": lambda world: _refused(world),
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

    scope = {"type": "http", "method": "GET", "path": "/health", "raw_path": b"/health", "query_string": b"", "headers": []}
    return await world.app({**scope, "http_version": "1.1", "scheme": "http", "root_path": "", "server": None}, receive, send)


def _own_tracing(_: World) -> Any:
    """vLLM's tracing where the process has a tracer provider: it makes a second one, or not."""
    import vllm.v1.engine.async_llm as async_llm
    from vllm.tracing import maybe_init_worker_tracer

    made = mock.patch("vllm.tracing.otel.BatchSpanProcessor", lambda _: SimpleSpanProcessor(InMemorySpanExporter()))
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


# -- statistics --------------------------------------------------------------------------------------------------------


class Statistics:
    """The configuration for the statistics' loggers, and the meter provider that ours is to use; set by the test."""

    config: Any
    meter_provider: MeterProvider | None = None  # None: without ours


def _statistics(_: World, *broken: Any) -> Any:
    """What vLLM's own logger for Prometheus and another one tell, with ours between them."""
    heard: list[Any] = []

    class Other:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **__: heard.append((name, len(args)))

    ours = [] if Statistics.meter_provider is None else [Ours]
    manager = StatLoggerManager(Statistics.config, [0], [*ours, Other], enable_default_loggers=False)
    manager.log_engine_initialized()
    manager.record(SchedulerStats(num_running_reqs=2, num_waiting_reqs=1, kv_cache_usage=0.5), iteration(2, 2, prompt=20))
    ended = (finished(f"cmpl-{TRACED['traceparent']}-0"), finished(None, FinishReason.ABORT), *broken)
    manager.record(SchedulerStats(num_running_reqs=1), iteration(9, finished=ended, preempted=1))
    manager.record(None, None)
    manager.record_sleep_state(1, 2)
    manager.record_sleep_state(0, 0)
    manager.record_admission_rejection("max_pending_tokens")
    manager.log()
    for reader in getattr(Statistics.meter_provider, "_metric_readers", ()):
        reader.collect()
    told = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in REGISTRY.collect()
        if metric.name.startswith("vllm:")
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
    return told, heard


class Ours(OtelStatLogger):  # type: ignore[misc]  # mypy sees no vLLM
    """As vLLM makes it, save that it records for the test."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given, meter_provider=Statistics.meter_provider)


STATISTICS: Mapping[str, Row] = {"statistics": _statistics}

TABLE: Mapping[str, Row] = {
    f"{kind}: {name}": row
    for kind, rows in {"offline": OFFLINE, "engine": ENGINE, "server": SERVER, "stats": STATISTICS}.items()
    for name, row in rows.items()
}


# -- outcomes ----------------------------------------------------------------------------------------------------------

_CLOCK = re.compile(rb'"created":\d+')
_RANDOM = re.compile(r"-([0-9a-f]{16}|[0-9a-f]{8})(?=-beam|$)")  # what vLLM puts behind the id it was given


def facts(thing: Any) -> Any:
    """Take an object apart into plain values that can be compared."""
    if isinstance(thing, bytes):
        return _CLOCK.sub(b'"created":0', thing)
    if isinstance(thing, str):
        return _RANDOM.sub("", thing)
    if thing is None or isinstance(thing, int | float | type):
        return thing
    if isinstance(thing, dict):
        return {key: facts(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [type(thing), *map(facts, thing)]
    if isinstance(thing, BaseException):
        return [type(thing), str(thing), facts(list(thing.args)), facts(thing.__cause__)]
    if isinstance(thing, SamplingParams | PoolingParams):
        return repr(thing)
    if isinstance(thing, RequestStateStats):
        return type(thing)  # times
    if hasattr(thing, "tolist"):
        return thing.tolist()
    return [type(thing), {name: facts(value) for name, value in vars(thing).items()}] if hasattr(thing, "__dict__") else type(thing)


def _request(request: Any) -> list[Any]:
    of = (request.prompt_token_ids, request.sampling_params, request.pooling_params, request.trace_headers, request.priority)
    return [facts(request.request_id), facts(request.external_req_id), *map(facts, of)]


async def _outcome(row: Row, world: World) -> Any:
    await world.renew()
    environment, current, context = dict(os.environ), otel_context.get_current(), copy_context()
    try:
        came = row(world)
        came = facts(await came if inspect.isawaitable(came) else came)
    except (Exception, asyncio.CancelledError) as error:
        came = facts(error)
    cores = world.core, world.pooling_core
    return {
        "came": came,
        "asked": [_request(request) for core in cores for request in core.added],
        "aborted": [facts(one) for core in cores for one in core.aborted],
        "context": otel_context.get_current() is current,
        "variables": {variable.name for variable, value in copy_context().items() if context.get(variable) is not value},
        "environment": dict(os.environ) == environment,
    }


def outcome(name: str, world: World, loop: asyncio.AbstractEventLoop) -> Any:
    """Tell what a row of the table gives in a world."""
    return loop.run_until_complete(asyncio.wait_for(_outcome(TABLE[name], world), DEADLINE_S))
