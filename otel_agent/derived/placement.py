"""Which GPU serves which process, container and model: a pure function over three snapshots.

Observed first: the processes that the driver names on a GPU, joined to containers by the id in their cgroup, or by the
namespaces they share with a container's first process. Declared second: what the container was given. A process of another
pid namespace than ours is never looked up: then only declarations are told, and that it is so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from otel_agent.derived.devices import Part, claimed, parts_of
from otel_agent.derived.model import declared_model
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot
from otel_agent.sources.gpu.snapshot import GpuProcess, GpuSnapshot
from otel_agent.sources.processes.read import HOST_PID_NAMESPACE
from otel_agent.sources.processes.snapshot import Process, ProcessesSnapshot

Evidence = Literal["observed", "declared", "both"]
MPS_SERVER = "nvidia-cuda-mps"  # as the kernel cuts nvidia-cuda-mps-server; it holds memory for its clients


@dataclass(frozen=True)
class Placed:
    """One process on a GPU, and whose it is; `ended` where it is gone, or only its entry is left."""

    part: Part
    pid: int
    name: str | None
    memory_bytes: int | None
    started_s: float | None = None
    container: Container | None = None
    model: str | None = None
    ended: bool = False
    serves_others: bool = False  # the server of NVIDIA's multi-process service


@dataclass(frozen=True)
class Placement:
    """A GPU and who uses it, or may: a container, or a program outside of all containers."""

    part: Part
    evidence: Evidence
    container: Container | None = None
    program: str | None = None  # the name of the process, where it runs in no container
    model: str | None = None
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Places:
    """The whole picture at `time_s`. `observed` says whether processes could be looked at, `why` what kept it from that."""

    time_s: float
    parts: tuple[Part, ...]
    placements: tuple[Placement, ...]
    processes: tuple[Placed, ...]
    containers: tuple[Container, ...]
    claims: Mapping[str, tuple[Part, ...] | None] = field(default_factory=dict)  # by container id
    observed: bool = False
    why: str = ""


def place(
    gpus: GpuSnapshot | None, containers: ContainersSnapshot | None, processes: ProcessesSnapshot | None
) -> Places:
    """Join what was read; a snapshot that is missing takes away what only it could tell."""
    parts = parts_of(gpus.gpus if gpus else (), processes.gpu_minors if processes else {})
    known = containers.containers if containers else ()
    why = _why_not(gpus, processes)
    placed = () if why else tuple(_placed(parts, known, processes))
    running = [container for container in known if container.identity.pid is not None or container.usage is not None]
    claims = {container.identity.id: claimed(container, parts) for container in running}
    return Places(
        time_s=gpus.time_s if gpus else 0.0,
        parts=parts,
        placements=tuple(_placements(parts, placed, running, claims)),
        processes=placed,
        containers=tuple(running),
        claims=claims,
        observed=not why,
        why=why,
    )


def _why_not(gpus: GpuSnapshot | None, processes: ProcessesSnapshot | None) -> str:
    if gpus is None:
        return "no GPU is read"
    if all(gpu.processes is None and not gpu.instances for gpu in gpus.gpus):
        return "the driver does not tell which processes use the GPUs"
    if processes is None:
        return "processes are not read"
    if not processes.host_view:
        return "the agent is not in the host's pid namespace, in which the driver counts"
    return ""


def _placed(
    parts: Iterable[Part], containers: Sequence[Container], processes: ProcessesSnapshot | None
) -> Iterable[Placed]:
    found = processes.processes if processes else {}
    asked = processes.gpu_pids if processes else frozenset()
    whose = _Owners(containers)
    for part in parts:
        for one in part.processes or ():
            process = found.get(one.pid)
            # Only a pid that was looked for and is not there has ended; one that is newer than the look is not known yet.
            ended = process.ended if process else one.pid in asked
            yield _one(part, one, process, whose.of(one, process), ended=ended)


def _one(part: Part, one: GpuProcess, process: Process | None, container: Container | None, *, ended: bool) -> Placed:
    name = (process.name if process else None) or one.name
    return Placed(
        part=part,
        pid=one.pid,
        name=name,
        memory_bytes=one.memory_used_bytes,
        started_s=process.started_s if process else None,
        container=container,
        model=model_of(container) if container else _model_of_process(process),
        ended=ended,
        serves_others=(name or "").startswith(MPS_SERVER),
    )


def model_of(container: Container) -> str | None:
    """Return the model that a container declares to serve, by its label or its command line."""
    return container.identity.model_label or declared_model(container.identity.command)


def _model_of_process(process: Process | None) -> str | None:
    """Engines start workers under names of their own; the command that says the model may be that of a parent."""
    lines = (process.command, *process.parents) if process else ()
    return next((model for line in lines if (model := declared_model(line))), None)


class _Owners:
    """Whose a process is: the cgroup's id first, then the namespaces of the containers' first processes."""

    def __init__(self, containers: Sequence[Container]) -> None:
        self._by_id = {container.identity.id: container for container in containers}
        self._by_namespace: dict[str, Container | None] = {}
        for container in containers:
            main = container.main
            for name in {main.mount_namespace, main.pid_namespace} if main else ():
                if name not in (None, HOST_PID_NAMESPACE):  # shared with the host or by two, it proves nothing
                    self._by_namespace[name] = None if name in self._by_namespace else container

    def of(self, one: GpuProcess, process: Process | None) -> Container | None:
        cgroup = process.container_id if process else one.container_id
        if cgroup is not None and cgroup in self._by_id:
            return self._by_id[cgroup]
        names = (process.mount_namespace, process.pid_namespace) if process else ()
        return next((found for name in names if name and (found := self._by_namespace.get(name))), None)


def _placements(
    parts: Iterable[Part],
    placed: Sequence[Placed],
    containers: Sequence[Container],
    claims: Mapping[str, tuple[Part, ...] | None],
) -> Iterable[Placement]:
    for part in parts:
        here = [one for one in placed if one.part.id == part.id and not one.ended]
        for container in containers:
            identity = container.identity
            pids = tuple(sorted(one.pid for one in here if one.container and one.container.identity.id == identity.id))
            declared = any(one.id == part.id for one in claims[identity.id] or ())
            if pids or declared:
                evidence: Evidence = "both" if pids and declared else "observed" if pids else "declared"
                yield Placement(part, evidence, container, model=model_of(container), pids=pids)
        outside: dict[tuple[str | None, str | None], list[int]] = {}
        for one in here:
            if one.container is None and not one.serves_others:
                outside.setdefault((one.name, one.model), []).append(one.pid)
        for (name, model), found in outside.items():
            yield Placement(part, "observed", program=name, model=model, pids=tuple(sorted(found)))
