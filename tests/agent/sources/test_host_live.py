"""This very machine, read by us and by psutil; the numbers must be the same but for what changes in between."""

import math
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from otel_agent.errors import Unavailable
from otel_agent.sources.host.portable import open_portable
from otel_agent.sources.host.read import open_host
from otel_agent.sources.host.snapshot import HostSnapshot

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this machine has no /proc to compare with")
MB = 1_000_000


@pytest.fixture(scope="module")
def snapshot() -> HostSnapshot:
    read = open_host()
    read()
    return read_after_ticks(read)


def read_after_ticks(read: Callable[[], HostSnapshot]) -> HostSnapshot:
    """Read again once the kernel has counted CPU time, which it does in hundredths of a second."""
    before = sum(psutil.cpu_times())
    end = time.monotonic() + 30
    while sum(psutil.cpu_times()) - before < 0.1 and time.monotonic() < end:
        time.sleep(0.02)
    return read()


def near(ours: float | None, theirs: float, relative: float = 0.0, absolute: float = 0.0) -> bool:
    return ours is not None and math.isclose(ours, theirs, rel_tol=relative, abs_tol=absolute)


def test_identity_and_uptime(snapshot: HostSnapshot) -> None:
    assert snapshot.hostname == socket.gethostname()
    assert near(snapshot.boot_time_s, psutil.boot_time(), absolute=2)
    assert near(snapshot.uptime_s, time.clock_gettime(time.CLOCK_BOOTTIME), absolute=30)
    assert snapshot.load is not None
    assert all(near(ours, theirs, absolute=2) for ours, theirs in zip(snapshot.load, psutil.getloadavg(), strict=True))


def test_cpu_time_by_mode(snapshot: HostSnapshot) -> None:
    theirs: Any = psutil.cpu_times()
    ours = snapshot.cpu.time_s

    assert set(ours) == {"user", "nice", "system", "idle", "iowait", "interrupt", "steal"}
    for mode in ("user", "nice", "system", "idle", "iowait", "steal"):
        assert near(ours[mode], getattr(theirs, mode), absolute=10), mode
    assert near(ours["interrupt"], theirs.irq + theirs.softirq, absolute=10)
    assert near(sum(snapshot.cpu.utilization.values()), 1.0, absolute=1e-9)
    assert (snapshot.cpu.logical_count, snapshot.cpu.physical_count) == (
        psutil.cpu_count(),
        psutil.cpu_count(logical=False),
    )


def test_memory_and_paging(snapshot: HostSnapshot) -> None:
    theirs: Any = psutil.virtual_memory()
    ours = snapshot.memory
    swap: Any = psutil.swap_memory()

    assert ours.total == theirs.total
    for state, told in (
        ("free", theirs.free),
        ("available", theirs.available),
        ("shared", theirs.shared),
        ("buffers", theirs.buffers),
    ):
        assert near(getattr(ours, state), told, absolute=500 * MB), state
    assert near(ours.cached, theirs.cached - theirs.shared, absolute=500 * MB)
    assert sum(getattr(ours, state) for state in ("used", "free", "buffers", "cached")) == ours.total
    assert snapshot.paging.total == swap.total
    assert near(snapshot.paging.used, swap.used, absolute=50 * MB)


def test_filesystems(snapshot: HostSnapshot) -> None:
    theirs = psutil.disk_usage("/")
    ours = next(one for one in snapshot.filesystems if one.mountpoint == "/")

    assert ours.size == theirs.total
    assert near(ours.used, theirs.used, absolute=2000 * MB)
    assert near(ours.free, theirs.free, absolute=2000 * MB)
    assert near(ours.utilization, theirs.percent / 100, absolute=0.02)
    assert snapshot.unread == {} or set(snapshot.unread.values()) <= {"stuck", "failed", "hidden", "limit"}


def test_disks(snapshot: HostSnapshot) -> None:
    theirs: Any = psutil.disk_io_counters(perdisk=True)

    assert {disk.device for disk in snapshot.disks} <= theirs.keys()
    for disk in snapshot.disks:
        told = theirs[disk.device]
        assert near(disk.read_bytes, told.read_bytes, 0.05, 500 * MB)
        assert near(disk.written_bytes, told.write_bytes, 0.05, 500 * MB)
        assert near(disk.reads, told.read_count, 0.05, 5000)
        assert near(disk.read_time_s, told.read_time / 1000, 0.05, 10)
        assert near(disk.io_time_s, told.busy_time / 1000, 0.05, 10)


def test_network(snapshot: HostSnapshot) -> None:
    theirs = psutil.net_io_counters(pernic=True, nowrap=False)

    assert "lo" not in {interface.name for interface in snapshot.network.interfaces}
    for interface in snapshot.network.interfaces:
        told = theirs[interface.name]
        assert near(interface.received_bytes, told.bytes_recv, 0.05, 500 * MB)
        assert near(interface.sent_packets, told.packets_sent, 0.05, 500_000)
        assert (interface.received_errors, interface.sent_dropped) == (told.errin, told.dropout)
    assert snapshot.network.received_per_s is None or snapshot.network.received_per_s >= 0


def test_processes(snapshot: HostSnapshot) -> None:
    assert near(sum(snapshot.processes.states.values()), len(psutil.pids()), 0.5, 20)
    assert snapshot.processes.created is not None
    assert snapshot.processes.created > len(psutil.pids())


def test_sockets_in_use_are_counted() -> None:
    """Twenty more of them; a few others may be closed in the meantime."""
    read = open_host()
    before = read().network.tcp_sockets
    with ExitStack() as opened:
        for _ in range(20):
            opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        during = read().network.tcp_sockets

    assert before is not None
    assert during is not None
    assert 10 < during - before < 200


def test_a_root_mounted_elsewhere_tells_the_same_machine(snapshot: HostSnapshot) -> None:
    """As in a container that has the machine's root below /host."""
    elsewhere = open_host(Path("/proc/self/root"))()

    assert elsewhere.memory.total == snapshot.memory.total
    assert elsewhere.boot_time_s == snapshot.boot_time_s
    assert [disk.device for disk in elsewhere.disks] == [disk.device for disk in snapshot.disks]
    root, own_root = elsewhere.root_filesystem, snapshot.root_filesystem
    assert root is not None
    assert own_root is not None
    assert (root.device, root.type, root.size) == (own_root.device, own_root.type, own_root.size)


def test_the_portable_reader_tells_the_same_where_both_work(snapshot: HostSnapshot) -> None:
    read = open_portable()
    read()
    portable = read_after_ticks(read)

    assert portable.hostname == snapshot.hostname
    assert near(portable.boot_time_s, snapshot.boot_time_s or 0, absolute=2)
    assert portable.cpu.time_s.keys() == snapshot.cpu.time_s.keys()
    assert near(portable.cpu.usage, 0.5, absolute=0.5)
    assert (portable.cpu.logical_count, portable.cpu.physical_count) == (
        snapshot.cpu.logical_count,
        snapshot.cpu.physical_count,
    )
    for state in ("total", "used", "free", "buffers", "cached", "available", "shared"):
        assert near(getattr(portable.memory, state), getattr(snapshot.memory, state), absolute=500 * MB), state
    assert portable.paging.total == snapshot.paging.total
    root, own_root = portable.root_filesystem, snapshot.root_filesystem
    assert root is not None
    assert own_root is not None
    assert (root.device, root.type, root.size) == (own_root.device, own_root.type, own_root.size)


def test_a_machine_without_proc_is_read_by_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: False)

    read = open_host()

    monkeypatch.undo()
    snapshot = read()
    assert snapshot.memory.total == psutil.virtual_memory().total
    assert snapshot.pressure == {}


def test_a_machine_without_proc_and_psutil_is_unavailable_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)

    with pytest.raises(Unavailable) as caught:
        open_host()

    assert caught.value.reason == "this machine has no /proc, and psutil is not installed"
    assert caught.value.remedy == "pip install 'otel-llm[agent]'"
