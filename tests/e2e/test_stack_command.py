"""`make stack` as a person runs it: started with one command, shown, stopped with one signal, and clear about a taken port."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from e2e.stack import get_json
from waiting import until

from compose.native.ports import Ports, free

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ports() -> Ports:
    return free()


@pytest.fixture
def environment(ports: Ports, tmp_path: Path) -> dict[str, str]:
    moved = {f"STACK_{name.upper()}_PORT": str(getattr(ports, name)) for name in vars(ports)}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ}
    return {**kept, **moved, "STACK_DATA_DIR": str(tmp_path / "data"), "OTEL_METRIC_EXPORT_INTERVAL": "1000"}


def start(environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "compose.native.stack"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_stack_shows_where_everything_is_and_ends_whole_when_asked(
    environment: dict[str, str], ports: Ports, tmp_path: Path
) -> None:
    process = start(environment)
    try:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(8)]
        assert re.fullmatch(r"the stack is ready after \d+\.\d s; Ctrl-C stops it\n", shown[0]), shown
        rows = dict(line.split(maxsplit=1) for line in shown[1:])
        assert rows["metrics"] == f"Prometheus, {ports.url('prometheus')}\n"
        assert rows["traces"].startswith("the agent's embedded store; set TEMPO_BIN")
        assert re.fullmatch(rf"http://127\.0\.0\.1:{ports.agent}/\?token=\S+\n", rows["page"])
        found = until(
            lambda: get_json(f"{ports.url('prometheus')}/api/v1/query", query="system_memory_limit_bytes")["data"][
                "result"
            ],
            "this machine's metrics in Prometheus",
        )
        assert [int(row["value"][1]) for row in found] == [psutil.virtual_memory().total]
        servers = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        assert len(servers) >= 5
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
        assert (process.returncode, rest) == (0, "stopping\n")
        assert not {pid for pid in servers if psutil.pid_exists(pid)}
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700, "tokens and telemetry are nobody else's"


def test_a_taken_port_ends_the_start_with_the_setting_that_moves_it(environment: dict[str, str], ports: Ports) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", ports.prometheus))
        holder.listen()
        process = start(environment)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == f"port {ports.prometheus} (Prometheus) is taken: set STACK_PROMETHEUS_PORT to another\n"
