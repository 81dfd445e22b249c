"""`compose/up`: makes a password once, passes overlays on, and says what there is; Docker itself is a script that writes down what it is asked."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the files that the script looks for, and a `docker` that writes down its arguments."""
    for name in ("up", "compose.yaml", "gpu.yaml", "docker-socket.yaml"):
        shutil.copy(ROOT / "compose" / name, tmp_path / name)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    docker.chmod(0o755)
    return tmp_path


def up(place: Path, *overlays: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "DOCKER_GID": "999"}
    return subprocess.run(
        [place / "up", *overlays], env=environment, cwd="/", capture_output=True, text=True, timeout=30, check=False
    )


def test_the_password_is_made_once_and_only_its_folder_lets_its_owner_in(place: Path) -> None:
    first = up(place)
    assert (first.returncode, first.stderr) == (0, "")
    password = (place / "secrets" / "grafana_admin_password").read_text()
    assert re.fullmatch(r"[0-9a-f]{48}", password)
    assert stat.S_IMODE((place / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "secrets" / "grafana_admin_password").stat().st_mode) == 0o644, (
        "Grafana is another user"
    )
    assert "http://127.0.0.1:23000  user admin, password in compose/secrets/grafana_admin_password" in first.stdout
    up(place)
    assert (place / "secrets" / "grafana_admin_password").read_text() == password


def test_overlays_are_passed_on_in_order(place: Path) -> None:
    up(place, "gpu", "docker-socket")
    asked = (place / "asked").read_text()
    assert (
        asked
        == "compose -f compose.yaml -f gpu.yaml -f docker-socket.yaml up --detach --build --wait --wait-timeout 300\n"
    )


def test_an_unknown_overlay_is_named_and_nothing_is_started(place: Path) -> None:
    done = up(place, "tpu")
    assert done.returncode == 2
    assert done.stderr == "compose/up: there is no overlay tpu; there are: gpu docker-socket\n"
    assert not (place / "asked").exists()
