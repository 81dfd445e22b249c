"""What one reading of the machine says, as facts in base units; how they are read and published stands elsewhere.

A counter counts since boot. None, or an empty mapping or tuple, means that this machine does not tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Unread = Literal["stuck", "failed", "hidden", "limit"]


@dataclass(frozen=True)
class Cpu:
    """All logical CPUs together; `utilization` is the share of each mode between the last two readings and sums to 1."""

    time_s: Mapping[str, float] = field(default_factory=dict)  # by mode of the semantic conventions
    utilization: Mapping[str, float] = field(default_factory=dict)  # empty at the first reading
    logical_count: int | None = None
    physical_count: int | None = None

    @property
    def usage(self) -> float | None:
        """Return the share of time in which the CPUs worked, 0-1; waiting for a disk is no work."""
        if not self.utilization:
            return None
        return max(0.0, 1.0 - self.utilization.get("idle", 0.0) - self.utilization.get("iowait", 0.0))


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes; used, free, buffers and cached sum to the total.

    Memory that processes share through tmpfs, such as /dev/shm, is in use: it counts as used, although the kernel lists it as cached.
    """

    total: int | None = None
    used: int | None = None
    free: int | None = None
    buffers: int | None = None
    cached: int | None = None
    available: int | None = None
    shared: int | None = None
    slab_reclaimable: int | None = None
    slab_unreclaimable: int | None = None


@dataclass(frozen=True)
class Paging:
    """Swap space in bytes, and the counters of paging."""

    total: int | None = None
    free: int | None = None
    faults_minor: int | None = None
    faults_major: int | None = None
    pages_in: int | None = None  # from swap
    pages_out: int | None = None  # to swap
    oom_kills: int | None = None

    @property
    def used(self) -> int | None:
        """Return the bytes of swap in use."""
        return None if self.total is None or self.free is None else self.total - self.free


@dataclass(frozen=True)
class Disk:
    """The counters of one whole block device, and its size in bytes."""

    device: str
    read_bytes: int
    written_bytes: int
    reads: int
    writes: int
    read_time_s: float
    write_time_s: float
    reads_merged: int | None = None
    writes_merged: int | None = None
    io_time_s: float | None = None
    size: int | None = None


@dataclass(frozen=True)
class Filesystem:
    """One mounted filesystem in bytes; used, free and reserved (for root) sum to the size. Inodes are None where it has no fixed number."""

    device: str
    mountpoint: str
    type: str
    size: int
    used: int
    free: int
    inodes: int | None = None
    inodes_free: int | None = None

    @property
    def reserved(self) -> int:
        """Return the free bytes that only root may use."""
        return max(0, self.size - self.used - self.free)

    @property
    def utilization(self) -> float | None:
        """Return the used share of what ordinary users can use, 0-1, as df shows it."""
        return self.used / (self.used + self.free) if self.used + self.free else None


@dataclass(frozen=True)
class Interface:
    """The counters of one network interface."""

    name: str
    received_bytes: int
    received_packets: int
    received_errors: int
    received_dropped: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_dropped: int


@dataclass(frozen=True)
class Network:
    """The interfaces that lead out of this machine, their traffic together in bytes per second, and the sockets in use."""

    interfaces: tuple[Interface, ...] = ()
    received_per_s: float | None = None  # None at the first reading
    sent_per_s: float | None = None
    tcp_sockets: int | None = None  # all states but TIME_WAIT
    tcp_time_wait: int | None = None
    udp_sockets: int | None = None


@dataclass(frozen=True)
class Processes:
    """How many processes are in each state, how many were ever made (threads included), and how many tasks the kernel allows."""

    states: Mapping[str, int] = field(default_factory=dict)
    created: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Stall:
    """Seconds since boot in which some tasks, or all of them, waited for one resource."""

    some_s: float | None = None
    full_s: float | None = None


@dataclass(frozen=True)
class Temperature:
    """One sensor: `id` stays the same over reboots, `chip` is the driver's name, `location` what the driver calls the place.

    `type` is the component that is measured: cpu, memory, physical_disk, or temperature where the driver does not tell.
    """

    id: str
    chip: str
    location: str
    type: str
    celsius: float


@dataclass(frozen=True)
class HostSnapshot:
    """One reading of the whole machine; times are seconds since the epoch."""

    time_s: float
    hostname: str
    boot_time_s: float | None = None
    uptime_s: float | None = None
    load: tuple[float, float, float] | None = None  # tasks running or waiting, mean over 1, 5 and 15 minutes
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    paging: Paging = Paging()
    disks: tuple[Disk, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    unread: Mapping[str, Unread] = field(default_factory=dict)  # by mount point: why this filesystem is missing above
    network: Network = Network()
    processes: Processes = Processes()
    pressure: Mapping[str, Stall] = field(default_factory=dict)  # by resource: cpu, memory, io, irq
    temperatures: tuple[Temperature, ...] = ()

    @property
    def root_filesystem(self) -> Filesystem | None:
        """Return the filesystem the machine started from, which stands for "the disk" of the machine."""
        return next((filesystem for filesystem in self.filesystems if filesystem.mountpoint == "/"), None)
