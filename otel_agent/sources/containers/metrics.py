"""The metrics of a container, by the names of semantic conventions where they have one.

Every series carries id and name; image and declared GPUs stand on the info series alone and are joined to the others by id.
"""

from collections.abc import Callable, Iterator, Mapping

from otel_agent.catalogue import Metric, Point
from otel_agent.sources.containers.identity import split_image
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot, Traffic, Usage

WHO = ("container.id", "container.name")
STATES = ("running", "paused", "restarting", "stopped")


def _who(container: Container) -> dict[str, str | int | bool]:
    return {"container.id": container.identity.id, "container.name": container.identity.name}


def _each(value: Callable[[Container], float | None]) -> Callable[[ContainersSnapshot], Iterator[Point]]:
    def points(snapshot: ContainersSnapshot) -> Iterator[Point]:
        for container in snapshot.containers:
            yield value(container), _who(container)

    return points


def _used(value: Callable[[Usage], float | None]) -> Callable[[ContainersSnapshot], Iterator[Point]]:
    return _each(lambda container: value(container.usage) if container.usage else None)


def _cpu_time(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        if usage := container.usage:
            yield usage.cpu_user_s, {**_who(container), "cpu.mode": "user"}
            yield usage.cpu_system_s, {**_who(container), "cpu.mode": "system"}


def _traffic(
    of: Callable[[Usage], Mapping[str, Traffic] | None], name: str, direction: str, words: tuple[str, str]
) -> Callable[[ContainersSnapshot], Iterator[Point]]:
    def points(snapshot: ContainersSnapshot) -> Iterator[Point]:
        for container in snapshot.containers:
            moved = of(container.usage) if container.usage else None
            for part, traffic in (moved or {}).items():
                yield traffic.read_bytes, {**_who(container), name: part, direction: words[0]}
                yield traffic.written_bytes, {**_who(container), name: part, direction: words[1]}

    return points


def _status(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        now = container.identity.state if container.identity.state in STATES else "stopped"
        for state in STATES:
            yield int(state == now), {**_who(container), "otel_llm.container.state": state}


def _info(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        name, tag = split_image(container.identity.image)
        gpu = container.identity.gpu
        attributes: dict[str, str | int | bool] = {**_who(container), "container.image.name": name}
        if tag is not None:
            attributes["otel_llm.container.image.tag"] = tag
        if gpu.enabled is not None:
            attributes["otel_llm.container.gpu.enabled"] = gpu.enabled
        if gpu.every or gpu.indices or gpu.ids:
            named = ("all",) if gpu.every else gpu.ids or map(str, gpu.indices or ())
            attributes["otel_llm.container.gpu.declared"] = ",".join(named)
        yield 1, attributes


METRICS: tuple[Metric[ContainersSnapshot], ...] = (
    Metric("container.cpu.time", "counter", "s", "CPU time the container used.", _cpu_time, (*WHO, "cpu.mode")),
    Metric("container.cpu.usage", "gauge", "{cpu}", "CPUs in use between the last two readings; 1 is one CPU kept busy.",
           _each(lambda container: container.cpu_usage_cpus), WHO),
    Metric("container.memory.usage", "updowncounter", "By", "Memory charged to the container, page cache included.",
           _used(lambda usage: usage.memory_usage_bytes), WHO),
    Metric("container.memory.working_set", "updowncounter", "By", "Memory in use less the inactive page cache, as `docker stats` shows it.",
           _used(lambda usage: usage.memory_working_set_bytes), WHO),
    Metric("otel_llm.container.memory.limit", "updowncounter", "By", "Memory the container may use; absent where no limit is set.",
           _used(lambda usage: usage.memory_limit_bytes), WHO, note="Semantic conventions name a limit for Kubernetes containers only."),
    Metric("container.network.io", "counter", "By", "Bytes moved over the container's own network interfaces; loopback left out.",
           _traffic(lambda usage: usage.network, "network.interface.name", "network.io.direction", ("receive", "transmit")),
           (*WHO, "network.interface.name", "network.io.direction")),
    Metric("container.disk.io", "counter", "By", "Bytes moved to and from block devices; loop and RAM devices left out.",
           _traffic(lambda usage: usage.disk, "system.device", "disk.io.direction", ("read", "write")),
           (*WHO, "system.device", "disk.io.direction")),
    Metric("container.uptime", "gauge", "s", "Time since the container was started last; absent while it does not run.",
           _each(lambda container: container.uptime_s), WHO),
    Metric("otel_llm.container.restart.count", "updowncounter", "{restart}", "Restarts by the restart policy since the container was created.",
           _each(lambda container: container.identity.restart_count), WHO, note="Semantic conventions count restarts for Kubernetes containers only."),
    Metric("otel_llm.container.created", "gauge", "s", "When the container was created, in seconds since the epoch.",
           _each(lambda container: container.identity.created_s), WHO, note="Semantic conventions have no creation time."),
    Metric("otel_llm.container.status", "updowncounter", "1",
           "1 for the state the container is in, 0 for the others; created, exited, dead and removing are stopped.",
           _status, (*WHO, "otel_llm.container.state"), note="Semantic conventions name states for Kubernetes containers only."),
    Metric("otel_llm.container.info", "gauge", "", "Always 1: image and declared GPUs of a container, to be joined by container.id.",
           _info, (*WHO, "container.image.name", "otel_llm.container.image.tag", "otel_llm.container.gpu.enabled", "otel_llm.container.gpu.declared"),
           note="An info series keeps what rarely changes off all other series."),
)  # fmt: skip
