"""What one reading of the containers is made of. Bytes, seconds and CPUs; None is unknown."""

from collections.abc import Mapping
from dataclasses import dataclass

from otel_agent.sources.containers.identity import Identity


@dataclass(frozen=True)
class Traffic:
    """Bytes moved since the container started, as it sees them: `read` is also received, `written` also sent."""

    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Usage:
    """What a running container has used; None where no file tells."""

    cpu_s: float | None = None
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    memory_usage_bytes: int | None = None  # everything charged to it, page cache included
    memory_working_set_bytes: int | None = None  # usage less the inactive page cache: what `docker stats` shows
    memory_limit_bytes: int | None = None  # None also where no limit is set
    network: Mapping[str, Traffic] | None = None  # by interface; None where it has no network of its own
    disk: Mapping[str, Traffic] | None = None  # by block device


@dataclass(frozen=True)
class Container:
    """One container: who it is and, while it has processes, what it uses."""

    identity: Identity
    usage: Usage | None = None
    cpu_usage_cpus: float | None = None  # CPUs in use between the last two readings; 1.0 is one CPU kept busy
    uptime_s: float | None = None

    @property
    def cpu_usage_percent(self) -> float | None:
        """Return the CPU in use as `docker stats` counts it: 100 is one CPU kept busy."""
        return None if self.cpu_usage_cpus is None else 100 * self.cpu_usage_cpus

    @property
    def network_rx_bytes(self) -> int | None:
        """Return the bytes received over all interfaces; None without an interface of its own."""
        network = self.usage.network if self.usage else None
        return sum(traffic.read_bytes for traffic in network.values()) if network else None

    @property
    def network_tx_bytes(self) -> int | None:
        """Return the bytes sent over all interfaces; None without an interface of its own."""
        network = self.usage.network if self.usage else None
        return sum(traffic.written_bytes for traffic in network.values()) if network else None


@dataclass(frozen=True)
class ContainersSnapshot:
    """Every container the engine knows, running or not, by name; `time_s` in seconds since the epoch."""

    time_s: float
    containers: tuple[Container, ...]
    engine_version: str | None = None
    events: bool = False  # whether the engine's events arrive; without them every reading asks for the list
    unseen: int = 0  # running containers whose cgroup files cannot be seen from here: their numbers are missing
    uninspected: int = 0  # containers the engine has not described since they changed: what only that tells is missing
