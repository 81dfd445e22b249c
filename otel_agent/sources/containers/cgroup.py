"""What a container has used, from the kernel's files: cgroup v1, hybrid and v2, whatever driver named the folders.

The way to a cgroup is never guessed: it is what the kernel says in /proc/<pid>/cgroup of the container's own first
process, and it must carry the container's id, which also proves that the pid still is that container's. The formats are
those of https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/ and
proc_pid_net(5).
"""

import functools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from otel_agent.sources.containers.snapshot import Traffic, Usage

FILE_CAP = 2**18  # bytes; the longest, io.stat on a host with hundreds of disks, stays far below
SHORT = 2048  # bytes
UNLIMITED = 2**60  # cgroup v1 writes "no limit" as the largest number of whole pages, near 2**63
_TICKS = os.sysconf("SC_CLK_TCK")
# Every network namespace is born with these where their modules are loaded; no container is addressed through them.
_NO_INTERFACES = frozenset(
    ["lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0", "ifb0", "ifb1"]
)
_NO_DEVICES = re.compile(r"(loop|ram|zram)\d+\Z")  # what they move is moved again, and counted, by the device below


class GoneError(Exception):
    """The pid is no longer that of the container: it stopped or was started again."""


class CgroupFiles:
    """The cgroup file systems and the process folder below one root; `proc` and `sys` as mounted there."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = str(root / "proc")
        self._fs = root / "sys/fs/cgroup"
        self._blocks = root / "sys/dev/block"
        self._names: dict[str, str] = {}
        # In v1 a folder may serve several controllers ("cpu,cpuacct"), with or without links of the single names to it.
        self._v1: dict[str, str] = {}
        self._v2: str | None = str(self._fs) if (self._fs / "cgroup.controllers").exists() else None
        if self._v2 is None and self._fs.is_dir():
            for folder in sorted(self._fs.iterdir()):
                self._v1.update(dict.fromkeys(folder.name.split(","), str(folder)))

    def usage(self, container_id: str, pid: int, *, own_network: bool | None) -> Usage | None:
        """Return what the container used; None where its cgroup cannot be seen from here.

        Raises GoneError where the pid is not, or no longer, the container's.
        """
        told = _read(f"{self._proc}/{pid}/cgroup")
        if not told:
            raise GoneError
        paths = _paths(told, container_id)
        if paths is None:
            raise GoneError
        network = _network(_read(f"{self._proc}/{pid}/net/dev")) if own_network else None
        if self._v2 is not None:
            return self._from_v2(self._v2 + paths.get("", ""), network) if paths.get("") else None
        return self._from_v1(paths, network) if self._v1 else None

    def _from_v2(self, folder: str, network: Mapping[str, Traffic] | None) -> Usage | None:
        cpu = _table(_read(f"{folder}/cpu.stat"))
        memory = _read(f"{folder}/memory.stat")
        used = _number(_read(f"{folder}/memory.current"))
        if not cpu and used is None:
            return None
        return Usage(
            cpu_s=_scaled(cpu.get("usage_usec"), 1e6),
            cpu_user_s=_scaled(cpu.get("user_usec"), 1e6),
            cpu_system_s=_scaled(cpu.get("system_usec"), 1e6),
            memory_usage_bytes=used,
            memory_working_set_bytes=_working_set(used, _field(memory, b"inactive_file")),
            memory_limit_bytes=_number(_read(f"{folder}/memory.max")),  # "max" is no number: no limit
            network=network,
            disk=self._disk_v2(_read(f"{folder}/io.stat")),
        )

    def _from_v1(self, paths: Mapping[str, str], network: Mapping[str, Traffic] | None) -> Usage | None:
        def content(controller: str, file: str) -> bytes | None:
            folder, path = self._v1.get(controller), paths.get(controller)
            return _read(f"{folder}{path}/{file}") if folder and path else None

        cpu = _number(content("cpuacct", "cpuacct.usage"))
        modes = _table(content("cpuacct", "cpuacct.stat"))
        used = _number(content("memory", "memory.usage_in_bytes"))
        memory = content("memory", "memory.stat")
        if cpu is None and used is None:
            return None
        limit = _field(memory, b"hierarchical_memory_limit")  # the lowest on the way up: that of a parent counts too
        return Usage(
            cpu_s=_scaled(cpu, 1e9),
            cpu_user_s=_scaled(modes.get("user"), _TICKS),
            cpu_system_s=_scaled(modes.get("system"), _TICKS),
            memory_usage_bytes=used,
            memory_working_set_bytes=_working_set(used, _field(memory, b"total_inactive_file")),
            memory_limit_bytes=limit if limit is not None and limit < UNLIMITED else None,
            network=network,
            disk=self._disk_v1(content("blkio", "blkio.throttle.io_service_bytes_recursive")),
        )

    def _disk_v2(self, text: bytes | None) -> Mapping[str, Traffic] | None:
        """Read lines like `8:0 rbytes=90430464 wbytes=299008000 rios=8950 ...`."""
        if text is None:
            return None
        found: list[tuple[str, int | None, int | None]] = []
        for line in text.decode("ascii", "replace").splitlines():
            number, _, rest = line.partition(" ")
            told = dict(pair.split("=", 1) for pair in rest.split() if "=" in pair)
            found.append((number, _whole(told.get("rbytes")), _whole(told.get("wbytes"))))
        return self._by_device(found)

    def _disk_v1(self, text: bytes | None) -> Mapping[str, Traffic] | None:
        """Read lines like `8:0 Read 90430464` and `8:0 Write 299008000`; others split the same bytes in another way."""
        if text is None:
            return None
        told: dict[str, dict[str, int | None]] = {}
        for line in text.decode("ascii", "replace").splitlines():
            parts = line.split()
            if len(parts) == 3:
                told.setdefault(parts[0], {})[parts[1]] = _whole(parts[2])
        return self._by_device([(number, by.get("Read"), by.get("Write")) for number, by in told.items()])

    def _by_device(self, rows: Iterable[tuple[str, int | None, int | None]]) -> Mapping[str, Traffic]:
        return {
            name: Traffic(read, written)
            for number, read, written in rows
            if read is not None and written is not None and not _NO_DEVICES.match(name := self._device(number))
        }

    def _device(self, number: str) -> str:
        """Return the name of a block device, like sda; its major:minor number where the kernel has no name for it."""
        if number not in self._names:
            if len(self._names) >= 4096:  # devices come and go; a number may be given again
                self._names.clear()
            try:
                self._names[number] = (self._blocks / number).readlink().name
            except (OSError, ValueError):
                self._names[number] = number
        return self._names[number]


@functools.lru_cache(
    maxsize=1024
)  # the answer hardly ever changes, and taking it apart costs as much as three readings
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


def _network(text: bytes | None) -> Mapping[str, Traffic] | None:
    """Read received and sent bytes, the first and ninth column of net/dev."""
    if text is None:
        return None
    found: dict[str, Traffic] = {}
    for line in text.decode("ascii", "replace").splitlines()[2:]:
        name, _, rest = line.partition(":")
        columns = rest.split()
        if (name := name.strip()) in _NO_INTERFACES or len(columns) < 9:
            continue
        received, sent = _whole(columns[0]), _whole(columns[8])
        if received is not None and sent is not None:
            found[name] = Traffic(received, sent)
    return found


def _read(path: str) -> bytes | None:
    """Return a file's bytes, None where it cannot be read; O_NONBLOCK keeps what is no file from holding up the reader."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        text = os.read(file, FILE_CAP)
        # The kernel ends a read early only where the next line does not fit into its page: what is shorter is whole.
        while SHORT <= len(text) < FILE_CAP and (more := os.read(file, FILE_CAP)):
            text += more
    except OSError:
        return None
    finally:
        os.close(file)
    return text


def _table(text: bytes | None) -> dict[str, int]:
    pairs = (line.split() for line in (text or b"").decode("ascii", "replace").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _field(text: bytes | None, name: bytes) -> int | None:
    """Return one number of a long table without parsing the rest."""
    _, found, rest = (b"\n" + (text or b"")).partition(b"\n" + name + b" ")
    return _number(rest.partition(b"\n")[0]) if found else None


def _number(text: bytes | None) -> int | None:
    return _whole(text.decode("ascii", "replace").strip()) if text else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and text.isascii() else None


def _scaled(value: int | None, per_second: float) -> float | None:
    return None if value is None else value / per_second


def _working_set(used: int | None, inactive: int | None) -> int | None:
    # The two files are read one after the other: cache that grew in between must not make the difference negative.
    return None if used is None or inactive is None else max(0, used - inactive)
