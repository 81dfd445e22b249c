"""A Docker Engine that answers from recordings over a unix socket, and fails on demand; knows nothing of what is tested."""

import contextlib
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from waiting import until

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
RECORDING = FIXTURES / "docker" / "engine-20.10.24-api-1.41"
HYBRID = FIXTURES / "cgroup" / "hybrid-cgroupfs-debian-12-kernel-6.18"
FAULTS = ("garbage", "hang", "hang-body", "drip", "500", "empty", "huge", "no-list", "deep")


class ScriptedEngine:
    """Serves `version`, `containers` (inspections by id) and a stream of events; `faults` says what goes wrong at which path."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "docker.sock"
        self.version: dict[str, Any] = json.loads((RECORDING / "version.json").read_text())
        recorded = [json.loads(file.read_text()) for file in sorted((RECORDING / "inspect").iterdir())]
        self.containers: dict[str, dict[str, Any]] = {answer["Id"]: answer for answer in recorded}
        self.ids = {answer["Name"].lstrip("/"): answer["Id"] for answer in recorded}
        self.entries: dict[str, dict[str, Any]] = {
            e["Id"]: e for e in json.loads((RECORDING / "list.json").read_text())
        }
        self.faults: dict[str, str] = {}
        self.logs: dict[str, bytes] = {}
        self.stats: dict[str, Any] = {}
        self.past: list[tuple[int, bytes]] = []  # events that are told again to whoever asks since when
        self.calls: list[str] = []
        self.prefixes: set[str] = set()
        self._lock = threading.Lock()
        self._links: set[socket.socket] = set()
        self._streams: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._listener: socket.socket | None = None

    def by_name(self) -> dict[str, dict[str, Any]]:
        """Return the inspections by the containers' names."""
        return {answer["Name"].lstrip("/"): answer for answer in self.containers.values()}

    @property
    def host(self) -> dict[str, str]:
        """The environment that leads here."""
        return {"DOCKER_HOST": f"unix://{self.path}"}

    def start(self) -> None:
        self._closing.clear()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        """Go away as a daemon does: socket file gone, every connection cut."""
        self._closing.set()
        self.path.unlink(missing_ok=True)
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._cut(self._links)
        for thread in self._threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in self._threads)
        self._listener.close()
        self._threads.clear()

    def wait_for_streams(self, count: int = 1) -> None:
        until(lambda: len(self._streams) >= count, "no event stream was opened")

    def cut_streams(self) -> None:
        self._cut(self._streams)
        until(lambda: not self._streams, "the event stream stayed open")

    def emit(self, action: str, container_id: str, time_s: float = 1.0, *, heard: bool = True, **told: str) -> None:
        """Announce something, or with `heard` off let it happen while nobody listens."""
        actor = {"ID": container_id, "Attributes": {"name": "told", "image": "told:1", **told}}
        nanoseconds = round(time_s * 1e9)
        event = {"Type": "container", "Action": action, "Actor": actor, "time": int(time_s), "timeNano": nanoseconds}
        line = json.dumps(event).encode() + b"\n"
        self.past.append((nanoseconds, line))
        if heard:
            self.emit_raw(line)

    def emit_raw(self, data: bytes) -> None:
        with self._lock:
            for link in self._streams:
                with contextlib.suppress(OSError):  # the other side may just have closed it
                    link.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def taken(self) -> list[str]:
        """Return the calls since the last question, without the API version."""
        with self._lock:
            calls, self.calls = self.calls, []
        return [call for call in calls if not call.startswith("/events")]

    def _spawn(self, work: Callable[[socket.socket], None], link: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(link,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _cut(self, links: set[socket.socket]) -> None:
        with self._lock:
            for link in links:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                link, _ = listener.accept()
            except OSError:
                return
            self._spawn(self._serve, link)

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            with self._lock:
                self._links.add(link)
            try:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    if not (more := link.recv(4096)):
                        return
                    asked += more
                self._answer(link, asked.split(b" ")[1].decode())
            finally:
                with self._lock:
                    self._links.discard(link)
                    self._streams.discard(link)

    def _answer(self, link: socket.socket, path: str) -> None:
        with self._lock:
            self.prefixes.add(path.split("/")[1])
            bare = path.partition("?")[0]
            bare = bare if bare == "/version" else "/" + bare.split("/", 2)[2]
            self.calls.append(bare)
            fault = self.faults.get(bare, self.faults.get("*"))
            words = bare.split("/")
        if fault:
            self._fail(link, fault)
        elif bare == "/events":
            link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            with self._lock:
                self._streams.add(link)
                for data in self._since(path):
                    link.sendall(b"%x\r\n%s\r\n" % (len(data), data))
            link.recv(1)  # comes back when either side closes
        elif bare == "/version":
            _send(link, self.version)
        elif bare == "/containers/json":
            _send(link, list(self.entries.values()))
        elif words[-1] == "logs" and words[2] in self.containers:
            _send(link, None, body=self.logs.get(words[2], b""))
        elif words[-1] == "stats" and words[2] in self.containers:
            _send(link, self.stats.get(words[2], {}))
        elif words[-1] == "json" and (found := self.containers.get(words[2])):
            _send(link, found)
        else:
            _send(link, {"message": "No such container"}, "404 Not Found")

    def _since(self, path: str) -> list[bytes]:
        asked = parse_qs(urlsplit(path).query).get("since")
        if not asked:
            return []
        seconds, _, fraction = asked[0].partition(".")
        since = int(seconds) * 10**9 + int(fraction or 0)
        return [line for at, line in self.past if at >= since]

    def _fail(self, link: socket.socket, fault: str) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        if fault == "garbage":
            _send(link, None, body=b"<html>\xff")
        elif fault == "500":
            _send(link, {"message": "the daemon is not well"}, "500 Internal Server Error")
        elif fault == "no-list":
            _send(link, {"message": "hello"})
        elif fault == "deep":
            _send(link, None, body=b"[" * 200_000)
        elif fault == "hang":
            link.recv(1)
        elif fault == "hang-body":
            link.sendall(head + b"[")
            link.recv(1)
        elif fault == "drip":
            link.sendall(head)
            while not self._closing.wait(0.02):
                link.sendall(b" ")
        elif fault == "huge":
            link.sendall(b"HTTP/1.1 200 OK\r\n\r\n[")
            while True:
                link.sendall(b" " * 1_000_000)


def _send(link: socket.socket, answer: object, status: str = "200 OK", body: bytes | None = None) -> None:
    body = json.dumps(answer).encode() if body is None else body
    link.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


@contextlib.contextmanager
def scripted_engine() -> Iterator[ScriptedEngine]:
    """Run an engine in a folder with a short name: the path of a socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    engine = ScriptedEngine(folder)
    engine.start()
    try:
        yield engine
    finally:
        if engine.path.exists():
            engine.stop()
        shutil.rmtree(folder)


class Clock:
    """Time that moves only when told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
