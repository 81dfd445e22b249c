"""Requests to `AsyncLLM` that end otherwise than by being read to their end: one span each, with the tokens so far and the reason."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from vllm.v1.engine import FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from tests.e2e_vllm.engine_asking import Reader, attributes, of, steps, streamed, used
from tests.e2e_vllm.recorded import recorded
from tests.e2e_vllm.scripted_core import ScriptedCore, delta, prompt, scripted, when


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
