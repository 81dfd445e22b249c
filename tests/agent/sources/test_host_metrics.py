"""The points of the machine's metrics, whole."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded_host import Clock, Mounted, recorded_root

from otel_agent.catalogue import problems, values
from otel_agent.sources.host.metrics import METRICS
from otel_agent.sources.host.read import open_host
from otel_agent.sources.host.snapshot import (
    Cpu,
    Disk,
    Filesystem,
    HostSnapshot,
    Interface,
    Memory,
    Network,
    Paging,
    Processes,
    Stall,
    Temperature,
)

NODE = HostSnapshot(
    time_s=1.0,
    hostname="node",
    boot_time_s=2.0,
    uptime_s=3.5,
    load=(4.5, 5.5, 6.5),
    cpu=Cpu({"user": 10.0, "idle": 11.0}, {"user": 0.75, "idle": 0.25}, 8, 4),
    memory=Memory(100, 25, 35, 15, 25, 60, 5, 7, 8),
    paging=Paging(80, 60, 12, 13, 14, 15, 16),
    disks=(Disk("nvme0n1", 21, 22, 23, 24, 2.5, 2.6, 27, 28, 2.9, 30),),
    filesystems=(Filesystem("/dev/sda1", "/", "ext4", 100, 30, 60, 50, 40),),
    unread={"/far": "stuck", "/farther": "stuck", "/gone": "failed"},
    network=Network((Interface("eth0", 41, 42, 43, 44, 45, 46, 47, 48),), 49.0, 50.0, 51, 52, 53),
    processes=Processes({"running": 61, "defunct": 62}, 63, 64),
    pressure={"io": Stall(7.1, 7.2), "cpu": Stall(7.3, None)},
    temperatures=(Temperature("coretemp.0/temp1", "coretemp", "Package id 0", "cpu", 81.5),),
)
POINTS = """
hw.temperature{hw.id=coretemp.0/temp1,hw.name=coretemp,hw.sensor_location=Package id 0,hw.type=cpu} 81.5
otel_llm.host.filesystem.inodes.limit{system.device=/dev/sda1,system.filesystem.mountpoint=/,system.filesystem.type=ext4} 50
otel_llm.host.filesystem.inodes.usage{system.device=/dev/sda1,system.filesystem.mountpoint=/,system.filesystem.type=ext4} 10
otel_llm.host.filesystem.unread{otel_llm.reason=failed} 1
otel_llm.host.filesystem.unread{otel_llm.reason=hidden} 0
otel_llm.host.filesystem.unread{otel_llm.reason=limit} 0
otel_llm.host.filesystem.unread{otel_llm.reason=stuck} 2
otel_llm.host.load{otel_llm.window=15m} 6.5
otel_llm.host.load{otel_llm.window=1m} 4.5
otel_llm.host.load{otel_llm.window=5m} 5.5
otel_llm.host.oom_kills{} 16
otel_llm.host.pressure.time{otel_llm.resource=cpu,otel_llm.stall=some} 7.3
otel_llm.host.pressure.time{otel_llm.resource=io,otel_llm.stall=full} 7.2
otel_llm.host.pressure.time{otel_llm.resource=io,otel_llm.stall=some} 7.1
system.cpu.logical.count{} 8
system.cpu.physical.count{} 4
system.cpu.time{cpu.mode=idle} 11
system.cpu.time{cpu.mode=user} 10
system.cpu.utilization{cpu.mode=idle} 0.25
system.cpu.utilization{cpu.mode=user} 0.75
system.disk.io_time{system.device=nvme0n1} 2.9
system.disk.io{system.device=nvme0n1,disk.io.direction=read} 21
system.disk.io{system.device=nvme0n1,disk.io.direction=write} 22
system.disk.limit{system.device=nvme0n1} 30
system.disk.merged{system.device=nvme0n1,disk.io.direction=read} 27
system.disk.merged{system.device=nvme0n1,disk.io.direction=write} 28
system.disk.operation_time{system.device=nvme0n1,disk.io.direction=read} 2.5
system.disk.operation_time{system.device=nvme0n1,disk.io.direction=write} 2.6
system.disk.operations{system.device=nvme0n1,disk.io.direction=read} 23
system.disk.operations{system.device=nvme0n1,disk.io.direction=write} 24
system.filesystem.limit{system.device=/dev/sda1,system.filesystem.mountpoint=/,system.filesystem.type=ext4} 100
system.filesystem.usage{system.device=/dev/sda1,system.filesystem.mountpoint=/,system.filesystem.type=ext4,system.filesystem.state=free} 60
system.filesystem.usage{system.device=/dev/sda1,system.filesystem.mountpoint=/,system.filesystem.type=ext4,system.filesystem.state=reserved} 10
system.filesystem.usage{system.device=/dev/sda1,system.filesystem.mountpoint=/,system.filesystem.type=ext4,system.filesystem.state=used} 30
system.filesystem.utilization{system.device=/dev/sda1,system.filesystem.mountpoint=/,system.filesystem.type=ext4} 0.333333
system.memory.limit{} 100
system.memory.linux.available{} 60
system.memory.linux.shared{} 5
system.memory.linux.slab.usage{system.memory.linux.slab.state=reclaimable} 7
system.memory.linux.slab.usage{system.memory.linux.slab.state=unreclaimable} 8
system.memory.usage{system.memory.state=buffers} 15
system.memory.usage{system.memory.state=cached} 25
system.memory.usage{system.memory.state=free} 35
system.memory.usage{system.memory.state=used} 25
system.memory.utilization{system.memory.state=used} 0.25
system.network.connection.count{network.transport=tcp,network.connection.state=time_wait} 52
system.network.connection.count{network.transport=tcp} 51
system.network.connection.count{network.transport=udp} 53
system.network.errors{network.interface.name=eth0,network.io.direction=receive} 43
system.network.errors{network.interface.name=eth0,network.io.direction=transmit} 47
system.network.io{network.interface.name=eth0,network.io.direction=receive} 41
system.network.io{network.interface.name=eth0,network.io.direction=transmit} 45
system.network.packet.count{system.device=eth0,network.io.direction=receive} 42
system.network.packet.count{system.device=eth0,network.io.direction=transmit} 46
system.network.packet.dropped{network.interface.name=eth0,network.io.direction=receive} 44
system.network.packet.dropped{network.interface.name=eth0,network.io.direction=transmit} 48
system.paging.faults{system.paging.fault.type=major} 13
system.paging.faults{system.paging.fault.type=minor} 12
system.paging.operations{system.paging.direction=in} 14
system.paging.operations{system.paging.direction=out} 15
system.paging.usage{system.paging.state=free} 60
system.paging.usage{system.paging.state=used} 20
system.paging.utilization{system.paging.state=used} 0.25
system.process.count{process.state=defunct} 62
system.process.count{process.state=running} 61
system.process.created{} 63
system.process.limit{} 64
system.uptime{} 3.5
""".strip().splitlines()


def points_of(snapshot: HostSnapshot) -> list[str]:
    return sorted(
        f"{row.name}{{{','.join(f'{name}={text}' for name, text in attributes.items())}}} {value:g}"
        for row in METRICS
        for value, attributes in values(row, snapshot)
    )


def test_a_snapshot_gives_these_points_and_no_others() -> None:
    assert points_of(NODE) == sorted(POINTS)


def test_what_is_unknown_gives_no_point() -> None:
    """Only the count of filesystems that could not be read is always known."""
    assert points_of(HostSnapshot(0.0, "node")) == [
        f"otel_llm.host.filesystem.unread{{otel_llm.reason={reason}}} 0"
        for reason in ("failed", "hidden", "limit", "stuck")
    ]


def test_a_machine_without_swap_has_no_share_of_it() -> None:
    snapshot = replace(NODE, paging=Paging(total=0, free=0))

    assert [point for point in points_of(snapshot) if "paging" in point] == [
        "system.paging.usage{system.paging.state=free} 0",
        "system.paging.usage{system.paging.state=used} 0",
    ]


def test_the_catalogue_is_sound() -> None:
    assert problems(METRICS) == []


def test_every_row_has_a_point_on_a_recorded_machine(tmp_path: Path) -> None:
    root, clock = recorded_root(tmp_path, "handmade-gpu-node"), Clock()
    mounted = Mounted(root, {"/": (9, 5, 5, 9, 5), "/boot/efi": (9, 5, 5, 0, 0), "/data": (9, 5, 5, 9, 5)})
    mounted.spaces |= dict.fromkeys(("/data/late", "/models", "/buckets/a", "/buckets/b"), (9, 5, 5, 0, 0))
    read = open_host(root, clock=clock, statvfs=mounted.statvfs, stat_path=mounted.stat)
    read()
    stat = (root / "proc/stat").read_text()
    (root / "proc/stat").write_text(stat.replace("cpu  1000", "cpu  1100"))
    clock.now += 5
    snapshot = read()

    assert [row.name for row in METRICS if not values(row, snapshot)] == []


def conventions() -> dict[str, tuple[str, str]]:
    """Return kind and unit by name, as the creators in the semantic conventions' package set them."""
    found: dict[str, tuple[str, str]] = {}

    class Meter:
        def __getattr__(self, method: str) -> Any:
            kind = method.removeprefix("create_").removeprefix("observable_").replace("_", "")
            return lambda name, *args, unit="", **others: found.__setitem__(name, (kind, unit))

    for part in ("system", "hw"):
        module = importlib.import_module(f"opentelemetry.semconv._incubating.metrics.{part}_metrics")
        for name, create in vars(module).items():
            if name.startswith("create_"):
                takes_callbacks = "callbacks" in create.__code__.co_varnames[: create.__code__.co_argcount]
                create(Meter(), *([None] if takes_callbacks else []))
    return found


@pytest.mark.parametrize(
    "row", [row for row in METRICS if not row.name.startswith("otel_llm.")], ids=lambda row: row.name
)
def test_a_name_of_the_semantic_conventions_has_their_kind_and_unit(row: Any) -> None:
    assert (row.kind, row.unit) == conventions()[row.name]
