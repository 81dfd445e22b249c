"""What containers use, from a recorded cgroup tree, whole and damaged; what every layout tells is in test_containers_recorded.py."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent.sources.scripted_engine import HYBRID, RECORDING, Clock, ScriptedEngine, scripted_engine
from waiting import until

from otel_agent.sources.containers.files import Room
from otel_agent.sources.containers.read import ContainerReader, open_containers
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot, Link, Usage

ETH0 = {"eth0": Link(11600, 21050, 0, 0, 0, 0)}
STALLS = {
    ("cpu", "some"): 22.09837,
    ("cpu", "full"): 22.085281,
    ("memory", "some"): 0.0,
    ("memory", "full"): 0.0,
    ("io", "some"): 8.6e-05,
    ("io", "full"): 0.0,
}
TICKS = Usage(  # v1 tells modes in hundredths of a second
    cpu_s=2.135617989,
    cpu_user_s=2.09,
    cpu_system_s=0.03,
    cpu_limit_cpus=0.2,
    cpu_periods=111,
    cpu_throttled_periods=104,
    cpu_throttled_s=7.19620624,
    memory_usage_bytes=8708096,
    memory_working_set_bytes=5316608,
    memory_limit_bytes=67108864,
    memory_rss_bytes=65536,
    memory_events={"max": 0, "oom_kill": 0},
    faults=1456,
    major_faults=0,
    pids=1,
    network=ETH0,
    disk={},
    stalled_s=STALLS,
)
PAUSED = Usage(
    cpu_s=0.029987908,
    cpu_user_s=0.01,
    cpu_system_s=0.01,
    cpu_periods=0,
    cpu_throttled_periods=0,
    cpu_throttled_s=0.0,
    memory_usage_bytes=311296,
    memory_working_set_bytes=311296,
    memory_rss_bytes=53248,
    faults=1141,
    major_faults=0,
    pids=1,
    network={"eth0": Link(11394, 0, 0, 0, 0, 0)},
    disk={},
)


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the recorded tree, to be damaged."""
    shutil.copytree(HYBRID, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


def opened(engine: ScriptedEngine, root: Path, clock: Clock | None = None) -> ContainerReader:
    return open_containers(root, environ=engine.host, clock=clock or Clock(), wall=lambda: 1795259576.0)


def by_name(snapshot: ContainersSnapshot) -> dict[str, Container]:
    return {container.identity.name: container for container in snapshot.containers}


def test_all_that_the_files_tell(engine: ScriptedEngine) -> None:
    containers = by_name(opened(engine, HYBRID)())

    assert (containers["busy"].usage, containers["paused"].usage) == (TICKS, PAUSED)
    assert containers["neighbour"].usage is not None
    assert containers["neighbour"].usage.network is None, "the host's traffic is not the container's"


def test_the_recorded_numbers_are_those_of_the_engine_at_the_same_moment(engine: ScriptedEngine) -> None:
    stats = json.loads((RECORDING / "stats-busy.json").read_text())
    busy = by_name(opened(engine, HYBRID)())["busy"]
    usage = busy.usage
    assert usage is not None
    assert usage.cpu_s == pytest.approx(stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, abs=0.1)
    assert usage.memory_usage_bytes == stats["memory_stats"]["usage"]
    assert (
        usage.memory_working_set_bytes
        == stats["memory_stats"]["usage"] - stats["memory_stats"]["stats"]["total_inactive_file"]
    )
    assert usage.memory_limit_bytes == stats["memory_stats"]["limit"]
    assert busy.network_rx_bytes == stats["networks"]["eth0"]["rx_bytes"]
    assert busy.network_tx_bytes == stats["networks"]["eth0"]["tx_bytes"]


def test_cpu_in_use_is_told_from_the_second_reading_on(engine: ScriptedEngine, root: Path) -> None:
    clock, file = Clock(), root / f"sys/fs/cgroup/cpuacct/docker/{engine.ids['busy']}/cpuacct.usage"
    reader = opened(engine, root, clock)
    told = []
    for used_ns in (2_000_000_000, 4_500_000_000, 4_500_000_000, 1_000_000_000, 1_500_000_000):
        file.write_text(f"{used_ns}\n")
        busy = by_name(reader())["busy"]
        told.append((busy.cpu_usage_cpus, busy.cpu_usage_percent))
        clock.now += 5
    assert told == [(None, None), (0.5, 50), (0, 0), (None, None), (0.1, 10)], "a counter that fell tells nothing"


DAMAGES = {
    "cpuacct/cpuacct.usage": {"cpu_s": None},
    "cpuacct/cpuacct.stat": {"cpu_user_s": None, "cpu_system_s": None},
    "memory/memory.usage_in_bytes": {"memory_usage_bytes": None, "memory_working_set_bytes": None},
    "memory/memory.stat": {
        "memory_working_set_bytes": None,
        "memory_limit_bytes": None,
        "memory_events": {"oom_kill": 0},  # without a limit nobody asks how often it was reached
        "memory_rss_bytes": None,
        "faults": None,
        "major_faults": None,
    },
    "memory/memory.failcnt": {"memory_events": {"oom_kill": 0}},
    "memory/memory.oom_control": {"memory_events": {"max": 0}},
    "cpu/cpu.stat": {"cpu_periods": None, "cpu_throttled_periods": None, "cpu_throttled_s": None},
    "cpu/cpu.cfs_quota_us": {"cpu_limit_cpus": None},
    "pids/pids.current": {"pids": None},
    "unified/io.pressure": {"stalled_s": {key: value for key, value in STALLS.items() if key[0] != "io"}},
    "blkio/blkio.throttle.io_service_bytes_recursive": {"disk": None},
}


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "pipe"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_takes_its_own_facts_and_no_others(
    engine: ScriptedEngine, root: Path, name: str, damage: str
) -> None:
    """A pipe in place of a file would hold up an ordinary read for ever."""
    controller, _, last = name.partition("/")
    file = root / f"sys/fs/cgroup/{controller}/docker/{engine.ids['busy']}/{last}"
    file.unlink()
    if damage == "empty":
        file.touch()
    elif damage == "garbage":
        file.write_bytes(b"\xff\x00 -7 x\nuser\n\n9 9 9 9\n")
    elif damage == "pipe":
        os.mkfifo(file)
    usage = by_name(opened(engine, root)())["busy"].usage

    lost = DAMAGES[name]
    if "disk" in lost and damage in ("empty", "garbage"):
        lost = {"disk": {}}  # no row of any device
    assert usage == replace(TICKS, **lost)


@pytest.mark.parametrize(
    "text", ["", "Inter-|\n face |\n", "\n\n  eth0: 1 2\n", "\n\n  eth0: x 0 0 0 0 0 0 0 y 0 0 0\n"]
)
def test_network_rows_that_make_no_sense_give_no_interface(engine: ScriptedEngine, root: Path, text: str) -> None:
    (root / "proc/7685/net/dev").write_text(text)
    busy = by_name(opened(engine, root)())["busy"]

    assert busy.usage == replace(TICKS, network={})
    assert (busy.network_rx_bytes, busy.network_tx_bytes) == (None, None)


SHAPES = [
    ("/docker/{id}", "docker/{id}"),
    ("/docker/{id}/init.scope", "docker/{id}"),
    ("/system.slice/docker-{id}.scope", "system.slice/docker-{id}.scope"),
    ("/custom.slice/nested/docker-{id}.scope/a/b", "custom.slice/nested/docker-{id}.scope"),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{id}.scope",
        "user.slice/user-1000.slice/user@1000.service/user.slice/docker-{id}.scope",
    ),
    ("/machine.slice/libpod-{id}.scope/container", "machine.slice/libpod-{id}.scope"),
    (f"/docker/{'e' * 64}/docker/{{id}}", f"docker/{'e' * 64}/docker/{{id}}"),
    (f"/system.slice/docker-{'e' * 64}.scope/docker/{{id}}", f"system.slice/docker-{'e' * 64}.scope/docker/{{id}}"),
    ("/../{id}", None),
    ("/../docker-{id}.scope", None),
    ("/../../docker/{id}", None),
    ("/system.slice/ssh.service", None),
    ("/", None),
]


@pytest.mark.parametrize(("path", "folder"), SHAPES)
def test_the_way_to_a_cgroup_is_the_kernels_and_carries_the_id(
    engine: ScriptedEngine, tmp_path: Path, path: str, folder: str | None
) -> None:
    """A path outside the reader's cgroup namespace, or without the id, gives no numbers: a wrong number is worse than none."""
    for other in set(engine.entries) - {engine.ids["busy"]}:
        del engine.entries[other]
    found = engine.ids["busy"]
    (tmp_path / "proc/7685").mkdir(parents=True)
    (tmp_path / "proc/7685/cgroup").write_text(f"0::{path.format(id=found)}\n")
    fs = tmp_path / "sys/fs/cgroup"
    fs.mkdir(parents=True)
    (fs / "cgroup.controllers").write_text("cpu memory\n")
    own = fs / (folder or "docker/{id}").format(id=found)
    for decoy in {fs, own, own / "init.scope", fs / "system.slice/ssh.service", tmp_path / "sys/fs" / found}:
        decoy.mkdir(parents=True, exist_ok=True)
        (decoy / "memory.current").write_text("1\n")
    (own / "memory.current").write_text("4096\n")
    snapshot = opened(engine, tmp_path)()

    usage = snapshot.containers[0].usage
    assert (usage.memory_usage_bytes if usage else None, snapshot.unseen) == ((4096, 0) if folder else (None, 1))


def test_limits_are_read_again_after_a_while(engine: ScriptedEngine, root: Path) -> None:
    clock, file = Clock(), root / f"sys/fs/cgroup/cpu/docker/{engine.ids['busy']}/cpu.cfs_quota_us"
    reader = opened(engine, root, clock)
    told = []
    for seconds in (0, 30, 31):
        clock.now += seconds
        usage = by_name(reader())["busy"].usage
        told.append(usage.cpu_limit_cpus if usage else None)
        file.write_text("50000\n")
    assert told == [0.2, 0.2, 0.5]


def test_files_stay_open_only_while_there_is_room_and_are_closed_with_the_container(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> int:
        return sum(
            link.is_symlink() and str(HYBRID) in str(link.readlink()) for link in Path("/proc/self/fd").iterdir()
        )

    reader = opened(engine, HYBRID)
    whole = by_name(reader())["busy"].usage
    assert held() > 20
    engine.faults["/events"] = "500"
    for found in list(engine.entries):
        engine.entries[found]["State"] = "exited"
        engine.containers[found]["State"] |= {"Status": "exited", "Pid": 0}
    engine.cut_streams()
    until(lambda: reader() and held() == 0, "the files are closed")
    reader.close()

    with scripted_engine() as another:
        monkeypatch.setattr(Room, "__init__", lambda room: setattr(room, "left", 5))
        reader = opened(another, HYBRID)
        assert by_name(reader())["busy"].usage == whole
        assert held() == 5
