"""Engines old and new, and Podman's, as they differ: where health stands, which version is spoken, which socket is found."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.sources.scripted_engine import HYBRID, Clock, ScriptedEngine, scripted_engine

from otel_agent.sources.containers.engine import find_address
from otel_agent.sources.containers.identity import from_list
from otel_agent.sources.containers.read import open_containers


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as running:
        yield running


@pytest.mark.parametrize(
    ("entry", "health"),
    [
        ({"Status": "Up 5 minutes (healthy)"}, "healthy"),
        ({"Status": "Up 2 seconds (health: starting)"}, "starting"),
        ({"Status": "Up 5 minutes (unhealthy)"}, "unhealthy"),
        ({"Status": "Up 5 minutes (Paused)"}, None),
        ({"Status": "Exited (137) 2 minutes ago"}, None),
        ({"Status": "Up 5 minutes", "Health": {"Status": "unhealthy", "FailingStreak": 3}}, "unhealthy"),
        ({"Status": "Up 5 minutes", "Health": {"Status": "none"}}, None),
        ({"Status": 7, "Health": []}, None),
    ],
)
def test_the_list_tells_health_in_words_before_api_1_52_and_in_a_field_since(
    entry: dict[str, Any], health: str | None
) -> None:
    identity = from_list({"Id": "ab" * 32, **entry})
    assert identity is not None
    assert identity.health == health


@pytest.mark.parametrize(("api", "oldest"), [("1.41", "1.12"), ("1.44", "1.24"), ("1.52", "1.44")])
def test_every_version_tells_the_same_containers(engine: ScriptedEngine, api: str, oldest: str) -> None:
    """1.52 adds `Health` to the list and renames nothing that is read here."""
    engine.version = {"ApiVersion": api, "MinAPIVersion": oldest, "Version": "x"}
    if api == "1.52":
        for entry in engine.entries.values():
            entry["Health"] = {"Status": "none", "FailingStreak": 0}
    reader = open_containers(HYBRID, environ=engine.host, clock=Clock(), wall=lambda: 1795259576.0)
    snapshot = reader()
    reader.close()
    assert [one.identity.name for one in snapshot.containers] == [
        *("busy", "created", "looping", "neighbour", "paused", "stopped")
    ]
    assert engine.prefixes - {"version"} == {f"v{api}"}


def test_podman_is_known_by_its_components(engine: ScriptedEngine) -> None:
    """As Podman 5.4's compatible API answers."""
    engine.version = {
        "ApiVersion": "1.41",
        "MinAPIVersion": "1.24",
        "Version": "5.4.2",
        "Components": [{"Name": "Podman Engine", "Version": "5.4.2"}, {"Name": "Conmon", "Version": "2.1.12"}],
    }
    snapshot = open_containers(HYBRID, environ=engine.host)()
    assert (snapshot.engine, snapshot.engine_version, len(snapshot.containers)) == ("podman", "5.4.2", 6)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["host/run/podman/podman.sock"], "host/run/podman/podman.sock"),
        (["host/run/docker.sock", "host/run/podman/podman.sock"], "host/run/docker.sock"),
        (["user/docker.sock", "host/run/podman/podman.sock"], "user/docker.sock"),
        (["user/podman/podman.sock"], "user/podman/podman.sock"),
    ],
)
def test_the_usual_sockets_are_tried_in_order(tmp_path: Path, there: list[str], found: str) -> None:
    if Path("/var/run/docker.sock").exists():
        pytest.skip("this machine has a Docker socket of its own, which comes first")
    with_sockets = []
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with_sockets.append(socket.socket(socket.AF_UNIX))
        with_sockets[-1].bind(str(tmp_path / name))
        with_sockets[-1].close()
    address = find_address({"XDG_RUNTIME_DIR": str(tmp_path / "user")}, tmp_path / "host")
    assert address.path == tmp_path / found
