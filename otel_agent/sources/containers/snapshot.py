"""What one reading of the containers is made of. Bytes, seconds and CPUs; None is unknown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from otel_agent.sources.containers.identity import Identity

Origin = Literal["cgroup", "stats"]
Resource = Literal["cpu", "memory", "io"]
Stall = Literal["some", "full"]


@dataclass(frozen=True)
class Traffic:
    """Bytes and operations on one block device since the container started."""

    read_bytes: int
    written_bytes: int
    reads: int | None = None
    writes: int | None = None


@dataclass(frozen=True)
class Link:
    """What moved over one network interface since the container started, as the container sees it."""

    received_bytes: int
    sent_bytes: int
    receive_errors: int | None = None
    send_errors: int | None = None
    receive_drops: int | None = None
    send_drops: int | None = None


@dataclass(frozen=True)
class Usage:
    """What a running container has used; None where nothing tells."""

    cpu_s: float | None = None
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    memory_usage_bytes: int | None = None  # everything charged to it, page cache included
    memory_working_set_bytes: int | None = None  # usage less the inactive page cache: what `docker stats` shows
    memory_limit_bytes: int | None = None  # None also where no limit is set
    network: Mapping[str, Link] | None = None  # by interface; None where it has no network of its own
    disk: Mapping[str, Traffic] | None = None  # by block device
    memory_rss_bytes: int | None = None  # anonymous memory
    memory_events: Mapping[str, int] | None = None  # times: limit reached (max), out of memory (oom), killed (oom_kill)
    faults: int | None = None
    major_faults: int | None = None
    cpu_limit_cpus: float | None = None  # None also where no limit is set
    cpu_periods: int | None = None  # periods of the limit in which it ran
    cpu_throttled_periods: int | None = None  # those in which it was held back
    cpu_throttled_s: float | None = None  # the time that its threads were held back
    pids: int | None = None  # processes and threads
    pids_limit: int | None = None  # None also where no limit is set
    stalled_s: Mapping[tuple[Resource, Stall], float] | None = None  # time in which its tasks waited for a resource
    devices_denied: bool | None = None  # whether its cgroup keeps it from NVIDIA's devices; cgroup v1 alone tells
    origin: Origin = "cgroup"


@dataclass(frozen=True)
class MainProcess:
    """What the first process of a running container shows: its namespaces, by which its other processes are known, and its choice of GPUs."""

    mount_namespace: str | None = None
    pid_namespace: str | None = None
    cuda_visible: str | None = None  # CUDA_VISIBLE_DEVICES
    nvidia_visible: str | None = None  # NVIDIA_VISIBLE_DEVICES, as the runtime left it


@dataclass(frozen=True)
class Container:
    """One container: who it is and, while it has processes, what it uses."""

    identity: Identity
    usage: Usage | None = None
    cpu_usage_cpus: float | None = None  # CPUs in use between the last two readings; 1.0 is one CPU kept busy
    uptime_s: float | None = None
    main: MainProcess | None = None  # None where its process cannot be seen from here

    @property
    def oom_killed(self) -> bool | None:
        """Return whether the kernel ended a process of this run, or of the last, for want of memory; engines tell it only of runs that have ended."""
        events = self.usage.memory_events if self.usage else None
        return True if events and events.get("oom_kill") else self.identity.oom_killed

    @property
    def cpu_usage_percent(self) -> float | None:
        """Return the CPU in use as `docker stats` counts it: 100 is one CPU kept busy."""
        return None if self.cpu_usage_cpus is None else 100 * self.cpu_usage_cpus

    @property
    def network_rx_bytes(self) -> int | None:
        """Return the bytes received over all interfaces; None without an interface of its own."""
        network = self.usage.network if self.usage else None
        return sum(link.received_bytes for link in network.values()) if network else None

    @property
    def network_tx_bytes(self) -> int | None:
        """Return the bytes sent over all interfaces; None without an interface of its own."""
        network = self.usage.network if self.usage else None
        return sum(link.sent_bytes for link in network.values()) if network else None


Happening = Literal["create", "start", "exit", "oom", "health", "restart_loop", "remove"]


@dataclass(frozen=True)
class ContainerEvent:
    """Something that happened to a container at `time_s`; `unheard` where it was not announced but seen by comparison, at the time told."""

    time_s: float
    what: Happening
    identity: Identity
    exit_code: int | None = None
    health: str | None = None
    asked_for: bool = False  # an exit that somebody ordered
    restarts: int | None = None  # of a restart loop, in the last minutes
    tail: str | None = None  # the end of its log, masked
    unheard: bool = False


@dataclass(frozen=True)
class ContainersSnapshot:
    """Every container the engine knows, running or not, by name; `time_s` in seconds since the epoch."""

    time_s: float
    containers: tuple[Container, ...]
    engine_version: str | None = None
    engine: str = "docker"
    layout: str = ""  # of cgroups: v1, hybrid, v2, none
    events: bool = False  # whether the engine's events arrive; without them every reading asks for the list
    unseen: int = 0  # running containers whose cgroup files cannot be seen from here
    uninspected: int = 0  # containers the engine has not described since they changed: what only that tells is missing
    happened: tuple[ContainerEvent, ...] = ()
    events_lost: int = 0  # what happened in such a crowd that it was not told one by one, since the start
    labels: tuple[str, ...] = ()  # patterns of the labels that are published
