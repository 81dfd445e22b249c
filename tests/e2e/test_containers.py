"""The containers source beside a real Docker Engine: what it tells is compared with what the engine itself says."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from e2e.engine import IMAGE, NoEngineError, RealEngine, run_engine

from otel_agent.catalogue import Event, values
from otel_agent.errors import ReadError
from otel_agent.sources.containers.events import events
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import ContainerReader, open_containers
from otel_agent.sources.containers.snapshot import Container

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    try:
        with run_engine(tmp_path_factory.mktemp("engine")) as running:
            yield running
    except NoEngineError as error:
        pytest.skip(f"no Docker Engine: {error}")


@pytest.fixture
def run(engine: RealEngine) -> Iterator[Callable[..., Any]]:
    started = []

    def start(name: str, script: str, **how: Any) -> Any:
        started.append(engine.client.containers.run(IMAGE, ["sh", "-c", script], name=name, detach=True, **how))
        return started[-1]

    yield start
    for container in started:
        with contextlib.suppress(docker.errors.NotFound):  # the test removed it
            container.remove(force=True)


@pytest.fixture
def reader(engine: RealEngine) -> Iterator[ContainerReader]:
    opened = open_containers(environ=engine.host)
    yield opened
    opened.close()


def one(reader: ContainerReader, name: str) -> Container | None:
    return next((c for c in reader().containers if c.identity.name == name), None)


def until(reader: ContainerReader, name: str, holds: Callable[[Container], bool], deadline_s: float = 20) -> Container:
    end = time.monotonic() + deadline_s
    while True:
        container = one(reader, name)
        if container is not None and holds(container):
            return container
        assert time.monotonic() < end, f"{name} stayed {container}"
        time.sleep(0.05)


def asked(reader: ContainerReader) -> str | None:
    """Return what goes wrong when the reader is asked, in words."""
    try:
        reader()
    except ReadError as error:
        return str(error)
    return None


def stats(container: Any) -> dict[str, Any]:
    """Return what the engine says: two readings of its own, a second apart."""
    told: dict[str, Any] = container.stats(stream=False)
    return told


def test_numbers_are_those_of_the_engine(engine: RealEngine, run: Callable[..., Any], reader: ContainerReader) -> None:
    script = f"ping -c 20 -i 0.05 -s 1000 {engine.gateway} >/dev/null; dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; while :; do :; done"
    busy = run("busy", script, mem_limit="64m", nano_cpus=200_000_000)
    until(
        reader,
        "busy",
        lambda c: (
            c.cpu_usage_cpus is not None and c.usage is not None and (c.usage.memory_usage_bytes or 0) > 8_000_000
        ),
    )

    began, first = time.monotonic(), until(reader, "busy", lambda c: c.cpu_usage_cpus is not None)
    told = stats(busy)
    second, took = one(reader, "busy"), time.monotonic() - began

    assert first.usage is not None
    assert second is not None
    assert second.usage is not None
    used = told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    assert (first.usage.cpu_s or 0) <= used <= (second.usage.cpu_s or 0), f"over {took} s"
    assert second.cpu_usage_cpus == pytest.approx(0.2, abs=0.06), "its quota is a fifth of a CPU"
    memory = told["memory_stats"]
    inactive = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file"))
    assert second.usage.memory_usage_bytes == pytest.approx(memory["usage"], abs=500_000)
    assert second.usage.memory_working_set_bytes == pytest.approx(memory["usage"] - inactive, abs=500_000)
    assert second.usage.memory_limit_bytes == memory["limit"] == 64 * 2**20
    assert second.network_rx_bytes == pytest.approx(told["networks"]["eth0"]["rx_bytes"], abs=5_000)
    assert second.network_tx_bytes == pytest.approx(told["networks"]["eth0"]["tx_bytes"], abs=5_000)
    assert (second.network_tx_bytes or 0) > 20 * 1000, "twenty pings of a thousand bytes"
    assert second.uptime_s == pytest.approx(took, abs=20)
    held = told["cpu_stats"]["throttling_data"]
    assert (first.usage.cpu_throttled_s or 0) <= held["throttled_time"] / 1e9 <= (second.usage.cpu_throttled_s or 0)
    assert (
        (first.usage.cpu_throttled_periods or 0)
        <= held["throttled_periods"]
        <= (second.usage.cpu_throttled_periods or 0)
    )
    assert second.usage.cpu_limit_cpus == pytest.approx(0.2)
    assert second.usage.pids == told["pids_stats"]["current"]
    faults = memory["stats"].get("total_pgfault", memory["stats"].get("pgfault"))
    assert second.usage.faults == pytest.approx(faults, abs=200)
    assert second.usage.memory_rss_bytes == pytest.approx(
        memory["stats"].get("total_rss", memory["stats"].get("anon")), abs=500_000
    )
    assert (second.usage.stalled_s or {}).get(("cpu", "some"), 1.0) > 0, "its quota makes it wait"


def test_states_follow_the_engine(run: Callable[..., Any], reader: ContainerReader) -> None:
    container = run("moody", "exec sleep 1000", network_mode="host")
    running = until(reader, "moody", lambda c: c.identity.state == "running" and c.usage is not None)
    assert running.usage is not None
    assert running.usage.network is None, "the host's traffic is not the container's"

    container.pause()
    paused = until(reader, "moody", lambda c: c.identity.state == "paused")
    assert (paused.identity.status, paused.usage is not None) == ("running", True)

    container.unpause()
    until(reader, "moody", lambda c: c.identity.state == "running")
    container.kill()
    stopped = until(reader, "moody", lambda c: c.identity.state == "exited")
    assert (stopped.identity.status, stopped.identity.exit_code, stopped.usage, stopped.uptime_s) == (
        "stopped",
        137,
        None,
        None,
    )

    container.restart()
    again = until(reader, "moody", lambda c: c.identity.state == "running" and c.usage is not None)
    assert again.identity.pid != running.identity.pid
    container.rename("calm")
    until(reader, "calm", lambda c: c.identity.id == running.identity.id)
    container.remove(force=True)
    end = time.monotonic() + 10
    while one(reader, "calm") is not None:
        assert time.monotonic() < end, "the removed container stayed"


def test_a_restart_loop_is_counted_and_memory_that_ran_out_is_an_exit(
    run: Callable[..., Any], reader: ContainerReader
) -> None:
    run("looping", "exit 1", restart_policy={"Name": "always"})
    looping = until(reader, "looping", lambda c: (c.identity.restart_count or 0) >= 2)
    assert looping.identity.image == IMAGE

    run("greedy", "dd if=/dev/zero of=/dev/null bs=100M count=1", mem_limit="16m", memswap_limit="16m")
    # Engine and kernel tell of the end and of its cause apart, in either order: the cause may come a moment later.
    greedy = until(reader, "greedy", lambda c: c.identity.state == "exited" and c.identity.oom_killed is True)
    assert greedy.identity.exit_code == 137


def happened(reader: ContainerReader, *wanted: tuple[str, str], deadline_s: float = 30) -> dict[tuple[str, str], Event]:
    """Read until these events, by name and container, have been told; returns the first of each."""
    found: dict[tuple[str, str], Event] = {}
    end = time.monotonic() + deadline_s
    while not set(wanted) <= set(found):
        assert time.monotonic() < end, f"only {sorted(found)}"
        for event in events(reader()):
            key = (event.name.removeprefix("otel_llm.container."), str(event.attributes["container.name"]))
            found.setdefault(key, event)
        time.sleep(0.05)
    return found


def test_what_happens_is_told_as_it_happened(run: Callable[..., Any], reader: ContainerReader) -> None:
    """One of each: a crash with its log, memory that ran out, a loop, health that turned, an ordered stop."""
    while not reader().events:
        time.sleep(0.05)
    run("crash", "echo loading; echo password=hunter2hunter2; exit 7", labels={"com.docker.compose.service": "vllm"})
    run("starved", "dd if=/dev/zero of=/dev/null bs=100M count=1", mem_limit="16m", memswap_limit="16m")
    run("spinning", "exit 1", restart_policy={"Name": "always"})
    second = 1_000_000_000
    run("sick", "exec sleep 1000", healthcheck={"test": ["CMD-SHELL", "exit 1"], "interval": second, "retries": 1})
    run("told", "exec sleep 1000").stop(timeout=0)
    found = happened(
        reader,
        *(("create", "crash"), ("start", "crash"), ("exit", "crash"), ("oom", "starved"), ("exit", "starved")),
        *(("restart_loop", "spinning"), ("health", "sick"), ("exit", "told")),
    )
    crash = found["exit", "crash"]
    assert (crash.severity, crash.said) == ("error", "container crash exited with code 7")
    assert crash.attributes["container.label.com.docker.compose.service"] == "vllm"
    assert crash.attributes["otel_llm.container.log.tail"] == "loading\npassword=[masked:secret]"
    assert found["exit", "starved"].attributes["otel_llm.container.oom_killed"] is True
    assert found["health", "sick"].attributes["otel_llm.container.health"] == "unhealthy"
    assert (found["exit", "told"].severity, found["exit", "told"].attributes["otel_llm.container.exit.ordered"]) == (
        "info",
        True,
    )
    assert until(reader, "sick", lambda c: c.identity.health == "unhealthy").usage is not None


def test_where_no_file_can_be_seen_the_engine_tells_the_same_numbers(
    engine: RealEngine, run: Callable[..., Any], tmp_path: Path
) -> None:
    """An agent in a pid namespace and a root of its own."""
    run("far", "dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; while :; do :; done", mem_limit="64m")
    near, blind = open_containers(environ=engine.host), open_containers(tmp_path, environ=engine.host)
    try:
        until(near, "far", lambda c: c.usage is not None and (c.usage.cpu_s or 0) > 0.5)
        before = until(near, "far", lambda c: c.usage is not None).usage
        told = until(blind, "far", lambda c: c.usage is not None and (c.usage.cpu_s or 0) > 0.5).usage
        after = until(near, "far", lambda c: c.usage is not None).usage
    finally:
        near.close()
        blind.close()
    assert before is not None
    assert told is not None
    assert after is not None
    assert (before.origin, told.origin) == ("cgroup", "stats")
    assert (told.cpu_s or 0) <= (after.cpu_s or 0)
    assert told.memory_limit_bytes == after.memory_limit_bytes == 64 * 2**20
    assert told.memory_usage_bytes == pytest.approx(after.memory_usage_bytes, abs=1_000_000)
    assert told.pids == after.pids
    assert set(told.network or {}) == set(after.network or {})


def test_the_points_carry_identity_and_one_state(run: Callable[..., Any], reader: ContainerReader) -> None:
    container = run("plain", "exec sleep 1000")
    until(reader, "plain", lambda c: c.usage is not None and c.cpu_usage_cpus is not None)
    snapshot = reader()
    who = {"container.id": container.id, "container.name": "plain"}

    found = {row.name: values(row, snapshot) for row in METRICS}
    assert [
        attributes["otel_llm.container.state"] for value, attributes in found["otel_llm.container.status"] if value
    ] == ["running"]
    assert {name for name, points in found.items() if points} >= {row.name for row in METRICS} - {
        *("container.disk.io", "otel_llm.container.disk.operations"),
        *("otel_llm.container.cpu.limit", "otel_llm.container.memory.limit", "container.memory.available"),
        *("otel_llm.container.pids.limit", "otel_llm.container.health.status", "otel_llm.container.exit.code"),
    }
    assert all(who.items() <= attributes.items() for points in found.values() for _, attributes in points)


def test_an_engine_that_is_stopped_and_started_again(tmp_path: Path) -> None:
    try:
        with run_engine(tmp_path) as engine:
            engine.client.containers.run(IMAGE, ["sleep", "1000"], name="short", detach=True)
            reader = open_containers(environ=engine.host)
            assert [c.identity.name for c in reader().containers] == ["short"]
    except NoEngineError as error:
        pytest.skip(f"no Docker Engine: {error}")
    end = time.monotonic() + 10
    while (said := asked(reader)) is None:
        assert time.monotonic() < end, "the loss went unnoticed"
    assert "cannot be reached" in said

    with run_engine(tmp_path):
        end = time.monotonic() + 60
        while not (snapshot := reader()).events:
            assert time.monotonic() < end, "the events did not come back"
    assert snapshot.containers == ()
    reader.close()
