"""What instrumenting LiteLLM costs a call, beside the least any instrumentation can cost.

    python benchmarks/litellm_overhead.py [--calls 60] [--rounds 9]

In one process, alternating blocks of the same calls: nothing, `floor` (a bare span made current around the call and three
histogram points), `by hand` (the same, with the attributes that ours gives its span, and in streams a point for every chunk:
what the SDK alone takes for what is recorded) and `ours`. LiteLLM's own times vary by more than what is measured, so it is timed once, with a custom
provider in this process that answers at once, and then its functions are replaced by ones that hand out the replies it
made; the instrumentation sees no difference. Spans and points go through the SDK's batch processor and periodic reader
to exporters that only count. Times are medians over rounds of (block - empty block of the same round), per call. The points of
a stream's chunks are recorded when it ends; what holds a chunk up on its way to the caller is timed apart, from the first chunk to the last.
"""

import argparse
import asyncio
import gc
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from _exporters import CountMetrics, CountSpans
from opentelemetry.context import Context, set_value
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, set_span_in_context, use_span

from otel_llm.litellm import LiteLLMInstrumentor
from otel_llm.metrics import CHUNK, DURATION, TIME_PER_OUTPUT_CHUNK, TIME_TO_FIRST_CHUNK, TOKEN_USAGE

CHUNKS = 32
ARGUMENTS: dict[str, Any] = {
    "model": "bench/model",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "api_base": "http://127.0.0.1:8000/v1",
    "temperature": 0.2,
    "max_tokens": 64,
}
POINT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "bench",
    "gen_ai.request.model": "model",
    "server.address": "127.0.0.1",
    "server.port": 8000,
    "gen_ai.response.model": "model",
}

CHUNK_POINT = {name: POINT[name] for name in CHUNK}
NO_SPAN = set_value("no span", True, Context())
ASKED = {
    **{name: value for name, value in POINT.items() if name != "gen_ai.response.model"},
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 64,
    "otel_llm.prompt.length": 30,
}
ANSWERED = {
    "gen_ai.response.id": "chatcmpl-0be4333d-c634-4d88-9a35-03eabbcb6296",
    "gen_ai.response.model": "model",
    "gen_ai.response.finish_reasons": ("stop",),
    "otel_llm.response.length": 5,
    "otel_llm.usage.source": "reported",
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.usage.output_tokens": CHUNKS,
}
STREAMED = {
    "gen_ai.request.stream": True,
    "gen_ai.response.time_to_first_chunk": 0.01,
    "otel_llm.stream.end": "exhausted",
}


class Model(litellm.CustomLLM):
    """Answers at once, with usage."""

    def _reply(self, model_response: Any) -> Any:
        model_response.model = "model"
        model_response.choices[0].message.content = "Paris"
        model_response.usage = litellm.Usage(prompt_tokens=11, completion_tokens=CHUNKS, total_tokens=11 + CHUNKS)
        return model_response

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        return self._reply(kwargs["model_response"])

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return self._reply(kwargs["model_response"])

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        usage = {"prompt_tokens": 11, "completion_tokens": CHUNKS, "total_tokens": 11 + CHUNKS}
        for number in range(CHUNKS):
            last = number == CHUNKS - 1
            yield {
                "text": "Paris ", "is_finished": last, "finish_reason": "stop" if last else "", "index": 0,
                "tool_use": None, "usage": usage if last else None,
            }  # fmt: skip


class Bench:
    def __init__(self) -> None:
        self.exported = CountSpans()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(BatchSpanProcessor(self.exported, max_queue_size=100_000))
        self.meters = MeterProvider([PeriodicExportingMetricReader(CountMetrics(), export_interval_millis=5_000)])
        self._tracer = self.tracers.get_tracer("floor")
        meter = self.meters.get_meter("floor")
        self._duration, self._tokens, self._first_chunk, self._per_chunk = (
            meter.create_histogram(row.name, unit=row.unit, explicit_bucket_boundaries_advisory=row.boundaries)
            for row in (DURATION, TOKEN_USAGE, TIME_TO_FIRST_CHUNK, TIME_PER_OUTPUT_CHUNK)
        )

    def _points(self, span: Any, seconds: float) -> None:
        context = set_span_in_context(span)
        self._duration.record(seconds, POINT, context)
        self._tokens.record(11, {**POINT, "gen_ai.token.type": "input"}, context)
        self._tokens.record(CHUNKS, {**POINT, "gen_ai.token.type": "output"}, context)

    def by_hand(self, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        span = self._tracer.start_span("chat model", kind=SpanKind.CLIENT, attributes=ASKED)
        with use_span(span):
            call()
        span.set_attributes(ANSWERED)
        self._points(span, time.perf_counter() - started)
        span.end()

    async def by_hand_async(self, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        span = self._tracer.start_span("chat model", kind=SpanKind.CLIENT, attributes=ASKED)
        with use_span(span):
            chunks = await call()
        span.set_attributes({**ANSWERED, **STREAMED} if chunks else ANSWERED)
        self._points(span, time.perf_counter() - started)
        if chunks:
            self._first_chunk.record(0.01, POINT, set_span_in_context(span))
            for _ in range(chunks - 1):
                self._per_chunk.record(0.01, CHUNK_POINT, NO_SPAN)
        span.end()

    def floor(self, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        span = self._tracer.start_span("chat model", kind=SpanKind.CLIENT)
        with use_span(span):
            call()
        self._points(span, time.perf_counter() - started)
        span.end()

    async def floor_async(self, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        span = self._tracer.start_span("chat model", kind=SpanKind.CLIENT)
        with use_span(span):
            await call()
        self._points(span, time.perf_counter() - started)
        span.end()


def sync_call() -> None:
    litellm.completion(**ARGUMENTS)


async def async_call() -> None:
    await litellm.acompletion(**ARGUMENTS)


async def async_stream() -> int:
    chunks = 0
    async for _ in await litellm.acompletion(**ARGUMENTS, stream=True):
        chunks += 1
    return chunks


async def first_to_last() -> float:
    """Seconds from the first chunk of a stream to its last, before the caller learns that it was the last."""
    first = last = 0.0
    async for _ in await litellm.acompletion(**ARGUMENTS, stream=True):
        last = time.perf_counter()
        first = first or last
    return last - first


def on_the_way(bench: Bench, loop: asyncio.AbstractEventLoop, streams: int, rounds: int) -> float:
    """Seconds by which instrumentation holds up a chunk: the median over alternating blocks."""

    async def block() -> float:
        return statistics.median([await first_to_last() for _ in range(streams)])

    held: list[float] = []
    for _ in range(rounds):
        bare = loop.run_until_complete(block())
        LiteLLMInstrumentor().instrument(tracer_provider=bench.tracers, meter_provider=bench.meters)
        held.append((loop.run_until_complete(block()) - bare) / (CHUNKS - 1))
        LiteLLMInstrumentor().uninstrument()
    return statistics.median(held)


def measure(bench: Bench, loop: asyncio.AbstractEventLoop, call: Any, variant: str, calls: int) -> tuple[float, float]:
    """Seconds per call of wall clock and of CPU, background threads included."""
    is_async = asyncio.iscoroutinefunction(call)
    around = getattr(bench, f"{variant}_async" if is_async else variant, None)

    async def block() -> None:
        for _ in range(calls):
            await (around(call) if around is not None else call())

    if variant == "ours":
        LiteLLMInstrumentor().instrument(tracer_provider=bench.tracers, meter_provider=bench.meters)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    if is_async:
        loop.run_until_complete(block())
    else:
        for _ in range(calls):
            if around is not None:
                around(call)
            else:
                call()
    result = (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls
    if variant == "ours":
        LiteLLMInstrumentor().uninstrument()
    return result


def take_litellm_out(loop: asyncio.AbstractEventLoop) -> None:
    """Put functions in LiteLLM's place that hand out replies made before, so that only instrumentation is measured."""

    async def answers() -> tuple[Any, list[Any], list[Any]]:
        stream = await litellm.acompletion(**ARGUMENTS, stream=True)
        handed_out = [chunk async for chunk in stream]
        return await litellm.acompletion(**ARGUMENTS), handed_out, list(stream.chunks)

    reply, handed_out, chunks = loop.run_until_complete(answers())

    def open_stream() -> Any:
        stream = litellm.CustomStreamWrapper.__new__(litellm.CustomStreamWrapper)
        stream.chunks, stream.custom_llm_provider, stream.left = chunks, "bench", iter(handed_out)
        return stream

    def completion(**_: Any) -> Any:
        return reply

    async def acompletion(stream: bool = False, **_: Any) -> Any:
        return open_stream() if stream else reply

    async def following(self: Any) -> Any:
        for chunk in self.left:
            return chunk
        raise StopAsyncIteration

    names = {"__name__": "litellm.stand_in"}  # what is LiteLLM's own is known by its globals
    for function in (completion, acompletion):
        stand_in = FunctionType(function.__code__, names, None, function.__defaults__, function.__closure__)
        stand_in.__kwdefaults__ = function.__kwdefaults__
        setattr(litellm, function.__name__, stand_in)
    litellm.CustomStreamWrapper.__anext__ = following
    litellm.CustomStreamWrapper.__del__ = lambda _: None


def compare(
    bench: Bench, loop: asyncio.AbstractEventLoop, call: Any, calls: int, rounds: int
) -> dict[str, list[float]]:
    """Run alternating blocks; return what floor and ours add to a call, in seconds of wall clock and of CPU."""
    results: dict[str, list[tuple[float, float]]] = {"bare": [], "floor": [], "by_hand": [], "ours": []}
    for variant in results:
        measure(bench, loop, call, variant, max(calls // 4, 1))  # warm up
    for number in range(rounds):
        for variant in list(results) if number % 2 else list(reversed(results)):
            results[variant].append(measure(bench, loop, call, variant, calls))
    return {
        variant: [
            statistics.median(
                one[kind] - bare[kind] for one, bare in zip(results[variant], results["bare"], strict=True)
            )
            for kind in (0, 1)
        ]
        for variant in ("floor", "by_hand", "ours")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--calls",
        type=int,
        default=60,
        help="calls in a block; streams a sixth; with LiteLLM taken out 20 times as many",
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds of three blocks")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    litellm.custom_provider_map = [{"provider": "bench", "custom_handler": Model()}]
    bench, loop = Bench(), asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    with Path("/proc/cpuinfo").open() as cpuinfo:
        processor = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    packages = ", ".join(f"{name} {version(name)}" for name in ("litellm", "opentelemetry-sdk", "otel-llm"))
    print(f"python {' '.join(sys.argv)}  ({options.calls} calls, {options.rounds} rounds, streams of {CHUNKS} chunks)")
    print(f"{os.cpu_count()} x {processor}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, {packages}")
    whole = {
        name: statistics.median(
            measure(bench, loop, call, "bare", max(options.calls // divisor, 1))[0] for _ in range(3)
        )
        for name, call, divisor in CALLS
    }
    take_litellm_out(loop)
    print(
        f"{'':14}{'LiteLLM':>12}{'floor':>11}{'by hand':>11}{'ours':>11}{'/floor':>8}{'/by hand':>9}{'of a call':>11}"
        f"{'a chunk':>12}"
    )
    for name, call, divisor in CALLS:
        added = compare(bench, loop, call, options.calls * 20 // divisor, options.rounds)
        (_, floor), (_, hand), (_, ours) = added["floor"], added["by_hand"], added["ours"]
        print(
            f"{name:14}{whole[name] * 1e6:9.0f} us{floor * 1e6:+8.0f} us{hand * 1e6:+8.0f} us{ours * 1e6:+8.0f} us"
            f"{ours / floor:8.2f}{ours / hand:9.2f}{ours / whole[name]:11.1%}"
            + (
                f"{(ours - floor) / CHUNKS * 1e6:6.1f} us, {(hand - floor) / CHUNKS * 1e6:.1f} by hand"
                if "stream" in name
                else ""
            )
        )
    print("LiteLLM: a call without instrumentation; floor, by hand, ours: CPU time added per call, all threads;")
    print("a chunk: (ours - floor) and (by hand - floor) over the chunks of a stream, each chunk's time recorded")
    held = on_the_way(bench, loop, max(options.calls // 3, 1), options.rounds)
    print(
        f"a chunk is held up on its way to the caller by {held * 1e6:.1f} us; its point is recorded when the stream ends"
    )
    bench.tracers.shutdown()
    bench.meters.shutdown()
    print(f"{bench.exported.count} spans exported")
    loop.close()


CALLS = (("sync", sync_call, 1), ("async", async_call, 1), ("async stream", async_stream, 6))


if __name__ == "__main__":
    main()
