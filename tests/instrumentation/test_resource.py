"""The resource detector: machine, container and GPUs of a process, told where they are certain and absent everywhere else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otel_agent.telemetry import providers
from otel_llm import fault
from otel_llm.gpu_identity import visible_gpus
from otel_llm.host_identity import Place, machine_id, read_place
from otel_llm.resource import OtelLlmResourceDetector

TREES = Path(__file__).parents[1] / "fixtures" / "identity"
HOST = "3d1219c7c4c5404aaa1f6d2a48adfda4"
CONTAINER = "5d41402abc4b2a76b9719d911017c592a7f5c8d2e9b34f6081c2d3e4f5a6b7c8"
GPUS = tuple(f"GPU-{i}f3a1c5e-7b2d-4e6f-8a90-1c2d3e4f50{i}{i}" for i in range(8))
ALL = range(8)


def copied(tree: str, to: Path) -> Path:
    """A tree that a test may change."""
    shutil.copytree(TREES / tree, to, dirs_exist_ok=True)
    return to


def numbers(environ: dict[str, str], root: Path = TREES / "bare-metal-8-gpus", *, contained: bool = False) -> list[int]:
    """The visible GPUs, each as its number along the bus."""
    return [GPUS.index(uuid) for uuid in visible_gpus(environ, contained, root)]


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ("bare-metal-8-gpus", Place(HOST, None, contained=False)),
        (
            "docker-20.10-v1",
            Place(None, "2b31d24df3d2925105a4dfc47e7cebfa4e2f4dd6e9e0251dfc265340083c0707", contained=True),
        ),
        (
            "docker-20.10-private-cgroups",
            Place(None, "8e2c71a5d3234ded3b576002c28dee9adec9c4e7951da4298f21a8201c4b669d", contained=True),
        ),
        ("docker-v2-handmade", Place(None, CONTAINER, contained=True)),
        ("kubernetes-containerd-v1-handmade", Place(None, CONTAINER, contained=True)),
        ("kubernetes-containerd-v2-handmade", Place(None, None, contained=True)),
        ("kubernetes-crio-v2-handmade", Place(None, CONTAINER, contained=True)),
        ("podman-rootless-v2-handmade", Place(None, CONTAINER, contained=True)),
        ("damaged", Place(None, None, contained=False)),
        ("no-such-machine", Place(None, None, contained=False)),
    ],
)
def test_a_process_finds_its_place(tree: str, place: Place) -> None:
    """A machine-id that came with an image is nobody's, and a sandbox's id is not the container's."""
    assert read_place(TREES / tree) == place


def test_a_container_knows_its_machine_where_the_machine_id_is_mounted_into_it() -> None:
    place = read_place(TREES / "docker-20.10-private-cgroups-machine-id-mounted")
    assert (place.host_id, place.contained) == (HOST, True)


def test_a_virtual_machine_made_of_a_containers_image_is_a_machine(tmp_path: Path) -> None:
    root = copied("bare-metal-8-gpus", tmp_path)
    (root / ".dockerenv").touch()
    assert read_place(root) == Place(HOST, None, contained=False)


def test_the_agent_gives_the_machine_the_same_name() -> None:
    """Or a span would not lead to the node whose agent sends its metrics."""
    root = TREES / "bare-metal-8-gpus"
    agent = providers.resource(root).attributes["host.id"]
    assert agent == OtelLlmResourceDetector(root, {}).detect().attributes["host.id"] == HOST


@pytest.mark.parametrize(
    ("path", "container"),
    [
        (f"/docker/{CONTAINER}", CONTAINER),
        (f"/system.slice/docker-{CONTAINER}.scope", CONTAINER),
        (f"/../{CONTAINER}", CONTAINER),
        (f"/../docker-{CONTAINER}.scope", CONTAINER),
        (f"/../../docker/{CONTAINER}", CONTAINER),
        (f"/docker/{'ab' * 32}/docker/{CONTAINER}/init.scope", CONTAINER),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{CONTAINER}.scope/container", CONTAINER),
        (f"/kubepods/burstable/pod0b1f3c5d-2a4e-4f6a-8b9c-0d1e2f3a4b5c/{CONTAINER}", CONTAINER),
        (f"/system.slice/containerd.service/kubepods-pod0b1f3c5d.slice:cri-containerd:{CONTAINER}", CONTAINER),
        (f"/kubepods.slice/kubepods-pod0b1f3c5d.slice/crio-{CONTAINER}.scope", CONTAINER),
        (f"/machine.slice/libpod-conmon-{CONTAINER}.scope", None),
        (f"/docker/{CONTAINER}0", None),
        ("/docker/5d41402abc4b", None),
        ("/", None),
    ],
)
def test_the_innermost_container_of_a_cgroup_path_is_the_one(path: str, container: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "self"
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(f"0::{path}\n")
    assert read_place(tmp_path).container_id == container
    (folder / "cgroup").write_text(f"12:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n")
    assert read_place(tmp_path).container_id == container


def test_cgroups_that_name_two_containers_name_none(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"2:cpu:/docker/{CONTAINER}\n1:memory:/docker/{'ab' * 32}\n")
    assert read_place(tmp_path).container_id is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{HOST}\n", HOST),
        (HOST.upper(), HOST),
        ("", None),
        ("uninitialized\n", None),
        ("0" * 32, None),
        ("x" * 5_000_000, None),
    ],
)
def test_a_machine_id_is_one_or_it_is_absent(text: str, found: str | None, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text(text)
    assert machine_id(tmp_path) == found


def test_the_older_place_of_the_machine_id_serves_where_the_newer_has_none(tmp_path: Path) -> None:
    for name, text in (("etc", "\n"), ("var/lib/dbus", f"{HOST}\n")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "machine-id").write_text(text)
    assert machine_id(tmp_path) == HOST


def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/machine-id")
    (tmp_path / "proc/self").mkdir(parents=True)
    os.mkfifo(tmp_path / "proc/self/mountinfo")
    assert read_place(tmp_path) == Place(None, None, contained=False)


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({}, ALL),
        ({"NVIDIA_VISIBLE_DEVICES": "0"}, ALL),  # for container engines; CUDA does not read it
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, [0, 1]),
        ({"CUDA_VISIBLE_DEVICES": " 7, 2 "}, [2, 7]),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, [1]),  # up to the first that is none
        ({"CUDA_VISIBLE_DEVICES": "1,8,2"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "1,1"}, []),
        ({"CUDA_VISIBLE_DEVICES": f"{GPUS[4]},{GPUS[3]}"}, [3, 4]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-6f3a"}, [6]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-"}, []),  # which of eight?
        ({"CUDA_VISIBLE_DEVICES": "GPU-ffff"}, []),
        ({"CUDA_VISIBLE_DEVICES": f"MIG-{GPUS[2]}/1/0"}, [2]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"}, []),
    ],
)
def test_cuda_visible_devices_narrows_as_cuda_reads_it(environ: dict[str, str], seen: list[int]) -> None:
    assert numbers(environ) == list(seen)


def test_numbers_of_unlike_gpus_are_certain_only_where_cuda_counts_along_the_bus(tmp_path: Path) -> None:
    """By default CUDA begins with the fastest GPU; which that is nobody else knows."""
    root = copied("bare-metal-8-gpus", tmp_path)
    file = root / "proc/driver/nvidia/gpus/0000:df:00.0/information"
    file.write_text(file.read_text().replace("H100 80GB HBM3", "T1000"))

    assert numbers({"CUDA_VISIBLE_DEVICES": "0"}, root) == []
    assert numbers({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, root) == []
    assert numbers({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, root) == [0]
    assert numbers({"CUDA_VISIBLE_DEVICES": "7,6,5,4,3,2,1,0"}, root) == list(ALL), "all of them in whatever order"
    assert numbers({"CUDA_VISIBLE_DEVICES": GPUS[7]}, root) == [7]


def test_numbers_count_otherwise_where_a_gpu_is_partitioned(tmp_path: Path) -> None:
    root = copied("bare-metal-8-gpus", tmp_path)
    (root / "proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0").mkdir(parents=True)
    assert numbers({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, root) == []
    assert numbers({"CUDA_VISIBLE_DEVICES": GPUS[1]}, root) == [1]


def test_a_gpu_that_the_driver_excludes_is_counted_by_nobody(tmp_path: Path) -> None:
    root = copied("bare-metal-8-gpus", tmp_path)
    file = root / "proc/driver/nvidia/gpus/0000:1b:00.0/information"
    file.write_text(file.read_text().replace("No\n", "Yes\n"))
    assert numbers({"CUDA_VISIBLE_DEVICES": "0"}, root) == [1]
    assert numbers({}, root) == [1, 2, 3, 4, 5, 6, 7]


def test_the_bus_is_counted_in_numbers_not_in_letters(tmp_path: Path) -> None:
    root = copied("bare-metal-8-gpus", tmp_path)
    gpus = root / "proc/driver/nvidia/gpus"
    (gpus / "0000:1b:00.0").rename(gpus / "10000:01:00.0")
    assert numbers({"CUDA_VISIBLE_DEVICES": "0"}, root) == [1]
    assert numbers({"CUDA_VISIBLE_DEVICES": "7"}, root) == [0]


@pytest.mark.parametrize(
    ("tree", "environ", "seen"),
    [
        ("docker-v2-handmade", {}, [2, 3]),
        ("docker-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "2,3"}, [2, 3]),
        ("docker-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "1"}, [3]),
        (
            "docker-v2-handmade",
            {"NVIDIA_VISIBLE_DEVICES": "2"},
            [],
        ),  # two came where one was asked for: whose is which?
        ("docker-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": GPUS[2]}, [2]),
        ("docker-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": f"nvidia.com/gpu={GPUS[3]}"}, [3]),
        ("docker-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"}, []),
        ("kubernetes-containerd-v2-handmade", {}, [5]),
        ("kubernetes-containerd-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "all"}, [5]),
        ("kubernetes-containerd-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "void"}, [5]),
        ("kubernetes-containerd-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": ""}, [5]),
        ("kubernetes-containerd-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "none"}, []),
        ("kubernetes-containerd-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "5"}, [5]),
        ("kubernetes-containerd-v2-handmade", {"NVIDIA_VISIBLE_DEVICES": "5:0,5:1"}, [5]),
        ("kubernetes-containerd-v2-handmade", {"CUDA_VISIBLE_DEVICES": "0"}, [5]),
        (
            "kubernetes-containerd-v2-handmade",
            {"CUDA_VISIBLE_DEVICES": "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"},
            [5],
        ),
    ],
)
def test_a_container_sees_the_gpus_whose_device_files_it_was_given(
    tree: str, environ: dict[str, str], seen: list[int]
) -> None:
    assert numbers(environ, TREES / tree, contained=True) == seen


def test_one_gpu_that_cannot_be_told_leaves_all_of_them_out() -> None:
    """The driver knows no UUID of a GPU that nobody has opened."""
    assert visible_gpus({}, False, TREES / "damaged") == ()
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": GPUS[1]}, False, TREES / "damaged") == ()


def test_no_driver_is_no_gpu(tmp_path: Path) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}, False, tmp_path) == ()


@pytest.mark.parametrize(
    ("tree", "environ", "attributes"),
    [
        (
            "bare-metal-8-gpus",
            {"CUDA_VISIBLE_DEVICES": "0,1"},
            {"host.id": HOST, "otel_llm.gpu.ids": GPUS[:2]},
        ),
        ("docker-v2-handmade", {}, {"container.id": CONTAINER, "otel_llm.gpu.ids": GPUS[2:4]}),
        ("kubernetes-containerd-v2-handmade", {}, {"otel_llm.gpu.ids": (GPUS[5],)}),
        ("damaged", {}, {}),
        ("no-such-machine", {}, {}),
    ],
)
def test_the_resource_holds_what_is_known(tree: str, environ: dict[str, str], attributes: dict[str, object]) -> None:
    assert dict(OtelLlmResourceDetector(TREES / tree, environ).detect().attributes) == attributes


def test_what_the_operator_says_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.id=i-0abc,team.name=search")
    found = OtelLlmResourceDetector(TREES / "bare-metal-8-gpus", {"CUDA_VISIBLE_DEVICES": "0"}).detect()
    assert dict(found.attributes) == {"otel_llm.gpu.ids": GPUS[:1]}


def test_a_fault_of_the_detector_is_reported_and_raised_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Place:
        raise RuntimeError("broken")

    faults: list[tuple[str, str]] = []
    before = fault.set_on_fault(lambda place, error: faults.append((place, str(error))))
    try:
        monkeypatch.setattr("otel_llm.resource.read_place", broken)
        assert dict(OtelLlmResourceDetector().detect().attributes) == {}
    finally:
        fault.set_on_fault(before)
    assert faults == [("resource detector", "broken")]


PROGRAM = """
import json, sys
from opentelemetry import trace
loaded = [name for name in ("pynvml", "psutil") if name in sys.modules]
print(json.dumps({"resource": dict(trace.get_tracer_provider().resource.attributes), "loaded": loaded}))
"""


@pytest.mark.parametrize("detectors", ["otel,otel_llm", "otel_llm", None])
def test_the_launcher_runs_it_where_it_is_named_and_nowhere_else(detectors: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_RESOURCE_ATTRIBUTES": "team.name=search",
    }
    if detectors is not None:
        environment["OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"] = detectors
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    command = [launcher, sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)

    assert "Failed to load resource detector" not in done.stderr
    said = json.loads(done.stdout)
    own = OtelLlmResourceDetector().detect().attributes if detectors is not None else {}
    found = {name: said["resource"].get(name) for name in ("host.id", "container.id", "otel_llm.gpu.ids")}
    assert found == {name: list(v) if isinstance(v := own.get(name), tuple) else v for name in found}
    assert said["resource"]["team.name"] == "search"
    assert "pynvml" not in said["loaded"]
