"""The machine's facts, read from recorded /proc and /sys trees."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_host import BLOCK, Clock, Mounted, recorded_root

from otel_agent.errors import ReadError, Unavailable
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

KIB = 1024
DEBIAN = "debian-12-kernel-6.18"
ONE_ROOT = {"/": (1000, 700, 600, 500, 400)}
ROOT_FILESYSTEM = Filesystem("/dev/vda", "/", "ext4", 1000 * BLOCK, 300 * BLOCK, 600 * BLOCK, 500, 400)
VDA = Disk(
    device="vda",
    read_bytes=7770946 * 512,
    written_bytes=37320912 * 512,
    reads=279104,
    writes=91441,
    read_time_s=211.789,
    write_time_s=133.898,
    reads_merged=44719,
    writes_merged=303941,
    io_time_s=50.688,
    size=536870912 * 512,
)
ETH0 = Interface("eth0", 1602931328, 92051, 0, 0, 6834060, 64454, 0, 0)


def reader(root: Path, clock: Clock | None = None, mounted: Mounted | None = None) -> Callable[[], HostSnapshot]:
    clock, mounted = clock or Clock(), mounted or Mounted(root, dict(ONE_ROOT))
    return open_host(root, clock=clock, wall=lambda: 1_795_259_560.5, statvfs=mounted.statvfs, stat_path=mounted.stat)


def test_every_fact_of_a_recorded_machine_is_read(tmp_path: Path) -> None:
    snapshot = reader(recorded_root(tmp_path, DEBIAN))()

    assert snapshot == HostSnapshot(
        time_s=1_795_259_560.5,
        hostname="recorded",
        boot_time_s=1795257863,
        uptime_s=1697.63,
        load=(2.40, 3.60, 3.05),
        cpu=Cpu(
            time_s={
                "user": 2121.89,
                "nice": 0.0,
                "system": 343.60,
                "idle": 899.10,
                "iowait": 9.36,
                "interrupt": 5.52,
                "steal": 4.14,
            },
            utilization={},
            logical_count=2,
            physical_count=2,
        ),
        memory=Memory(
            total=24684092 * KIB,
            used=(24684092 - 18453224 - 108376 - (4754824 + 705532 - 8856)) * KIB,
            free=18453224 * KIB,
            buffers=108376 * KIB,
            cached=(4754824 + 705532 - 8856) * KIB,
            available=23693464 * KIB,
            shared=8856 * KIB,
            slab_reclaimable=705532 * KIB,
            slab_unreclaimable=61328 * KIB,
        ),
        paging=Paging(0, 0, 59693457 - 7181, 7181, 0, 0, 0),
        disks=(VDA,),
        filesystems=(ROOT_FILESYSTEM,),
        unread={},
        network=Network((ETH0,), None, None, 1, 22, 0),
        processes=Processes({"running": 0, "sleeping": 12, "blocked": 0, "stopped": 0, "defunct": 0}, 39860, 32768),
        pressure={"cpu": Stall(771.780483, None), "io": Stall(23.114184, 6.647236), "memory": Stall(0.0, 0.0)},
        temperatures=(),
    )


def test_shares_and_rates_come_from_two_readings(tmp_path: Path) -> None:
    root, clock = recorded_root(tmp_path, DEBIAN), Clock()
    read = reader(root, clock)
    first = read()
    clock.now += 4
    change(root / "proc/stat", "cpu  212189 0 34360 89910 936 0 552 414", "cpu  212489 0 34460 90410 1036 0 552 414")
    change(root / "proc/1/net/dev", "1602931328", "1602931728")
    change(root / "proc/1/net/dev", "6834060", "6834260")

    second = read()

    assert (first.cpu.utilization, first.network.received_per_s, first.network.sent_per_s) == ({}, None, None)
    assert second.cpu.utilization == {
        "user": 0.3,
        "nice": 0.0,
        "system": 0.1,
        "idle": 0.5,
        "iowait": 0.1,
        "interrupt": 0.0,
        "steal": 0.0,
    }
    assert (second.network.received_per_s, second.network.sent_per_s) == (100.0, 50.0)


def test_cpu_time_never_falls_where_the_kernel_takes_iowait_back(tmp_path: Path) -> None:
    root = recorded_root(tmp_path, DEBIAN)
    read = reader(root)
    read()
    change(root / "proc/stat", "cpu  212189 0 34360 89910 936", "cpu  212199 0 34360 89900 930")

    cpu = read().cpu

    assert (cpu.time_s["user"], cpu.time_s["idle"], cpu.time_s["iowait"]) == (2121.99, 899.10, 9.36)
    assert (cpu.utilization["user"], cpu.utilization["idle"], cpu.utilization["iowait"]) == (1.0, 0.0, 0.0)


def test_traffic_of_an_interface_that_restarted_or_came_new_makes_no_jump_in_the_rate(tmp_path: Path) -> None:
    root, clock = recorded_root(tmp_path, "handmade-gpu-node"), Clock()
    read = reader(root, clock)
    change(root / "proc/1/net/dev", "  ib0: 5000", "  gone: 5000")
    read()
    clock.now += 10
    change(root / "proc/1/net/dev", "  gone: 5000", "  ib0: 5000")
    change(root / "proc/1/net/dev", "enp1s0f0:1000", "enp1s0f0:400")
    change(root / "proc/1/net/dev", "enp1s0f1:2000", "enp1s0f1:2500")

    assert read().network.received_per_s == 50.0


def test_what_is_damaged_is_unknown_and_the_rest_is_told(tmp_path: Path) -> None:
    """The twin of the recording lacks rows, columns, numbers and whole files."""
    read = reader(recorded_root(tmp_path, f"{DEBIAN}-damaged"))

    assert (
        read()
        == read()
        == HostSnapshot(
            time_s=1_795_259_560.5,
            hostname="recorded",
            boot_time_s=1795257863,
            uptime_s=None,
            load=None,
            cpu=Cpu({}, {}, 2, None),
            memory=Memory(
                total=24684092 * KIB,
                used=None,
                free=None,
                buffers=108376 * KIB,
                cached=(4754824 + 705532 - 8856) * KIB,
                available=23693464 * KIB,
                shared=8856 * KIB,
                slab_reclaimable=705532 * KIB,
                slab_unreclaimable=61328 * KIB,
            ),
            paging=Paging(0, 0, None, None, None, 0, 0),
            disks=(),
            filesystems=(ROOT_FILESYSTEM,),
            network=Network(),
            processes=Processes({"running": 0, "sleeping": 11, "blocked": 0, "stopped": 0, "defunct": 0}, None, 192730),
            pressure={"cpu": Stall(771.780483, None), "memory": Stall(0.0, None)},
        )
    )


def test_a_kernel_without_available_memory_and_pressure_gives_none_of_them(tmp_path: Path) -> None:
    snapshot = reader(recorded_root(tmp_path, "trimmed-to-kernel-3.10"))()

    assert (snapshot.memory.available, snapshot.paging.oom_kills, snapshot.pressure) == (None, None, {})
    assert snapshot.memory.total == 24684092 * KIB
    assert snapshot.disks == (VDA,)


def test_a_kernel_that_has_no_full_row_for_cpu_gives_none_for_it(tmp_path: Path) -> None:
    """Before 5.13 the row is missing; since then it is 0 by decree, which is no measurement either."""
    snapshot = reader(recorded_root(tmp_path, "trimmed-to-kernel-5.10"))()

    assert snapshot.pressure == {
        "cpu": Stall(771.780483, None),
        "io": Stall(23.114184, 6.647236),
        "memory": Stall(0.0, 0.0),
    }


def test_only_whole_disks_that_hold_data_themselves_count(tmp_path: Path) -> None:
    """NVMe multipath heads do, though virtual; partitions, RAID, device mapper and optical drives do not."""
    disks = reader(recorded_root(tmp_path, "handmade-gpu-node"))().disks

    assert disks == (
        Disk("nvme0n1", 2000 * 512, 4000 * 512, 100, 200, 3.0, 5.0, 10, 20, 6.0, 7501476528 * 512),
        Disk("nvme1n1", 80 * 512, 60 * 512, 7, 6, 0.009, 0.005, 0, 0, 0.01, 1000 * 512),
        Disk("sda", 22 * 512, 55 * 512, 11, 44, 0.033, 0.066, 1, 4, 0.077, None),
    )


def test_only_interfaces_with_a_device_count(tmp_path: Path) -> None:
    """Bonds, bridges and veth carry the same bytes once more."""
    network = reader(recorded_root(tmp_path, "handmade-gpu-node"))().network

    assert network == Network(
        (
            Interface("enp1s0f0", 1000, 10, 1, 2, 3000, 30, 0, 0),
            Interface("enp1s0f1", 2000, 20, 2, 4, 4000, 40, 0, 0),
            Interface("ib0", 5000, 50, 0, 0, 6000, 60, 0, 1),
        ),
        None,
        None,
        45,
        7,
        5,
    )


def test_where_no_interface_has_a_device_those_count_that_are_not_inner_by_name(tmp_path: Path) -> None:
    root = recorded_root(tmp_path, DEBIAN)
    shutil.rmtree(root / "sys/class/net")

    assert reader(root)().network.interfaces == (ETH0,)


def test_sensors_have_lasting_names_and_single_cores_are_left_out(tmp_path: Path) -> None:
    """A sensor that cannot be read is left out too."""
    temperatures = reader(recorded_root(tmp_path, "handmade-gpu-node"))().temperatures

    assert temperatures == (
        Temperature("coretemp.0/temp1", "coretemp", "Package id 0", "cpu", 61.0),
        Temperature("nvme1/temp1", "nvme", "Composite", "physical_disk", 38.85),
        Temperature("thermal_zone0/temp1", "acpitz", "temp1", "temperature", 27.8),
    )


def test_thermal_zones_stand_in_where_there_is_no_sensor_chip(tmp_path: Path) -> None:
    """The kernel marks a zone without a value by a number below absolute zero."""
    temperatures = reader(recorded_root(tmp_path, "trimmed-to-kernel-3.10"))().temperatures

    assert temperatures == (Temperature("thermal_zone0", "x86_pkg_temp", "x86_pkg_temp", "cpu", 45.0),)


def test_new_sensors_are_found_within_a_minute(tmp_path: Path) -> None:
    root, clock = recorded_root(tmp_path, "handmade-gpu-node"), Clock()
    (root / "sys/class/hwmon").rename(root / "sys/class/later")
    read = reader(root, clock)
    assert [one.id for one in read().temperatures] == ["thermal_zone0"]
    (root / "sys/class/later").rename(root / "sys/class/hwmon")

    clock.now += 60

    assert [one.id for one in read().temperatures] == ["coretemp.0/temp1", "nvme1/temp1", "thermal_zone0/temp1"]


def test_processes_are_counted_by_state_whatever_they_are_called(tmp_path: Path) -> None:
    processes = reader(recorded_root(tmp_path, "handmade-gpu-node"))().processes

    assert processes == Processes(
        {"running": 1, "sleeping": 3, "blocked": 1, "stopped": 2, "defunct": 1}, 4242, 4194304
    )


def test_states_are_unknown_to_a_user_who_cannot_see_all_processes(tmp_path: Path) -> None:
    """With hidepid only one's own processes are listed: their number would pass for that of the machine."""
    root = recorded_root(tmp_path, DEBIAN)
    (root / "proc/1").rename(root / "proc/own")
    (root / "proc/77").mkdir()

    assert reader(root)().processes == Processes({}, 39860, 32768)


def test_a_fast_reader_counts_process_states_every_five_seconds_only(tmp_path: Path) -> None:
    root, clock = recorded_root(tmp_path, DEBIAN), Clock()
    read = reader(root, clock)
    counts = [read().processes.states["sleeping"]]
    shutil.rmtree(root / "proc/12")
    for _ in range(5):
        clock.now += 1
        counts.append(read().processes.states["sleeping"])

    assert counts == [12, 12, 12, 12, 12, 11]


def test_cores_are_counted_anew_when_cpus_come_online(tmp_path: Path) -> None:
    root = recorded_root(tmp_path, DEBIAN)
    shutil.rmtree(root / "sys/devices/system/cpu/cpu1")
    change(root / "proc/stat", "cpu1 106676", "off1 106676")
    read = reader(root)
    alone = read().cpu
    shutil.copytree(root / "sys/devices/system/cpu/cpu0", root / "sys/devices/system/cpu/cpu1")
    (root / "sys/devices/system/cpu/cpu1/topology/thread_siblings_list").write_text("1\n")
    change(root / "proc/stat", "off1 106676", "cpu1 106676")
    both = read().cpu

    assert [(cpu.logical_count, cpu.physical_count) for cpu in (alone, both)] == [(1, 1), (2, 2)]


def test_a_root_without_proc_is_unavailable_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        open_host(tmp_path)

    assert caught.value.reason == f"no /proc/stat below {tmp_path}"
    assert caught.value.remedy == "mount the host's root there, read-only, with what is mounted below it (rslave)"


def test_a_proc_that_tells_nothing_any_more_is_an_error_and_recovers(tmp_path: Path) -> None:
    root = recorded_root(tmp_path, DEBIAN)
    read = reader(root)
    before = read()
    (root / "proc").rename(root / "away")
    with pytest.raises(ReadError, match="tells neither of CPUs nor of memory"):
        read()
    (root / "away").rename(root / "proc")

    assert read().memory == before.memory


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
