"""The engine's own statistics, for containers whose cgroup files cannot be seen from here: dear, so asked for nobody else.

One answer takes the engine milliseconds to seconds and daemon time that cgroup files do not. All are asked at once, in
threads beside the readings, which take what came last. https://docs.docker.com/reference/api/engine/ ("Get container stats").
"""

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.containers.engine import Engine
from otel_agent.sources.containers.snapshot import Link, Traffic, Usage

AT_ONCE = 32
TIMEOUT_S = 5.0
FIRST_S = 2.5  # how long the first reading waits, so that one reading alone is not without numbers
OLDEST_S = 30.0  # what the engine said is no longer told after this long
IDLE_S = 60.0  # a thread that nobody asked for anything ends
_NO_DISKS = (1, 7)  # majors of RAM and loop devices, as the kernel's list of devices fixes them: as in cgroup.py


class StatsReader:
    """Asks in the background for those named by `take`, and hands out what was told of them last."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._lock = threading.Lock()
        self._wanted: tuple[str, ...] = ()
        self._told: dict[str, tuple[float, Usage]] = {}
        self._asked, self._answered = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.stop = weakref.finalize(self, self._asked.set)

    def take(self, ids: Iterable[str]) -> Mapping[str, Usage]:
        """Return what was told of these containers last; those it is not known of yet are asked about."""
        wanted, now = tuple(ids), self._clock()
        with self._lock:
            self._wanted = wanted
        if wanted:
            self._asked.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=_run, args=(weakref.ref(self),), name="docker-stats", daemon=True
                )
                self._thread.start()
            self._answered.wait(FIRST_S)  # the very first answers are waited for, later ones never
        with self._lock:
            self._told = {found: self._told[found] for found in wanted if found in self._told}
            return {found: usage for found, (at_s, usage) in self._told.items() if now - at_s < OLDEST_S}

    def ask(self) -> None:
        """Ask about all that are wanted, at once."""
        with self._lock:
            wanted = self._wanted
        if not wanted:
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(wanted)), thread_name_prefix="docker-stats") as pool:
            answers = list(pool.map(self._ask, wanted))
        now = self._clock()
        with self._lock:
            self._told.update({found: (now, usage) for found, usage in zip(wanted, answers, strict=True) if usage})
        self._answered.set()

    def _ask(self, found: str) -> Usage | None:
        try:
            return parse_stats(self._engine.get(f"/containers/{found}/stats?stream=false&one-shot=true"))
        except (ReadError, Unavailable):  # it stopped meanwhile; an engine that is ill is told by the list
            return None


def _run(reader: "weakref.ref[StatsReader]") -> None:
    """Ask each time somebody took the answers; holds the reader only meanwhile, so that dropping it ends the thread."""
    while (found := reader()) is not None:
        asked, alive = found._asked, found.stop.alive  # noqa: SLF001 - its own thread
        if not alive:
            return
        asked.clear()
        found.ask()
        del found
        if not asked.wait(IDLE_S):
            return


def parse_stats(answer: object) -> Usage | None:
    """Return what one answer tells; None for a container that does not run, of which the engine tells only zeros."""
    cpu, memory, pids = _part(answer, "cpu_stats"), _part(answer, "memory_stats"), _part(answer, "pids_stats")
    used, held, detail = _part(cpu, "cpu_usage"), _part(cpu, "throttling_data"), _part(memory, "stats")
    total, usage = _number(used, "total_usage"), _number(memory, "usage")
    if not total and usage is None:
        return None
    # v1 counts what is below too under these names, v2 knows no others.
    inactive = _number(detail, "total_inactive_file", "inactive_file")
    networks = _part(answer, "networks")
    return Usage(
        cpu_s=_seconds(total),
        cpu_user_s=_seconds(_number(used, "usage_in_usermode")),
        cpu_system_s=_seconds(_number(used, "usage_in_kernelmode")),
        cpu_periods=_number(held, "periods"),
        cpu_throttled_periods=_number(held, "throttled_periods"),
        cpu_throttled_s=_seconds(_number(held, "throttled_time")),
        memory_usage_bytes=usage,
        memory_working_set_bytes=None if usage is None or inactive is None else max(0, usage - inactive),
        memory_rss_bytes=_number(detail, "total_rss", "anon"),
        faults=_number(detail, "total_pgfault", "pgfault"),
        major_faults=_number(detail, "total_pgmajfault", "pgmajfault"),
        pids=_number(pids, "current"),
        pids_limit=None if (most := _number(pids, "limit")) is None or most > 2**60 else most,
        network={name: link for name in networks if (link := _link(_part(networks, name)))} or None,
        disk=_disks(_part(answer, "blkio_stats")),
        origin="stats",
    )


def with_limit(usage: Usage, limit_bytes: int | None) -> Usage:
    """Return the usage with the limit that was declared: in the statistics, no limit is the memory of the machine."""
    return replace(usage, memory_limit_bytes=limit_bytes)


def _link(told: Mapping[str, Any]) -> Link | None:
    received, sent = _number(told, "rx_bytes"), _number(told, "tx_bytes")
    if received is None or sent is None:
        return None
    others = ("rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
    return Link(received, sent, *(_number(told, name) for name in others))


def _disks(told: Mapping[str, Any]) -> Mapping[str, Traffic] | None:
    moved, counted = (_by_kind(told.get(f"io_{what}_recursive")) for what in ("service_bytes", "serviced"))
    if moved is None:
        return None
    counted = counted or {}
    return {
        device: Traffic(
            kinds["read"],
            kinds["write"],
            counted.get(device, {}).get("read"),
            counted.get(device, {}).get("write"),
        )
        for device, kinds in moved.items()
        # A device is known by its first operation: nothing but zeros means not counted, as some kernels do with cgroup v1.
        if "read" in kinds and "write" in kinds and any(kinds.values())
    }


def _by_kind(rows: object) -> dict[str, dict[str, int]] | None:
    if not isinstance(rows, list):
        return None
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        major, minor, value = (_number(row, name) for name in ("major", "minor", "value"))
        if major is not None and major not in _NO_DISKS and minor is not None and value is not None:
            found.setdefault(f"{major}:{minor}", {})[str(row.get("op")).lower()] = value
    return found


def _part(told: object, name: str) -> Mapping[str, Any]:
    part = told.get(name) if isinstance(told, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _number(told: object, *names: str) -> int | None:
    if not isinstance(told, Mapping):
        return None
    values = (told.get(name) for name in names)
    return next(
        (value for value in values if isinstance(value, int) and not isinstance(value, bool) and value >= 0), None
    )


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
