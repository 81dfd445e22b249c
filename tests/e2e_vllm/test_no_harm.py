"""Do no harm: a table of vLLM's calls gives what it gives without us; also with each part of ours broken in turn.

Left out of the breaking are only the functions put in vLLM's place and what keeps faults from them: they are the guard.
"""

import asyncio
import gc
import inspect
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from breaking import Broken, breaking, functions, noted, parts
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, NoOpTracerProvider
from waiting import until

import otel_llm
from otel_llm import fault, leftovers
from otel_llm.vllm import VLLMInstrumentor
from otel_llm.vllm.wrappers import WRAPPERS
from tests.e2e_vllm.calls_served import World
from tests.e2e_vllm.calls_statistics import Statistics
from tests.e2e_vllm.outcomes import TABLE, outcome
from tests.e2e_vllm.scripted_core import scripted
from tests.e2e_vllm.scripted_server import serving
from tests.e2e_vllm.watched import configured


@asynccontextmanager
async def _made(model: Path) -> AsyncIterator[World]:
    async with serving(model) as (app, core):
        with scripted(model, runner="pooling") as (pooling, pooling_core):
            yield World(app, core, pooling, pooling_core)


class Worlds:
    """One that was made without us, and one made while vLLM was instrumented."""

    def __init__(self, model: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._makings: list[AbstractAsyncContextManager[World]] = []
        self._bare: dict[str, Any] = {}
        self.bare = self._make(model)
        with instrumented():
            self.ours = self._make(model)

    def without_us(self, name: str) -> Any:
        """Tell what a row gives uninstrumented; found out once, when first asked for."""
        if name not in self._bare:
            assert not VLLMInstrumentor().is_instrumented_by_opentelemetry
            provider, Statistics.meter_provider = Statistics.meter_provider, None
            self._bare[name] = outcome(name, self.bare, self.loop)
            assert outcome(name, self.bare, self.loop) == self._bare[name]  # it tells something
            Statistics.meter_provider = provider
        return self._bare[name]

    def with_us(self, name: str) -> Any:
        """Tell what a row gives now."""
        return outcome(name, self.ours, self.loop)

    def _make(self, model: Path) -> World:
        making = _made(model)
        self._makings.append(making)
        return self.loop.run_until_complete(making.__aenter__())

    def close(self) -> None:
        for world in (self.bare, self.ours):
            self.loop.run_until_complete(world.renew())
        for making in self._makings:
            self.loop.run_until_complete(making.__aexit__(None, None, None))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


@pytest.fixture(scope="module")
def worlds(model_dir: Path, offline: dict[str, Any]) -> Iterator[Worlds]:
    Statistics.config = configured(offline)
    made = Worlds(model_dir)
    gc.collect()
    gc.freeze()  # what there is of torch would be looked through again and again
    yield made
    gc.unfreeze()
    made.close()


@contextmanager
def instrumented(tracer_provider: Any = None, meter_provider: Any = None) -> Iterator[list[tuple[str, Any]]]:
    """Instrument for the length of the block; hands out the faults of our own."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    meters = meter_provider or MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    faults: list[tuple[str, Any]] = []
    before, hook = fault.set_on_fault(lambda place, error: faults.append((place, error))), sys.unraisablehook
    sys.unraisablehook = lambda what: faults.append((f"unraisable in {what.object!r}", what.exc_value))
    Statistics.meter_provider = meters
    try:
        VLLMInstrumentor().instrument(tracer_provider=tracer_provider or tracers, meter_provider=meters)
        yield faults
    finally:
        VLLMInstrumentor().uninstrument()
        Statistics.meter_provider = None
        sys.unraisablehook = hook
        fault.set_on_fault(before)


NONSENSE = (  # of which nothing can be told, and that is a fault
    "offline: an object without an engine",
    "engine: an object that is no engine",
    "stats: nonsense",
)


@pytest.mark.parametrize("name", TABLE)
def test_a_call_gives_what_it_gives_without_us(worlds: Worlds, name: str) -> None:
    expected = worlds.without_us(name)

    with instrumented() as faults:
        came = worlds.with_us(name)

    assert came == expected
    assert (faults == []) is (name not in NONSENSE)


def facts(function: Any) -> dict[str, Any]:
    return {
        "type": type(function),
        "name": (function.__module__, function.__name__, function.__qualname__, function.__doc__),
        "signature": inspect.signature(function),
        "annotations": function.__annotations__,
        "kinds": [kind(function) for kind in (inspect.isasyncgenfunction, inspect.iscoroutinefunction)],
    }


def test_every_wrapped_function_looks_like_the_one_it_wraps() -> None:
    with instrumented():
        wrapped = {(owner, name): getattr(owner, name) for owner, name, _ in WRAPPERS.put_on}
        looks = {place: facts(function) for place, function in wrapped.items()}
    originals = {(owner, name): getattr(owner, name) for owner, name in wrapped}

    assert len(wrapped) > 15
    assert not [place for place, function in originals.items() if function is wrapped[place]]
    assert {place: facts(function) for place, function in originals.items()} == looks


# -- broken parts ------------------------------------------------------------------------------------------------------

GUARDS = frozenset(
    (
        "guarded.<locals>.decorate.<locals>.guard", "report",  # around parts of ours, told of their faults
        "VLLMInstrumentor._instrument", "Instrumentor._instrument", "Instrumentor._uninstrument", "Instrumentor._imported", "_imported",
        "Instrumentor.instrumentation_dependencies", "set_on_fault",  # called by others
        "Arrivals.__init__", "Arrivals.__call__", "Arrivals.__call__.<locals>.received", "Arrivals.__call__.<locals>.sent",
        "OtelStatLogger.__init__", "OtelStatLogger.record", "OtelStatLogger.log", "OtelStatLogger.log_engine_initialized",
        "OtelStatLogger.record_sleep_state", "OtelStatLogger.record_admission_rejection",  # vLLM's calls
        "Batch.leave", "OpenRequest.leave",  # undo a change of the context: nobody could do it for them
        "OpenRequest.__del__", "Instruments._observe",  # called by the collector, and by the SDK, which guards itself
    )
)  # fmt: skip


COMPACT = (
    # Every ending and every kind of call there is a guard for, in as few calls as that takes.
    "offline: generate", "offline: two choices", "offline: enqueue and wait", "offline: an engine that dies", "offline: a subclass",
    "offline: refused prompt", "engine: stream", "engine: dropped stream", "engine: an engine that dies", "engine: choices in one reply", "engine: encode where vLLM traces", "engine: left stream",
    "engine: thrown into", "engine: cancelled", "engine: aborted by id", "engine: taken off in the middle",
    "server: chat", "server: streamed chat", "server: a client that leaves", "server: a client that leaves a stream",
    "server: a small application", "stats: statistics",
)  # fmt: skip


def reached(worlds: Worlds) -> dict[CodeType, list[str]]:
    """Tell for each part of ours which rows run it; putting on and taking off is one more row."""
    life: set[CodeType] = set()
    with noted(otel_llm, life), instrumented():
        installed = {getattr(wrapper, "__code__", None) for _, _, wrapper in WRAPPERS.put_on}
    found: dict[CodeType, list[str]] = {
        code: ["offline: generate", "engine: stream", "engine: taken off in the middle", "server: a small application"]
        for code in life
    }
    for name in (*COMPACT, *(other for other in TABLE if other not in COMPACT)):
        run: set[CodeType] = set()
        with instrumented(), noted(otel_llm, run):
            worlds.with_us(name)
        for code in run - life:
            if name in COMPACT or code not in found:
                found.setdefault(code, []).append(name)
    return {code: names for code, names in found.items() if code not in installed and code.co_qualname not in GUARDS}


def test_no_part_of_ours_can_break_a_call(worlds: Worlds) -> None:
    rows = reached(worlds)
    harm: dict[str, Any] = {}
    silent: list[str] = []
    broken = 0
    for function in functions("otel_llm"):
        for part in parts(function.__code__):
            if part not in rows:
                continue
            place, before = f"{function.__module__}.{part.co_qualname}", Broken.raised
            came: dict[str, Any] = {}
            expected = {name: worlds.without_us(name) for name in rows[part]}
            with breaking(function, part):
                try:
                    with instrumented() as faults:
                        for name in expected:
                            came[name] = worlds.with_us(name)
                    if Broken.raised > before and not any(isinstance(error, Broken) for _, error in faults):
                        silent.append(place)
                except Exception as error:
                    harm[place] = error
            VLLMInstrumentor().instrument()  # and off again: whatever was left half done
            VLLMInstrumentor().uninstrument()
            leftovers._watch._open.clear()
            broken += 1
            if harmed := [name for name, one in came.items() if one != expected[name]]:
                harm[place] = harmed

    assert harm == {}
    assert silent == []
    assert broken > 150


# -- a broken SDK ------------------------------------------------------------------------------------------------------


class Raises:
    """Stands for any object; the methods named raise, the others hand out such objects."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        def method(*_: Any, **__: Any) -> Any:
            if name in self._names:
                raise Broken
            return Raises(*self._names)

        return method


class Span(NonRecordingSpan):
    """A span whose every use raises."""

    def __init__(self) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)

    def is_recording(self) -> bool:
        return True

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise Broken

    set_attribute = set_attributes = add_event = set_status = end = _refuse  # type: ignore[assignment]


class Tracers(NoOpTracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> Any:
        tracer = Raises()
        tracer.start_span = lambda *_, **__: Span()  # type: ignore[method-assign]
        return tracer


@pytest.mark.parametrize(
    "providers",
    [
        {"tracer_provider": Raises("get_tracer")},
        {"tracer_provider": Raises("start_span")},
        {"tracer_provider": Tracers()},
        {"meter_provider": Raises("get_meter")},
        {"meter_provider": Raises("create_histogram")},
        {"meter_provider": Raises("create_counter", "create_observable_gauge")},
        {"meter_provider": Raises("record", "add")},
    ],
    ids=["get_tracer", "start_span", "span", "get_meter", "create_histogram", "create_counter", "record"],
)
def test_an_sdk_that_raises_harms_no_call(worlds: Worlds, providers: dict[str, Any]) -> None:
    expected = {name: worlds.without_us(name) for name in COMPACT}
    quiet = {"tracer_provider": NoOpTracerProvider(), "meter_provider": NoOpMeterProvider()}
    with instrumented(**{**quiet, **providers}) as faults:
        came = {name: worlds.with_us(name) for name in COMPACT}

    assert came == expected
    assert {type(error) for _, error in faults} == {Broken}


def test_exporters_that_hang_hold_up_no_call(worlds: Worlds) -> None:
    let_go, spans_hang, metrics_hang = threading.Event(), threading.Event(), threading.Event()

    class Spans(InMemorySpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            spans_hang.set()
            let_go.wait(60)
            return SpanExportResult.SUCCESS

    class Metrics(ConsoleMetricExporter):
        def export(self, *_: Any, **__: Any) -> MetricExportResult:
            metrics_hang.set()
            let_go.wait(60)
            return MetricExportResult.SUCCESS

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(Spans(), max_queue_size=4, max_export_batch_size=1))
    reader = PeriodicExportingMetricReader(Metrics(), export_interval_millis=10)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    expected = {name: worlds.without_us(name) for name in COMPACT if not name.startswith("stats")}
    logging.disable(logging.WARNING)  # the SDK says that it drops spans
    try:
        with instrumented(tracers, meters) as faults:
            # More spans than the queue takes.
            came = [{name: worlds.with_us(name) for name in expected} for _ in range(2)]
            until(lambda: spans_hang.is_set() and metrics_hang.is_set(), "the exporters")
            came.append({name: worlds.with_us(name) for name in expected})
            assert not let_go.is_set()
    finally:
        let_go.set()
        tracers.shutdown()
        meters.shutdown()
        logging.disable(logging.NOTSET)

    assert came == [expected] * 3
    assert faults == []
