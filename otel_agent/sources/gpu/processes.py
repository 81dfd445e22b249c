"""The processes on a GPU: the driver's lists, joined with what the kernel tells of each.

The driver numbers processes as the host does. An agent that cannot see the host's processes gets numbers without names, and says
so; it never guesses.
"""

import ctypes
import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from otel_agent.sources.gpu.library import OUTDATED, Inquiry, known
from otel_agent.sources.gpu.snapshot import GpuProcess

# The driver's lists, with the function for each, newest version first.
LISTS: Mapping[str, tuple[str, ...]] = {
    kind: tuple(f"nvmlDeviceGet{name}RunningProcesses{version}" for version in ("_v3", "_v2"))
    for kind, name in (("compute", "Compute"), ("graphics", "Graphics"), ("mps", "MPSCompute"))
}
PROCESSES_MAX = 64  # of one GPU with series of their own, those with most memory first; all are counted
ROOM = 256  # processes whose use of a GPU is asked for at once
PIDS = 2**22  # as many as the kernel has
STAT_MAX = 4096
CGROUP_MAX = 16_384
REMEMBERED = 1024
_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_ENTRY = struct.Struct("=I4xQII")  # nvmlProcessInfo_t, version 2 and 3: pid, memory, GPU instance, compute instance
_INSUFFICIENT_SIZE = 7
_USE = struct.Struct("=I4xQIIII")  # pid, microseconds since the epoch, SM, memory, encoder, decoder


class People:
    """What the kernel tells of processes; a pid is known again only while it is the same process that has it."""

    def __init__(self, proc: Path) -> None:
        self._proc = str(proc)
        self._containers: dict[tuple[int, bytes], str | None] = {}

    def of(self, pid: int) -> tuple[str | None, str | None]:
        """Return the name of a process and its container, where it can be seen from here."""
        stat = _bytes(f"{self._proc}/{pid}/stat", STAT_MAX)
        before, _, after = stat.rpartition(b")")
        rest = after.split(maxsplit=20)
        if len(rest) < 20:  # gone meanwhile, or of a pid namespace that is not ours
            return None, None
        key = pid, rest[19]  # the time at which it started tells it from a later one with its number
        if key not in self._containers:
            if len(self._containers) >= REMEMBERED:
                self._containers.clear()
            self._containers[key] = container_of(
                _bytes(f"{self._proc}/{pid}/cgroup", CGROUP_MAX).decode("utf-8", "replace")
            )
        return before.partition(b"(")[2].decode("utf-8", "replace") or None, self._containers[key]


def container_of(cgroup: str) -> str | None:
    """Return the id of the container in what /proc/<pid>/cgroup says, whatever engine and driver named the folders."""
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        for part in reversed(path.split("/")):
            if found := _CONTAINER.findall(part):
                return str(found[-1])
    return None


def _bytes(path: str, most: int) -> bytes:
    """Return the beginning of a file, by the kernel's calls alone: Python's file objects cost several times the reading."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    found = b""
    try:
        while part := os.read(file, most - len(found)):
            found += part
    except OSError:  # the process ended meanwhile
        return b""
    finally:
        os.close(file)
    return found


class Use:
    """How much of the multiprocessors each process used since the last reading, as the driver samples it; not told of partitioned GPUs."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._answered = bytearray(ROOM * _USE.size)
        self._room = (ctypes.c_char * len(self._answered)).from_buffer(self._answered)
        self._count, self._since = ctypes.c_uint(), ctypes.c_ulonglong()
        self._counted = ctypes.byref(self._count)

    def read(self, inquiry: Inquiry) -> dict[int, float]:
        """Return the share of time in which kernels of each process ran; none before the second reading."""
        since = self._last
        self._since.value, self._count.value = since or 0, ROOM
        told = inquiry.call("nvmlDeviceGetProcessUtilization", inquiry.handle, self._room, self._counted, self._since)
        entries = _entries(_USE, self._answered, self._count.value) if told else []
        if entries:
            self._last = max(entry[1] for entry in entries)
        elif since is None:
            self._last = 0  # nothing ran so far: whatever comes now is new
        if since is None:
            return {}
        shares: dict[int, list[float]] = {}
        for pid, at, sm, *_ in entries:
            if at > since and 0 <= sm <= 100:
                shares.setdefault(pid, []).append(sm / 100)
        return {pid: sum(values) / len(values) for pid, values in shares.items()}


class Listed:
    """The processes of one device, from the driver's lists."""

    def __init__(self) -> None:
        self._count = ctypes.c_uint()
        self._counted = ctypes.byref(self._count)
        self._make_room(64)

    def _make_room(self, processes: int) -> None:
        self._answered = bytearray(processes * _ENTRY.size)
        self._room = (ctypes.c_char * len(self._answered)).from_buffer(self._answered)
        self._most = processes

    def read(
        self, inquiry: Inquiry, people: People, use: Mapping[int, float] = MappingProxyType({})
    ) -> tuple[GpuProcess, ...] | None:
        """Join the lists; None where the driver gives none of them.

        A process stands in several lists with the same memory when it computes and draws, and several times in one list, with memory
        of its own each time, when it uses several instances of a partitioned GPU.
        """
        memory: dict[tuple[int, int, int], int | None] = {}
        kinds: dict[int, list[str]] = {}
        told = False
        for kind, functions in LISTS.items():
            listed = self._list(inquiry, functions)
            told = told or listed is not None
            for pid, used, gpu_instance, compute_instance in listed or ():
                key = (pid, gpu_instance, compute_instance)
                memory[key] = _most(memory.get(key), known(used))
                if kind not in kinds.setdefault(pid, []):
                    kinds[pid].append(kind)
        if not told:
            return None
        total: dict[int, int | None] = {}
        for (pid, *_), amount in memory.items():
            before = total.get(pid)
            total[pid] = amount if before is None else before + (amount or 0)
        found = []
        for pid, amount in sorted(total.items()):
            name, container = people.of(pid)
            found.append(GpuProcess(pid, name, amount, use.get(pid), container, tuple(kinds[pid])))
        return tuple(found)

    def _list(self, inquiry: Inquiry, functions: Iterable[str]) -> list[tuple[int, ...]] | None:
        for function in functions:
            for _ in range(3):  # more may come between being told how many there are and asking again
                self._count.value = self._most
                if inquiry.call(function, inquiry.handle, self._counted, self._room):
                    return _entries(_ENTRY, self._answered, self._count.value)
                if inquiry.code != _INSUFFICIENT_SIZE or self._count.value > PIDS:
                    break
                self._make_room(max(self._most, 2 * self._count.value))
            if inquiry.code not in OUTDATED:
                return None
        return None


def _entries(layout: struct.Struct, room: bytearray, count: int) -> list[tuple[int, ...]]:
    """Return as many entries as the driver says it has put into the room, if they fit."""
    return list(layout.iter_unpack(memoryview(room)[: count * layout.size])) if count else []


def _most(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
