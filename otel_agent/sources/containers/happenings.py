"""What happened to containers: the engine's announcements and, where some were missed, what a comparison shows. No I/O.

An exit that somebody ordered (stop, kill, restart, remove) is announced by a kill before it; any other exit with a code is
abnormal. Exits in quick succession are a restart loop, told once when it begins.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from otel_agent.sources.containers.identity import Identity
from otel_agent.sources.containers.snapshot import ContainerEvent
from otel_agent.sources.containers.watch import Heard

MOST = 500  # told of one reading; the rest is counted
LOOP_EXITS, LOOP_S = 3, 300.0  # so many exits in so long are a loop, and so long without one is its end
ORDERED_S = 60.0  # how long after a kill an exit counts as ordered: `docker stop` may be told to wait
LATE_S = 5.0  # what was seen by comparison may still be announced this much later, and is not told again
_NEVER = float("-inf")


@dataclass
class _Known:
    """What is remembered of one container that exists. Times are the engine's; an announcement is a little later than what it is about."""

    identity: Identity
    exits: deque[float] = field(default_factory=lambda: deque(maxlen=LOOP_EXITS))
    started_s: float = _NEVER
    ordered_s: float = _NEVER
    compared_exit_s: float = _NEVER  # told, and perhaps still to be announced
    compared_start_s: float = _NEVER
    health: str | None = None
    loops: bool = False
    removed: bool = False

    @property
    def exit_s(self) -> float:
        return self.exits[-1] if self.exits else _NEVER


class Happenings:
    """Remembers just enough of the containers that exist to say what happened; one call a reading."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] | None = None
        self.lost = 0

    def take(
        self, heard: Iterable[Heard], now: Mapping[str, Identity], *, missed: bool, now_s: float
    ) -> tuple[ContainerEvent, ...]:
        """Return what happened since the last call; `missed` says that not everything may have been heard."""
        if self._known is None:  # what is there at the start did not just happen
            self._known = {found: _first(identity) for found, identity in now.items()}
            return ()
        known = self._known
        found = [event for one in heard for event in _announced(one, known, now)]
        if missed:
            found.extend(_compared(known, now, now_s))
        for id_, identity in now.items():
            one_known = known.setdefault(id_, _first(identity))
            one_known.identity, one_known.health = identity, identity.health
            if one_known.loops and now_s - one_known.exit_s > LOOP_S:
                one_known.loops = False
        self._known = {id_: one_known for id_, one_known in known.items() if id_ in now}
        self.lost += max(0, len(found) - MOST)
        return tuple(found[:MOST])


def _first(identity: Identity) -> _Known:
    known = _Known(identity, started_s=identity.started_s or _NEVER, health=identity.health)
    if identity.finished_s is not None:
        known.exits.append(identity.finished_s)
    return known


def _announced(one: Heard, all_known: dict[str, _Known], now: Mapping[str, Identity]) -> Iterator[ContainerEvent]:
    known = all_known.get(one.id)
    identity = now.get(one.id) or (known.identity if known else None)
    if identity is None:  # it came and went between two readings
        identity = Identity(one.id, one.name or one.id[:12], one.image or "", "removing")
    if known is None:
        known = all_known[one.id] = _Known(identity)
    if one.action == "kill":
        known.ordered_s = one.time_s
    elif one.action == "create":
        yield ContainerEvent(one.time_s, "create", identity)
    elif one.action == "start":
        known.started_s = one.time_s
        if not 0 <= one.time_s - known.compared_start_s < LATE_S:
            yield ContainerEvent(one.time_s, "start", identity)
        known.compared_start_s = _NEVER
    elif one.action == "die":
        if not 0 <= one.time_s - known.compared_exit_s < LATE_S:
            yield from _exit(known, identity, one.time_s, one.exit_code)
        known.compared_exit_s = _NEVER
    elif one.action == "oom":
        yield ContainerEvent(one.time_s, "oom", identity)
    elif one.action.startswith("health_status"):
        health = one.action.partition(":")[2].strip() or identity.health
        if health != known.health:
            known.health = health
            yield ContainerEvent(one.time_s, "health", identity, health=health)
    elif one.action == "destroy":
        known.removed = True
        yield ContainerEvent(one.time_s, "remove", identity)


def _compared(all_known: dict[str, _Known], now: Mapping[str, Identity], now_s: float) -> Iterator[ContainerEvent]:
    """Yield what the identities show that nobody announced; of several runs meanwhile only the last is known."""
    for id_, identity in now.items():
        known = all_known.get(id_)
        if known is None:
            known = all_known[id_] = _Known(identity, health=None)
            yield ContainerEvent(identity.created_s or now_s, "create", identity, unheard=True)
        ended, started = identity.finished_s or _NEVER, identity.started_s or _NEVER
        if ended > known.exit_s:
            known.compared_exit_s = ended
            yield from _exit(known, identity, ended, identity.exit_code, unheard=True)
        if started > known.started_s:
            known.started_s = known.compared_start_s = started
            yield ContainerEvent(started, "start", identity, unheard=True)
        if identity.health is not None and identity.health != known.health:
            yield ContainerEvent(now_s, "health", identity, health=identity.health, unheard=True)
    for id_, known in all_known.items():
        if id_ not in now and not known.removed:
            yield ContainerEvent(now_s, "remove", known.identity, unheard=True)


def _exit(
    known: _Known, identity: Identity, time_s: float, code: int | None, *, unheard: bool = False
) -> Iterator[ContainerEvent]:
    ordered = 0 <= time_s - known.ordered_s < ORDERED_S
    known.exits.append(time_s)
    yield ContainerEvent(time_s, "exit", identity, exit_code=code, asked_for=ordered, unheard=unheard)
    if len(known.exits) == LOOP_EXITS and time_s - known.exits[0] < LOOP_S and not ordered and not known.loops:
        known.loops = True
        yield ContainerEvent(
            time_s, "restart_loop", identity, exit_code=code, restarts=len(known.exits), unheard=unheard
        )
