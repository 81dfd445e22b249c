"""What containers use, held against the engine's own numbers of the same moment, on kernels of every cgroup layout and driver."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from agent.sources.scripted_engine import FIXTURES, Clock, scripted_engine

from otel_agent.catalogue import values
from otel_agent.sources.containers.cgroup import CgroupFiles
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import open_containers
from otel_agent.sources.containers.snapshot import ContainersSnapshot, Link, Resource, Stall, Usage
from otel_agent.sources.containers.stats import parse_stats
from otel_llm.host_identity import read_place

RECORDINGS = sorted(folder.name for folder in (FIXTURES / "cgroup").iterdir() if (folder / "engine.json").exists())
V1 = pytest.mark.parametrize("recording", [name for name in RECORDINGS if "-v2-" not in name], indirect=True)
EVERY = pytest.mark.parametrize("recording", RECORDINGS, indirect=True)
NAMES = {"idle", "throttled", "killed", "crowded", "disk", "network", "neighbour", "paused", "nested"}
UNLIMITED_PIDS = 2**64 - 1
V1_IO = "blkio.throttle.io_service_bytes_recursive"


@dataclass(frozen=True)
class Recording:
    """One machine: what its kernel and its engine told, and what is read of both now."""

    layout: str
    kernel: Mapping[str, Any]
    engine: Mapping[str, Any]
    root: Path
    snapshot: ContainersSnapshot

    def usage(self, name: str) -> Usage:
        """What was read of a container."""
        found = next(one for one in self.snapshot.containers if one.identity.name == name)
        assert found.usage is not None, f"nothing of {name} was seen"
        return found.usage

    def files(self, name: str, file: str) -> list[str]:
        """All files of this name in the cgroups of a container, of every controller."""
        found = self.engine["inspect"][name]["Id"]
        return [text for path, text in self.kernel["files"].items() if found in path and path.endswith(f"/{file}")]

    def process(self, name: str, file: str) -> str:
        """A file of the first process of a container."""
        return str(self.kernel["files"][f"/proc/{self.engine['inspect'][name]['State']['Pid']}/{file}"])


def load(name: str, part: str) -> Any:
    """One half of a recording."""
    return json.loads((FIXTURES / "cgroup" / name / f"{part}.json").read_text())


def lay_out(kernel: Mapping[str, Any], root: Path) -> None:
    """Make the recorded files below a folder, as the machine had them below its root."""
    for path in kernel["folders"]:
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for path, text in kernel["files"].items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path, target in kernel["links"].items():
        link = root / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


@pytest.fixture(scope="module")
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The machine of this name, read once."""
    name, root = request.param, tmp_path_factory.mktemp("root")
    kernel, told = load(name, "kernel"), load(name, "engine")
    lay_out(kernel, root)
    with scripted_engine() as engine:
        engine.version = told["version"]
        engine.containers = {one["Id"]: one for one in told["inspect"].values()}
        engine.entries = {one["Id"]: one for one in told["list"]}
        reader = open_containers(root, environ=engine.host, clock=Clock(), wall=lambda: 2e9)
        snapshot = reader()
        reader.close()
    return Recording(name.split("-")[-2], kernel, told, root, snapshot)


def test_there_is_a_recording_of_every_layout_with_both_drivers() -> None:
    wanted = {f"{layout}-{driver}" for layout in ("v1", "hybrid", "v2") for driver in ("cgroupfs", "systemd")}
    assert wanted <= {"-".join(name.split("-")[-2:]) for name in RECORDINGS}


@EVERY
def test_the_machine_is_what_its_name_says(recording: Recording) -> None:
    """And all its containers are seen, by the files of their cgroups."""
    info = recording.engine["info"]
    assert info["CgroupVersion"] == ("2" if recording.layout == "v2" else "1")
    assert (recording.snapshot.layout, recording.snapshot.unseen) == (recording.layout, 0)
    assert {one.identity.name for one in recording.snapshot.containers if one.usage} == NAMES


@EVERY
@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_number_is_the_engines_own(recording: Recording, name: str) -> None:
    usage, stats = recording.usage(name), recording.engine["stats"][name]
    v2 = recording.layout == "v2"
    host = recording.engine["inspect"][name]["HostConfig"]

    cpu, held = stats["cpu_stats"]["cpu_usage"], stats["cpu_stats"]["throttling_data"]
    assert usage.cpu_s == cpu["total_usage"] / 1e9
    assert usage.cpu_user_s == cpu["usage_in_usermode"] / 1e9
    assert usage.cpu_system_s == cpu["usage_in_kernelmode"] / 1e9
    assert usage.cpu_periods == held["periods"]
    assert usage.cpu_throttled_periods == held["throttled_periods"]
    assert usage.cpu_throttled_s == held["throttled_time"] / 1e9
    assert usage.cpu_limit_cpus == (host["NanoCpus"] / 1e9 or None)

    memory, detail = stats["memory_stats"], stats["memory_stats"]["stats"]
    assert usage.memory_usage_bytes == memory["usage"]
    inactive = detail["inactive_file" if v2 else "total_inactive_file"]
    assert usage.memory_working_set_bytes == memory["usage"] - inactive, "as the docker command shows it"
    assert usage.memory_limit_bytes == (memory["limit"] if host["Memory"] else None)
    assert usage.memory_rss_bytes == detail["anon" if v2 else "total_rss"]
    assert usage.faults == detail["pgfault" if v2 else "total_pgfault"]
    assert usage.major_faults == detail["pgmajfault" if v2 else "total_pgmajfault"]
    # The engine's one number: with v2, how often nothing could be freed; with v1, how often the limit of memory alone was reached.
    assert usage.memory_events is not None
    if v2:
        assert usage.memory_events["oom"] == memory.get("failcnt", 0)
    elif host["Memory"]:
        [with_swap] = recording.files(name, "memory.memsw.failcnt")
        assert usage.memory_events["max"] == memory.get("failcnt", 0) + int(with_swap)

    assert usage.pids == stats["pids_stats"]["current"]
    most = stats["pids_stats"].get("limit", UNLIMITED_PIDS)
    assert usage.pids_limit == (None if most == UNLIMITED_PIDS else most)

    names = ("rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
    networks = stats.get("networks")
    assert usage.network == (networks and {link: Link(*map(row.get, names)) for link, row in networks.items()})

    disks = disks_of(recording, stats["blkio_stats"])
    assert usage.disk is not None
    assert {device: (one.read_bytes, one.written_bytes) for device, one in usage.disk.items()} == {
        device: (row["service_bytes", "read"], row["service_bytes", "write"]) for device, row in disks.items()
    }
    for device, row in disks.items():
        if ("serviced", "read") in row:  # the engine counts operations of v1 alone
            counted = usage.disk[device]
            assert (counted.reads, counted.writes) == (row["serviced", "read"], row["serviced", "write"])


def disks_of(recording: Recording, told: Mapping[str, Any]) -> dict[str, dict[tuple[str, str], int]]:
    """The engine's numbers by the kernel's names of devices, without those of loop devices and those that were not counted.

    What moves through a loop device moves again through the disk below it. The first operation makes a device known, so that
    nothing but zeros is told of those that the kernel does not count.
    """
    found: dict[str, dict[tuple[str, str], int]] = {}
    for what in ("service_bytes", "serviced"):
        for row in told[f"io_{what}_recursive"] or ():
            device = Path(recording.kernel["links"][f"/sys/dev/block/{row['major']}:{row['minor']}"]).name
            if not device.startswith("loop"):
                found.setdefault(device, {})[what, row["op"].lower()] = row["value"]
    return {device: row for device, row in found.items() if any(row.values())}


@EVERY
@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_engines_statistics_tell_the_same_where_files_cannot_be_seen(recording: Recording, name: str) -> None:
    """All that the engine knows; of devices it has the numbers alone, and no limit of CPU, events or pressure."""
    told = parse_stats(recording.engine["stats"][name])
    assert told is not None
    usage = recording.usage(name)
    apart = {"origin", "disk", "memory_limit_bytes", "memory_events", "cpu_limit_cpus", "stalled_s", "devices_denied"}
    for field in fields(Usage):
        if field.name not in apart:
            assert getattr(told, field.name) == getattr(usage, field.name), field.name


@EVERY
def test_what_the_containers_did_shows(recording: Recording) -> None:
    """The work that record.sh gave them, by numbers that are known beforehand."""
    throttled, killed, crowded = (recording.usage(name) for name in ("throttled", "killed", "crowded"))
    assert throttled.cpu_limit_cpus == 0.2
    assert (throttled.cpu_throttled_periods or 0) > 10
    assert (throttled.cpu_throttled_s or 0) > 1

    assert killed.memory_limit_bytes == 48 * 2**20
    assert killed.memory_events is not None
    assert killed.memory_events["max"] > 0
    assert killed.memory_events["oom_kill"] == 1
    full = recording.usage(
        "paused"
    )  # its page cache is more than it may have: the limit was reached, and nobody killed
    assert full.memory_events is not None
    assert full.memory_events["max"] > 0
    assert full.memory_events["oom_kill"] == 0
    assert (crowded.pids, crowded.pids_limit) == (7, 32)

    disk, network = recording.usage("disk"), recording.usage("network").network
    assert disk.disk is not None
    own = disk.disk["vdb"]
    assert own.written_bytes >= 48 * 65536
    assert own.read_bytes >= 48 * 65536 + 3_000_000
    assert (own.writes or 0) >= 48
    assert (disk.memory_usage_bytes or 0) - (disk.memory_working_set_bytes or 0) > 3_000_000, "the page cache"
    assert network is not None
    assert network["eth0"].sent_bytes >= 4 * 98, "four echo requests"
    assert recording.usage("neighbour").network is None, "the host's traffic is not the container's"


@EVERY
def test_a_process_that_was_killed_for_want_of_memory_is_told_while_the_container_lives_on(
    recording: Recording,
) -> None:
    """The engine says so of a run that has ended, and nothing of one that goes on."""
    assert recording.engine["inspect"]["killed"]["State"]["OOMKilled"] is False
    row = next(row for row in METRICS if row.name == "otel_llm.container.oom_killed")
    told = {about["container.name"]: value for value, about in values(row, recording.snapshot)}
    assert told == {name: int(name == "killed") for name in NAMES}


@EVERY
def test_loop_devices_are_left_out(recording: Recording) -> None:
    """The container wrote to one, and so, through it, to the disk that holds its file."""
    told = recording.files("disk", "io.stat") + recording.files("disk", V1_IO)
    assert any(re.search(r"^7:0 ", text, re.MULTILINE) for text in told)
    assert not any(device.startswith("loop") for device in recording.usage("disk").disk or {})


@EVERY
def test_a_disk_of_which_the_kernel_counts_nothing_is_absent(recording: Recording) -> None:
    """With v1, Linux 6.1 counts what moves only where that is limited, and else says zero of it; so does the engine."""
    assert (recording.usage("disk").disk or {}).keys() == ({"vda", "vdb"} if recording.layout == "v2" else {"vdb"})
    told = parse_stats(recording.engine["stats"]["disk"])
    assert told is not None
    assert (told.disk or {}).keys() == ({"254:0", "254:16"} if recording.layout == "v2" else {"254:16"})


@EVERY
def test_a_container_whose_first_process_moved_below_counts_as_a_whole(recording: Recording) -> None:
    assert "/init.scope" in recording.process("nested", "cgroup")
    nested = recording.usage("nested")
    assert (nested.cpu_s or 0) > 0.5
    assert nested.memory_limit_bytes == 96 * 2**20
    assert nested.cpu_limit_cpus == 0.5


@EVERY
def test_pressure_is_told_where_the_kernel_tells_it(recording: Recording) -> None:
    """By cgroup v2, also where it stands beside v1."""
    for name in NAMES:
        told: dict[tuple[Resource, Stall], float] = {}
        resources: tuple[Resource, ...] = ("cpu", "memory", "io")
        stalls: tuple[Stall, ...] = ("some", "full")
        for resource in resources:
            for text in recording.files(name, f"{resource}.pressure"):
                for stall in stalls:
                    [total] = re.findall(rf"^{stall} .*total=(\d+)$", text, re.MULTILINE)
                    told[resource, stall] = int(total) / 1e6
        assert recording.usage(name).stalled_s == (told or None)
        assert len(told) == (0 if recording.layout == "v1" else 6)
        if told and name == "throttled":
            assert told["cpu", "some"] > 1, "it waited for its quota"


@EVERY
def test_a_process_inside_knows_its_container(recording: Recording, tmp_path: Path) -> None:
    """By what the kernel shows it of itself; the machine is nothing that it could know."""
    (tmp_path / "proc/self").mkdir(parents=True)
    for file in ("cgroup", "mountinfo"):
        (tmp_path / "proc/self" / file).write_text(recording.kernel["inside"][f"/proc/self/{file}"])
    place = read_place(tmp_path)
    assert (place.host_id, place.container_id, place.contained) == (
        None,
        recording.engine["inspect"]["idle"]["Id"],
        True,
    )


@EVERY
def test_from_a_cgroup_namespace_of_its_own_the_reader_sees_who_it_is_and_not_where(
    recording: Recording, tmp_path: Path
) -> None:
    """An agent in a container without `--cgroupns host`: the container is known to be the one, its numbers are not told."""
    lay_out(recording.kernel, tmp_path)
    found, pid = (recording.engine["inspect"]["idle"][key] for key in ("Id", "State"))
    file = tmp_path / f"proc/{pid['Pid']}/cgroup"
    assert CgroupFiles(tmp_path).usage(found, pid["Pid"], own_network=True) == recording.usage("idle")
    file.write_text(recording.kernel["inside"]["another"])
    assert CgroupFiles(tmp_path).usage(found, pid["Pid"], own_network=True) is None


@EVERY
def test_a_device_that_the_kernel_has_no_name_for_goes_by_its_number(recording: Recording, tmp_path: Path) -> None:
    links = {path: target for path, target in recording.kernel["links"].items() if not path.endswith("/254:16")}
    lay_out({**recording.kernel, "links": links}, tmp_path)
    found = recording.engine["inspect"]["disk"]
    usage = CgroupFiles(tmp_path).usage(found["Id"], found["State"]["Pid"], own_network=True)
    assert usage is not None
    named = dict(recording.usage("disk").disk or {})
    assert usage.disk == {"254:16": named.pop("vdb"), **named}


@EVERY
def test_series_of_disks_carry_the_name_of_the_device(recording: Recording) -> None:
    row = next(row for row in METRICS if row.name == "container.disk.io")
    own = {"container.id": recording.engine["inspect"]["disk"]["Id"], "container.name": "disk", "system.device": "vdb"}
    told = (recording.usage("disk").disk or {})["vdb"]
    assert [point for point in values(row, recording.snapshot) if point[1].items() >= own.items()] == [
        (told.read_bytes, {**own, "disk.io.direction": "read"}),
        (told.written_bytes, {**own, "disk.io.direction": "write"}),
    ]


@V1
def test_controllers_that_share_a_folder_are_found_without_links_to_it(recording: Recording, tmp_path: Path) -> None:
    """As where only `cpu,cpuacct` is mounted into a container."""
    links = {path: to for path, to in recording.kernel["links"].items() if Path(path).parent != Path("/sys/fs/cgroup")}
    lay_out({**recording.kernel, "links": links}, tmp_path)
    found = recording.engine["inspect"]["throttled"]
    usage = CgroupFiles(tmp_path).usage(found["Id"], found["State"]["Pid"], own_network=True)
    assert usage == recording.usage("throttled")


@EVERY
def test_whom_the_kernel_keeps_from_a_gpu_is_told_by_v1_alone(recording: Recording) -> None:
    """None of them was given one; the privileged one may use all there are."""
    files, denied = CgroupFiles(recording.root), {}
    for name in ("idle", "nested"):
        found = recording.engine["inspect"][name]
        usage = files.usage(found["Id"], found["State"]["Pid"], own_network=True, gpus=True)
        denied[name] = usage and usage.devices_denied
    told = (True, False) if recording.layout != "v2" else (None, None)
    assert (denied["idle"], denied["nested"]) == told
