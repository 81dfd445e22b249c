"""One server as a process: waited for with a deadline, stopped by its pid, and its end told with its last words."""

import sys
from pathlib import Path

import pytest
from waiting import until

from compose.native.ports import StackError, free
from compose.native.process import Process, Service

SERVER = """
import http.server, os, pathlib, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = os.environ["READY"] == "yes"
        self.send_response(200 if ready else 503); self.send_header("Content-Length", "0"); self.end_headers()
print("listening", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)


def service(code: str, port: int, **changes: object) -> Service:
    settings: dict[str, object] = {"ready_s": 10.0, "stop_s": 5.0, "environment": {"READY": "yes"}} | changes
    return Service(
        "toy", (sys.executable, "-c", code, str(port)), f"http://127.0.0.1:{port}/ready", frozenset(), **settings
    )  # type: ignore[arg-type]


def alive(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


def test_a_server_is_started_with_its_files_and_links_waited_for_and_stopped(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("shared")
    toy = service(
        SERVER, free().loki, files={tmp_path / "etc" / "a.json": "[]"}, links={tmp_path / "etc" / "link": target}
    )
    process = Process(toy, tmp_path / "logs" / "toy.log")
    for _ in range(2):  # a second start renews what the first left
        process.start()
        process.wait_ready()
        assert alive(process.pid)
        process.stop()
        assert not process.running
        assert not alive(process.pid)
    assert (tmp_path / "etc" / "link").read_text() == "shared"
    assert (tmp_path / "etc" / "a.json").read_text() == "[]"
    assert process.log.read_text().splitlines()[:1] == ["listening"]


def test_a_server_that_is_never_ready_is_given_up_at_its_deadline(tmp_path: Path) -> None:
    process = Process(service(SERVER, free().loki, ready_s=1.0, environment={"READY": "no"}), tmp_path / "toy.log")
    process.start()
    with pytest.raises(StackError, match=r"^toy was not ready after 1 s; see .*toy\.log$"):
        process.wait_ready()
    process.stop()


def test_a_server_that_ends_is_told_with_its_status_and_last_words(tmp_path: Path) -> None:
    process = Process(service("import sys; print('no such table'); sys.exit(3)", 1), tmp_path / "toy.log")
    process.start()
    with pytest.raises(StackError) as failed:
        process.wait_ready()
    assert str(failed.value) == f"toy ended with status 3; see {tmp_path / 'toy.log'}\n    no such table"


def test_a_server_deaf_to_the_request_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    process = Process(service(STUBBORN, 1, stop_s=0.3), tmp_path / "toy.log")
    process.start()
    until(lambda: "deaf" in process.log.read_text(), "its first words")
    process.stop()
    assert not alive(process.pid)


def test_a_server_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    process = Process(service(SERVER, 1), tmp_path / "toy.log")
    process.stop()
    assert process.pid is None
