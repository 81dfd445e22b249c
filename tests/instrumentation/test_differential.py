"""Do no harm: a table of calls gives, bit for bit, what it gives without us; also with each part of ours broken in turn.

The calls are made twice without us first, and what differs between those two runs (ids, times) is passed over. Left out
of the breaking are only the functions put in LiteLLM's place and what keeps faults from them: they are the guard.
"""

import asyncio
import gc
import inspect
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.outcomes import COMPACT, TABLE, Loop, common, outcome, routing
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

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


class Broken(RuntimeError):
    raised = 0

    def __init__(self) -> None:
        super().__init__("a part of ours is broken")
        Broken.raised += 1


def _raiser(*_: Any, **__: Any) -> None:
    raise "here"  # type: ignore[misc]  # noqa: B016 - becomes Broken: names of this module are not at hand in another


RAISER = _raiser.__code__.replace(
    co_consts=tuple(Broken if const == "here" else const for const in _raiser.__code__.co_consts)
)


def broken(code: CodeType, part: CodeType) -> CodeType:
    """Return `code` with `part`, which is the code itself or that of a function inside it, replaced by one that raises."""
    if code is part:
        return RAISER.replace(co_freevars=code.co_freevars)
    return code.replace(
        co_consts=tuple(broken(const, part) if isinstance(const, CodeType) else const for const in code.co_consts)
    )


def parts(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from parts(const)


def functions() -> Iterator[FunctionType]:
    """Every function and method of the instrumentation."""
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] == "otel_llm":
            for thing in vars(module).copy().values():
                for member in (thing, *(vars(thing).values() if isinstance(thing, type) else ())):
                    function = getattr(member, "__func__", getattr(member, "fget", member))
                    function = inspect.unwrap(function) if callable(function) else function
                    if isinstance(function, FunctionType) and function.__module__ == name:
                        yield function


@contextmanager
def noted(into: set[CodeType]) -> Iterator[None]:
    """Note the code of ours that runs in the block, in whichever thread."""

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and "otel_llm" in frame.f_code.co_filename:
            into.add(frame.f_code)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def reached(litellm: ModuleType, server: OpenAIServer) -> dict[CodeType, list[str]]:
    """Tell for each part of ours which rows of the compact table run it; putting on and taking off is one more row."""
    life: set[CodeType] = set()
    with noted(life), instrumented():
        installed = {wrapper.__code__ for _, _, wrapper in WRAPPERS.put_on}
    found: dict[CodeType, list[str]] = {code: ["plain", "left stream"] for code in life}
    with instrumented():
        for name, call in COMPACT.items():
            run: set[CodeType] = set()
            with noted(run):
                outcome(call, litellm, server)
            for code in run - life:
                found.setdefault(code, []).append(name)
        installed |= {wrapper.__code__ for _, _, wrapper in WRAPPERS.put_on}
    return {code: names for code, names in found.items() if code not in installed and code.co_name not in GUARDS}


@contextmanager
def in_pieces(function: FunctionType, part: CodeType) -> Iterator[None]:
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] == "otel_llm":
            for thing in vars(module).copy().values():
                if hasattr(thing, "cache_clear"):  # or the part might not be called again
                    thing.cache_clear()
    whole = function.__code__
    function.__code__ = broken(whole, part)
    try:
        yield
    finally:
        function.__code__ = whole
        LiteLLMInstrumentor().instrument()  # and off again: whatever was left half done
        LiteLLMInstrumentor().uninstrument()
        leftovers._watch._open.clear()


def test_no_part_of_ours_can_break_a_call(litellm: ModuleType, server: OpenAIServer, without_us: Outcomes) -> None:
    rows = reached(litellm, server)
    harm: dict[str, Any] = {}
    silent: list[str] = []
    for function in set(functions()):
        for part in parts(function.__code__):
            if part not in rows:
                continue
            place, before = f"{function.__module__}.{part.co_qualname}", Broken.raised
            with in_pieces(function, part):
                try:
                    with instrumented() as faults:
                        came = {name: outcome(TABLE[name], litellm, server) for name in rows[part]}
                except Exception as error:
                    harm[place] = error
                    continue
            if harmed := [name for name, one in came.items() if one != without_us[name]]:
                harm[place] = harmed
            if Broken.raised > before and not any(isinstance(error, Broken) for _, error in faults):
                silent.append(place)

    assert harm == {}
    assert silent == []
