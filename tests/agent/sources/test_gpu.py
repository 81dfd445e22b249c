"""NVIDIA GPUs as the real bindings tell them, over a stand-in for the driver's library with a script for its answers."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.nvml.machine import BUSY, EIGHT, H200X8, REASONS, Machine, library, snapshot_of

from otel_agent.catalogue import problems, values
from otel_agent.sources.gpu.metrics import METRICS, PROCESSES_MAX
from otel_agent.sources.gpu.read import GpuIdentity, GpuProcess, GpuReading, GpuSnapshot
from otel_agent.sources.gpu.snapshot import Status


@pytest.fixture
def machine(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine whose NVIDIA driver is the stand-in."""
    return Machine(library(tmp_path_factory.getbasetemp()), tmp_path)


def test_eight_h200_tell_every_fact(machine: Machine) -> None:
    """Base units, ratios from 0 to 1, memory in use as nvidia-smi counts it."""
    assert machine.read(H200X8) == [GpuSnapshot(1000, "590.48.01", EIGHT)]


def test_the_metrics_of_a_gpu() -> None:
    """Every series that one GPU has, with its value: identity stands on the info series alone."""
    gpu = replace(
        BUSY, processes=(GpuProcess(41000, "VLLM::Worker_TP", 135_282_032_640), GpuProcess(41001, None, None))
    )
    own = {"hw.id": "GPU-00000000-5a1d-4e0b-9c7e-0f0e0d0c0b00"}
    typed = own | {"hw.type": "gpu"}

    def states(key: str, base: dict[str, str], **known: float) -> list[tuple[float, dict[str, str]]]:
        return [(value, base | {key: name}) for name, value in known.items()]

    points = {row.name: values(row, GpuSnapshot(1000, "590.48.01", (gpu,))) for row in METRICS}

    assert points == {
        "otel_llm.gpu.info": [
            (1, own | {"hw.name": "NVIDIA H200", "hw.driver_version": "590.48.01", "otel_llm.gpu.index": 0})
        ],
        "hw.status": states("hw.state", typed, ok=1, degraded=0, predicted_failure=0, failed=0),
        "hw.gpu.utilization": states("hw.gpu.task", own, general=0.97, encoder=0, decoder=0),
        "otel_llm.gpu.memory.controller.utilization": [(0.41, own)],
        "hw.gpu.memory.usage": [(135_291_469_824, own)],
        "hw.gpu.memory.limit": [(150_754_820_096, own)],
        "hw.gpu.memory.utilization": [(135_291_469_824 / 150_754_820_096, own)],
        "hw.temperature": states("hw.sensor_location", typed, gpu=54, memory=63),
        "hw.power": [(627.113, typed)],
        "hw.energy": [(987_654_321, typed)],
        "otel_llm.gpu.power.limit": [(700, own)],
        "otel_llm.gpu.clock.speed": states("otel_llm.clock", own, graphics=1.755e9, memory=3.201e9),
        "otel_llm.gpu.clock.limit": states("otel_llm.clock", own, graphics=1.98e9, memory=3.201e9),
        "otel_llm.gpu.performance.level": [(0, own)],
        "otel_llm.gpu.throttle.active": states(
            "otel_llm.reason", own, **{reason: int(reason == "sw_power_cap") for reason in REASONS}
        ),
        "otel_llm.gpu.throttle.time": states(
            "otel_llm.reason",
            own,
            sw_power_cap=81.25,
            sync_boost=0,
            sw_thermal_slowdown=0,
            hw_thermal_slowdown=0,
            hw_power_brake_slowdown=1.5,
        ),
        "hw.errors": states("error.type", typed, corrected=2, uncorrected=0, pcie_replay=0),
        "otel_llm.gpu.row_remap.status": states("otel_llm.state", own, pending=0, failed=0),
        "otel_llm.gpu.mode.enabled": states("otel_llm.mode", own, mig=0, persistence=1),
        "otel_llm.gpu.process.count": [(2, own)],
        "otel_llm.gpu.process.memory.usage": [
            (135_282_032_640, own | {"process.pid": 41000, "otel_llm.process.name": "VLLM::Worker_TP"})
        ],
    }
    assert problems(METRICS) == []


def test_what_a_gpu_does_not_support_is_absent(machine: Machine) -> None:
    """A device that tells its memory and nothing else is no failed device, and nothing is made up for the rest."""
    bare = "driver_version=535.1 count=1 gpu.0.uuid=GPU-a gpu.0.memory_total=1000 gpu.0.memory_used=250 gpu.0.memory_reserved=0"

    [outcome] = machine.read(bare.replace(" ", "\n"))

    snapshot = snapshot_of(outcome)
    assert snapshot.gpus == (GpuReading(GpuIdentity(0, "GPU-a"), memory_used_bytes=250, memory_total_bytes=1000),)
    assert {row.name: [value for value, _ in found] for row in METRICS if (found := values(row, snapshot))} == {
        "otel_llm.gpu.info": [1],
        "hw.status": [1, 0, 0, 0],
        "hw.gpu.memory.usage": [250],
        "hw.gpu.memory.limit": [1000],
        "hw.gpu.memory.utilization": [0.25],
    }


def test_values_that_stand_for_not_available_are_unknown(machine: Machine) -> None:
    """All ones in a number means that the driver does not know; so does a share above 100 % and the P-state that it calls unknown."""
    keys = [line.split("=")[0] for line in H200X8.splitlines() if line.startswith("gpu.*.")]
    numbers = [
        key
        for key in keys
        if not key.endswith(("name", "mig_mode", "persistence_mode")) and "remap" not in key and "processes" not in key
    ]
    damaged = H200X8 + "".join(f"{key}=unknown\n" for key in numbers) + "count=1\ngpu.*.performance_state=32\n"

    [outcome] = machine.read(damaged + "gpu.0.processes.compute=7:unknown\n")

    known = {"identity", "row_remap_pending", "row_remap_failed", "mig_enabled", "persistence_enabled"}
    told = {field.name: getattr(BUSY, field.name) for field in fields(GpuReading) if field.name in known}
    assert snapshot_of(outcome).gpus == (GpuReading(**told, processes=(GpuProcess(7, None, None),)),)


OUTDATED = (13, 25)  # the codes after which an older way to ask is tried
COSTS: dict[str, tuple[str, ...]] = {  # what is unknown when a call fails
    "nvmlDeviceGetUtilizationRates": ("utilization", "memory_controller_utilization"),
    "nvmlDeviceGetEncoderUtilization": ("encoder_utilization",),
    "nvmlDeviceGetDecoderUtilization": ("decoder_utilization",),
    "nvmlDeviceGetMemoryInfo_v2": ("memory_used_bytes", "memory_total_bytes"),
    "nvmlDeviceGetTemperature": ("temperature_celsius",),
    "nvmlDeviceGetPowerUsage": ("power_watts",),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit_watts",),
    "nvmlDeviceGetTotalEnergyConsumption": ("energy_joules",),
    "nvmlDeviceGetClockInfo": ("clock_graphics_hz", "clock_memory_hz"),
    "nvmlDeviceGetMaxClockInfo": ("clock_graphics_max_hz", "clock_memory_max_hz"),
    "nvmlDeviceGetTotalEccErrors": ("ecc_corrected", "ecc_uncorrected"),
    "nvmlDeviceGetRemappedRows": ("row_remap_pending", "row_remap_failed"),
    "nvmlDeviceGetPcieReplayCounter": ("pcie_replays",),
    "nvmlDeviceGetCurrentClocksEventReasons": ("throttle",),
    "nvmlDeviceGetPerformanceState": ("performance_level",),
    "nvmlDeviceGetMigMode": ("mig_enabled",),
    "nvmlDeviceGetPersistenceMode": ("persistence_enabled",),
    "nvmlDeviceGetFieldValues": ("memory_temperature_celsius", "throttle_time_s"),
}
OLDER: dict[str, Any] = {  # what the older way tells; version 1 counts the driver's own share as used
    "nvmlDeviceGetMemoryInfo_v2": {"memory_used_bytes": 135_291_469_824 + 608_960_512},
    "nvmlDeviceGetTemperature": {},
    "nvmlDeviceGetCurrentClocksEventReasons": {},
}


@pytest.mark.parametrize("call", COSTS)
def test_a_failing_call_costs_its_own_facts_and_no_others(machine: Machine, call: str) -> None:
    """Every documented code, one after the other: only those about the whole GPU or the whole driver cost more."""
    whole = replace(BUSY, processes=(GpuProcess(5, None, 1000), *(BUSY.processes or ())))
    codes = [code for code in [*range(2, 31), 999] if code not in (9, 15, 16, 18)]

    outcomes = machine.read(
        *(f"{H200X8}count=1\ngpu.0.processes.graphics=5:1000\ngpu.0.error.{call}={code}\n" for code in codes)
    )

    found = {code: snapshot_of(outcome).gpus for code, outcome in zip(codes, outcomes, strict=True)}
    unknown: dict[str, Any] = dict.fromkeys(COSTS[call])
    assert found == {
        code: (replace(whole, **(OLDER[call] if call in OLDER and code in OUTDATED else unknown)),) for code in codes
    }


def test_a_failed_gpu_is_a_status_and_an_identity_and_no_other_series() -> None:
    points = {
        row.name: found
        for row in METRICS
        if (found := values(row, GpuSnapshot(1000, None, (GpuReading(BUSY.identity, failure="GPU is lost"),))))
    }

    own = {"hw.id": "GPU-00000000-5a1d-4e0b-9c7e-0f0e0d0c0b00"}
    assert points == {
        "otel_llm.gpu.info": [(1, own | {"hw.name": "NVIDIA H200", "otel_llm.gpu.index": 0})],
        "hw.status": [
            (int(state == "failed"), own | {"hw.type": "gpu", "hw.state": state})
            for state in ("ok", "degraded", "predicted_failure", "failed")
        ],
    }


def test_the_processes_of_a_gpu_are_joined_from_the_drivers_lists(machine: Machine) -> None:
    """One that computes and draws counts once, instances of a partitioned GPU add up, names come from the kernel as they are."""
    machine.process(10, b"VLLM::Worker_TP\n")
    machine.process(11, b"caf\xe9 \xff\n")
    machine.process(12, b"\n")
    lists = [
        "gpu.0.processes.compute=10:5000,11:100:1:0,11:200:2:0,13:unknown",
        "gpu.0.processes.graphics=10:5000,12:70",
        "gpu.0.processes.mps=14:30,13:unknown",
    ]

    [outcome] = machine.read("\n".join([H200X8, "count=1", *lists, ""]))

    assert snapshot_of(outcome).gpus[0].processes == (
        GpuProcess(10, "VLLM::Worker_TP", 5000),
        GpuProcess(11, "caf\ufffd \ufffd", 300),
        GpuProcess(12, None, 70),
        GpuProcess(13, None, None),
        GpuProcess(14, None, 30),
    )


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        (["Graphics", "MPSCompute"], (GpuProcess(41000, None, 135_282_032_640),)),
        (["Compute"], ()),
        (["Compute", "Graphics", "MPSCompute"], None),
    ],
)
def test_process_lists_that_the_driver_refuses(
    machine: Machine, scripts: list[str], expected: tuple[GpuProcess, ...] | None
) -> None:
    """Without any list the processes are unknown, which is not the same as none."""
    refused = "".join(f"gpu.0.error.nvmlDeviceGet{kind}RunningProcesses_v3=4\n" for kind in scripts)

    [outcome] = machine.read(f"{H200X8}count=1\n{refused}")

    assert snapshot_of(outcome).gpus[0].processes == expected


def test_an_older_driver_lists_processes_in_its_own_way(machine: Machine) -> None:
    [outcome] = machine.read(f"{H200X8}count=1\ngpu.0.error.nvmlDeviceGetComputeRunningProcesses_v3=13\n")

    assert snapshot_of(outcome).gpus == (BUSY,)


def test_names_that_are_not_utf_8_are_unknown(machine: Machine) -> None:
    """The bindings cannot decode them; the GPU is there all the same."""
    script = f"{H200X8}count=1\n"

    [outcome] = machine.read(script.replace("gpu.*.name=NVIDIA H200", "gpu.*.name=\udce9"))

    assert snapshot_of(outcome).gpus == (replace(BUSY, identity=replace(BUSY.identity, name=None)),)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "ok"),
        ({"throttle": {"sw_power_cap": True, "gpu_idle": True, "hw_slowdown": False}}, "ok"),
        ({"throttle": {"hw_slowdown": True}}, "degraded"),
        ({"throttle": {"sw_thermal_slowdown": True}}, "degraded"),
        ({"throttle": {"hw_thermal_slowdown": True}}, "degraded"),
        ({"throttle": {"hw_power_brake_slowdown": True}}, "degraded"),
        ({"row_remap_pending": True}, "degraded"),
        ({"row_remap_failed": True, "row_remap_pending": True}, "predicted_failure"),
        ({"row_remap_failed": True, "failure": "GPU is lost"}, "failed"),
    ],
)
def test_the_status_of_a_gpu(facts: dict[str, Any], status: Status) -> None:
    assert GpuReading(GpuIdentity(0), **facts).status == status


def test_the_processes_with_most_memory_have_a_series_and_all_are_counted() -> None:
    many = tuple(GpuProcess(pid, None, pid * 10) for pid in range(1, 101))
    snapshot = GpuSnapshot(1000, None, (GpuReading(GpuIdentity(0, "GPU-a"), processes=many),))

    points = {row.name: values(row, snapshot) for row in METRICS}

    assert points["otel_llm.gpu.process.count"] == [(100, {"hw.id": "GPU-a"})]
    assert points["otel_llm.gpu.process.memory.usage"] == [
        (pid * 10, {"hw.id": "GPU-a", "process.pid": pid}) for pid in range(100, 100 - PROCESSES_MAX, -1)
    ]
