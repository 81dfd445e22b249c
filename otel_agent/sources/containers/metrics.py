"""The metrics of a container, by the names of semantic conventions where they have one.

Every series carries id and name; image and declared GPUs stand on the info series alone and are joined to the others by id.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from otel_agent.catalogue import Attributes, Metric, Point
from otel_agent.sources.containers.identity import HEALTHS, split_image
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot, Link, Traffic, Usage

T = TypeVar("T")
WHO = ("container.id", "container.name")
LINK = (*WHO, "network.interface.name", "network.io.direction")
DISK = (*WHO, "system.device", "disk.io.direction")
STATES = ("running", "paused", "restarting", "created", "stopped", "dead")


def _series(container: Container, *more: str) -> Attributes:
    """Return the attributes of one of a container's series; `more` are further names and values, of which there is a fixed set."""
    made = container.identity.series
    if (found := made.get(more)) is None:
        who = {"container.id": container.identity.id, "container.name": container.identity.name}
        found = made[more] = who | dict(zip(more[::2], more[1::2], strict=True))
    return found


def _each(value: Callable[[Container], float | None]) -> Callable[[ContainersSnapshot], Iterator[Point]]:
    def points(snapshot: ContainersSnapshot) -> Iterator[Point]:
        for container in snapshot.containers:
            yield value(container), _series(container)

    return points


def _used(value: Callable[[Usage], float | None]) -> Callable[[ContainersSnapshot], Iterator[Point]]:
    def points(snapshot: ContainersSnapshot) -> Iterator[Point]:
        for container in snapshot.containers:
            if (usage := container.usage) is not None:
                yield value(usage), _series(container)

    return points


def _cpu_time(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        if usage := container.usage:
            yield usage.cpu_user_s, _series(container, "cpu.mode", "user")
            yield usage.cpu_system_s, _series(container, "cpu.mode", "system")


def _network(usage: Usage) -> Mapping[str, Link] | None:
    return usage.network


def _disk(usage: Usage) -> Mapping[str, Traffic] | None:
    return usage.disk


def _faults(usage: Usage) -> Iterable[tuple[str, float | None]]:
    every, major = usage.faults, usage.major_faults
    minor = None if every is None or major is None else max(0, every - major)
    return (("minor", minor), ("major", major))


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _by_part(
    of: Callable[[Usage], Mapping[str, T] | None],
    name: str,
    key: str,
    values: Callable[[T], Iterable[tuple[str, float | None]]],
) -> Callable[[ContainersSnapshot], Iterator[Point]]:
    """Make the points of a row that has series for each interface or device, and each word of `key`."""

    def points(snapshot: ContainersSnapshot) -> Iterator[Point]:
        for container in snapshot.containers:
            for part, told in ((of(container.usage) if container.usage else None) or {}).items():
                for word, value in values(told):
                    yield value, {**_series(container), name: part, key: word}

    return points


def _by_word(
    key: str, values: Callable[[Usage], Iterable[tuple[str, float | None]]]
) -> Callable[[ContainersSnapshot], Iterator[Point]]:
    def points(snapshot: ContainersSnapshot) -> Iterator[Point]:
        for container in snapshot.containers:
            for word, value in values(container.usage) if container.usage else ():
                yield value, _series(container, key, word)

    return points


def _stalls(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        for (resource, stall), seconds in ((container.usage.stalled_s if container.usage else None) or {}).items():
            yield seconds, _series(container, "otel_llm.resource", resource, "otel_llm.stall", stall)


def _available(usage: Usage) -> float | None:
    limit, used = usage.memory_limit_bytes, usage.memory_working_set_bytes
    return None if limit is None or used is None else max(0, limit - used)


def state(container: Container) -> str:
    """Return the state in the words of the status row."""
    told = container.identity.state
    return told if told in STATES else "stopped"


def _status(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        now = state(container)
        for one in STATES:
            yield int(one == now), _series(container, "otel_llm.container.state", one)


def _health(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        if (now := container.identity.health) is not None:
            for one in HEALTHS:
                yield int(one == now), _series(container, "otel_llm.container.health", one)


def _info(snapshot: ContainersSnapshot) -> Iterator[Point]:
    for container in snapshot.containers:
        name, tag = split_image(container.identity.image)
        gpu = container.identity.gpu
        attributes: dict[str, str | int | bool] = {
            **_series(container),
            "container.image.name": name,
            "container.runtime.name": snapshot.engine,
        }
        if tag is not None:
            attributes["otel_llm.container.image.tag"] = tag
        if gpu.enabled is not None:
            attributes["otel_llm.container.gpu.enabled"] = gpu.enabled
        if gpu.every or gpu.indices or gpu.ids:
            named = ("all",) if gpu.every else gpu.ids or map(str, gpu.indices or ())
            attributes["otel_llm.container.gpu.declared"] = ",".join(named)
        if container.usage is not None:
            attributes["otel_llm.container.numbers"] = container.usage.origin
        attributes.update((f"container.label.{key}", value) for key, value in container.identity.labels)
        yield 1, attributes


_K8S = "Semantic conventions have it for Kubernetes containers only."
_NONE = "Semantic conventions have no name for it."
METRICS: tuple[Metric[ContainersSnapshot], ...] = (
    Metric("container.cpu.time", "counter", "s", "CPU time the container used.", _cpu_time, (*WHO, "cpu.mode")),
    Metric("container.cpu.usage", "gauge", "{cpu}", "CPUs in use between the last two readings; 1 is one CPU kept busy.",
           _each(lambda container: container.cpu_usage_cpus), WHO),
    Metric("otel_llm.container.cpu.limit", "updowncounter", "{cpu}", "CPUs the container may use; absent where no limit is set.",
           _used(lambda usage: usage.cpu_limit_cpus), WHO, note=_K8S),
    Metric("otel_llm.container.cpu.periods", "counter", "{period}",
           "Periods of the CPU limit in which the container ran (all), and those in which it was held back (throttled).",
           _by_word("otel_llm.period", lambda usage: (("all", usage.cpu_periods), ("throttled", usage.cpu_throttled_periods))),
           (*WHO, "otel_llm.period"), note=_NONE),
    Metric("otel_llm.container.cpu.throttled.time", "counter", "s", "Time in which threads of the container were held back by its CPU limit.",
           _used(lambda usage: usage.cpu_throttled_s), WHO, note=_NONE),
    Metric("container.memory.usage", "updowncounter", "By", "Memory charged to the container, page cache included.",
           _used(lambda usage: usage.memory_usage_bytes), WHO),
    Metric("container.memory.working_set", "updowncounter", "By", "Memory in use less the inactive page cache, as `docker stats` shows it.",
           _used(lambda usage: usage.memory_working_set_bytes), WHO),
    Metric("container.memory.rss", "updowncounter", "By", "Anonymous memory: what is no page cache.",
           _used(lambda usage: usage.memory_rss_bytes), WHO),
    Metric("container.memory.available", "updowncounter", "By", "Memory limit less working set; absent where no limit is set.",
           _used(_available), WHO),
    Metric("otel_llm.container.memory.limit", "updowncounter", "By", "Memory the container may use; absent where no limit is set.",
           _used(lambda usage: usage.memory_limit_bytes), WHO, note="Semantic conventions name a limit for Kubernetes containers only."),
    Metric("otel_llm.container.memory.events", "counter", "{event}",
           "Times that the memory limit was reached (max), that nothing could be freed (oom), and that a process was killed for it (oom_kill).",
           _by_word("otel_llm.memory.event", lambda usage: (usage.memory_events or {}).items()), (*WHO, "otel_llm.memory.event"), note=_NONE),
    Metric("container.paging.faults", "counter", "{fault}", "Page faults: those that were read from disk (major), and the others (minor).",
           _by_word("system.paging.fault.type", _faults), (*WHO, "system.paging.fault.type")),
    Metric("container.network.io", "counter", "By", "Bytes moved over the container's own network interfaces; loopback left out.",
           _by_part(_network, "network.interface.name", "network.io.direction",
                    lambda link: (("receive", link.received_bytes), ("transmit", link.sent_bytes))), LINK),
    Metric("otel_llm.container.network.errors", "counter", "{error}", "Errors on the container's own network interfaces.",
           _by_part(_network, "network.interface.name", "network.io.direction",
                    lambda link: (("receive", link.receive_errors), ("transmit", link.send_errors))), LINK, note=_K8S),
    Metric("otel_llm.container.network.packet.dropped", "counter", "{packet}", "Packets dropped on the container's own network interfaces.",
           _by_part(_network, "network.interface.name", "network.io.direction",
                    lambda link: (("receive", link.receive_drops), ("transmit", link.send_drops))), LINK,
           note="Semantic conventions have it for hosts only."),
    Metric("container.disk.io", "counter", "By", "Bytes moved to and from block devices; loop and RAM devices left out.",
           _by_part(_disk, "system.device", "disk.io.direction",
                    lambda traffic: (("read", traffic.read_bytes), ("write", traffic.written_bytes))), DISK),
    Metric("otel_llm.container.disk.operations", "counter", "{operation}", "Operations on block devices; loop and RAM devices left out.",
           _by_part(_disk, "system.device", "disk.io.direction",
                    lambda traffic: (("read", traffic.reads), ("write", traffic.writes))), DISK, note="Semantic conventions have it for hosts only."),
    Metric("otel_llm.container.pids.count", "updowncounter", "{task}", "Processes and threads in the container.",
           _used(lambda usage: usage.pids), WHO, note=_NONE),
    Metric("otel_llm.container.pids.limit", "updowncounter", "{task}", "Processes and threads the container may have; absent where no limit is set.",
           _used(lambda usage: usage.pids_limit), WHO, note=_NONE),
    Metric("otel_llm.container.pressure.time", "counter", "s",
           "Time in which tasks of the container waited for a resource: some of them, or all that were not idle (full).",
           _stalls, (*WHO, "otel_llm.resource", "otel_llm.stall"), note=_NONE),
    Metric("container.uptime", "gauge", "s", "Time since the container was started last; absent while it does not run.",
           _each(lambda container: container.uptime_s), WHO),
    Metric("otel_llm.container.restart.count", "updowncounter", "{restart}", "Restarts by the restart policy since the container was created.",
           _each(lambda container: container.identity.restart_count), WHO, note="Semantic conventions count restarts for Kubernetes containers only."),
    Metric("otel_llm.container.created", "gauge", "s", "When the container was created, in seconds since the epoch.",
           _each(lambda container: container.identity.created_s), WHO, note="Semantic conventions have no creation time."),
    Metric("otel_llm.container.status", "updowncounter", "1",
           "1 for the state the container is in, 0 for the others; exited and removing are stopped.",
           _status, (*WHO, "otel_llm.container.state"), note="Semantic conventions name states for Kubernetes containers only."),
    Metric("otel_llm.container.health.status", "updowncounter", "1",
           "1 for the health that the container's own check finds, 0 for the others; absent without a health check.",
           _health, (*WHO, "otel_llm.container.health"), note=_NONE),
    Metric("otel_llm.container.exit.code", "gauge", "{code}", "Exit code of the last run; absent while the container runs.",
           _each(lambda container: container.identity.exit_code), WHO, note=_NONE),
    Metric("otel_llm.container.oom_killed", "updowncounter", "1",
           "1 where the kernel ended a process of the last run for want of memory, else 0.",
           _each(lambda container: _flag(container.oom_killed)), WHO, note=_NONE),
    Metric("otel_llm.container.info", "gauge", "",
           "Always 1: image, runtime, labels, declared GPUs and where the numbers come from (cgroup or stats), to be joined by container.id.",
           _info, (*WHO, "container.image.name", "otel_llm.container.image.tag", "container.runtime.name", "otel_llm.container.numbers",
                   "otel_llm.container.gpu.enabled", "otel_llm.container.gpu.declared", "container.label.<key>"),
           note="An info series keeps what rarely changes off all other series."),
)  # fmt: skip
