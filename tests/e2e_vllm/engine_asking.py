"""Asking `AsyncLLM` over a scripted core, a step at a time, and what the span of such a request has."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from tests.e2e_vllm.scripted_core import ScriptedCore

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
