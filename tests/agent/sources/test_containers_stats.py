"""The engine's own statistics, where cgroup files cannot be seen: all asked at once, nobody else asked, never waited for twice."""

import gc
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.sources.scripted_engine import HYBRID, RECORDING, ScriptedEngine, scripted_engine
from waiting import until

from otel_agent.catalogue import values
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import ContainerReader, Wishes, open_containers
from otel_agent.sources.containers.snapshot import Link, Traffic, Usage
from otel_agent.sources.containers.stats import parse_stats

RECORDED = json.loads((RECORDING / "stats-busy.json").read_text())
BUSY = Usage(
    cpu_s=RECORDED["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
    cpu_user_s=RECORDED["cpu_stats"]["cpu_usage"]["usage_in_usermode"] / 1e9,
    cpu_system_s=RECORDED["cpu_stats"]["cpu_usage"]["usage_in_kernelmode"] / 1e9,
    cpu_periods=RECORDED["cpu_stats"]["throttling_data"]["periods"],
    cpu_throttled_periods=RECORDED["cpu_stats"]["throttling_data"]["throttled_periods"],
    cpu_throttled_s=RECORDED["cpu_stats"]["throttling_data"]["throttled_time"] / 1e9,
    memory_usage_bytes=8708096,
    memory_working_set_bytes=5316608,
    memory_rss_bytes=RECORDED["memory_stats"]["stats"]["total_rss"],
    faults=RECORDED["memory_stats"]["stats"]["total_pgfault"],
    major_faults=RECORDED["memory_stats"]["stats"]["total_pgmajfault"],
    pids=1,
    network={"eth0": Link(11600, 21050, 0, 0, 0, 0)},
    disk={},
    origin="stats",
)


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as running:
        running.stats[running.ids["busy"]] = RECORDED
        yield running


def opened(engine: ScriptedEngine, root: Path, **wishes: Any) -> ContainerReader:
    return open_containers(root, Wishes(**wishes), environ=engine.host)


def usage(reader: ContainerReader, name: str = "busy") -> Usage | None:
    return next(one.usage for one in reader().containers if one.identity.name == name)


def asked(engine: ScriptedEngine) -> list[str]:
    return [call for call in engine.taken() if call.endswith("/stats")]


def test_a_recorded_answer() -> None:
    assert parse_stats(RECORDED) == BUSY


def test_the_first_reading_already_has_the_numbers_and_says_where_they_are_from(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    snapshot = opened(engine, tmp_path)()
    told = {one.identity.name: one.usage for one in snapshot.containers}
    assert told["busy"] is not None
    assert told["busy"].memory_limit_bytes == 67108864, "as declared: in the statistics, no limit is all memory"
    assert (told["busy"].origin, told["stopped"], snapshot.unseen) == ("stats", None, 3)
    [info] = [row for row in METRICS if row.name == "otel_llm.container.info"]
    numbers = {about["container.name"]: about.get("otel_llm.container.numbers") for _, about in values(info, snapshot)}
    assert (numbers["busy"], numbers["stopped"]) == ("stats", None)


def test_who_can_be_seen_is_not_asked_about(engine: ScriptedEngine) -> None:
    reader = opened(engine, HYBRID)
    reader()
    reader()
    assert asked(engine) == []


def test_it_can_be_switched_off(engine: ScriptedEngine, tmp_path: Path) -> None:
    assert usage(opened(engine, tmp_path, stats=False)) is None
    assert asked(engine) == []


def test_an_engine_that_is_slow_to_tell_holds_up_no_later_reading(engine: ScriptedEngine, tmp_path: Path) -> None:
    for name in engine.ids.values():
        engine.faults[f"/containers/{name}/stats"] = "hang"
    reader = opened(engine, tmp_path)
    reader()
    began = time.monotonic()
    until(lambda: not reader().containers or engine.faults.clear() or usage(reader), "the numbers came", 20)
    assert usage(reader) is not None
    assert time.monotonic() - began < 20


def test_cpu_in_use_is_kept_until_the_engine_tells_something_new(engine: ScriptedEngine, tmp_path: Path) -> None:
    reader, answer = opened(engine, tmp_path), json.loads(json.dumps(RECORDED))
    usage(reader)
    answer["cpu_stats"]["cpu_usage"]["total_usage"] += 1_000_000_000
    engine.stats[engine.ids["busy"]] = answer

    def rate() -> float | None:
        return next(one.cpu_usage_cpus for one in reader().containers if one.identity.name == "busy")

    first = until(rate, "a rate")
    assert rate() == first


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}},
        {"cpu_stats": 7, "memory_stats": "x", "networks": []},
    ],
)
def test_a_container_that_does_not_run_has_no_zeros(answer: object) -> None:
    assert parse_stats(answer) is None


def test_cgroup_v2_through_the_engine() -> None:
    told = parse_stats(
        {
            "cpu_stats": {"cpu_usage": {"total_usage": 10**9}},
            "memory_stats": {
                "usage": 100,
                "stats": {"inactive_file": 30, "anon": 50, "pgfault": 7, "pgmajfault": True},
            },
            "pids_stats": {"current": 3, "limit": 2**64 - 1},
            "blkio_stats": {
                "io_service_bytes_recursive": [
                    {"major": 259, "minor": 0, "op": "read", "value": 5},
                    {"major": 259, "minor": 0, "op": "write", "value": 6},
                    {"major": 8, "minor": 0, "op": "read", "value": 5},
                    {"major": "x"},
                ]
            },
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": -1, "tx_bytes": 2}},
        }
    )
    assert told == Usage(
        cpu_s=1.0,
        memory_usage_bytes=100,
        memory_working_set_bytes=70,
        memory_rss_bytes=50,
        faults=7,
        pids=3,
        disk={"259:0": Traffic(5, 6)},
        network={"eth0": Link(1, 2)},
        origin="stats",
    )


def test_dropping_the_reader_ends_its_threads(engine: ScriptedEngine, tmp_path: Path) -> None:
    reader = opened(engine, tmp_path)
    reader()
    del reader
    gc.collect()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("docker-")], "the threads live on")
