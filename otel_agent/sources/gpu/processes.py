"""The processes on a GPU: the driver's lists, joined with what the kernel tells of each.

The driver numbers processes as the host does. An agent that cannot see the host's processes gets numbers without names, and says
so; it never guesses.
"""

import ctypes
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from otel_agent.sources.gpu.library import OUTDATED, Inquiry, known
from otel_agent.sources.gpu.snapshot import GpuProcess

LISTS: Mapping[str, str] = {"Compute": "compute", "Graphics": "graphics", "MPSCompute": "mps"}
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

    def named(self, process: GpuProcess) -> GpuProcess:
        """Return the process with its name and its container, where it can be seen from here."""
        stat = _bytes(f"{self._proc}/{process.pid}/stat", STAT_MAX)
        before, _, after = stat.rpartition(b")")
        name = before.partition(b"(")[2].decode("utf-8", "replace")
        rest = after.split()
        if not stat or len(rest) < 20:  # gone meanwhile, or of a pid namespace that is not ours
            return process
        key = process.pid, rest[19]  # the time at which it started tells it from a later one with its number
        if key not in self._containers:
            if len(self._containers) >= REMEMBERED:
                self._containers.clear()
            self._containers[key] = container_of(
                _bytes(f"{self._proc}/{process.pid}/cgroup", CGROUP_MAX).decode("utf-8", "replace")
            )
        return replace(process, name=name or None, container_id=self._containers[key])


def container_of(cgroup: str) -> str | None:
    """Return the id of the container in what /proc/<pid>/cgroup says, whatever engine and driver named the folders."""
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        for part in reversed(path.split("/")):
            if found := _CONTAINER.findall(part):
                return str(found[-1])
    return None


def _bytes(path: str, most: int) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - Path costs as much as the reading
            return file.read(most)
    except OSError:
        return b""


class Use:
    """How much of the multiprocessors each process used since the last reading, as the driver samples it; not told of partitioned GPUs."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._room = ctypes.create_string_buffer(ROOM * _USE.size)
        self._count = ctypes.c_uint()

    def read(self, inquiry: Inquiry) -> dict[int, float]:
        """Return the share of time in which kernels of each process ran; none before the second reading."""
        since, self._count.value = self._last, ROOM
        told = inquiry.call(
            "nvmlDeviceGetProcessUtilization",
            inquiry.handle,
            self._room,
            ctypes.byref(self._count),
            ctypes.c_ulonglong(since or 0),
        )
        entries = (
            list(_USE.iter_unpack(memoryview(self._room)[: min(self._count.value, ROOM) * _USE.size])) if told else []
        )
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
        self._room = 64
        self._buffer = ctypes.create_string_buffer(self._room * _ENTRY.size)
        self._count = ctypes.c_uint()

    def read(
        self, inquiry: Inquiry, people: People, use: Mapping[int, float] | None = None
    ) -> tuple[GpuProcess, ...] | None:
        """Join the lists; None where the driver gives none of them.

        A process stands in several lists with the same memory when it computes and draws, and several times in one list, with memory
        of its own each time, when it uses several instances of a partitioned GPU.
        """
        memory: dict[tuple[int, int, int], int | None] = {}
        kinds: dict[int, list[str]] = {}
        told = False
        for name, kind in LISTS.items():
            listed = self._list(inquiry, name)
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
        return tuple(
            people.named(GpuProcess(pid, None, amount, (use or {}).get(pid), kinds=tuple(kinds[pid])))
            for pid, amount in sorted(total.items())
        )

    def _list(self, inquiry: Inquiry, name: str) -> list[tuple[int, int, int, int]] | None:
        for version in ("_v3", "_v2"):
            for _ in range(3):  # more may come between being told how many there are and asking again
                self._count.value = self._room
                function = f"nvmlDeviceGet{name}RunningProcesses{version}"
                if inquiry.call(function, inquiry.handle, ctypes.byref(self._count), self._buffer):
                    filled = min(self._count.value, self._room) * _ENTRY.size
                    return list(_ENTRY.iter_unpack(memoryview(self._buffer)[:filled]))
                if inquiry.code != _INSUFFICIENT_SIZE or self._count.value > PIDS:
                    break
                self._room = max(self._room, 2 * self._count.value)
                self._buffer = ctypes.create_string_buffer(self._room * _ENTRY.size)
            if inquiry.code not in OUTDATED:
                return None
        return None


def _most(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
