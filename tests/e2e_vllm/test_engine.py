"""`AsyncLLM` with the real front end of vLLM over a scripted core: what a request records, however it ends."""

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from vllm import PoolingParams
from vllm.v1.engine import FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from tests.e2e_vllm.recorded import recorded
from tests.e2e_vllm.scripted_core import TOKEN, ScriptedCore, delta, prompt, scripted, when, whole_reply

TIMES = (
    "gen_ai.response.time_to_first_chunk", "otel_llm.response.chunk.interval.mean",
    "otel_llm.response.chunk.interval.max", "otel_llm.engine.time_to_first_token",
)  # fmt: skip
CLIENT = "00-0000000000000000000000000000000a-000000000000000b-01"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """All of them, and of times that differ from run to run only that they are there."""
    return {name: "a time" if name in TIMES else value for name, value in (span.attributes or {}).items()}


def of(operation: str, request_id: str, **more: Any) -> dict[str, Any]:
    """What every request has."""
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "tiny",
        "otel_llm.request.id": request_id,
        **more,
    }


def used(tokens: int, *, cached: int = 0, decode_s: float = 0.0) -> dict[str, Any]:
    """What a request has of which the engine handed over so many tokens; it was queued and read half a second each."""
    return {
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": tokens,
        "gen_ai.usage.cache_read.input_tokens": cached,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "otel_llm.engine.queue_time": 0.5,
        "otel_llm.engine.prefill_time": 0.5,
        "otel_llm.engine.generation_time": decode_s,
        "otel_llm.engine.time_to_first_token": "a time",
    }


def streamed(chunks: int) -> dict[str, Any]:
    """What a stream has of which so many outputs were taken."""
    found: dict[str, Any] = {"gen_ai.request.stream": True}
    if chunks:
        found |= {"otel_llm.response.chunk.count": chunks, "gen_ai.response.time_to_first_chunk": "a time"}
    if chunks > 1:
        found |= dict.fromkeys(TIMES[1:3], "a time")
    return found


class Reader:
    """A consumer in a task of its own; `read` outputs are there when `took(n)` returns."""

    def __init__(self, stream: AsyncIterator[Any]) -> None:
        self.outputs: list[Any] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: AsyncIterator[Any]) -> None:
        async for output in stream:
            self.outputs.append(output)
            self._more.set()

    async def took(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.outputs) < count:
                self._more.clear()
                await self._more.wait()


async def steps(core: ScriptedCore, reader: Reader, request_id: str, count: int, **last: Any) -> None:
    """Let the engine take so many steps of a quarter of a second, the first one after a second, and the reader each."""
    for number in range(1, count + 1):
        core.now += 1 if number == 1 else 0.25
        core.step(request_id, **(last if number == count else {}))
        await reader.took(number)


async def test_a_stream_is_one_span_with_tokens_finish_reason_and_phases(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(temperature=0.5), "chatcmpl-a"))
        (request,) = await core.arrived()
        await steps(core, reader, request.request_id, 3, finish=FinishReason.LENGTH)
        await reader.task

    (span,) = recording.spans()
    assert [output.outputs[0].token_ids for output in reader.outputs] == [[TOKEN]] * 3
    assert (span.name, span.kind, span.status.status_code) == ("chat tiny", SpanKind.INTERNAL, StatusCode.UNSET)
    assert attributes(span) == of(
        "chat", "chatcmpl-a",
        **{"gen_ai.request.max_tokens": 8, "gen_ai.request.temperature": 0.5},
        **streamed(3), **used(3, decode_s=0.5), **{"gen_ai.response.finish_reasons": ("length",)},
    )  # fmt: skip


async def test_a_plain_call_of_several_choices_has_the_sum_and_every_reason(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), whole_reply(n=2), "cmpl-b-0"))
        first, second = [request.request_id for request in await core.arrived(2)]
        core.now += 1
        core.step(first, second, cached=2)
        core.now += 0.25
        core.step(first, tokens=2, finish=FinishReason.LENGTH)
        core.now += 0.25
        core.step(second, tokens=1, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert attributes(span) == of(
        "text_completion", "cmpl-b-0", **{"gen_ai.request.max_tokens": 8, "gen_ai.request.choice.count": 2},
        **used(5, cached=2, decode_s=0.5), **{"gen_ai.response.finish_reasons": ("length", "stop")},
    )  # fmt: skip


async def test_a_stream_of_several_choices_has_the_reason_of_each(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(n=2), "mine"))
        first, second = [request.request_id for request in await core.arrived(2)]
        core.now += 1
        core.step(first, second)
        await reader.took(1)
        core.step(first, finish=FinishReason.LENGTH)
        await reader.took(2)
        core.step(second, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("length", "stop")
    assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 4


async def test_pooling_is_a_span_with_the_prompt_s_tokens_and_no_others(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir, runner="pooling") as (engine, core):
        reader = Reader(engine.encode(prompt(), PoolingParams(task="embed"), "e-1"))
        (request,) = await core.arrived()
        core.now += 1
        core.step(request.request_id, tokens=0, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    expected = of("embeddings", "e-1", **used(0))
    del expected["gen_ai.usage.output_tokens"]
    assert (span.name, attributes(span)) == ("embeddings tiny", expected)


async def test_without_statistics_tokens_are_known_and_times_of_the_engine_are_not(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "none")  # vLLM keeps statistics wherever a plug-in wants them
    with recorded() as recording, scripted(model_dir, log_stats=False) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-c"))
        (request,) = await core.arrived()
        await steps(core, reader, request.request_id, 2, finish=FinishReason.LENGTH)
        await reader.task

    (span,) = recording.spans()
    assert attributes(span) == of(
        "chat", "chatcmpl-c", **{"gen_ai.request.max_tokens": 8}, **streamed(2),
        **{name: value for name, value in used(2).items() if not name.startswith("otel_llm.engine.")},
        **{"gen_ai.response.finish_reasons": ("length",)},
    )  # fmt: skip


async def _break(engine: AsyncLLM, core: ScriptedCore) -> None:
    stream = engine.generate(prompt(), delta(), "chatcmpl-d")
    async for _ in _fed(stream, core):
        break
    await stream.aclose()


async def _drop(engine: AsyncLLM, core: ScriptedCore) -> None:
    stream: Any = engine.generate(prompt(), delta(), "chatcmpl-d")
    async for _ in _fed(stream, core):
        break
    del stream
    gc.collect()
    await when(lambda: core.aborted)


async def _close(engine: AsyncLLM, core: ScriptedCore) -> None:
    stream = engine.generate(prompt(), delta(), "chatcmpl-d")
    async for _ in _fed(stream, core):
        await stream.aclose()


async def _throw(engine: AsyncLLM, core: ScriptedCore) -> None:
    stream = engine.generate(prompt(), delta(), "chatcmpl-d")
    async for _ in _fed(stream, core):
        # vLLM makes its own error of what is thrown in, as of whatever goes wrong in there.
        with pytest.raises(EngineGenerateError) as raised:
            await stream.athrow(KeyError("thrown in"))
        assert isinstance(raised.value.__cause__, KeyError)


async def _cancel(engine: AsyncLLM, core: ScriptedCore) -> None:
    reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-d"))
    (request,) = await core.arrived()
    await steps(core, reader, request.request_id, 1)
    reader.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader.task


async def _abort(engine: AsyncLLM, core: ScriptedCore) -> None:
    reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-d"))
    (request,) = await core.arrived()
    await steps(core, reader, request.request_id, 1)
    await engine.abort("chatcmpl-d")
    await reader.task


async def _paused(engine: AsyncLLM, core: ScriptedCore) -> None:
    reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-d"))
    (request,) = await core.arrived()
    await steps(core, reader, request.request_id, 1)
    core.step(request.request_id, tokens=0, finish=FinishReason.ABORT)
    await reader.task


async def _die(engine: AsyncLLM, core: ScriptedCore) -> None:
    reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-d"))
    (request,) = await core.arrived()
    await steps(core, reader, request.request_id, 1)
    core.die(EngineDeadError())
    with pytest.raises(EngineDeadError):
        await reader.task


async def _fed(stream: Any, core: ScriptedCore) -> AsyncIterator[Any]:
    """The first output of a stream."""
    first = asyncio.ensure_future(anext(stream))
    (request,) = await core.arrived()
    core.now += 1
    core.step(request.request_id)
    yield await first


@pytest.mark.parametrize(
    ("ending", "chunks", "reason", "error"),
    [
        (_break, 1, "closed", None),
        (_drop, 1, "closed", None),
        (_close, 1, "closed", None),
        (_throw, 1, "failed", "EngineGenerateError"),
        (_cancel, 1, "cancelled", "CancelledError"),
        (_abort, 2, "requested", None),
        (_paused, 2, "engine", None),
        (_die, 1, None, "EngineDeadError"),
    ],
    ids=["break", "dropped", "aclose", "athrow", "cancelled", "abort by id", "the engine aborts", "a dead engine"],
)
async def test_every_ending_ends_one_span_with_the_tokens_so_far_and_the_reason(
    model_dir: Path, ending: Callable[..., Any], chunks: int, reason: str | None, error: str | None
) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        await ending(engine, core)
        assert engine.output_processor.request_states == {} or error == "EngineDeadError"

    (span,) = recording.spans()
    expected = of("chat", "chatcmpl-d", **{"gen_ai.request.max_tokens": 8}, **streamed(chunks), **used(1))
    if reason is not None:
        expected["otel_llm.abort.reason"] = reason
    if error is not None:
        expected["error.type"] = error
    if reason in {"requested", "engine"}:
        expected["gen_ai.response.finish_reasons"] = ("abort",)
    assert attributes(span) == expected
    assert span.status.status_code is (StatusCode.ERROR if error is not None else StatusCode.UNSET)


async def test_a_consumer_that_leaves_with_the_last_output_in_hand_has_the_whole_reply(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        stream = engine.generate(prompt(), delta(), "chatcmpl-e")
        first = asyncio.ensure_future(anext(stream))
        (request,) = await core.arrived()
        core.now += 1
        core.step(request.request_id, finish=FinishReason.STOP)
        assert (await first).finished
        await stream.aclose()

    (span,) = recording.spans()
    assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)
    assert "otel_llm.abort.reason" not in (span.attributes or {})


async def test_a_request_to_a_dead_engine_fails_and_says_so(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        core.resources.engine_dead = True
        with pytest.raises(EngineDeadError):
            await anext(engine.generate(prompt(), delta(), "chatcmpl-f"))

    (span,) = recording.spans()
    assert attributes(span) == of(
        "chat", "chatcmpl-f", **{"gen_ai.request.max_tokens": 8, "error.type": "EngineDeadError"}, **streamed(0)
    )


async def test_the_span_is_current_for_the_front_end_and_never_for_the_consumer(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        seen: list[Any] = []
        add = core.add_request_async

        async def noting(request: Any) -> None:
            seen.append(get_current_span().get_span_context().span_id)
            await add(request)

        core.add_request_async = noting  # type: ignore[method-assign]
        with recording.tracer_provider.get_tracer("test").start_as_current_span("handler") as handler:
            outside = []
            stream = engine.generate(prompt(), delta(), "chatcmpl-g")
            first = asyncio.ensure_future(anext(stream))
            (request,) = await core.arrived()
            core.step(request.request_id)
            await first
            outside.append(get_current_span())
            core.step(request.request_id, finish=FinishReason.STOP)
            outside.extend([get_current_span() async for _ in stream])

    (span,) = recording.spans()
    assert span.parent is not None
    assert span.parent.span_id == handler.get_span_context().span_id
    assert [span.get_span_context().span_id] == seen  # type: ignore[union-attr]
    assert outside == [handler] * 2


async def test_the_task_that_takes_in_all_outputs_carries_no_request_s_context(model_dir: Path) -> None:
    """vLLM starts it with the first request, where the engine was made outside a loop; it lives as long as the engine."""
    making = scripted(model_dir)
    with recorded() as recording:
        engine, core = await asyncio.to_thread(making.__enter__)  # a thread has no running loop
        seen: list[Any] = []
        get = core.get_output_async

        async def noting() -> Any:
            seen.append(get_current_span())
            return await get()

        core.get_output_async = noting  # type: ignore[method-assign]
        with recording.tracer_provider.get_tracer("test").start_as_current_span("handler"):
            reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-h"))
            (request,) = await core.arrived()
            core.step(request.request_id, finish=FinishReason.STOP)
            await reader.task
        making.__exit__(None, None, None)

    assert seen
    assert set(seen) == {trace.INVALID_SPAN}


async def test_where_no_span_is_current_the_one_the_headers_name_is_the_parent(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-i", trace_headers={"traceparent": CLIENT}))
        (request,) = await core.arrived()
        core.step(request.request_id, finish=FinishReason.STOP)
        await reader.task
        assert request.trace_headers is None  # its own tracing is off: there is nothing to warn of

    (span,) = recording.spans()
    assert (span.parent.trace_id, span.parent.span_id) == (0xA, 0xB)  # type: ignore[union-attr]


async def test_a_current_span_of_another_trace_is_the_parent_and_the_named_one_a_link(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        tracer = recording.tracer_provider.get_tracer("test")
        with tracer.start_as_current_span("handler") as handler:
            reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-j", trace_headers={"traceparent": CLIENT}))
        (request,) = await core.arrived()
        core.step(request.request_id, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert span.parent is not None
    assert span.parent.span_id == handler.get_span_context().span_id
    assert [link.context.span_id for link in span.links] == [0xB]


@pytest.mark.parametrize("by_position", [False, True])
async def test_where_vllm_traces_our_span_is_the_parent_of_its_own(model_dir: Path, by_position: bool) -> None:
    with recorded() as recording, scripted(model_dir, runner="pooling") as (engine, core):
        engine.observability_config.otlp_traces_endpoint = "http://127.0.0.1:1"  # as --otlp-traces-endpoint sets it
        params = PoolingParams(task="embed")
        if by_position:
            reader = Reader(engine.encode(prompt(), params, "embd-a", None, {"traceparent": CLIENT}))
        else:
            reader = Reader(engine.encode(prompt(), params, "embd-a"))
        (request,) = await core.arrived()
        core.step(request.request_id, tokens=0, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    context = span.get_span_context()
    assert context is not None
    assert list(request.trace_headers) == ["traceparent"]
    assert request.trace_headers["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


async def test_baggage_that_was_asked_for_is_on_the_span(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        token = attach(set_baggage("secret", "no", set_baggage("session.id", "s-1")))
        try:
            reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-k"))
        finally:
            detach(token)
        (request,) = await core.arrived()
        core.step(request.request_id, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert (span.attributes or {})["session.id"] == "s-1"
    assert "secret" not in (span.attributes or {})


async def test_suppressed_and_unsampled_requests_run_and_record_nothing(model_dir: Path) -> None:
    for sampler, suppressed in ((None, True), (ALWAYS_OFF, False)):
        with recorded(**({"sampler": sampler} if sampler else {})) as recording, scripted(model_dir) as (engine, core):
            if suppressed:
                with suppress_instrumentation():
                    reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-l"))
            else:
                reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-l"))
            (request,) = await core.arrived()
            core.step(request.request_id, finish=FinishReason.STOP)
            await reader.task
            assert len(reader.outputs) == 1
        assert recording.spans() == []


async def test_a_generator_never_iterated_asks_nothing_and_records_nothing(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        engine.generate(prompt(), delta(), "chatcmpl-m")
        gc.collect()
        await asyncio.sleep(0)
        assert core.added == []
    assert recording.spans() == []


async def test_phases_are_spans_where_that_is_asked_for(model_dir: Path) -> None:
    with recorded(OTEL_LLM_VLLM_PHASES="spans") as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-n"))
        (request,) = await core.arrived()
        await steps(core, reader, request.request_id, 2, finish=FinishReason.LENGTH)
        await reader.task

    assert [span.name for span in recording.spans()] == ["queue", "prefill", "decode", "chat tiny"]


def test_the_methods_stay_what_they_were_and_come_back() -> None:
    before = {name: getattr(AsyncLLM, name) for name in ("generate", "encode", "add_request", "_run_output_handler")}
    with recorded():
        for name, original in before.items():
            wrapped = getattr(AsyncLLM, name)
            assert inspect.signature(wrapped) == inspect.signature(original)
            assert inspect.isasyncgenfunction(wrapped) is inspect.isasyncgenfunction(original)
            assert (wrapped.__name__, wrapped.__qualname__, wrapped.__doc__) == (
                name,
                original.__qualname__,
                original.__doc__,
            )
    assert before == {name: getattr(AsyncLLM, name) for name in before}
