"""What other instrumentations of LiteLLM cost a call, beside ours and beside the least any of them can cost.

    python benchmarks/litellm_rivals.py [RIVAL ...] [--calls 400] [--rounds 9]

Each rival gets an environment of its own, made from the pins in `benchmarks/rivals/` with uv and kept in
${XDG_CACHE_HOME:-~/.cache}/otel-llm/rivals, and a process of its own, in which blocks alternate: nothing, `floor`, ours
and the rival, on the same calls with the same SDK. As in `litellm_overhead.py`, whose measure this is, LiteLLM itself is
taken out, content is off and exporters only count. A rival is put on once, and its wrappers are then swapped in and out.

Not here, because they cannot be told from LiteLLM's own work: those that are callbacks of LiteLLM (its own OpenTelemetry
callback, agento11y and others) do theirs inside LiteLLM's logging, partly in its threads.
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
PINS = HERE / "rivals"
INSTRUMENTATION = HERE.parent / "instrumentation"
OVERRIDES = PINS / "overrides"
DEADLINE_S = 150.0
CALLS = ("sync", "async", "async stream")


def openllmetry(bench: Any) -> None:
    from opentelemetry.instrumentation.litellm import LiteLLMInstrumentor

    LiteLLMInstrumentor().instrument(tracer_provider=bench.tracers, meter_provider=bench.meters)


def openinference(bench: Any) -> None:
    from openinference.instrumentation.litellm import LiteLLMInstrumentor

    LiteLLMInstrumentor().instrument(tracer_provider=bench.tracers)


def telemetry_dev(bench: Any) -> None:
    import litellm_overhead as overhead
    import telemetry_dev as theirs
    import telemetry_dev_litellm
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    theirs.init(
        span_exporter=bench.exported,
        metric_reader=PeriodicExportingMetricReader(overhead.CountMetrics(), export_interval_millis=5_000),
        capture_input=False,
        capture_output=False,
    )
    telemetry_dev_litellm.instrument_litellm()


def loongsuite(bench: Any) -> None:
    from opentelemetry.instrumentation.litellm import LiteLLMInstrumentor

    LiteLLMInstrumentor().instrument(tracer_provider=bench.tracers, meter_provider=bench.meters)


def openlit(bench: Any) -> None:
    from openlit._config import OpenlitConfig
    from openlit.instrumentation.litellm import LiteLLMInstrumentor
    from openlit.otel.metrics import setup_meter

    metrics, problem = setup_meter("bench", "bench", bench.meters.get_meter("openlit"), None, None)
    if problem is not None:
        raise RuntimeError(problem)
    OpenlitConfig.metrics_dict = metrics
    LiteLLMInstrumentor().instrument(capture_message_content=False, disable_metrics=False, pricing_info={})


def logfire(bench: Any) -> None:
    import litellm_overhead as overhead
    import logfire as theirs
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    theirs.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[BatchSpanProcessor(bench.exported, max_queue_size=100_000)],
        metrics=theirs.MetricsOptions(
            additional_readers=[
                PeriodicExportingMetricReader(overhead.CountMetrics(), export_interval_millis=5_000),
            ]
        ),
    )
    theirs.instrument_litellm()


RIVALS: Mapping[str, tuple[str, Callable[[Any], None]]] = {
    # Its pins are in `rivals/NAME.txt`; the distribution to be named, and what puts it on.
    "openllmetry": ("opentelemetry-instrumentation-litellm", openllmetry),
    "openinference": ("openinference-instrumentation-litellm", openinference),
    "telemetry_dev": ("telemetry-dev-litellm", telemetry_dev),
    "loongsuite": ("loongsuite-instrumentation-litellm", loongsuite),
    "openlit": ("openlit", openlit),
    "logfire": ("logfire", logfire),
}
CONTENT_OFF = {
    "OPENINFERENCE_HIDE_INPUTS": "true",
    "OPENINFERENCE_HIDE_OUTPUTS": "true",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT",
    "TRACELOOP_TRACE_CONTENT": "false",
}


# -- in the environment of a rival -------------------------------------------------------------------------------------


class Swap:
    """What putting a rival on changed in LiteLLM, to be taken off and put on again in no time."""

    def __init__(self, put_on: Callable[[], None]) -> None:
        before = self._attributes()
        put_on()
        after = self._attributes()
        self._changed = [
            (owner, name, old, after[key][2])
            for key, (owner, name, old) in before.items()
            if key in after and after[key][2] is not old and callable(old)
        ]
        if not self._changed:
            raise RuntimeError("it wrapped nothing")

    @staticmethod
    def _attributes() -> dict[tuple[int, str], tuple[Any, str, Any]]:
        import litellm

        modules = [module for name, module in sys.modules.copy().items() if name.partition(".")[0] == "litellm"]
        owners: list[ModuleType | type] = [*modules, litellm.CustomStreamWrapper]
        return {(id(owner), name): (owner, name, value) for owner in owners for name, value in vars(owner).items()}

    def set(self, *, on: bool) -> None:
        for owner, name, old, new in self._changed:
            setattr(owner, name, new if on else old)


def work(name: str, calls: int, rounds: int) -> None:
    """Measure one rival; print the result as one line of JSON, the last."""
    logging.disable(logging.ERROR)
    sys.path[:0] = [str(HERE), str(INSTRUMENTATION)]
    from importlib.metadata import version

    import litellm
    import litellm_overhead as overhead
    from opentelemetry import metrics, trace

    from otel_llm.litellm import LiteLLMInstrumentor

    spans: Counter[str] = Counter()
    points: dict[str, set[str]] = {}

    class Spans(overhead.CountSpans):
        def export(self, batch: Any) -> Any:
            spans.update(span.instrumentation_scope.name for span in batch)
            return super().export(batch)

    class Metrics(overhead.CountMetrics):
        def export(self, metrics_data: Any, timeout_millis: float = 0, **kwargs: Any) -> Any:
            for resource in metrics_data.resource_metrics:
                for scope in resource.scope_metrics:
                    points.setdefault(scope.scope.name, set()).update(metric.name for metric in scope.metrics)
            return super().export(metrics_data, timeout_millis, **kwargs)

    overhead.CountSpans, overhead.CountMetrics = Spans, Metrics  # type: ignore[misc]
    litellm.custom_provider_map = [{"provider": "bench", "custom_handler": overhead.Model()}]
    bench, loop = overhead.Bench(), asyncio.new_event_loop()
    trace.set_tracer_provider(bench.tracers)
    metrics.set_meter_provider(bench.meters)
    asyncio.set_event_loop(loop)
    overhead.take_litellm_out(loop)
    litellm.CustomStreamWrapper.completion_stream = None  # one of them looks at it
    distribution, put_on = RIVALS[name]
    rival = Swap(lambda: put_on(bench))
    rival.set(on=False)

    def block(call: Any, variant: str, number: int) -> tuple[float, float]:
        is_async = asyncio.iscoroutinefunction(call)

        async def many() -> None:
            for _ in range(number):
                await (bench.floor_async(call) if variant == "floor" else call())

        rival.set(on=variant == "rival")
        if variant == "ours":
            LiteLLMInstrumentor().instrument(tracer_provider=bench.tracers, meter_provider=bench.meters)
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        if is_async:
            loop.run_until_complete(many())
        else:
            for _ in range(number):
                bench.floor(call) if variant == "floor" else call()
        result = (time.perf_counter() - wall) / number, (time.process_time() - cpu) / number
        if variant == "ours":
            LiteLLMInstrumentor().uninstrument()
        rival.set(on=False)
        return result

    variants, made, added = ("bare", "floor", "ours", "rival"), 0, {}
    for label, call, divisor in overhead.CALLS:
        number = max(calls // divisor, 1)
        times: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
        for variant in variants:
            block(call, variant, max(number // 4, 1))  # warm up
        for turn in range(rounds):
            for variant in variants if turn % 2 else reversed(variants):
                times[variant].append(block(call, variant, number))
        made += max(number // 4, 1) + rounds * number
        added[label] = {
            variant: [
                statistics.median(
                    one[kind] - bare[kind] for one, bare in zip(times[variant], times["bare"], strict=True)
                )
                for kind in (0, 1)
            ]
            for variant in variants[1:]
        }
    bench.tracers.force_flush()
    bench.meters.force_flush()
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        flush = getattr(provider, "force_flush", None)
        if flush is not None:
            flush()
    if name == "telemetry_dev":
        import telemetry_dev as theirs

        theirs.flush()
    ours = {"floor", "otel_llm.litellm"}
    print(
        json.dumps(
            {
                "version": f"{distribution} {version(distribution)}",
                "packages": ", ".join(f"{one} {version(one)}" for one in ("litellm", "opentelemetry-sdk")),
                "added": added,
                "spans": sum(count for scope, count in spans.items() if scope not in ours) / made,
                "metrics": sorted(set().union(*(names for scope, names in points.items() if scope not in ours))),
            }
        )
    )
    loop.close()


# -- in ours -----------------------------------------------------------------------------------------------------------


def environment(name: str) -> Path:
    """Return the Python of a rival's environment, made where there is none for its present pins."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-llm" / "rivals"
    place, pins = cache / f"{name}-{platform.python_version()}", PINS / f"{name}.txt"
    python, done = place / "bin" / "python", place / "pins.txt"
    if done.is_file() and done.read_text() == pins.read_text():
        return python
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise RuntimeError("no uv to make its environment with: pip install uv")
    cache.mkdir(parents=True, exist_ok=True)
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "--override", str(OVERRIDES), "-r", str(pins)],
    ):
        result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        if result.returncode:
            raise RuntimeError(result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "uv failed")
    done.write_text(pins.read_text())
    return python


def measure(name: str, calls: int, rounds: int) -> dict[str, Any]:
    """Run the measurement of one rival in its environment."""
    command = [
        str(environment(name)),
        str(Path(__file__)),
        name,
        "--work",
        "--calls",
        str(calls),
        "--rounds",
        str(rounds),
    ]
    result = subprocess.run(
        command,
        env={**os.environ, **CONTENT_OFF, "PYTHONWARNINGS": "ignore", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if result.returncode:
        raise RuntimeError((result.stderr.strip() or "it failed without a word").splitlines()[-1])
    found: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def row(title: str, variant: str, added: Mapping[str, Any], chunks: int) -> str:
    cells = []
    for label in CALLS:
        (wall, cpu), (floor, floor_cpu) = added[label][variant], added[label]["floor"]
        cells.append(f"{wall * 1e6:8.0f}{wall / floor:7.2f}{cpu / floor_cpu:7.2f}")
    (stream, _), (floor, _) = added["async stream"][variant], added["async stream"]["floor"]
    return f"{title:44}" + "".join(cells) + f"{(stream - floor) / chunks * 1e6:9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rival", nargs="*", choices=[*RIVALS, []], help="all by default")
    parser.add_argument("--calls", type=int, default=400, help="calls in a block; streams a sixth")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of four blocks")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.rival[0], options.calls, options.rounds)
        return
    with Path("/proc/cpuinfo").open() as cpuinfo:
        processor = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    print(f"python {' '.join(sys.argv)}  ({options.calls} calls, {options.rounds} rounds, streams of 32 chunks)")
    print(f"{os.cpu_count()} x {processor}, Linux {platform.release()}, Python {platform.python_version()}", end="")
    print(f", load {os.getloadavg()[0]:.1f}")
    print(f"{'':44}" + "".join(f"{label:>22}" for label in CALLS) + f"{'a chunk':>9}")
    print(f"{'added per call':44}" + f"{'us':>8}{'wall':>7}{'CPU':>7}" * len(CALLS) + f"{'us':>9}  spans, metrics")
    for name in options.rival or RIVALS:
        try:
            found = measure(name, options.calls, options.rounds)
        except (RuntimeError, subprocess.TimeoutExpired) as problem:
            print(f"{name}: not measured: {problem}", flush=True)
            continue
        print(f"-- {found['packages']}")
        for title, variant in (("floor", "floor"), ("ours", "ours"), (found["version"], "rival")):
            line = row(title, variant, found["added"], 32)
            told = f"{found['spans']:7.1f}, {len(found['metrics'])}" if variant == "rival" else ""
            print(line + told, flush=True)
    print("wall, CPU: times the floor of the same process; a chunk: (stream - floor's stream) over its chunks")


if __name__ == "__main__":
    main()
