"""What the containers source does where the engine is missing, too old, slow, hung, talking nonsense, gone and back."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.sources.scripted_engine import FAULTS, HYBRID, ScriptedEngine, scripted_engine
from waiting import until

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.containers.engine import Address, unavailable
from otel_agent.sources.containers.read import ContainerReader, open_containers

SOON_S = 0.3


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as running:
        yield running


def opened(engine: ScriptedEngine) -> ContainerReader:
    return open_containers(HYBRID, environ=engine.host, timeout_s=SOON_S)


def why(environ: dict[str, str], root: Path = HYBRID) -> tuple[str, str]:
    with pytest.raises(Unavailable) as caught:
        open_containers(root, environ=environ, timeout_s=SOON_S)
    return caught.value.reason, caught.value.remedy


def test_a_missing_socket_is_named_with_the_remedy(tmp_path: Path) -> None:
    assert why({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}) == (
        f"no Docker socket at {tmp_path}/none.sock",
        "start Docker or set DOCKER_HOST",
    )


def test_a_socket_nobody_listens_at_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "s"))
    assert why({"DOCKER_HOST": f"unix://{tmp_path}/s"}) == (
        f"nothing listens at the Docker socket {tmp_path}/s",
        "start Docker or set DOCKER_HOST",
    )


def test_a_socket_without_permission_is_named() -> None:
    """Root may do everything, so the refusal itself is made here."""
    error = ReadError("refused")
    error.__cause__ = PermissionError(13, "Permission denied")
    found = unavailable(Address(Path("/var/run/docker.sock")), error)
    assert (found.reason, found.remedy) == (
        "no permission to use the Docker socket at /var/run/docker.sock",
        "add the agent's user to the group that owns the socket, usually docker",
    )


@pytest.mark.parametrize(
    "host",
    [
        "ssh://me@far",
        "npipe:////./pipe/docker",
        "unix://relative",
        "tcp://",
        "tcp://h:99999",
        "tcp://[",
        "junk",
        "http://h/x",
    ],
)
def test_an_address_that_cannot_be_used_is_named(host: str) -> None:
    reason, remedy = why({"DOCKER_HOST": host})
    assert repr(host) in reason
    assert remedy == "set DOCKER_HOST to unix:///var/run/docker.sock or tcp://host:port, or unset it"


def test_an_engine_behind_tls_is_another_machines() -> None:
    assert (
        why({"DOCKER_HOST": "tcp://far:2376", "DOCKER_TLS_VERIFY": "1"})[0]
        == "DOCKER_HOST asks for TLS, which is meant for engines on other machines"
    )


def test_where_the_hosts_root_is_mounted_its_socket_is_found(engine: ScriptedEngine, tmp_path: Path) -> None:
    if Path("/var/run/docker.sock").exists():
        pytest.skip("this machine has a Docker socket of its own, which comes first")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/docker.sock").symlink_to(engine.path)
    assert len(open_containers(tmp_path, environ={})().containers) == 6


@pytest.mark.parametrize(
    ("newest", "oldest", "prefix"),
    [
        ("1.41", "1.12", "v1.41"),
        ("1.44", "1.24", "v1.44"),
        ("1.52", "1.44", "v1.52"),
        ("1.60", "1.44", "v1.52"),
        ("1.70", "1.60", "v1.60"),
        ("1.43", None, "v1.43"),
    ],
)
def test_the_api_version_is_negotiated(engine: ScriptedEngine, newest: str, oldest: str | None, prefix: str) -> None:
    engine.version = {"ApiVersion": newest, "MinAPIVersion": oldest, "Version": "x"}
    engine.faults["/events"] = "500"
    reader = opened(engine)
    reader()
    reader.close()
    assert engine.prefixes - {"version"} == {prefix}


def test_an_engine_that_is_too_old_is_named(engine: ScriptedEngine) -> None:
    engine.version = {"ApiVersion": "1.40", "MinAPIVersion": "1.12"}
    assert why(engine.host) == (
        f"Docker at {engine.path} speaks API 1.40",
        "update it: Engine 20.10 (API 1.41) is the oldest that is read",
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_an_engine_that_fails_at_the_start_is_unavailable_in_time(engine: ScriptedEngine, fault: str) -> None:
    engine.faults["/version"] = fault
    began = time.monotonic()
    reason, remedy = why(engine.host)
    assert str(engine.path) in reason
    assert remedy == "see whether `docker version` answers"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("fault", FAULTS)
def test_an_engine_that_fails_later_is_a_read_error_in_time_and_recovers(engine: ScriptedEngine, fault: str) -> None:
    engine.faults["/events"] = "500"
    reader = opened(engine)
    assert len(reader().containers) == 6

    engine.faults["/containers/json"] = fault
    began = time.monotonic()
    with pytest.raises(ReadError, match=f"^Docker at {engine.path} "):
        reader()
    assert time.monotonic() - began < 2

    del engine.faults["/containers/json"]
    assert len(reader().containers) == 6


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"no-list"}))
def test_one_container_that_cannot_be_inspected_hides_no_other(engine: ScriptedEngine, fault: str) -> None:
    """An engine can hang over one broken container; the list still tells its name, image and state."""
    engine.faults[f"/containers/{engine.ids['busy']}/json"] = fault
    reader = opened(engine)
    until(lambda: reader().uninspected == 1, "the others were not inspected")
    snapshot = reader()

    told = {
        c.identity.name: (c.identity.state, c.identity.restart_count, c.usage is not None) for c in snapshot.containers
    }
    assert told == {
        "busy": ("running", None, False),
        "created": ("created", 0, False),
        "looping": ("restarting", 7, False),
        "neighbour": ("running", 0, True),
        "paused": ("paused", 0, True),
        "stopped": ("exited", 0, False),
    }
    engine.faults.clear()
    snapshot = reader()
    assert (snapshot.uninspected, snapshot.containers[0].identity.restart_count) == (0, 0)


def test_a_change_that_cannot_be_inspected_is_told_by_the_list(engine: ScriptedEngine) -> None:
    """The stream says that something happened, the inspection fails: the state must not stay what it was."""
    reader, busy = opened(engine), engine.ids["busy"]
    until(lambda: reader().events and not engine.taken(), "the reader keeps asking")
    engine.faults[f"/containers/{busy}/json"] = "500"
    engine.entries[busy]["State"] = "exited"
    engine.emit("die", busy)

    until(lambda: reader().containers[0].identity.state == "exited", "the state stayed what it was")
    assert reader().uninspected == 1


def test_a_daemon_that_goes_away_and_comes_back(engine: ScriptedEngine) -> None:
    reader = opened(engine)
    until(lambda: reader().events, "no stream")
    engine.stop()
    until(lambda: not reader._watch._connected, "the loss went unnoticed")
    with pytest.raises(ReadError, match="cannot be reached: No such file or directory"):
        reader()

    engine.version["Version"] = "29.0.0"
    engine.start()
    snapshot = reader()
    assert (len(snapshot.containers), snapshot.engine_version) == (6, "29.0.0")
    until(lambda: reader().events, "the events did not come back")


def test_an_event_stream_that_never_answers_holds_up_no_reading(engine: ScriptedEngine) -> None:
    engine.faults["/events"] = "hang"
    reader = opened(engine)
    for _ in range(3):
        began = time.monotonic()
        assert (len(reader().containers), reader().events) == (6, False)
        assert time.monotonic() - began < 1
