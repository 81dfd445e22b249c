"""Do no harm: a table of calls gives, bit for bit, what it gives without us; also with each part of ours broken in turn.

The calls are made twice without us first, and what differs between those two runs (ids, times) is passed over. Left out
of the breaking are only the functions put in LiteLLM's place and what keeps faults from them: they are the guard.
"""

import asyncio
import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, ModuleType
from typing import Any

import pytest
from breaking import Broken, breaking, functions, noted, parts
from instrumentation.openai_server import OpenAIServer
from instrumentation.outcomes import COMPACT, TABLE, Loop, common, outcome, routing
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_llm
from otel_llm import fault, leftovers
from otel_llm.litellm import LiteLLMInstrumentor
from otel_llm.litellm.wrappers import WRAPPERS

pytestmark = pytest.mark.filterwarnings(
    # LiteLLM leaves connections and event loops to the collector.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


class Outcomes(dict[str, Any]):
    """What the table gives uninstrumented, found out for each row once, when first asked for."""

    def __init__(self, litellm: ModuleType, server: OpenAIServer) -> None:
        super().__init__()
        self._world = litellm, server

    def __missing__(self, name: str) -> Any:
        assert not LiteLLMInstrumentor().is_instrumented_by_opentelemetry
        self[name] = found = common(*(outcome(TABLE[name], *self._world) for _ in range(2)))
        return found


@pytest.fixture(scope="module")
def without_us(litellm: ModuleType, server: OpenAIServer) -> Iterator[Outcomes]:
    Loop.running = asyncio.new_event_loop()
    yield Outcomes(litellm, server)
    Loop.running.run_until_complete(litellm.close_litellm_async_clients())
    Loop.running.close()
    routing.cache_clear()
    with warnings.catch_warnings(action="ignore"):  # now, not in the middle of another test
        gc.collect()


@contextmanager
def instrumented(
    tracer_provider: Any = None, meter_provider: Any = None
) -> Iterator[list[tuple[str, BaseException | None]]]:
    """Instrument for the length of the block; hands out the faults of our own."""
    tracers, meters = (
        TracerProvider(shutdown_on_exit=False),
        MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
    )
    tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    faults: list[tuple[str, BaseException | None]] = []

    def unraisable(what: Any) -> None:
        if not isinstance(what.exc_value, ResourceWarning):
            faults.append((f"unraisable in {what.object!r}", what.exc_value))

    before, hook = fault.set_on_fault(lambda place, error: faults.append((place, error))), sys.unraisablehook
    sys.unraisablehook = unraisable
    try:
        LiteLLMInstrumentor().instrument(
            tracer_provider=tracer_provider or tracers, meter_provider=meter_provider or meters
        )
        yield faults
    finally:
        LiteLLMInstrumentor().uninstrument()
        sys.unraisablehook = hook
        fault.set_on_fault(before)


@pytest.mark.parametrize("name", TABLE)
def test_a_call_gives_what_it_gives_without_us(
    litellm: ModuleType, server: OpenAIServer, without_us: Outcomes, name: str
) -> None:
    expected = without_us[name]

    with instrumented() as faults:
        came = outcome(TABLE[name], litellm, server)

    assert came == expected
    assert faults == []


# -- broken parts ------------------------------------------------------------------------------------------------------

GUARDS = frozenset(
    (
        "_follow",
        "_route",  # in place of LiteLLM's coroutines, as the wrappers that are found on LiteLLM are
        "guard", "report", "__del__",  # around parts of ours, told of their faults, called by the collector
        "_instrument", "_uninstrument", "_imported", "instrumentation_dependencies", "set_on_fault",  # called by others
    )
)  # fmt: skip


def reached(litellm: ModuleType, server: OpenAIServer) -> dict[CodeType, list[str]]:
    """Tell for each part of ours which rows of the compact table run it; putting on and taking off is one more row."""
    life: set[CodeType] = set()
    with noted(otel_llm, life), instrumented():
        installed = {wrapper.__code__ for _, _, wrapper in WRAPPERS.put_on}
    found: dict[CodeType, list[str]] = {code: ["plain", "left stream"] for code in life}
    with instrumented():
        for name, call in COMPACT.items():
            run: set[CodeType] = set()
            with noted(otel_llm, run):
                outcome(call, litellm, server)
            for code in run - life:
                found.setdefault(code, []).append(name)
        installed |= {wrapper.__code__ for _, _, wrapper in WRAPPERS.put_on}
    return {code: names for code, names in found.items() if code not in installed and code.co_name not in GUARDS}


def test_no_part_of_ours_can_break_a_call(litellm: ModuleType, server: OpenAIServer, without_us: Outcomes) -> None:
    rows = reached(litellm, server)
    harm: dict[str, Any] = {}
    silent: list[str] = []
    for function in functions("otel_llm"):
        for part in parts(function.__code__):
            if part not in rows:
                continue
            place, before = f"{function.__module__}.{part.co_qualname}", Broken.raised
            error: Exception | None = None
            with breaking(function, part):
                try:
                    with instrumented() as faults:
                        came = {name: outcome(TABLE[name], litellm, server) for name in rows[part]}
                except Exception as caught:
                    error = caught
            LiteLLMInstrumentor().instrument()  # and off again: whatever was left half done
            LiteLLMInstrumentor().uninstrument()
            leftovers._watch._open.clear()
            if error is not None:
                harm[place] = error
                continue
            if harmed := [name for name, one in came.items() if one != without_us[name]]:
                harm[place] = harmed
            if Broken.raised > before and not any(isinstance(error, Broken) for _, error in faults):
                silent.append(place)

    assert harm == {}
    assert silent == []
