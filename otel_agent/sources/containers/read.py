"""Reads the containers of a Docker Engine: identity by list, events and inspection on change, numbers from cgroups.

Between changes the engine is asked nothing, unless cgroup files cannot be seen from here: then it has the numbers. Which GPUs a
container really uses is left to others.
"""

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from otel_agent.errors import ReadError
from otel_agent.sources.containers.cgroup import CgroupFiles, GoneError
from otel_agent.sources.containers.engine import Engine, MissingError, find_address, unavailable
from otel_agent.sources.containers.happenings import Happenings
from otel_agent.sources.containers.identity import Identity, from_inspect, from_list
from otel_agent.sources.containers.logs import read_tail
from otel_agent.sources.containers.snapshot import (
    Container,
    ContainerEvent,
    ContainersSnapshot,
    MainProcess,
    Usage,
)
from otel_agent.sources.containers.stats import TIMEOUT_S as STATS_TIMEOUT_S
from otel_agent.sources.containers.stats import StatsReader, with_limit
from otel_agent.sources.containers.watch import MOST as MOST_HEARD
from otel_agent.sources.containers.watch import Changes, Heard, Watch
from otel_llm.masks import Masks

INSPECT_BUDGET_S = 1.5  # of one reading; what is left over is inspected by the next
SETTLED_S = 10.0  # after its start; before that, its first process may still be the runtime's
TAILS = 4  # logs that are read in one reading
_LIST = "/containers/json?all=1"


@dataclass(frozen=True)
class Wishes:
    """What the settings say about containers: patterns of labels to publish, lines of the log of a crash, and the engine's statistics."""

    labels: tuple[str, ...] = ("com.docker.compose.project", "com.docker.compose.service")
    tail_lines: int = 20  # 0: no logs are read
    stats: bool = True  # whether the engine may be asked for numbers that cannot be read here


class ContainerReader:
    """Reads all containers each time it is called; `close()`, or dropping the last reference, ends its event stream."""

    def __init__(
        self,
        engine: Engine,
        files: CgroupFiles,
        watch: Watch,
        stats: StatsReader,
        wishes: Wishes,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._engine, self._files, self._watch, self._clock, self._wall = engine, files, watch, clock, wall
        self._stats, self._wishes, self._masks, self._happenings = stats, wishes, Masks(), Happenings()
        self._known: dict[str, Identity] = {}
        # Ids to inspect, in order: what failed goes to the end and cannot starve the rest.
        self._due: dict[str, None] = {}
        # By id, the pid whose files cannot be seen from here: not asked about each time.
        self._unseen: dict[str, int] = {}
        # By id, the pid, clock and CPU seconds of the last reading, and the CPUs in use before it.
        self._cpu: dict[str, tuple[int | None, float, float, float | None]] = {}
        # By id, the pid and what it shows.
        self._main: dict[str, tuple[int, MainProcess]] = {}
        self._relist = True
        self._heard: list[Heard] = []
        self._missed = False
        self.close = weakref.finalize(self, _close, watch, stats)
        watch.start()

    def __call__(self) -> ContainersSnapshot:
        """Return the containers now; raises ReadError where the engine has to be asked and does not answer."""
        until = self._clock() + INSPECT_BUDGET_S
        changes = self._watch.take()
        self._heard.extend(
            changes.heard
        )  # kept where the next lines raise: what happened is told once the engine answers
        del self._heard[:-MOST_HEARD]  # an engine that announces and never answers must not fill memory
        self._missed = self._missed or changes.missed
        self._refresh(changes, until)
        seen = {found: self._seen(found, until) for found in sorted(self._known)}
        told = self._stats.take(self._unseen) if self._wishes.stats else {}
        containers = [self._container(one, seen.get(one.id), told.get(one.id)) for one in self._known.values()]
        self._files.forget({found for found, identity in self._known.items() if identity.pid is not None})
        for kept in (self._cpu, self._unseen, self._main):
            for gone in kept.keys() - self._known.keys():
                del kept[gone]
        return ContainersSnapshot(
            time_s=self._wall(),
            containers=tuple(sorted(containers, key=lambda c: (c.identity.name, c.identity.id))),
            engine_version=self._engine.version,
            engine=self._engine.kind,
            layout=self._files.layout,
            events=changes.connected,
            unseen=len(self._unseen),
            uninspected=len(self._due),
            happened=self._happened(),
            events_lost=self._happenings.lost + changes.lost,
            labels=self._wishes.labels,
        )

    def _happened(self) -> tuple[ContainerEvent, ...]:
        heard, self._heard = self._heard, []
        # While there is something left to inspect, what a comparison would show is not known yet.
        compare, self._missed = self._missed and not self._due, self._missed and bool(self._due)
        found = self._happenings.take(heard, self._known, missed=compare, now_s=self._wall())
        return tuple(self._with_tails(found))

    def _with_tails(self, happened: Iterable[ContainerEvent]) -> Iterator[ContainerEvent]:
        left = TAILS if self._wishes.tail_lines else 0
        for event in happened:
            crash = event.what == "exit" and event.exit_code not in (0, None) and not event.asked_for
            if crash and left and event.identity.id in self._known:
                left -= 1
                tail = read_tail(self._engine, event.identity.id, self._wishes.tail_lines, self._masks)
                yield replace(event, tail=tail)
            else:
                yield event

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
        labels = self._wishes.labels
        return {identity.id: identity for entry in entries if (identity := from_list(entry, labels))}

    def _compare(self, listed: Mapping[str, Identity]) -> None:
        self._known = {found: self._known.get(found, identity) for found, identity in listed.items()}
        self._due = {found: None for found in self._due if found in listed}
        for found, identity in listed.items():
            known = self._known[found]
            told = (identity.state, identity.name, identity.health or known.health)
            if known is identity or (known.state, known.name, known.health) != told:
                self._known[found] = identity  # the inspection tells the rest; should it fail, nothing old is kept
                self._due[found] = None

    def _inspect(self, found: str) -> None:
        self._due.pop(found, None)
        if (known := self._known.get(found)) is None:
            return
        try:
            self._known[found] = from_inspect(self._engine.get(f"/containers/{found}/json"), known, self._wishes.labels)
        except MissingError:
            del self._known[found]
        except ReadError:
            # One container can hang or fail in the engine while all others are well; the list still tells its state.
            self._due[found] = None
            self._relist = True

    def _seen(self, found: str, until: float) -> Usage | None:
        """Return what the cgroup files tell, asking the engine once more where they tell nothing of a container that should run."""
        usage = self._usage(found)
        if usage is None and self._lost_sight(found) and self._clock() < until:
            self._inspect(found)  # it stopped or was restarted a moment ago
            usage = self._usage(found)
            if usage is None and self._lost_sight(found):
                self._unseen[found] = self._known[found].pid or 0
        if (identity := self._known.get(found)) is None or usage is not None or identity.pid is None:
            self._unseen.pop(found, None)
        return usage

    def _container(self, identity: Identity, usage: Usage | None, told: Usage | None) -> Container:
        started = identity.started_s
        main = self._shown(identity) if usage is not None else None
        if usage is None and told is not None and identity.pid is not None:
            usage = with_limit(told, identity.memory_limit_bytes)
        return Container(
            identity=identity,
            usage=usage,
            cpu_usage_cpus=self._cpu_usage(identity, usage),
            uptime_s=None if started is None else max(0.0, self._wall() - started),
            main=main,
        )

    def _shown(self, identity: Identity) -> MainProcess | None:
        if identity.pid is None:
            return None
        known = self._main.get(identity.id)
        if known is None or known[0] != identity.pid:
            known = (identity.pid, self._files.main(identity.pid))
            if identity.started_s is not None and self._wall() - identity.started_s > SETTLED_S:
                self._main[identity.id] = known
        return known[1]

    def _lost_sight(self, found: str) -> bool:
        identity = self._known.get(found)
        return identity is not None and identity.pid is not None and self._unseen.get(found) != identity.pid

    def _usage(self, found: str) -> Usage | None:
        identity = self._known.get(found)
        if identity is None or identity.pid is None:
            return None
        try:
            gpus = identity.gpu.enabled is not False
            return self._files.usage(found, identity.pid, own_network=identity.own_network, gpus=gpus)
        except GoneError:
            return None

    def _cpu_usage(self, identity: Identity, usage: Usage | None) -> float | None:
        now, last = self._clock(), self._cpu.pop(identity.id, None)
        if usage is None or usage.cpu_s is None:
            return None
        rate = None
        if last is not None and last[0] == identity.pid and now > last[1] and usage.cpu_s >= last[2]:
            if usage.origin == "stats" and usage.cpu_s == last[2]:  # the engine has told nothing new since
                self._cpu[identity.id] = last
                return last[3]
            rate = (usage.cpu_s - last[2]) / (now - last[1])
        self._cpu[identity.id] = (identity.pid, now, usage.cpu_s, rate)
        return rate


def _close(watch: Watch, stats: StatsReader) -> None:
    watch.stop()
    stats.stop()


def open_containers(
    root: Path = Path("/"),
    wishes: Wishes = Wishes(),
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
    watch = Watch(Engine(engine.address, timeout_s))
    stats = StatsReader(Engine(engine.address, STATS_TIMEOUT_S), clock)
    return ContainerReader(engine, CgroupFiles(root, clock), watch, stats, wishes, clock, wall)
