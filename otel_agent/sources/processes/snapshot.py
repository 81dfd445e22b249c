"""What one reading of the processes is made of. Bytes and seconds; None is unknown, or may not be read by this user."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Process:
    """One process at one moment."""

    pid: int
    started_s: float  # since the epoch; with the pid it says which process this is, for pids are given again
    name: str | None  # the kernel's, at most 15 bytes
    state: str | None  # the kernel's letter; Z is a process that has ended and waits to be noticed
    parent: int | None
    user_s: float
    system_s: float
    memory_bytes: int  # resident
    virtual_bytes: int
    threads: int
    cpus: float | None = None  # CPUs in use since the last reading
    read_bytes: int | None = None  # from and to block devices
    written_bytes: int | None = None
    descriptors: int | None = None
    container_id: str | None = None  # of its cgroup: any 64 hexadecimal digits there that look like one
    mount_namespace: str | None = None
    pid_namespace: str | None = None
    command: tuple[str, ...] = field(
        default=(), repr=False
    )  # of one on a GPU; may hold secrets: looked through, never published
    parents: tuple[tuple[str, ...], ...] = field(default=(), repr=False)  # their commands, the nearest first

    @property
    def ended(self) -> bool:
        """Whether it has ended and only its entry is left."""
        return self.state in ("Z", "X")


@dataclass(frozen=True)
class ProcessesSnapshot:
    """The chosen processes at `time_s`, by pid; `gpu_pids` are those that were asked for because a GPU names them, there or not."""

    time_s: float
    boot_s: float | None
    processes: Mapping[int, Process]
    gpu_pids: frozenset[int] = frozenset()
    host_view: bool | None = (
        None  # whether the pids that a driver tells are those of /proc: False in a pid namespace of our own
    )
    gpu_minors: Mapping[str, int] = field(default_factory=dict)  # PCI address to the number of the device node
