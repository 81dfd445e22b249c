"""Which containers changed: the engine's event stream, followed in a thread of its own so that no reading waits for it.

Events only say whom to ask about again; what they mean for telemetry, and asking, is left to others.
"""

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from urllib.parse import quote

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.containers.engine import Engine

LIFETIME_S = 60.0  # a stream is renewed this often, and a renewed stream makes the reader compare the whole list
PAUSE_S = (1.0, 30.0)  # first and longest pause after a stream that broke
MOST_IDS = 4096  # changed containers kept between two readings; beyond that the list is compared
# The engine filters: health checks and shells announce every exec, several times a minute in each container.
ACTIONS = ("create", "start", "restart", "die", "stop", "pause", "unpause", "rename", "update", "oom", "destroy")
_PATH = "/events?filters=" + quote(json.dumps({"type": ["container"], "event": list(ACTIONS)}, separators=(",", ":")))


@dataclass(frozen=True)
class Changes:
    """What happened since the last question: the ids that changed, and whether some change may have been missed."""

    ids: frozenset[str]
    missed: bool
    connected: bool


class Watch:
    """Follows the events from `start()` to `stop()`."""

    def __init__(self, engine: Engine, lifetime_s: float = LIFETIME_S, pause_s: tuple[float, float] = PAUSE_S) -> None:
        self._engine, self._lifetime_s, self._pause_s = engine, lifetime_s, pause_s
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ids: set[str] = set()
        self._missed = True
        self._connected = False
        self._link: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End the stream and with it the thread; returns at once."""
        self._stopping.set()
        with self._lock:
            if self._link is not None:
                with contextlib.suppress(OSError):  # already closed by the other side
                    self._link.shutdown(socket.SHUT_RDWR)

    def take(self) -> Changes:
        """Return what changed since the last call, and forget it."""
        with self._lock:
            taken = Changes(frozenset(self._ids), self._missed or not self._connected, self._connected)
            self._ids, self._missed = set(), not self._connected
            return taken

    def _run(self) -> None:
        pause_s = self._pause_s[0]
        while not self._stopping.is_set():
            try:
                if self._follow():
                    pause_s = self._pause_s[0]
                    continue
            except (ReadError, Unavailable):
                # The reader asks for the list as long as no stream is up, and reports why that fails: once is enough.
                self._lost()
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, self._pause_s[1])

    def _follow(self) -> bool:
        """Follow one stream to its end; True where it lived its whole life, False where the engine ended it early."""
        with self._engine.lines(_PATH, self._lifetime_s, self._opened) as lines:
            with self._lock:
                self._connected = self._missed = True  # what happened before the stream began was not heard
            try:
                for line in lines:
                    self._note(json.loads(line))
            except TimeoutError:
                return True
        self._lost()
        return False

    def _opened(self, link: socket.socket) -> None:
        with self._lock:
            self._link = link
        if self._stopping.is_set():
            raise ReadError("stopping")

    def _lost(self) -> None:
        with self._lock:
            self._link, self._connected, self._missed = None, False, True

    def _note(self, event: object) -> None:
        actor = event.get("Actor") if isinstance(event, dict) else None
        found = actor.get("ID") if isinstance(actor, dict) else None
        if not isinstance(found, str):
            return
        with self._lock:
            if len(self._ids) < MOST_IDS:
                self._ids.add(found)
            else:
                self._missed = True
