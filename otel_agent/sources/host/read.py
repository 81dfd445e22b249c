"""Reads one snapshot of the machine from /proc and /sys, below any root; what each file means stands in the modules beside this one.

The counters of this machine's own network namespace, mount table and name are those of process 1 when the machine's root is mounted
elsewhere: the agent then sits in a container whose own would say nothing about the machine.
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.host import cpu, memory, network
from otel_agent.sources.host.disks import read_disks
from otel_agent.sources.host.files import fact, read_file, read_number, read_text
from otel_agent.sources.host.filesystems import Filesystems
from otel_agent.sources.host.pressure import read_pressure
from otel_agent.sources.host.processes import count_states
from otel_agent.sources.host.snapshot import Cpu, HostSnapshot, Interface, Network, Processes
from otel_agent.sources.host.temperatures import Temperatures

STATES_EVERY_S = (
    4.5  # process states cost 10 to 20 us a process; a reader asked every second repeats the last count until then
)


def open_host(
    root: Path = Path("/"),
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    stat_path: Callable[[str], os.stat_result] = os.stat,
    deadline_s: float = 1.0,
) -> Callable[[], HostSnapshot]:
    """Return a reader of the machine whose root is mounted at `root`; `deadline_s` is how long it waits for network filesystems.

    Raises Unavailable where there is no /proc below the root. Where this machine itself has none, psutil reads what it can.
    """
    if os.path.lexists(root / "proc" / "stat"):
        return _Reader(root, clock, wall, Filesystems(str(root), _table(root), statvfs, stat_path, deadline_s))
    if root != Path("/"):
        raise Unavailable(
            f"no /proc/stat below {root}",
            "mount the host's root there, read-only, with what is mounted below it (rslave)",
        )
    from otel_agent.sources.host.portable import open_portable

    return open_portable(clock, wall)


def _own(root: Path) -> str:
    """Return the folder of /proc that stands for the machine as a whole."""
    return str(root / "proc" / ("self" if root == Path("/") else "1"))


def _table(root: Path) -> str:
    return f"{_own(root)}/mounts"


class _Reader:
    """Remembers of the last reading what rates are made of."""

    def __init__(
        self, root: Path, clock: Callable[[], float], wall: Callable[[], float], filesystems: Filesystems
    ) -> None:
        self._root = root
        self._proc = str(root / "proc")
        self._sys = str(root / "sys")
        self._net = f"{_own(root)}/net"
        self._clock = clock
        self._wall = wall
        self._filesystems = filesystems
        self._temperatures = Temperatures(self._sys, clock)
        self._disks: dict[str, bool] = {}
        self._cpu_times: dict[str, float] = {}
        self._physical: tuple[int | None, int | None] = (None, None)  # as counted when this many were online
        self._interfaces: tuple[Interface, ...] = ()
        self._interfaces_at = 0.0
        self._states: dict[str, int] = {}
        self._states_at: float | None = None

    def __call__(self) -> HostSnapshot:
        """Read everything once; raises ReadError where /proc tells neither of CPUs nor of memory."""
        time_s, proc = self._wall(), self._proc
        stat = read_file(f"{proc}/stat")
        info = memory.parse_meminfo(read_file(f"{proc}/meminfo"))
        if not stat and not info:
            raise ReadError(f"{proc} tells neither of CPUs nor of memory")
        filesystems, unread = self._filesystems.read()
        return HostSnapshot(
            time_s=time_s,
            hostname=self._hostname(),
            boot_time_s=fact(stat, b"btime"),
            uptime_s=_uptime(read_file(f"{proc}/uptime")),
            load=_load(read_file(f"{proc}/loadavg")),
            cpu=self._cpu(stat),
            memory=memory.memory(info),
            paging=memory.paging(info, read_file(f"{proc}/vmstat")),
            disks=read_disks(read_file(f"{proc}/diskstats"), self._sys, self._disks),
            filesystems=filesystems,
            unread=unread,
            network=self._network(),
            processes=self._processes(stat),
            pressure=read_pressure(proc),
            temperatures=self._temperatures.read(),
        )

    def _hostname(self) -> str:
        # Below another root, /proc/sys/kernel/hostname would be the name of the agent's own container.
        own = "" if self._root == Path("/") else read_text(str(self._root / "etc" / "hostname"))
        return own or socket.gethostname()

    def _cpu(self, stat: bytes | None) -> Cpu:
        times = cpu.never_falling(self._cpu_times, cpu.cpu_times(stat))
        logical = cpu.logical_count(stat)
        if logical is not None and self._physical[0] != logical:
            self._physical = (logical, cpu.physical_count(self._sys))
        utilization = cpu.cpu_utilization(self._cpu_times, times)
        self._cpu_times = times or self._cpu_times
        return Cpu(times, utilization, logical, self._physical[1])

    def _network(self) -> Network:
        now = self._clock()
        interfaces = network.outward(network.parse_interfaces(read_file(f"{self._net}/dev")), self._sys)
        before, elapsed_s = self._interfaces, now - self._interfaces_at
        self._interfaces, self._interfaces_at = interfaces, now
        return Network(
            interfaces,
            network.rate(before, interfaces, elapsed_s, "received_bytes"),
            network.rate(before, interfaces, elapsed_s, "sent_bytes"),
            *network.sockets(read_file(f"{self._net}/sockstat"), read_file(f"{self._net}/sockstat6")),
        )

    def _processes(self, stat: bytes | None) -> Processes:
        now = self._clock()
        if self._states_at is None or now - self._states_at >= STATES_EVERY_S:
            self._states, self._states_at = count_states(self._proc), now
        limits = [read_number(f"{self._proc}/sys/kernel/{name}") for name in ("pid_max", "threads-max")]
        return Processes(
            self._states, fact(stat, b"processes"), min((limit for limit in limits if limit is not None), default=None)
        )


def _uptime(content: bytes | None) -> float | None:
    try:
        return float((content or b"").split()[0])
    except (IndexError, ValueError):
        return None


def _load(content: bytes | None) -> tuple[float, float, float] | None:
    try:
        one, five, fifteen = (float(word) for word in (content or b"").split()[:3])
    except ValueError:
        return None
    return one, five, fifteen
