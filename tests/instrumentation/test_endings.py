"""The table of endings: every way a stream can end, for every kind of stream, synchronous and asynchronous.

Each is one span with the right status, error type and finish reason, and one point of duration; the object handed out is
of LiteLLM's own type; nothing is logged about contexts that could not be detached.
"""

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from instrumentation.endings import (
    broken_off,
    cancelled,
    closed,
    collected,
    dropped,
    elsewhere,
    exhausted,
    never_read,
)
from instrumentation.recording import Recording
from instrumentation.responses_server import ResponsesServer, serve
from instrumentation.streaming import KINDS, Driver, Kind, native_models, need_proxy
from opentelemetry import trace
from waiting import until

LEFT_OPEN = Path(__file__).with_name("left_open.py")
# LiteLLM leaves the connection of an asynchronous stream that was left behind to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module", name="newer")
def _newer(litellm: ModuleType) -> Iterator[ResponsesServer]:
    with serve() as running, native_models(litellm):
        yield running


CASES = [(kind, is_async) for kind in KINDS for is_async in (False, True) if is_async or kind.sync is not None]


@pytest.fixture(params=CASES, ids=[f"{kind} {'async' if is_async else 'sync'}" for kind, is_async in CASES])
def driver(request: pytest.FixtureRequest, litellm: ModuleType, newer: ResponsesServer) -> Iterator[Driver]:
    kind: Kind
    kind, is_async = request.param
    if kind.needs_proxy:
        need_proxy()
    opened = Driver(litellm, newer, kind, is_async=is_async)
    yield opened
    opened.finish()


@dataclass(frozen=True)
class Ending:
    """What is to be seen of one."""

    leave: Callable[[Driver], object]
    end: str
    is_error: bool = False
    chunks: int | None = None  # None: all there are, or as many as came
    finish_reasons: tuple[str, ...] | None = None


ENDINGS = (
    Ending(exhausted, "exhausted", finish_reasons=("stop",)),
    Ending(broken_off, "abandoned", chunks=2),
    Ending(closed, "closed", chunks=2),
    Ending(dropped, "failed", is_error=True),
    Ending(cancelled, "failed", is_error=True),
    Ending(collected, "abandoned", chunks=2),
    Ending(elsewhere, "exhausted", finish_reasons=("stop",)),
    Ending(never_read, "abandoned", chunks=0),
)


@pytest.mark.parametrize("ending", ENDINGS, ids=[ending.leave.__name__ for ending in ENDINGS])
def test_every_ending_of_every_stream_is_one_span_and_one_duration(
    driver: Driver, recording: Recording, caplog: pytest.LogCaptureFixture, ending: Ending
) -> None:
    if driver.kind.is_native and ending.chunks == 2:
        pytest.skip("the server's events come in as few chunks as the network makes of them")
    with caplog.at_level(logging.WARNING, "opentelemetry"):
        ending.leave(driver)
        # LiteLLM's own threads and tasks let go of a stream a moment later.
        until(lambda: _let_go(driver) and bool(recording.spans()))
        span = recording.span()

    attributes = dict(span.attributes or {})
    end, chunks = ending.end, ending.chunks
    if driver.type_name == "generator" and end == "closed":
        end = "abandoned"  # closing a generator and collecting it are one and the same for what it holds
    assert end == attributes["otel_llm.stream.end"]
    assert ("ERROR" if ending.is_error else "UNSET") == span.status.status_code.name
    assert ending.is_error == ("error.type" in attributes)
    if ending.leave is cancelled:
        assert attributes["error.type"] == "CancelledError"
    assert ending.finish_reasons == attributes.get("gen_ai.response.finish_reasons")
    counts = recording.counts()
    assert counts["gen_ai.client.operation.duration"] == 1
    if ending.finish_reasons is not None and not driver.kind.is_native:
        chunks = driver.kind.chunks
    if chunks is not None:
        assert min(chunks, 1) == counts.get("gen_ai.client.operation.time_to_first_chunk", 0)
        assert max(chunks - 1, 0) == counts.get("gen_ai.client.operation.time_per_output_chunk", 0)
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert not trace.get_current_span().get_span_context().is_valid


def _let_go(driver: Driver) -> bool:
    if driver.is_async:
        driver.run(asyncio.sleep(0))
    return gc.collect() >= 0


@pytest.mark.usefixtures("recording")
def test_a_stream_is_of_litellm_s_own_type(driver: Driver) -> None:
    stream = driver.open("plain")

    assert driver.type_name == type(stream).__name__
    assert len(driver.all(stream)) == driver.kind.chunks or driver.kind.is_native


@pytest.fixture(scope="module")
def ended_by_exit(newer: ResponsesServer) -> list[dict[str, Any]]:
    """The spans of a process that ends with a stream of each kind open, two chunks of each read."""
    places = [str(LEFT_OPEN.parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(LEFT_OPEN), newer.url, newer.root],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
    )
    assert done.returncode == 0, done.stderr
    assert "detach" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if not case[0].needs_proxy],
    ids=lambda case: f"{case[0]} {'async' if case[1] else 'sync'}",
)
def test_a_stream_open_at_the_end_of_the_process_is_one_span_and_one_duration(
    ended_by_exit: list[dict[str, Any]], case: tuple[Kind, bool]
) -> None:
    kind, is_async = case
    mine = [one for one in ended_by_exit if one["case"] == [kind.name, is_async]]

    assert [(one["status"], one["end"], one["durations"]) for one in mine] == [("UNSET", "exit", 1)]


def test_many_streams_left_behind_leave_nothing_behind(
    litellm: ModuleType, newer: ResponsesServer, recording: Recording
) -> None:
    from otel_llm import leftovers

    responses = next(kind for kind in KINDS if kind.name == "responses")
    driver = Driver(litellm, newer, responses, is_async=False)
    for _ in range(300):
        stream = driver.open("plain")
        driver.next(stream)
        del stream

    until(lambda: gc.collect() >= 0 and len(recording.spans()) == 300)
    assert {"abandoned"} == {(span.attributes or {})["otel_llm.stream.end"] for span in recording.spans()}
    assert leftovers._watch._open == {}


def test_streams_read_in_turns_are_told_apart(
    litellm: ModuleType, newer: ResponsesServer, recording: Recording
) -> None:
    """Three streams of each kind, two chunks of each in turn: no chunk is counted with another's."""
    kinds = [kind for kind in KINDS if kind.sync is not None]
    for kind in kinds:
        driver = Driver(litellm, newer, kind, is_async=False)
        streams = [driver.open("plain") for _ in range(3)]
        for stream in (*streams, *streams):
            driver.next(stream)
        for stream in streams:
            driver.all(stream)

    assert len(recording.spans()) == 3 * len(kinds)
    between = recording.counts()["gen_ai.client.operation.time_per_output_chunk"]
    assert 3 * sum(kind.chunks - 1 for kind in kinds) == between
