"""Reads the processes: every one's line of numbers each time, and the rest only of those that are told.

Told are the few that use most CPU and most memory, and all that are on a GPU. Which container they belong to is left to
`derived`, but for the container's id that the kernel's name of their cgroup carries.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from heapq import nlargest
from pathlib import Path

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.processes.snapshot import Process, ProcessesSnapshot

TOP = 10
PARENTS = 4
KEEP = 0.8  # of what a process used before, from reading to reading: who is busiest must not change with every breath
GPU_MOST = 1024  # processes on GPUs of one machine
COMMAND_BYTES, COMMAND_WORDS, WORD_LENGTH = 2**16, 128, 512
HOST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# docker-<id>.scope, cri-containerd-<id>.scope, crio-<id>.scope, libpod-<id>.scope and the bare id, whatever stands above and below.
_CONTAINER = re.compile(r"(?:^|[/:-])([0-9a-f]{64})(?=\.scope|/|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Line:
    """The numbers of /proc/<pid>/stat that are needed to choose."""

    pid: int
    name: bytes
    state: bytes
    parent: int
    user: int
    system: int
    threads: int
    start: int
    virtual: int
    resident: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """One process at the last reading: start and CPU time in ticks, and the CPU time of late, older readings counting less and less."""

    start: int
    ticks: int
    busy: float


class ProcessReader:
    """Reads all processes each time it is called; keeps the CPU time of each until the next reading and nothing else."""

    def __init__(
        self,
        proc: Path,
        top: int,
        gpu_pids: Callable[[], Iterable[int]],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._proc, self._top, self._gpu_pids, self._clock, self._wall = str(proc), top, gpu_pids, clock, wall
        self._before: dict[int, _Seen] = {}
        self._at_s: float | None = None
        self._boot_s = self._booted()
        self._host_view = self._sees_host()

    def __call__(self) -> ProcessesSnapshot:
        """Return the chosen processes now; raises ReadError where the processes cannot be listed."""
        now_s, wall_s = self._clock(), self._wall()
        lines = self._lines()
        since_s = None if self._at_s is None else now_s - self._at_s
        used: dict[int, int] = {}
        seen: dict[int, _Seen] = {}
        for pid, line in lines.items():
            ticks, before = line.user + line.system, self._before.get(pid)
            if before is not None and before.start == line.start:
                used[pid] = ticks - before.ticks
                seen[pid] = _Seen(line.start, ticks, KEEP * before.busy + used[pid])
            else:
                seen[pid] = _Seen(line.start, ticks, 0.0)
        self._before = seen
        self._at_s = now_s
        gpu = frozenset(sorted(set(self._gpu_pids()))[:GPU_MOST])
        chosen = {
            line.pid for line in nlargest(self._top, lines.values(), key=lambda line: line.resident) if line.resident
        }
        chosen |= {pid for pid in nlargest(self._top, used, key=lambda pid: (seen[pid].busy, -pid)) if seen[pid].busy}
        found = {
            pid: self._process(lines[pid], used.get(pid), since_s, lines if pid in gpu else None)
            for pid in sorted(chosen | (gpu & lines.keys()))
        }
        return ProcessesSnapshot(wall_s, self._boot_s, found, gpu, self._host_view, self._minors() if gpu else {})

    def _lines(self) -> dict[int, _Line]:
        try:
            entries = os.listdir(self._proc)  # noqa: PTH208 - strings are enough, thousands of times
        except OSError as error:
            raise ReadError(f"{self._proc} cannot be listed: {error.strerror}") from error
        found = (self._line(entry) for entry in entries if entry.isdigit())
        return {line.pid: line for line in found if line is not None}

    def _line(self, pid: str) -> _Line | None:
        """Read `7 (na me) S 1 ...`; the name may hold blanks and parentheses, what follows the last one does not."""
        text = self._text(f"{pid}/stat", 2048)
        before, _, rest = text.rpartition(b")")
        columns = rest.split()
        try:
            return _Line(
                int(pid),
                before.partition(b"(")[2],
                columns[0],
                *(int(columns[position]) for position in (1, 11, 12, 17, 19, 20, 21)),
            )
        except (IndexError, ValueError):  # it ended meanwhile
            return None

    def _process(
        self, line: _Line, used: int | None, since_s: float | None, lines: Mapping[int, _Line] | None
    ) -> Process:
        """Return one process; with `lines`, those of all, also what says whose it is."""
        process = Process(
            pid=line.pid,
            started_s=(self._boot_s or 0.0) + line.start / _TICKS,
            name=line.name.decode("utf-8", "replace") or None,
            state=line.state.decode("ascii", "replace"),
            parent=line.parent or None,
            user_s=line.user / _TICKS,
            system_s=line.system / _TICKS,
            memory_bytes=line.resident * _PAGE,
            virtual_bytes=line.virtual,
            threads=line.threads,
            cpus=None if used is None or not since_s else used / _TICKS / since_s,
            descriptors=self._descriptors(line.pid),
            container_id=container_of(self._text(f"{line.pid}/cgroup", 2**16)),
        )
        io = dict(entry.split(b": ", 1) for entry in self._text(f"{line.pid}/io", 1024).splitlines() if b": " in entry)
        if io.get(b"read_bytes", b"").isdigit() and io.get(b"write_bytes", b"").isdigit():
            process = replace(process, read_bytes=int(io[b"read_bytes"]), written_bytes=int(io[b"write_bytes"]))
        if lines is None:
            return process
        return replace(
            process,
            mount_namespace=self._link(f"{line.pid}/ns/mnt"),
            pid_namespace=self._link(f"{line.pid}/ns/pid"),
            command=self._command(line.pid),
            parents=tuple(self._command(parent) for parent in self._parents(line, lines)),
        )

    def _command(self, pid: int) -> tuple[str, ...]:
        words = self._text(f"{pid}/cmdline", COMMAND_BYTES).split(b"\0")[:COMMAND_WORDS]
        return tuple(word[:WORD_LENGTH].decode("utf-8", "replace") for word in words if word)

    @staticmethod
    def _parents(line: _Line, lines: Mapping[int, _Line]) -> list[int]:
        """Return the pids of the parents, the nearest first, without the first process of all."""
        found: list[int] = []
        while len(found) < PARENTS and line.parent > 1 and line.parent in lines:
            found.append(line.parent)
            line = lines[line.parent]
        return found

    def _descriptors(self, pid: int) -> int | None:
        try:
            return len(os.listdir(f"{self._proc}/{pid}/fd"))  # noqa: PTH208
        except OSError:
            return None

    def _sees_host(self) -> bool | None:
        """Tell whether a driver's pids are those of /proc: the kernel's own thread shows there, and this process is in that namespace too."""
        own = self._link_at("/proc/self/ns/pid")
        shown = self._text("2/comm", 64).strip() == b"kthreadd"
        if own is None:
            return None
        return shown and own == HOST_PID_NAMESPACE

    def _booted(self) -> float | None:
        found = re.search(rb"^btime (\d+)$", self._text("stat", 2**22), re.MULTILINE)
        return float(found[1]) if found else None

    def _minors(self) -> dict[str, int]:
        """Read `Device Minor: 0` of each GPU: what numbers its device node is neither its index nor the order of its address."""
        folder, found = f"{self._proc}/driver/nvidia/gpus", {}
        try:
            gpus = os.listdir(folder)  # noqa: PTH208
        except OSError:
            return {}
        for address in gpus:
            told = re.search(
                rb"^Device Minor:\s*(\d+)", self._text(f"driver/nvidia/gpus/{address}/information", 4096), re.MULTILINE
            )
            if told:
                found[address] = int(told[1])
        return found

    def _text(self, path: str, cap: int) -> bytes:
        try:
            file = os.open(f"{self._proc}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return b""
        try:
            return os.read(file, cap)
        except OSError:
            return b""
        finally:
            os.close(file)

    def _link(self, path: str) -> str | None:
        return self._link_at(f"{self._proc}/{path}")

    @staticmethod
    def _link_at(path: str) -> str | None:
        try:
            return os.readlink(path)  # noqa: PTH115 - the target is a name, no path
        except OSError:
            return None


def container_of(cgroup: bytes) -> str | None:
    """Return the id of the innermost container that a /proc/<pid>/cgroup names, whatever driver and version wrote it."""
    found = _CONTAINER.findall(cgroup.decode("utf-8", "replace"))
    return found[-1] if found else None


def open_processes(
    root: Path = Path("/"),
    top: int = TOP,
    gpu_pids: Callable[[], Iterable[int]] = tuple,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> ProcessReader:
    """Return a reader of the processes; raises Unavailable where there is no /proc. `gpu_pids` tells those that GPUs name."""
    proc = root / "proc"
    if not (proc / "stat").exists():
        raise Unavailable(
            f"no {proc}/stat: processes are read on Linux alone", "leave processes out of OTEL_LLM_SOURCES"
        )
    return ProcessReader(proc, top, gpu_pids, clock, wall)
