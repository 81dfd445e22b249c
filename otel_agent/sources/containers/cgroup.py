"""What a container has used, from the kernel's files: cgroup v1, hybrid and v2, whatever driver named the folders.

The way to a cgroup is never guessed: it is what the kernel says in /proc/<pid>/cgroup of the container's own first
process, and it must carry the container's id, which also proves that the pid still is that container's. The formats are
those of https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/,
https://docs.kernel.org/accounting/psi.html and proc_pid_net(5).
"""

import operator
import os
import re
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from otel_agent.sources.containers.files import Kept, Room, fields, named, number, read, scaled, whole
from otel_agent.sources.containers.snapshot import Link, MainProcess, Resource, Stall, Traffic, Usage

UNLIMITED = 2**60  # cgroup v1 writes "no limit" as the largest number of whole pages, near 2**63
NVIDIA_MAJOR = b"195:"  # of /dev/nvidiactl and /dev/nvidia<n>, fixed by the kernel's list of devices
_TICKS = os.sysconf("SC_CLK_TCK")
# Every network namespace is born with these where their modules are loaded; no container is addressed through them.
_NO_INTERFACES = frozenset(b"lo tunl0 sit0 ip6tnl0 gre0 gretap0 erspan0 ip_vti0 ip6_vti0 ip6gre0 ifb0 ifb1".split())
_NO_DEVICES = re.compile(r"(loop|ram|zram)\d+\Z")  # what they move is moved again, and counted, by the device below
_RESOURCES: tuple[Resource, ...] = ("cpu", "memory", "io")
_STALLS: tuple[Stall, ...] = ("some", "full")  # each begins its line
_PRESSURE = tuple(
    (f"{resource}.pressure", {stall.encode(): (resource, stall) for stall in _STALLS}) for resource in _RESOURCES
)
_LINK = operator.itemgetter(0, 8, 2, 10, 3, 11)  # columns of net/dev, in the order of Link
_CPU_V2 = named("usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec")
_MEMORY_V2 = named("inactive_file", "anon", "pgfault", "pgmajfault")
_EVENTS = ("max", "oom", "oom_kill")
_EVENTS_V2 = named(*_EVENTS)
_MODES_V1 = named("user", "system")
_PERIODS_V1 = named("nr_periods", "nr_throttled", "throttled_time")
_MEMORY_V1 = named("hierarchical_memory_limit", "total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault")
_KILLS_V1 = named("oom_kill")
_ENVIRON_CAP = 2**16
LIMITS_S = 60.0  # limits change by hand, if ever: they are read this often


class GoneError(Exception):
    """The pid is no longer that of the container: it stopped or was started again."""


@dataclass(frozen=True)
class _Limits:
    cpus: float | None = None
    pids: int | None = None
    memory_bytes: int | None = None  # of cgroup v2; v1 tells it among the numbers


@dataclass
class _Box:
    """What is kept of one run of a container: where its cgroup is, its open files, its limits and when these were read."""

    told: bytes
    pid: int
    proc: str  # the folder of its first process
    paths: Mapping[str, str]  # as the kernel names them, by controller; "" is v2
    folders: Mapping[str, str]  # as they are mounted here, by v1 controller
    files: Kept
    limits: _Limits = _Limits()
    # Of v1's quota: periods, those in which it was held back, and for how long. Without a quota they do not change.
    throttling: Sequence[int | None] = (None, None, None)
    limits_s: float = float("-inf")


class CgroupFiles:
    """The cgroup file systems and the process folder below one root; `proc` and `sys` as mounted there."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = str(root / "proc")
        self._fs = root / "sys/fs/cgroup"
        self._blocks = root / "sys/dev/block"
        self._names: dict[bytes, str] = {}
        self._clock, self._room = clock, Room()
        self._boxes: dict[str, _Box] = {}
        self.close = weakref.finalize(self, _close, self._boxes)
        # In v1 a folder may serve several controllers ("cpu,cpuacct"), with or without links of the single names to it.
        self._v1: dict[str, str] = {}
        self._v2: str | None = str(self._fs) if (self._fs / "cgroup.controllers").exists() else None
        self._unified: str | None = None  # the v2 tree without controllers beside v1: it tells pressure all the same
        if self._v2 is None and self._fs.is_dir():
            for folder in sorted(self._fs.iterdir()):
                self._v1.update(dict.fromkeys(folder.name.split(","), str(folder)))
            self._unified = self._v1.pop("unified", None)

    @property
    def layout(self) -> str:
        """Which cgroup layout is mounted: v1, hybrid, v2 or none."""
        return "v2" if self._v2 else "none" if not self._v1 else "hybrid" if self._unified else "v1"

    def usage(self, container_id: str, pid: int, *, own_network: bool | None, gpus: bool = False) -> Usage | None:
        """Return what the container used; None where its cgroup cannot be seen from here. `gpus` asks for its devices too.

        Raises GoneError where the pid is not, or no longer, the container's.
        """
        box = self._box(container_id, pid)
        network = _network(box.files.read(box.proc, "net/dev")) if own_network else None
        if self._v2 is not None:
            return self._from_v2(box, self._v2 + box.paths[""], network) if box.paths.get("") else None
        return self._from_v1(box, network, gpus=gpus) if self._v1 else None

    def forget(self, running: Collection[str]) -> None:
        """Let the files of all other containers go."""
        for gone in self._boxes.keys() - running:
            self._boxes.pop(gone).files.close()

    def _box(self, container_id: str, pid: int) -> _Box:
        box = self._boxes.get(container_id)
        if box is not None:
            # The open file is that of the process, not of its number: it fails once the process is gone, whoever is given the pid.
            if box.pid == pid and box.files.read(box.proc, "cgroup") == box.told:
                return box
            self._boxes.pop(container_id).files.close()
        proc = f"{self._proc}/{pid}"
        told = read(f"{proc}/cgroup")
        paths = _paths(told, container_id) if told else None
        if paths is None or not told:
            raise GoneError
        folders = {name: self._v1[name] + path for name, path in paths.items() if name in self._v1}
        self._boxes[container_id] = box = _Box(told, pid, proc, paths, folders, Kept(self._room))
        return box

    def main(self, pid: int) -> MainProcess:
        """Return what the first process of a container shows; what it may not be asked for is None."""
        environ = (read(f"{self._proc}/{pid}/environ") or b"")[:_ENVIRON_CAP]
        told = dict(entry.split(b"=", 1) for entry in environ.split(b"\0") if b"=" in entry)

        def variable(name: bytes) -> str | None:
            return told[name].decode("utf-8", "replace") if name in told else None

        return MainProcess(
            self._namespace(pid, "mnt"),
            self._namespace(pid, "pid"),
            variable(b"CUDA_VISIBLE_DEVICES"),
            variable(b"NVIDIA_VISIBLE_DEVICES"),
        )

    def _namespace(self, pid: int, kind: str) -> str | None:
        try:
            return os.readlink(f"{self._proc}/{pid}/ns/{kind}")  # noqa: PTH115 - a plain string, fifty times a reading
        except OSError:
            return None

    def _from_v2(self, box: _Box, folder: str, network: Mapping[str, Link] | None) -> Usage | None:
        kept = box.files.read
        cpu, used = kept(folder, "cpu.stat"), number(kept(folder, "memory.current"))
        if not cpu and used is None:
            return None
        if (now := self._clock()) - box.limits_s >= LIMITS_S:
            box.limits_s, box.limits = now, _limits_v2(folder)
        every, user, system, periods, throttled, held = fields(cpu, _CPU_V2)
        inactive, anonymous, faults, major = fields(kept(folder, "memory.stat"), _MEMORY_V2)
        return Usage(
            cpu_s=scaled(every, 1e6),
            cpu_user_s=scaled(user, 1e6),
            cpu_system_s=scaled(system, 1e6),
            cpu_limit_cpus=box.limits.cpus,
            cpu_periods=periods,
            cpu_throttled_periods=throttled,
            cpu_throttled_s=scaled(held, 1e6),
            memory_usage_bytes=used,
            memory_working_set_bytes=_working_set(used, inactive),
            memory_limit_bytes=box.limits.memory_bytes,
            memory_rss_bytes=anonymous,
            memory_events=_known(zip(_EVENTS, fields(kept(folder, "memory.events"), _EVENTS_V2), strict=True)),
            faults=faults,
            major_faults=major,
            pids=number(kept(folder, "pids.current")),
            pids_limit=box.limits.pids,
            stalled_s=_pressure(box.files, folder),
            network=network,
            disk=self._disk_v2(kept(folder, "io.stat")),
        )

    def _from_v1(self, box: _Box, network: Mapping[str, Link] | None, *, gpus: bool) -> Usage | None:
        folders, kept = box.folders, box.files.read

        def content(controller: str, file: str) -> bytes | None:
            return kept(folders[controller], file) if controller in folders else None

        cpu, used = number(content("cpuacct", "cpuacct.usage")), number(content("memory", "memory.usage_in_bytes"))
        if cpu is None and used is None:
            return None
        if look := (now := self._clock()) - box.limits_s >= LIMITS_S:
            box.limits_s, box.limits = now, _limits_v1(folders)
        if look or box.limits.cpus is not None:
            box.throttling = fields(content("cpu", "cpu.stat"), _PERIODS_V1)
        user, system = fields(content("cpuacct", "cpuacct.stat"), _MODES_V1)
        periods, throttled, held = box.throttling
        limit, inactive, anonymous, faults, major = fields(content("memory", "memory.stat"), _MEMORY_V1)
        if limit is not None and limit >= UNLIMITED:  # otherwise the lowest on the way up: that of a parent counts too
            limit = None
        (kills,) = fields(content("memory", "memory.oom_control"), _KILLS_V1)
        reached = number(content("memory", "memory.failcnt")) if limit is not None else None
        if reached is not None:  # where memory and swap together are limited to as much, that limit is reached first
            reached += number(content("memory", "memory.memsw.failcnt")) or 0
        moved = content("blkio", "blkio.throttle.io_service_bytes_recursive")
        counted = content("blkio", "blkio.throttle.io_serviced_recursive") if moved and b":" in moved else None
        devices = content("devices", "devices.list") if gpus else None
        return Usage(
            cpu_s=scaled(cpu, 1e9),
            cpu_user_s=scaled(user, _TICKS),
            cpu_system_s=scaled(system, _TICKS),
            cpu_limit_cpus=box.limits.cpus,
            cpu_periods=periods,
            cpu_throttled_periods=throttled,
            cpu_throttled_s=scaled(held, 1e9),
            memory_usage_bytes=used,
            memory_working_set_bytes=_working_set(used, inactive),
            memory_limit_bytes=limit,
            memory_rss_bytes=anonymous,
            memory_events=_known((("max", reached), ("oom_kill", kills))),
            faults=faults,
            major_faults=major,
            pids=number(content("pids", "pids.current")),
            pids_limit=box.limits.pids,
            stalled_s=_pressure(box.files, self._unified + box.paths[""])
            if self._unified and box.paths.get("")
            else None,
            devices_denied=None if not devices else b"a *:* " not in devices and b"c " + NVIDIA_MAJOR not in devices,
            network=network,
            disk=self._disk_v1(moved, counted),
        )

    def _disk_v2(self, text: bytes | None) -> Mapping[str, Traffic] | None:
        """Read lines like `8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 ...`."""
        if text is None:
            return None
        found: list[tuple[bytes, Traffic | None]] = []
        for line in text.splitlines():
            device, _, rest = line.partition(b" ")
            told = dict(pair.split(b"=", 1) for pair in rest.split() if b"=" in pair)
            found.append((device, _traffic(*map(told.get, (b"rbytes", b"wbytes", b"rios", b"wios")))))
        return self._by_device(found)

    def _disk_v1(self, moved: bytes | None, operations: bytes | None) -> Mapping[str, Traffic] | None:
        """Read lines like `8:0 Read 90430464` and `8:0 Write 299008000`; others split the same in another way."""
        if moved is None:
            return None
        bytes_by, counts_by = _by_kind(moved), _by_kind(operations or b"")
        rows = (
            (device, _traffic(kinds.get(b"Read"), kinds.get(b"Write"), *map(counts_by.get(device, {}).get, _KINDS)))
            for device, kinds in bytes_by.items()
        )
        # The first operation makes the row, but Linux before 6.5 (6.1 for one) counts only where a limit is set, and says 0 elsewhere.
        return self._by_device((device, None if traffic in _UNCOUNTED else traffic) for device, traffic in rows)

    def _by_device(self, rows: Iterable[tuple[bytes, Traffic | None]]) -> Mapping[str, Traffic]:
        return {
            name: traffic
            for device, traffic in rows
            if traffic is not None and not _NO_DEVICES.match(name := self._device(device))
        }

    def _device(self, device: bytes) -> str:
        """Return the name of a block device, like sda; its major:minor number where the kernel has no name for it."""
        if device not in self._names:
            if len(self._names) >= 4096:  # devices come and go; a number may be given again
                self._names.clear()
            told = device.decode("ascii", "replace")
            try:
                self._names[device] = (self._blocks / told).readlink().name
            except (OSError, ValueError):
                self._names[device] = told
        return self._names[device]


_KINDS = (b"Read", b"Write")
_UNCOUNTED = (Traffic(0, 0), Traffic(0, 0, 0, 0))


def _paths(told: bytes, container_id: str) -> Mapping[str, str] | None:
    """Return the container's cgroup by controller ("" is v2); None where no path carries its id.

    Paths are cut after the folder named by the id, since a process manager inside may have moved itself below. Those that
    lead out of the reader's cgroup namespace ("/../") cannot be followed: they prove the identity and give no folder.
    """
    found: dict[str, str] = {}
    proven = False
    for line in told.decode("utf-8", "replace").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        before, own, after = path.partition(container_id)
        if not own:
            continue
        proven = True
        if "/../" not in before:
            found.update(dict.fromkeys(controllers.split(","), before + own + after.partition("/")[0]))
    return found if proven else None


def _network(text: bytes | None) -> Mapping[str, Link] | None:
    """Read bytes, errors and drops, received (columns 1 to 8) and sent (9 to 16), of net/dev."""
    if text is None:
        return None
    found: dict[str, Link] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(b":")
        if (name := name.strip()) in _NO_INTERFACES:
            continue
        columns = rest.split()
        if len(columns) < 12:
            continue
        received, sent, *others = map(whole, _LINK(columns))
        if received is not None and sent is not None:
            found[name.decode("utf-8", "replace")] = Link(received, sent, *others)
    return found


def _pressure(files: Kept, folder: str) -> Mapping[tuple[Resource, Stall], float] | None:
    """Read lines like `some avg10=0.00 avg60=0.00 avg300=0.00 total=133` of the three pressure files."""
    found: dict[tuple[Resource, Stall], float] = {}
    for file, keys in _PRESSURE:
        for line in (files.read(folder, file) or b"").splitlines():
            key, total = keys.get(line[:4]), line.rpartition(b" total=")[2]
            if key and total.isdigit():
                found[key] = int(total) / 1e6
    return found or None


def _limits_v1(folders: Mapping[str, str]) -> _Limits:
    cpu, pids = folders.get("cpu"), folders.get("pids")
    quota = _quota(read(f"{cpu}/cpu.cfs_quota_us"), read(f"{cpu}/cpu.cfs_period_us")) if cpu else None
    return _Limits(quota, number(read(f"{pids}/pids.max")) if pids else None)


def _limits_v2(folder: str) -> _Limits:
    cpus = _quota(*(read(f"{folder}/cpu.max") or b"").split()[:2])
    memory = number(read(f"{folder}/memory.max"))  # "max" is no number: no limit
    return _Limits(cpus, number(read(f"{folder}/pids.max")), memory)


def _close(boxes: Mapping[str, _Box]) -> None:
    for box in boxes.values():
        box.files.close()


def _by_kind(text: bytes) -> dict[bytes, dict[bytes, bytes]]:
    found: dict[bytes, dict[bytes, bytes]] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3:
            found.setdefault(parts[0], {})[parts[1]] = parts[2]
    return found


def _traffic(
    read_bytes: bytes | None, written_bytes: bytes | None, reads: bytes | None, writes: bytes | None
) -> Traffic | None:
    read_number, written_number = whole(read_bytes), whole(written_bytes)
    if read_number is None or written_number is None:
        return None
    return Traffic(read_number, written_number, whole(reads), whole(writes))


def _quota(quota: bytes | None = None, period: bytes | None = None) -> float | None:
    """Return CPUs; v2 writes "max" and v1 -1 where there is no limit, neither of which is a number without a sign."""
    most, of = number(quota), number(period)
    return most / of if most is not None and of else None


def _known(values: Iterable[tuple[str, int | None]]) -> Mapping[str, int] | None:
    return {name: value for name, value in values if value is not None} or None


def _working_set(used: int | None, inactive: int | None) -> int | None:
    # The two files are read one after the other: cache that grew in between must not make the difference negative.
    return None if used is None or inactive is None else max(0, used - inactive)
