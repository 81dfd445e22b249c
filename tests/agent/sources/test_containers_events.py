"""What happened to containers, as events: announced, told again after a cut, or seen by comparison; never twice, never lost in silence."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from agent.sources.scripted_engine import HYBRID, Clock, ScriptedEngine, scripted_engine
from waiting import until

from otel_agent.catalogue import Event
from otel_agent.sources.containers.events import events
from otel_agent.sources.containers.happenings import MOST, Happenings
from otel_agent.sources.containers.identity import Identity
from otel_agent.sources.containers.read import ContainerReader, Wishes, open_containers
from otel_agent.sources.containers.watch import Heard

NOW = 1795259600.0


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as running:
        yield running


class Told:
    """A reader and all events of its readings; the clock on the wall can be moved."""

    def __init__(self, engine: ScriptedEngine, **wishes: Any) -> None:
        self.wall = Clock(NOW)
        self.events: list[Event] = []
        self._reader: ContainerReader = open_containers(
            HYBRID, Wishes(**wishes), environ=engine.host, clock=Clock(), wall=self.wall
        )
        until(lambda: self.read() and not engine.taken(), "the reader keeps asking")

    def read(self) -> bool:
        snapshot = self._reader()
        self.events.extend(events(snapshot))
        return snapshot.events

    def until(self, *names: str) -> list[Event]:
        """Read until these were told in this order; returns them and forgets them."""

        def arrived() -> bool:
            self.read()
            return len(self.events) >= len(names)

        until(arrived, f"{names}, not only {self.events}")
        self.read()
        found, self.events = self.events, []
        assert [event.name.removeprefix("otel_llm.container.") for event in found] == list(names)
        return found


def stopped(engine: ScriptedEngine, name: str, at_s: float, code: int = 137, status: str = "exited") -> None:
    """Let a container have ended, as the engine's answers tell it."""
    found = engine.ids[name]
    finished = datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
    state = {"Status": status, "Running": False, "Paused": False, "Pid": 0, "ExitCode": code, "FinishedAt": finished}
    engine.containers[found]["State"] |= state
    engine.entries[found]["State"] = status


def started(engine: ScriptedEngine, name: str, at_s: float) -> None:
    found = engine.ids[name]
    begun = datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
    state = {"Status": "running", "Running": True, "Pid": 7685, "ExitCode": 0, "StartedAt": begun}
    engine.containers[found]["State"] |= state
    engine.entries[found]["State"] = "running"


def test_what_is_there_at_the_start_did_not_just_happen(engine: ScriptedEngine) -> None:
    assert Told(engine).events == []


def test_an_abnormal_exit_carries_code_identity_labels_and_the_masked_tail_of_its_log(engine: ScriptedEngine) -> None:
    busy = engine.ids["busy"]
    engine.containers[busy]["Config"]["Labels"] = {"com.docker.compose.service": "vllm", "private": "x"}
    frames = [(1, b"loading weights\n"), (2, b"CUDA error: out of memory\napi_key=sk-abcdef0123456789abcdef\n")]
    engine.logs[busy] = b"".join(bytes([kind, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for kind, text in frames)
    told = Told(engine)

    stopped(engine, "busy", NOW - 1)
    engine.emit("die", busy, NOW - 0.9, exitCode="137")
    [event] = told.until("exit")
    tail = event.attributes["otel_llm.container.log.tail"]
    assert event == Event(
        "otel_llm.container.exit",
        NOW - 0.9,
        "error",
        "container busy exited with code 137",
        {
            "container.id": busy,
            "container.name": "busy",
            "container.image.name": "otel-llm-toy",
            "otel_llm.container.image.tag": "1",
            "otel_llm.container.exit.code": 137,
            "otel_llm.container.exit.ordered": False,
            "otel_llm.container.oom_killed": False,
            "otel_llm.container.log.tail": tail,
            "container.label.com.docker.compose.service": "vllm",
        },
    )
    assert isinstance(tail, str)
    assert tail.startswith("loading weights\nCUDA error: out of memory\napi_key=")
    assert "abcdef0123456789" not in tail


@pytest.mark.parametrize(
    ("log", "wishes", "expected"),
    [
        (b"plain, from a terminal\n", {}, "plain, from a terminal"),
        (b"", {}, None),
        (b"x" * 100_000 + b"the end", {}, "x" * (4096 - 7) + "the end"),
        (b"\x01\x00\x00\x00\xff\xff\xff\xffcut", {}, "cut"),
        (b"\x00\xff\xfe bytes \x00", {}, "\ufffd\ufffd bytes"),
        (b"private", {"tail_lines": 0}, None),
    ],
)
def test_a_tail_is_bounded_and_can_be_switched_off(
    engine: ScriptedEngine, log: bytes, wishes: dict[str, int], expected: str | None
) -> None:
    engine.logs[engine.ids["busy"]] = log
    told = Told(engine, **wishes)
    stopped(engine, "busy", NOW - 1)
    engine.emit("die", engine.ids["busy"], NOW - 1, exitCode="1")

    [event] = told.until("exit")
    assert event.attributes.get("otel_llm.container.log.tail") == expected


@pytest.mark.parametrize("fault", ["500", "hang", "garbage"])
def test_a_log_that_cannot_be_read_costs_the_tail_and_not_the_event(engine: ScriptedEngine, fault: str) -> None:
    engine.faults[f"/containers/{engine.ids['busy']}/logs"] = fault
    told = Told(engine)
    engine.emit("die", engine.ids["busy"], NOW - 1, exitCode="1")

    [event] = told.until("exit")
    assert event.attributes["otel_llm.container.exit.code"] == 1


def test_an_exit_that_was_ordered_is_no_error_and_reads_no_log(engine: ScriptedEngine) -> None:
    told, busy = Told(engine), engine.ids["busy"]
    stopped(engine, "busy", NOW - 1)
    engine.emit("kill", busy, NOW - 12, signal="15")
    engine.emit("kill", busy, NOW - 2, signal="9")
    engine.emit("die", busy, NOW - 1, exitCode="137")
    engine.emit("stop", busy, NOW - 1)

    [event] = told.until("exit")
    assert (event.severity, event.said) == ("info", "container busy exited with code 137, as it was told to")
    assert not [call for call in engine.taken() if call.endswith("/logs")]


def test_memory_that_ran_out_health_that_turned_and_a_life_in_between(engine: ScriptedEngine) -> None:
    told, busy, fresh = Told(engine), engine.ids["busy"], "ab" * 32
    engine.emit("oom", busy, NOW - 5, heard=False)
    engine.emit("health_status: unhealthy", busy, NOW - 4, heard=False)
    engine.emit("health_status: unhealthy", busy, NOW - 3, heard=False)
    engine.emit("health_status: healthy", busy, NOW - 2.5, heard=False)
    for action in ("create", "start", "die", "destroy"):
        engine.emit(action, fresh, NOW - 2, heard=False, exitCode="0", name="short", image="busybox:1")
    # All at once: read in between, the container would be inspected, and this engine's inspection knows no health.
    engine.emit_raw(b"".join(line for _, line in engine.past))

    found = told.until("oom", "health", "health", "create", "start", "exit", "remove")
    assert [(event.severity, event.said) for event in found] == [
        ("error", "container busy ran out of memory"),
        ("warn", "container busy is unhealthy"),
        ("info", "container busy is healthy"),
        ("info", "container short was created"),
        ("info", "container short started"),
        ("info", "container short exited with code 0"),
        ("info", "container short was removed"),
    ]


def test_a_restart_loop_is_told_once_and_again_after_it_was_over(engine: ScriptedEngine) -> None:
    told, looping = Told(engine), engine.ids["looping"]
    for second in range(6):
        engine.emit("die", looping, NOW + second, exitCode="1")
    found = told.until("exit", "exit", "restart_loop", "exit", "exit", "exit", "exit")
    assert found[2].said == "container looping restarts in a loop: 3 exits within minutes"
    assert found[2].severity == "error"

    told.wall.now = NOW + 1000
    told.read()
    for second in range(3):
        engine.emit("die", looping, NOW + 1000 + second, exitCode="1")
    told.until("exit", "exit", "exit", "restart_loop")


def test_what_was_announced_while_the_stream_was_down_is_told_once(engine: ScriptedEngine) -> None:
    """The engine is asked for what it announced since; it tells the last that was heard again, which is known."""
    told, busy = Told(engine), engine.ids["busy"]
    engine.emit("oom", busy, NOW - 9)
    told.until("oom")

    engine.faults["/events"] = "500"
    engine.cut_streams()
    stopped(engine, "busy", NOW - 8)
    engine.emit("die", busy, NOW - 7.9, heard=False, exitCode="137")
    started(engine, "busy", NOW - 7)
    engine.emit("start", busy, NOW - 6.9, heard=False)
    del engine.faults["/events"]

    found = told.until("exit", "start")
    assert [event.time_s for event in found] in ([NOW - 7.9, NOW - 6.9], [NOW - 8, NOW - 7]), "announced, or compared"
    until(told.read, "the stream did not come back")
    told.read()
    assert told.events == [], "told a second time"


def test_what_the_engine_has_forgotten_is_seen_by_comparison(engine: ScriptedEngine) -> None:
    """An engine that was replaced knows nothing of what it announced before."""
    told, gone, fresh = Told(engine), engine.ids["stopped"], "cd" * 32
    engine.faults["/events"] = "500"
    engine.cut_streams()
    stopped(engine, "busy", NOW - 8)
    del engine.containers[gone], engine.entries[gone]
    engine.containers[fresh] = {**engine.containers[engine.ids["created"]], "Id": fresh, "Name": "/fresh"}
    engine.entries[fresh] = {**engine.entries[engine.ids["created"]], "Id": fresh, "Names": ["/fresh"]}

    def arrived() -> bool:
        told.read()
        return len(told.events) >= 3

    until(arrived, "three events")
    assert {(event.name, event.attributes["container.name"]) for event in told.events} == {
        ("otel_llm.container.exit", "busy"),
        ("otel_llm.container.create", "fresh"),
        ("otel_llm.container.remove", "stopped"),
    }
    assert all(event.attributes["otel_llm.event.unheard"] is True for event in told.events)


def identity(number: int, **told: Any) -> Identity:
    return Identity(f"{number:064x}", f"c{number}", "i:1", "running", **told)


@pytest.mark.parametrize("first", ["heard", "compared"])
def test_an_exit_seen_both_ways_is_one(first: str) -> None:
    before, after = identity(1, started_s=10.0), identity(1, started_s=50.0, finished_s=40.0)
    heard = [Heard(40.1, "die", before.id, exit_code=1), Heard(50.1, "start", before.id)]
    seen = Happenings()
    seen.take((), {before.id: before}, missed=True, now_s=20)
    if first == "heard":
        found = [*seen.take(heard, {after.id: after}, missed=True, now_s=51)]
    else:
        found = [*seen.take((), {after.id: after}, missed=True, now_s=51)]
        found += seen.take(heard, {after.id: after}, missed=False, now_s=52)
    assert [(event.what, event.unheard) for event in found] == [
        ("exit", first == "compared"),
        ("start", first == "compared"),
    ]
    again = seen.take((Heard(51.5, "die", after.id, exit_code=1),), {after.id: after}, missed=False, now_s=53)
    assert [event.what for event in again] == ["exit"], "the next exit is another, however soon"


def test_a_crowd_of_events_is_bounded_and_counted() -> None:
    seen = Happenings()
    seen.take((), {}, missed=False, now_s=0)
    heard = [Heard(float(at), "create", f"{at:064x}") for at in range(MOST + 7)]
    assert len(seen.take(heard, {}, missed=False, now_s=0)) == MOST
    assert seen.lost == 7


def test_nothing_is_kept_of_containers_that_are_gone() -> None:
    """A day of one start and stop a second."""
    seen, size = Happenings(), _size
    seen.take((), {}, missed=False, now_s=0)
    for at in range(86_400):
        one = identity(at, started_s=float(at))
        happened = [Heard(float(at), action, one.id) for action in ("create", "start", "die", "destroy")]
        seen.take(happened, {one.id: one}, missed=False, now_s=float(at))
        if at == 100:
            early = size(seen)
    assert size(seen) == early


def _size(seen: Happenings) -> int:
    return len(vars(seen)["_known"])
