"""Reads the containers of a Docker Engine: identity by list, events and inspection on change, numbers from cgroups.

Between changes the engine is asked nothing. Which GPUs a container really uses, and what its events mean, is left to others.
"""

import os
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

from otel_agent.errors import ReadError
from otel_agent.sources.containers.cgroup import CgroupFiles, GoneError
from otel_agent.sources.containers.engine import Engine, MissingError, find_address, unavailable
from otel_agent.sources.containers.identity import Identity, from_inspect, from_list
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot, Usage
from otel_agent.sources.containers.watch import Changes, Watch

INSPECT_BUDGET_S = 1.5  # of one reading; what is left over is inspected by the next
_LIST = "/containers/json?all=1"


class ContainerReader:
    """Reads all containers each time it is called; `close()`, or dropping the last reference, ends its event stream."""

    def __init__(
        self, engine: Engine, files: CgroupFiles, watch: Watch, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._engine, self._files, self._watch, self._clock, self._wall = engine, files, watch, clock, wall
        self._known: dict[str, Identity] = {}
        # Ids to inspect, in order: what failed goes to the end and cannot starve the rest.
        self._due: dict[str, None] = {}
        # By id, the pid whose files cannot be seen from here: not asked about each time.
        self._unseen: dict[str, int] = {}
        # By id, the pid, clock and CPU seconds of the last reading.
        self._cpu: dict[str, tuple[int | None, float, float]] = {}
        self._relist = True
        self.close = weakref.finalize(self, watch.stop)
        watch.start()

    def __call__(self) -> ContainersSnapshot:
        """Return the containers now; raises ReadError where the engine has to be asked and does not answer."""
        until = self._clock() + INSPECT_BUDGET_S
        changes = self._watch.take()
        self._refresh(changes, until)
        containers = [self._container(found, until) for found in sorted(self._known)]
        self._cpu = {found: last for found, last in self._cpu.items() if found in self._known}
        self._unseen = {found: pid for found, pid in self._unseen.items() if found in self._known}
        return ContainersSnapshot(
            time_s=self._wall(),
            containers=tuple(sorted(filter(None, containers), key=lambda c: (c.identity.name, c.identity.id))),
            engine_version=self._engine.version,
            events=changes.connected,
            unseen=len(self._unseen),
            uninspected=len(self._due),
        )

    def _refresh(self, changes: Changes, until: float) -> None:
        self._due.update(dict.fromkeys(sorted(changes.ids)))
        self._relist = self._relist or changes.missed or any(found not in self._known for found in changes.ids)
        if self._relist:
            self._compare(self._list())
            if changes.connected:  # once a stream: what cannot be seen may have been restarted unheard
                self._due.update(dict.fromkeys(self._unseen))
        self._relist = False
        for found in list(self._due):
            if self._clock() >= until:
                break
            self._inspect(found)

    def _list(self) -> dict[str, Identity]:
        entries = self._engine.get(_LIST)
        if not isinstance(entries, list):
            raise ReadError(f"Docker at {self._engine.address} answered the list of containers with no list")
        return {identity.id: identity for entry in entries if (identity := from_list(entry))}

    def _compare(self, listed: Mapping[str, Identity]) -> None:
        self._known = {found: self._known.get(found, identity) for found, identity in listed.items()}
        self._due = {found: None for found in self._due if found in listed}
        for found, identity in listed.items():
            known = self._known[found]
            if known is identity or (known.state, known.name) != (identity.state, identity.name):
                self._known[found] = identity  # the inspection tells the rest; should it fail, nothing old is kept
                self._due[found] = None

    def _inspect(self, found: str) -> None:
        self._due.pop(found, None)
        if (known := self._known.get(found)) is None:
            return
        try:
            self._known[found] = from_inspect(self._engine.get(f"/containers/{found}/json"), known)
        except MissingError:
            del self._known[found]
        except ReadError:
            # One container can hang or fail in the engine while all others are well; the list still tells its state.
            self._due[found] = None
            self._relist = True

    def _container(self, found: str, until: float) -> Container | None:
        usage = self._usage(found)
        if usage is None and self._lost_sight(found) and self._clock() < until:
            self._inspect(found)  # it stopped or was restarted a moment ago
            usage = self._usage(found)
            if usage is None and self._lost_sight(found):
                self._unseen[found] = self._known[found].pid or 0
        if (identity := self._known.get(found)) is None:
            return None
        if usage is not None or identity.pid is None:
            self._unseen.pop(found, None)
        started = identity.started_s
        return Container(
            identity=identity,
            usage=usage,
            cpu_usage_cpus=self._cpu_usage(identity, usage),
            uptime_s=None if started is None else max(0.0, self._wall() - started),
        )

    def _lost_sight(self, found: str) -> bool:
        identity = self._known.get(found)
        return identity is not None and identity.pid is not None and self._unseen.get(found) != identity.pid

    def _usage(self, found: str) -> Usage | None:
        identity = self._known.get(found)
        if identity is None or identity.pid is None:
            return None
        try:
            return self._files.usage(found, identity.pid, own_network=identity.own_network)
        except GoneError:
            return None

    def _cpu_usage(self, identity: Identity, usage: Usage | None) -> float | None:
        now, last = self._clock(), self._cpu.pop(identity.id, None)
        if usage is None or usage.cpu_s is None:
            return None
        self._cpu[identity.id] = (identity.pid, now, usage.cpu_s)
        if last is None or last[0] != identity.pid or now <= last[1] or usage.cpu_s < last[2]:
            return None
        return (usage.cpu_s - last[2]) / (now - last[1])


def open_containers(
    root: Path = Path("/"),
    *,
    environ: Mapping[str, str] = os.environ,
    timeout_s: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> ContainerReader:
    """Return a reader of the containers; raises Unavailable where no engine can be used.

    `root` is where the host's root is mounted; `timeout_s` the deadline of one question to the engine.
    """
    engine = Engine(find_address(environ, root), timeout_s)
    try:
        engine.negotiate()
    except ReadError as error:
        raise unavailable(engine.address, error) from error
    return ContainerReader(engine, CgroupFiles(root), Watch(Engine(engine.address, timeout_s)), clock, wall)
