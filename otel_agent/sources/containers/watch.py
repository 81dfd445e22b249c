"""What the engine announces: its event stream, followed in a thread of its own so that no reading waits for it.

A stream that is opened again asks for what was announced meanwhile; what the engine has forgotten by then (it keeps a few
hundred) is noticed by comparing lists. What events mean, and asking about containers, is left to others.
"""

import contextlib
import json
import socket
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.containers.engine import Engine

LIFETIME_S = 60.0  # a stream is renewed this often, and a renewed stream makes the reader compare the whole list
PAUSE_S = (1.0, 30.0)  # first and longest pause after a stream that broke
MOST = 4096  # changed containers, and events, kept between two readings; beyond that the list is compared
REMEMBERED = 1024  # events by which those that are told a second time are known; an engine tells 256 again
# The engine filters: health checks and shells announce every exec, several times a minute in each container.
ACTIONS = (
    *("create", "start", "restart", "die", "stop", "kill", "pause", "unpause", "rename", "update", "oom"),
    *("health_status", "destroy"),
)
_PATH = "/events?filters=" + quote(json.dumps({"type": ["container"], "event": list(ACTIONS)}, separators=(",", ":")))


@dataclass(frozen=True)
class Heard:
    """One announcement: `action` is the engine's word, `time_s` its clock; the exit code and the name stand in it, since both may change."""

    time_s: float
    action: str
    id: str
    name: str | None = None
    image: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Changes:
    """What happened since the last question: the ids that changed, what was announced, and whether some of it may have been missed."""

    ids: frozenset[str]
    missed: bool
    connected: bool
    heard: tuple[Heard, ...] = ()
    lost: int = 0


class Watch:
    """Follows the events from `start()` to `stop()`."""

    def __init__(self, engine: Engine, lifetime_s: float = LIFETIME_S, pause_s: tuple[float, float] = PAUSE_S) -> None:
        self._engine, self._lifetime_s, self._pause_s = engine, lifetime_s, pause_s
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ids: set[str] = set()
        self._heard: list[Heard] = []
        self._lost_count = 0
        self._told: OrderedDict[Heard, None] = OrderedDict()
        self._since = ""
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
            missed = self._missed or not self._connected
            taken = Changes(frozenset(self._ids), missed, self._connected, tuple(self._heard), self._lost_count)
            self._ids, self._heard, self._missed = set(), [], not self._connected
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
        since = f"&since={self._since}" if self._since else ""
        with self._engine.lines(_PATH + since, self._lifetime_s, self._opened) as lines:
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
        if not isinstance(event, dict) or not isinstance(found, str):
            return
        heard = _heard(event, found)
        with self._lock:
            if heard in self._told:
                return
            self._told[heard] = None
            if len(self._told) > REMEMBERED:
                self._told.popitem(last=False)
            if isinstance(nanoseconds := event.get("timeNano"), int) and nanoseconds > 0:
                # From this very moment on: others may bear the same time, and what was heard already is known.
                self._since = f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
            if len(self._ids) < MOST:
                self._ids.add(found)
            else:
                self._missed = True
            if len(self._heard) < MOST:
                self._heard.append(heard)
            else:
                self._lost_count += 1


def _heard(event: dict[str, Any], found: str) -> Heard:
    told = event["Actor"].get("Attributes")
    told = told if isinstance(told, dict) else {}
    seconds, nanoseconds = event.get("time"), event.get("timeNano")
    time_s = nanoseconds / 1e9 if isinstance(nanoseconds, int) else seconds if isinstance(seconds, int) else 0
    code = told.get("exitCode")
    name, image = told.get("name"), told.get("image")
    return Heard(
        time_s=float(time_s),
        action=str(event.get("Action") or event.get("status") or ""),
        id=found,
        name=name if isinstance(name, str) else None,
        image=image if isinstance(image, str) else None,
        exit_code=int(code) if isinstance(code, str) and code.isdecimal() else None,
    )
