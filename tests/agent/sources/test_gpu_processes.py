"""Which processes are on a GPU, as the lists of the driver and the kernel tell, and which container each is of."""

import pytest
from fixtures.nvml.machine import BUSY, H200X8, Machine, computing, snapshot_of

from otel_agent.sources.gpu.processes import container_of
from otel_agent.sources.gpu.read import GpuProcess

SINGLE = H200X8 + "count=1\n"


def test_the_processes_of_a_gpu_are_joined_from_the_drivers_lists(machine: Machine) -> None:
    """One that computes and draws counts once, instances of a partitioned GPU add up, names come from the kernel as they are."""
    container = "ab" * 32
    machine.process(10, b"VLLM::Worker_TP", f"0::/system.slice/docker-{container}.scope\n")
    machine.process(11, b"caf\xe9 ) (\xff")
    machine.process(12, b"")
    lists = [
        "gpu.0.processes.compute=10:5000,11:100:1:0,11:200:2:0,13:unknown",
        "gpu.0.processes.graphics=10:5000,12:70",
        "gpu.0.processes.mps=14:30,13:unknown",
    ]

    [outcome] = machine.read("\n".join([H200X8, "count=1", *lists, ""]))

    assert snapshot_of(outcome).gpus[0].processes == (
        GpuProcess(10, "VLLM::Worker_TP", 5000, container_id=container, kinds=("compute", "graphics")),
        GpuProcess(11, "caf\ufffd ) (\ufffd", 300, kinds=("compute",)),
        GpuProcess(12, None, 70, kinds=("graphics",)),
        GpuProcess(13, None, None, kinds=("compute", "mps")),
        GpuProcess(14, None, 30, kinds=("mps",)),
    )


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        ("0::/system.slice/docker-{id}.scope", True),
        ("0::/../docker-{id}.scope", True),
        ("0::/../../docker/{id}", True),
        ("0::/../{id}", True),
        ("12:memory:/docker/{id}\n11:cpu:/docker/{id}\n0::/system.slice/containerd.service", True),
        ("0::/kubepods.slice/kubepods-pod1234.slice/cri-containerd-{id}.scope", True),
        ("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container", True),
        ("0::/user.slice", False),
        ("0::/", False),
        ("", False),
    ],
)
def test_the_container_of_a_process_is_read_from_its_cgroup(cgroup: str, container: bool) -> None:
    """Whatever engine and driver named the folders, on the host and from inside a container."""
    identity = "0123456789abcdef" * 4

    assert container_of(cgroup.format(id=identity)) == (identity if container else None)


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        (["Graphics", "MPSCompute"], (computing(41000, 135_282_032_640),)),
        (["Compute"], ()),
        (["Compute", "Graphics", "MPSCompute"], None),
    ],
)
def test_process_lists_that_the_driver_refuses(
    machine: Machine, scripts: list[str], expected: tuple[GpuProcess, ...] | None
) -> None:
    """Without any list the processes are unknown, which is not the same as none."""
    refused = "".join(f"gpu.0.error.nvmlDeviceGet{kind}RunningProcesses_v3=4\n" for kind in scripts)

    [outcome] = machine.read(f"{SINGLE}{refused}")

    assert snapshot_of(outcome).gpus[0].processes == expected


def test_more_processes_than_there_is_room_for_are_asked_for_again(machine: Machine) -> None:
    """The stand-in takes lines of a few hundred characters, so the lists are the long part here."""
    many = ",".join(f"{pid}:1" for pid in range(1, 91))

    [outcome] = machine.read(f"{SINGLE}gpu.0.processes.compute={many}\n")

    assert snapshot_of(outcome).gpus[0].processes == tuple(computing(pid, 1) for pid in range(1, 91))


def test_an_older_driver_lists_processes_in_its_own_way(machine: Machine) -> None:
    [outcome] = machine.read(f"{SINGLE}gpu.0.error.nvmlDeviceGetComputeRunningProcesses_v3=13\n")

    assert snapshot_of(outcome).gpus == (BUSY,)
