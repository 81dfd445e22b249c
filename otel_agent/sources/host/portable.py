"""Reads what psutil can tell of a machine that has no /proc, such as a Mac; states, pressure and the counters of single facts stay absent."""

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.host.cpu import cpu_utilization, never_falling
from otel_agent.sources.host.network import outward, rate
from otel_agent.sources.host.snapshot import Cpu, Disk, Filesystem, HostSnapshot, Interface, Memory, Network, Paging

_MODES = {
    "user": ("user",),
    "nice": ("nice",),
    "system": ("system",),
    "idle": ("idle",),
    "iowait": ("iowait",),
    "interrupt": ("irq", "softirq"),
    "steal": ("steal",),
}


def open_portable(
    clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
) -> Callable[[], HostSnapshot]:
    """Return a reader of this machine by psutil; raises Unavailable where psutil is not installed."""
    try:
        import psutil
    except ImportError as error:
        raise Unavailable(
            "this machine has no /proc, and psutil is not installed", "pip install 'otel-llm[agent]'"
        ) from error
    times: dict[str, float] = {}
    interfaces: tuple[Interface, ...] = ()
    at = clock()

    def read() -> HostSnapshot:
        nonlocal times, interfaces, at
        try:
            time_s, now = wall(), clock()
            times_now = never_falling(times, _times(psutil.cpu_times()))
            interfaces_now = outward(_interfaces(psutil.net_io_counters(pernic=True)), "")
            snapshot = HostSnapshot(
                time_s=time_s,
                hostname=socket.gethostname(),
                boot_time_s=(boot := psutil.boot_time()),
                uptime_s=max(0.0, time_s - boot),
                load=psutil.getloadavg(),
                cpu=Cpu(
                    times_now, cpu_utilization(times, times_now), psutil.cpu_count(), psutil.cpu_count(logical=False)
                ),
                memory=_memory(psutil.virtual_memory()),
                paging=_paging(psutil.swap_memory()),
                disks=_disks(psutil.disk_io_counters(perdisk=True)),
                filesystems=_filesystems(psutil.disk_partitions(all=False)),
                network=Network(
                    interfaces_now,
                    rate(interfaces, interfaces_now, now - at, "received_bytes"),
                    rate(interfaces, interfaces_now, now - at, "sent_bytes"),
                ),
            )
        except (psutil.Error, OSError, RuntimeError) as error:
            raise ReadError(f"psutil: {error}") from error
        times, interfaces, at = times_now, interfaces_now, now
        return snapshot

    return read


def _times(told: Any) -> dict[str, float]:
    return {
        mode: sum(getattr(told, name) for name in names)
        for mode, names in _MODES.items()
        if all(hasattr(told, name) for name in names)
    }


def _memory(told: Any) -> Memory:
    shared: int | None = getattr(told, "shared", None)
    buffers: int | None = getattr(told, "buffers", None)
    cached: int | None = getattr(told, "cached", None)
    if shared is None or buffers is None or cached is None:  # not Linux: what is available is all that is not in use
        return Memory(total=told.total, used=told.total - told.available, free=told.available, available=told.available)
    pages = max(0, cached - shared)
    return Memory(
        told.total, max(0, told.total - told.free - buffers - pages), told.free, buffers, pages, told.available, shared
    )


def _paging(told: Any) -> Paging:
    size = os.sysconf("SC_PAGE_SIZE")
    return Paging(total=told.total, free=told.free, pages_in=told.sin // size, pages_out=told.sout // size)


def _disks(told: Any) -> tuple[Disk, ...]:
    return tuple(
        Disk(
            device=name,
            read_bytes=one.read_bytes,
            written_bytes=one.write_bytes,
            reads=one.read_count,
            writes=one.write_count,
            read_time_s=one.read_time / 1000,
            write_time_s=one.write_time / 1000,
        )
        for name, one in sorted((told or {}).items())
    )


def _filesystems(partitions: Any) -> tuple[Filesystem, ...]:
    found: dict[str, Filesystem] = {}
    for partition in sorted(partitions, key=lambda one: len(one.mountpoint)):
        if partition.device in found:
            continue
        try:
            space = os.statvfs(partition.mountpoint)
        except OSError:
            continue
        found[partition.device] = Filesystem(
            device=partition.device,
            mountpoint=partition.mountpoint,
            type=partition.fstype,
            size=space.f_blocks * space.f_frsize,
            used=(space.f_blocks - space.f_bfree) * space.f_frsize,
            free=space.f_bavail * space.f_frsize,
            inodes=space.f_files or None,
            inodes_free=space.f_ffree if space.f_files else None,
        )
    return tuple(found.values())


def _interfaces(told: Any) -> tuple[Interface, ...]:
    return tuple(
        Interface(
            name,
            one.bytes_recv,
            one.packets_recv,
            one.errin,
            one.dropin,
            one.bytes_sent,
            one.packets_sent,
            one.errout,
            one.dropout,
        )
        for name, one in sorted(told.items())
    )
