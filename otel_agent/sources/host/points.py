"""Takes the points of each metric out of a snapshot; which metric they belong to stands in metrics."""

from collections import Counter
from collections.abc import Callable, Iterator

from otel_agent.catalogue import Point
from otel_agent.sources.host.snapshot import Disk, Filesystem, HostSnapshot, Interface, Unread

Points = Callable[[HostSnapshot], Iterator[Point]]
UNREAD: tuple[Unread, ...] = ("stuck", "failed", "hidden", "limit")


def single(value: Callable[[HostSnapshot], float | None]) -> Points:
    """Return a function that yields one point without attributes."""

    def points(snapshot: HostSnapshot) -> Iterator[Point]:
        yield value(snapshot), {}

    return points


def by_state(attribute: str, **states: Callable[[HostSnapshot], float | None]) -> Points:
    """Return a function that yields one point a state."""

    def points(snapshot: HostSnapshot) -> Iterator[Point]:
        for state, value in states.items():
            yield value(snapshot), {attribute: state}

    return points


def disks_by_direction(**directions: Callable[[Disk], float | None]) -> Points:
    """Return a function that yields one point for each disk and direction."""

    def points(snapshot: HostSnapshot) -> Iterator[Point]:
        for disk in snapshot.disks:
            for direction, value in directions.items():
                yield value(disk), {"system.device": disk.device, "disk.io.direction": direction}

    return points


def each_disk(value: Callable[[Disk], float | None]) -> Points:
    """Return a function that yields one point a disk."""

    def points(snapshot: HostSnapshot) -> Iterator[Point]:
        for disk in snapshot.disks:
            yield value(disk), {"system.device": disk.device}

    return points


def _attributes(filesystem: Filesystem) -> dict[str, str]:
    return {
        "system.device": filesystem.device,
        "system.filesystem.mountpoint": filesystem.mountpoint,
        "system.filesystem.type": filesystem.type,
    }


def filesystems_by_state(**states: Callable[[Filesystem], float | None]) -> Points:
    """Return a function that yields one point for each filesystem and state."""

    def points(snapshot: HostSnapshot) -> Iterator[Point]:
        for filesystem in snapshot.filesystems:
            for state, value in states.items():
                yield value(filesystem), {**_attributes(filesystem), "system.filesystem.state": state}

    return points


def each_filesystem(value: Callable[[Filesystem], float | None]) -> Points:
    """Return a function that yields one point a filesystem."""

    def points(snapshot: HostSnapshot) -> Iterator[Point]:
        for filesystem in snapshot.filesystems:
            yield value(filesystem), _attributes(filesystem)

    return points


def each_interface(receive: Callable[[Interface], float], transmit: Callable[[Interface], float], name: str) -> Points:
    """Return a function that yields one point for each interface and direction; `name` is the attribute that names the interface."""

    def points(snapshot: HostSnapshot) -> Iterator[Point]:
        for interface in snapshot.network.interfaces:
            yield receive(interface), {name: interface.name, "network.io.direction": "receive"}
            yield transmit(interface), {name: interface.name, "network.io.direction": "transmit"}

    return points


def cpu_time(snapshot: HostSnapshot) -> Iterator[Point]:
    for mode, value in snapshot.cpu.time_s.items():
        yield value, {"cpu.mode": mode}


def cpu_utilization(snapshot: HostSnapshot) -> Iterator[Point]:
    for mode, value in snapshot.cpu.utilization.items():
        yield value, {"cpu.mode": mode}


def load(snapshot: HostSnapshot) -> Iterator[Point]:
    if snapshot.load is not None:
        for window, value in zip(("1m", "5m", "15m"), snapshot.load, strict=True):
            yield value, {"otel_llm.window": window}


def memory_utilization(snapshot: HostSnapshot) -> Iterator[Point]:
    used, total = snapshot.memory.used, snapshot.memory.total
    yield used / total if used is not None and total else None, {"system.memory.state": "used"}


def paging_utilization(snapshot: HostSnapshot) -> Iterator[Point]:
    used, total = snapshot.paging.used, snapshot.paging.total
    yield used / total if used is not None and total else None, {"system.paging.state": "used"}


def inodes_used(filesystem: Filesystem) -> int | None:
    if filesystem.inodes is None or filesystem.inodes_free is None:
        return None
    return filesystem.inodes - filesystem.inodes_free


def unread(snapshot: HostSnapshot) -> Iterator[Point]:
    counts = Counter(snapshot.unread.values())
    for reason in UNREAD:
        yield counts[reason], {"otel_llm.reason": reason}


def connections(snapshot: HostSnapshot) -> Iterator[Point]:
    network = snapshot.network
    yield network.tcp_sockets, {"network.transport": "tcp"}
    yield network.tcp_time_wait, {"network.transport": "tcp", "network.connection.state": "time_wait"}
    yield network.udp_sockets, {"network.transport": "udp"}


def processes(snapshot: HostSnapshot) -> Iterator[Point]:
    for state, count in snapshot.processes.states.items():
        yield count, {"process.state": state}


def pressure(snapshot: HostSnapshot) -> Iterator[Point]:
    for resource, stall in snapshot.pressure.items():
        yield stall.some_s, {"otel_llm.resource": resource, "otel_llm.stall": "some"}
        yield stall.full_s, {"otel_llm.resource": resource, "otel_llm.stall": "full"}


def temperature(snapshot: HostSnapshot) -> Iterator[Point]:
    for one in snapshot.temperatures:
        yield (
            one.celsius,
            {"hw.id": one.id, "hw.name": one.chip, "hw.sensor_location": one.location, "hw.type": one.type},
        )
