"""What does not fit between declaration and use of GPUs, and since when: a fold over the pictures of `placement`. Pure.

Nothing is said before it has lasted: the three readings that are joined are never of one moment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from otel_agent.derived.placement import Placed, Places
from otel_agent.sources.containers.snapshot import Container

Kind = Literal["declared_idle", "undeclared", "ended_process", "shared", "lost_gpus"]
KINDS: tuple[Kind, ...] = ("declared_idle", "undeclared", "ended_process", "shared", "lost_gpus")
SETTLE_S = 10.0  # two readings at the default interval
LOST_S = 60.0  # without a process on its GPUs, of a container that had some in the same run
Key = tuple[Kind, str, str, int]


@dataclass(frozen=True)
class Mismatch:
    """One thing that does not fit; `said` in words. `part` is the GPU's id, empty where it concerns no single one."""

    kind: Kind
    said: str
    part: str = ""
    index: int | None = None
    container: Container | None = None
    pid: int | None = None
    memory_bytes: int | None = None

    @property
    def key(self) -> Key:
        """What it is known by from reading to reading."""
        return (self.kind, self.part, self.container.identity.id if self.container else "", self.pid or 0)


@dataclass(frozen=True)
class Remembered:
    """What is carried from one reading to the next: since when each thing holds, and which runs of containers were on a GPU when last."""

    since: Mapping[Key, float] = field(default_factory=dict)
    told: Mapping[Key, Mismatch] = field(default_factory=dict)
    used: Mapping[tuple[str, float | None], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What does not fit now, what began to and what ceased to since the last reading."""

    now: tuple[Mismatch, ...]
    begun: tuple[Mismatch, ...]
    over: tuple[Mismatch, ...]


def judge(before: Remembered, places: Places, idle_s: float) -> tuple[Verdict, Remembered]:
    """Return what does not fit, and what to hand to the next call."""
    at = places.time_s
    used = dict(before.used)
    for one in places.processes:
        if one.container is not None and not one.ended:
            used[_run(one.container)] = at
    alive = {_run(container) for container in places.containers}
    used = {run: last for run, last in used.items() if run in alive}
    seen = {one.key: one for one in _all(places, used)}
    since = {key: before.since.get(key, at) for key in seen}
    now = {key: one for key, one in seen.items() if at - since[key] >= _patience(one, idle_s)}
    verdict = Verdict(
        tuple(now[key] for key in sorted(now)),
        tuple(now[key] for key in sorted(now) if key not in before.told),
        tuple(before.told[key] for key in sorted(before.told) if key not in now),
    )
    return verdict, Remembered(since, now, used)


def _run(container: Container) -> tuple[str, float | None]:
    return (container.identity.id, container.identity.started_s)


def _patience(one: Mismatch, idle_s: float) -> float:
    return idle_s if one.kind == "declared_idle" else LOST_S if one.kind == "lost_gpus" and not one.part else SETTLE_S


def _all(places: Places, used: Mapping[tuple[str, float | None], float]) -> Iterator[Mismatch]:
    yield from _containers(places, used)
    if not places.observed:
        return
    for part in places.parts:
        here = [one for one in places.processes if one.part.id == part.id]
        for one in here:
            if one.ended and one.memory_bytes:
                said = f"process {one.pid} has ended and still holds memory of GPU {_gpu(one)}"
                yield Mismatch("ended_process", said, part.id, part.index, None, one.pid, one.memory_bytes)
        yield from _undeclared(places, here)
        owners = {_owner(one) for one in here if not one.ended and not one.serves_others}
        if len(owners) > 1:
            said = f"GPU {_gpu(here[0])} is used by {len(owners)} at once: {', '.join(sorted(owners))}"
            yield Mismatch("shared", said, part.id, part.index)


def _containers(places: Places, used: Mapping[tuple[str, float | None], float]) -> Iterator[Mismatch]:
    """Yield what is wrong with whole containers: GPUs taken away, broken, left, or never used."""
    for container in places.containers:
        identity, claim = container.identity, places.claims[container.identity.id]
        if not claim or identity.state != "running":
            continue
        name = identity.name
        if container.usage is not None and container.usage.devices_denied:
            said = f"container {name} was given GPUs and is kept from their devices: systemctl daemon-reload does that; restart it"
            yield Mismatch("lost_gpus", said, claim[0].id, claim[0].index, container)
            continue
        for part in claim:
            if part.failed and not identity.gpu.every:
                said = f"container {name} was given GPU {part.index if part.index is not None else part.id}, which has failed"
                yield Mismatch("lost_gpus", said, part.id, part.index, container)
        if not places.observed or any(one.container is container for one in places.processes if not one.ended):
            continue
        if any(part.processes is None for part in claim):
            continue  # of those GPUs the driver tells no processes: nobody knows
        if _run(container) in used:
            yield Mismatch("lost_gpus", f"container {name} has no process on its GPUs any more", container=container)
        elif not identity.gpu.weak:
            yield Mismatch("declared_idle", f"container {name} was given GPUs and uses none", container=container)


def _undeclared(places: Places, here: list[Placed]) -> Iterator[Mismatch]:
    for container in {one.container.identity.id: one.container for one in here if one.container}.values():
        claim, part = places.claims.get(container.identity.id), here[0].part
        if claim is None or any(one.id in (part.id, part.parent) or one.parent == part.id for one in claim):
            continue
        said = f"container {container.identity.name} uses GPU {_gpu(here[0])}, which it was not given"
        yield Mismatch("undeclared", said, part.id, part.index, container)


def _owner(one: Placed) -> str:
    if one.container is not None:
        return f"container {one.container.identity.name}"
    return f"{one.model or one.name or 'process'} outside of containers"


def _gpu(one: Placed) -> str:
    return one.part.id if one.part.index is None or one.part.parent else str(one.part.index)
