"""Who the containers are, from recorded answers of a real engine, and when the engine is asked at all."""

import gc
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.sources.scripted_engine import HYBRID, Clock, ScriptedEngine, scripted_engine
from waiting import until

from otel_agent.catalogue import problems, values
from otel_agent.sources.containers.files import Kept, Room
from otel_agent.sources.containers.identity import GpuClaim, Identity, split_image, with_tag
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import ContainerReader, Wishes, open_containers
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot

NOW = 1795259576.0  # a moment after the recording, in seconds since the epoch
FINISHED = {"looping": 1795259575.634058, "stopped": 1795259566.782874}
NO_GPU = GpuClaim(enabled=False, indices=())


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as running:
        yield running


def opened(engine: ScriptedEngine, root: Path = HYBRID) -> ContainerReader:
    return open_containers(root, environ=engine.host, clock=Clock(), wall=lambda: NOW)


def settled(engine: ScriptedEngine) -> ContainerReader:
    """Return a reader that follows the events and has nothing left to ask."""
    reader = opened(engine)
    until(lambda: reader().events and not engine.taken(), "the reader keeps asking")
    return reader


def by_name(snapshot: ContainersSnapshot) -> dict[str, Container]:
    return {container.identity.name: container for container in snapshot.containers}


def test_the_rows_are_sound() -> None:
    assert problems(METRICS) == []


def test_every_container_is_told_whatever_its_state(engine: ScriptedEngine) -> None:
    snapshot = opened(engine)()

    common = {"image": "otel-llm-toy:1", "gpu": NO_GPU, "own_network": True, "restart_count": 0, "oom_killed": False}
    command = {name: (told["Path"], *told["Args"]) for name, told in engine.by_name().items()}
    expected = [
        Identity(
            engine.ids["busy"],
            "busy",
            command=command["busy"],
            state="running",
            created_s=1795259565.540701,
            started_s=1795259565.872418,
            pid=7685,
            memory_limit_bytes=67108864,
            **common,
        ),
        Identity(
            engine.ids["created"],
            "created",
            command=command["created"],
            state="created",
            created_s=1795259567.161747,
            **common,
        ),
        Identity(
            engine.ids["looping"],
            "looping",
            command=command["looping"],
            state="restarting",
            created_s=1795259566.785821,
            exit_code=1,
            finished_s=FINISHED["looping"],
            **common | {"restart_count": 7},
        ),
        Identity(
            engine.ids["neighbour"],
            "neighbour",
            command=command["neighbour"],
            state="running",
            created_s=1795259565.880258,
            started_s=1795259566.100665,
            pid=7756,
            **common | {"own_network": False},
        ),
        Identity(
            engine.ids["paused"],
            "paused",
            command=command["paused"],
            state="paused",
            created_s=1795259566.107612,
            started_s=1795259566.47126,
            pid=7802,
            **common,
        ),
        Identity(
            engine.ids["stopped"],
            "stopped",
            command=command["stopped"],
            state="exited",
            created_s=1795259566.498578,
            exit_code=3,
            finished_s=FINISHED["stopped"],
            **common,
        ),
    ]
    assert [container.identity for container in snapshot.containers] == expected
    assert [container.identity.status for container in snapshot.containers] == [
        "running",
        "stopped",
        "restarting",
        "running",
        "running",
        "stopped",
    ]
    assert [container.usage is not None for container in snapshot.containers] == [True, False, False, True, True, False]
    assert (snapshot.time_s, snapshot.engine_version, snapshot.unseen, snapshot.uninspected) == (
        NOW,
        "20.10.24+dfsg1",
        0,
        0,
    )


def test_the_points_of_a_running_and_of_a_stopped_container(engine: ScriptedEngine) -> None:
    for name in ("created", "looping", "neighbour", "paused"):
        del engine.entries[engine.ids[name]]
    snapshot = opened(engine)()

    busy = {"container.id": engine.ids["busy"], "container.name": "busy"}
    stopped = {"container.id": engine.ids["stopped"], "container.name": "stopped"}
    states = ("running", "paused", "restarting", "created", "stopped", "dead")
    image = {
        "container.image.name": "otel-llm-toy",
        "container.runtime.name": "docker",
        "otel_llm.container.image.tag": "1",
        "otel_llm.container.gpu.enabled": False,
    }
    eth0 = {**busy, "network.interface.name": "eth0"}
    received, sent = {**eth0, "network.io.direction": "receive"}, {**eth0, "network.io.direction": "transmit"}
    stalls = {("cpu", "some"): 22.09837, ("cpu", "full"): 22.085281, ("io", "some"): 8.6e-05}
    assert {row.name: values(row, snapshot) for row in METRICS} == {
        "container.cpu.time": [(2.09, {**busy, "cpu.mode": "user"}), (0.03, {**busy, "cpu.mode": "system"})],
        "container.cpu.usage": [],
        "otel_llm.container.cpu.limit": [(0.2, busy)],
        "otel_llm.container.cpu.periods": [
            (111, {**busy, "otel_llm.period": "all"}),
            (104, {**busy, "otel_llm.period": "throttled"}),
        ],
        "otel_llm.container.cpu.throttled.time": [(7.19620624, busy)],
        "container.memory.usage": [(8708096, busy)],
        "container.memory.working_set": [(8708096 - 3391488, busy)],
        "container.memory.rss": [(65536, busy)],
        "container.memory.available": [(67108864 - 8708096 + 3391488, busy)],
        "otel_llm.container.memory.limit": [(67108864, busy)],
        "otel_llm.container.memory.events": [
            (0, {**busy, "otel_llm.memory.event": "max"}),
            (0, {**busy, "otel_llm.memory.event": "oom_kill"}),
        ],
        "container.paging.faults": [
            (1456, {**busy, "system.paging.fault.type": "minor"}),
            (0, {**busy, "system.paging.fault.type": "major"}),
        ],
        "container.network.io": [(11600, received), (21050, sent)],
        "otel_llm.container.network.errors": [(0, received), (0, sent)],
        "otel_llm.container.network.packet.dropped": [(0, received), (0, sent)],
        "container.disk.io": [],
        "otel_llm.container.disk.operations": [],
        "otel_llm.container.pids.count": [(1, busy)],
        "otel_llm.container.pids.limit": [],
        "otel_llm.container.pressure.time": [
            (stalls.get((resource, stall), 0.0), {**busy, "otel_llm.resource": resource, "otel_llm.stall": stall})
            for resource in ("cpu", "memory", "io")
            for stall in ("some", "full")
        ],
        "container.uptime": [(NOW - 1795259565.872418, busy)],
        "otel_llm.container.restart.count": [(0, busy), (0, stopped)],
        "otel_llm.container.created": [(1795259565.540701, busy), (1795259566.498578, stopped)],
        "otel_llm.container.status": [
            *[(int(state == "running"), {**busy, "otel_llm.container.state": state}) for state in states],
            *[(int(state == "stopped"), {**stopped, "otel_llm.container.state": state}) for state in states],
        ],
        "otel_llm.container.health.status": [],
        "otel_llm.container.exit.code": [(3, stopped)],
        "otel_llm.container.oom_killed": [(0, busy), (0, stopped)],
        "otel_llm.container.info": [
            (1, {**busy, **image, "otel_llm.container.numbers": "cgroup"}),
            (1, {**stopped, **image}),
        ],
    }


def test_between_changes_the_engine_is_asked_nothing(engine: ScriptedEngine) -> None:
    reader = settled(engine)

    for _ in range(3):
        assert len(reader().containers) == 6
    assert engine.taken() == []


def test_an_event_leads_to_one_inspection_of_that_container(engine: ScriptedEngine) -> None:
    reader, busy = settled(engine), engine.ids["busy"]
    engine.containers[busy]["State"] |= {"Status": "exited", "Running": False, "Pid": 0, "ExitCode": 137}
    engine.emit("die", busy)

    until(lambda: by_name(reader())["busy"].identity.state == "exited", "the event was not heard")
    container = by_name(reader())["busy"]
    assert (container.identity.exit_code, container.usage, container.uptime_s) == (137, None, None)
    assert engine.taken() == [f"/containers/{busy}/json"]


def test_a_new_container_appears_and_a_removed_one_goes(engine: ScriptedEngine) -> None:
    reader, stopped = settled(engine), engine.ids["stopped"]
    fresh = "ab" * 32
    engine.containers[fresh] = {**engine.containers[stopped], "Id": fresh, "Name": "/fresh"}
    engine.entries[fresh] = {**engine.entries[stopped], "Id": fresh, "Names": ["/web/alias", "/fresh"]}
    engine.emit("create", fresh)
    until(lambda: "fresh" in by_name(reader()), "the new container did not appear")

    del engine.containers[stopped], engine.entries[stopped]
    engine.emit("destroy", stopped)
    until(lambda: "stopped" not in by_name(reader()), "the removed container stayed")
    assert list(by_name(reader())) == ["busy", "created", "fresh", "looping", "neighbour", "paused"]


def test_without_a_stream_every_reading_asks_for_the_list_and_misses_nothing(engine: ScriptedEngine) -> None:
    engine.faults["/events"] = "500"
    reader = opened(engine)
    assert reader().events is False
    engine.taken()

    engine.entries[engine.ids["paused"]]["State"] = "running"
    engine.containers[engine.ids["paused"]]["State"]["Status"] = "running"
    assert by_name(reader())["paused"].identity.state == "running"
    assert [call for call in engine.taken() if call != "/version"] == [
        "/containers/json",
        f"/containers/{engine.ids['paused']}/json",
    ]


def test_a_stream_that_is_cut_is_opened_again_and_the_list_compared(engine: ScriptedEngine) -> None:
    reader = settled(engine)
    engine.cut_streams()
    del engine.entries[engine.ids["created"]]

    assert "created" not in by_name(reader())
    engine.wait_for_streams()
    until(lambda: reader().events, "the stream did not come back")


@pytest.mark.parametrize(
    "line", [b"not json\n", b"[" * 100_000 + b"\n", b"7\n", b'{"Actor": {"ID": 7}}\n', b'{"Actor": []}\n']
)
def test_garbage_among_the_events_does_no_harm(engine: ScriptedEngine, line: bytes) -> None:
    reader = settled(engine)
    engine.emit_raw(line)
    engine.entries[engine.ids["created"]]["Names"] = ["/renamed"]
    engine.containers[engine.ids["created"]]["Name"] = "/renamed"

    engine.wait_for_streams()
    engine.emit("rename", engine.ids["created"])
    until(lambda: "renamed" in by_name(reader()), "the reader went deaf")


def test_an_open_file_of_a_process_that_is_gone_tells_nothing() -> None:
    """That a container's pid has not been given to another process rests on this."""
    kept = Kept(Room())
    process = subprocess.Popen(["sleep", "60"])
    folder = f"/proc/{process.pid}"
    assert kept.read(folder, "cgroup") == Path(folder, "cgroup").read_bytes()

    process.kill()
    process.wait()
    assert kept.read(folder, "cgroup") is None
    kept.close()


def end_process(folder: Path) -> None:
    """Let the folder of a process go; what was open of it tells nothing any more, as the kernel has it."""
    (folder / "cgroup").write_bytes(b"")
    shutil.rmtree(folder)


def test_a_container_that_restarts_unheard_is_asked_about_in_the_same_reading(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    """Its old pid is gone, or another container's by now; the numbers are those of the new run."""
    root, busy = tmp_path / "root", engine.ids["busy"]
    shutil.copytree(HYBRID, root, symlinks=True)
    reader = opened(engine, root)
    until(lambda: reader().events and not engine.taken(), "the reader keeps asking")

    for pid, taken_by in ((8001, None), (8002, 7756)):
        before = engine.containers[busy]["State"]["Pid"]
        shutil.copytree(root / f"proc/{before}", root / f"proc/{pid}")
        end_process(root / f"proc/{before}")
        if taken_by:
            shutil.copytree(root / f"proc/{taken_by}", root / f"proc/{before}")
        engine.containers[busy]["State"]["Pid"] = pid
        container = by_name(reader())["busy"]
        assert (container.identity.pid, container.usage is not None) == (pid, True)
        assert engine.taken() == [f"/containers/{busy}/json"]


def test_containers_whose_files_cannot_be_seen_are_counted_and_not_asked_about_each_time(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    """An agent in a container without the host's pid namespace: identities, no numbers, and no storm of questions."""
    reader = open_containers(tmp_path, Wishes(stats=False), environ=engine.host, clock=Clock(), wall=lambda: NOW)
    until(lambda: reader().events and not engine.taken(), "the reader keeps asking")

    snapshot = reader()
    assert (snapshot.unseen, engine.taken()) == (3, [])
    assert [container.usage for container in snapshot.containers] == [None] * 6


def test_dropping_the_reader_ends_its_thread(engine: ScriptedEngine) -> None:
    reader = settled(engine)
    del reader
    gc.collect()

    until(lambda: not [t for t in threading.enumerate() if t.name == "docker-events"], "the thread lives on")


@pytest.mark.parametrize(
    ("told", "full", "parts"),
    [
        ("vllm/vllm-openai:v0.9.1", "vllm/vllm-openai:v0.9.1", ("vllm/vllm-openai", "v0.9.1")),
        ("busybox", "busybox:latest", ("busybox", "latest")),
        ("localhost:5000/team/app", "localhost:5000/team/app:latest", ("localhost:5000/team/app", "latest")),
        ("app:1@sha256:" + "ab" * 32, "app:1@sha256:" + "ab" * 32, ("app", "1")),
        ("app@sha256:" + "ab" * 32, "app@sha256:" + "ab" * 32, ("app", None)),
        ("sha256:" + "ab" * 32, "sha256:" + "ab" * 32, ("sha256:" + "ab" * 32, None)),
        ("44a7f7d09ad9", "44a7f7d09ad9", ("44a7f7d09ad9", None)),
        ("", "", ("", None)),
    ],
)
def test_images_are_named_with_their_tag(told: str, full: str, parts: tuple[str, str | None]) -> None:
    assert with_tag(told) == full
    assert split_image(full) == parts
