"""NVIDIA GPUs as the real bindings tell them, over a stand-in for the driver's library with a script for its answers."""

from dataclasses import fields, replace
from typing import Any

import pytest
from fixtures.nvml.machine import BUSY, EIGHT, H200X8, Machine, computing, snapshot, snapshot_of

from otel_agent.catalogue import values
from otel_agent.sources.gpu.metrics import METRICS
from otel_agent.sources.gpu.read import GpuIdentity, GpuReading
from otel_agent.sources.gpu.snapshot import Spread, Status

SINGLE = H200X8 + "count=1\n"


def test_eight_h200_tell_every_fact(machine: Machine) -> None:
    """Base units, ratios from 0 to 1, memory in use as nvidia-smi counts it."""
    assert machine.read(H200X8) == [snapshot(1000, *EIGHT)]
    assert "nvmlDeviceGetPcieThroughput" not in machine.lifecycle()  # it holds its caller up for 20 ms a direction


def test_what_happened_between_two_readings_is_told_from_the_second_on(machine: Machine) -> None:
    """Shares of the performance monitor, the driver's samples, and the use of each process; nothing is made up for the first."""
    first, second = machine.read(SINGLE, SINGLE, pause_s=0.4, times=[1000, 1005], whole=True)

    [before], [after] = snapshot_of(first).gpus, snapshot_of(second).gpus
    assert (before.activity, before.throughput, before.spreads) == (None, None, None)
    assert before.processes == (computing(41000, 135_282_032_640),)
    assert after.activity == {
        "graphics": 0.975,
        "sm": 0.8825,
        "sm_occupancy": 0.315,
        "integer": 0.2,
        "tensor": 0.625,
        "tensor_fp64": 0,
        "tensor_half": 0.625,
        "tensor_integer": 0,
        "memory": 0.44,
        "fp64": 0,
        "fp32": 0.125,
        "fp16": 0.04,
    }
    assert after.throughput == {
        "pcie.transmit": 512 * 2**20,
        "pcie.receive": 1024 * 2**20,
        "nvlink.receive": 2048 * 2**20,
        "nvlink.transmit": 4096 * 2**20,
    }
    assert after.spreads is not None
    power = after.spreads["power"]
    assert (power.min, power.max) == (600, 654)
    assert power.mean == pytest.approx(627, abs=10)  # of about twenty samples, 20 ms apart
    assert set(after.spreads) == {"power", "utilization", "memory_controller_utilization"}
    assert after.processes == (computing(41000, 135_282_032_640)._replace(sm_utilization=0.9),)
    assert set(after.waited_s or {}) == {"calls", "fields", "monitor", "samples", "processes", "instances"} - {
        "instances"
    }


def test_what_a_gpu_does_not_support_is_absent(machine: Machine) -> None:
    """A device that tells its memory and nothing else is no failed device, and nothing is made up for the rest."""
    bare = "driver_version=535.1 count=1 gpu.0.uuid=GPU-a gpu.0.memory_total=1000 gpu.0.memory_used=250 gpu.0.memory_reserved=0"

    [outcome] = machine.read(bare.replace(" ", "\n"))

    told = snapshot_of(outcome)
    assert told.gpus == (
        GpuReading(GpuIdentity(0, "GPU-a"), memory_used_bytes=250, memory_reserved_bytes=0, memory_total_bytes=1000),
    )
    assert {row.name: [value for value, _ in found] for row in METRICS if (found := values(row, told))} == {
        "otel_llm.gpu.info": [1],
        "hw.status": [1, 0, 0, 0],
        "otel_llm.gpu.answer.status": [1, 0, 0],
        "hw.gpu.memory.usage": [250],
        "hw.gpu.memory.limit": [1000],
        "hw.gpu.memory.utilization": [0.25],
        "otel_llm.gpu.memory.reserved": [0],
    }


def test_what_is_not_supported_is_asked_once_and_again_after_a_while(machine: Machine) -> None:
    """A function that the driver does not know is not asked each time; ten minutes later, it may have learnt it."""
    without = f"{SINGLE}gpu.0.error.nvmlDeviceGetPerformanceState=3\ngpu.0.field_error.82=3\n"

    outcomes = machine.read(without, SINGLE, SINGLE, times=[1000, 1005, 1700], whole=True)

    told = [snapshot_of(outcome).gpus[0] for outcome in outcomes]
    assert [gpu.performance_level for gpu in told] == [None, None, 0]
    assert [gpu.memory_temperature_celsius for gpu in told] == [None, None, 63]
    assert {"nvmlDeviceGetPerformanceState", "field 82"} <= set(told[0].unsupported)
    assert {"nvmlDeviceGetPerformanceState", "field 82"}.isdisjoint(told[2].unsupported)


def test_what_hardly_moves_is_asked_once_a_minute(machine: Machine) -> None:
    """Limits, modes, and the error counters of links, which a driver takes long to collect; what moves is asked each time."""
    moved = f"{SINGLE}gpu.0.field.38=5\ngpu.0.field.178=7\ngpu.0.temperature_slowdown=80\ngpu.0.field.82=70\ngpu.0.temperature=60\n"

    outcomes = machine.read(SINGLE, moved, moved, times=[1000, 1055, 1060])

    gpus = [snapshot_of(outcome).gpus[0] for outcome in outcomes]
    assert [(gpu.temperature_celsius, gpu.memory_temperature_celsius) for gpu in gpus] == [(54, 63), (60, 70), (60, 70)]
    hardly_moving = [
        (gpu.nvlink_errors or {}, gpu.pcie_errors or {}, gpu.temperature_limits_celsius or {}) for gpu in gpus
    ]
    assert [
        (of_nvlink["crc_flit"], of_pcie["bad_dllp"], limits["slowdown"]) for of_nvlink, of_pcie, limits in hardly_moving
    ] == [
        (0, 0, 92),
        (0, 0, 92),
        (5, 7, 80),
    ]


def test_what_may_not_be_asked_is_told_apart(machine: Machine) -> None:
    [outcome] = machine.read(f"{SINGLE}gpu.0.error.nvmlDeviceGetProcessUtilization=4\n", whole=True)

    [gpu] = snapshot_of(outcome).gpus
    assert gpu.refused == ("nvmlDeviceGetProcessUtilization",)
    assert "nvmlDeviceGetProcessUtilization" not in gpu.unsupported


def test_values_that_stand_for_not_available_are_unknown(machine: Machine) -> None:
    """All ones in a number means that the driver does not know; so does a share above 100 % and the P-state that it calls unknown."""
    keys = [line.split("=")[0] for line in H200X8.splitlines() if line.startswith("gpu.*.")]
    words = (
        "name",
        "serial",
        "vbios_version",
        "mig_mode",
        "remap_histogram",
        "event_types",
        "process_utilization",
        "margin",
    )
    numbers = [
        key
        for key in keys
        if not key.endswith(words) and not any(part in key for part in (".gpm", ".samples", ".processes", "fabric"))
    ]
    damaged = H200X8 + "".join(f"{key}=unknown\n" for key in numbers) + "count=1\ngpu.*.performance_state=32\n"

    [outcome] = machine.read(damaged + "gpu.0.processes.compute=7:unknown\n")

    known = {"identity", "mig_enabled", "remap_banks", "fabric_state", "temperature_margin_celsius"}
    told = {field.name: getattr(BUSY, field.name) for field in fields(GpuReading) if field.name in known}
    assert snapshot_of(outcome).gpus == (GpuReading(**told, processes=(computing(7, None),)),)


def test_field_values_of_other_types_and_of_types_to_come(machine: Machine) -> None:
    odd = "gpu.0.field.82=i:-5\ngpu.0.field.186=d:450500.5\ngpu.0.field.185=t:17\ngpu.0.field.230=99\ngpu.0.field.83=d:nan\n"

    [outcome] = machine.read(SINGLE + odd)

    [gpu] = snapshot_of(outcome).gpus
    assert gpu == replace(
        BUSY, memory_temperature_celsius=-5, power_instant_watts=450.5005, power_watts=None, energy_joules=None
    )


OUTDATED = (13, 25, 26)  # the codes after which an older way to ask is tried
LASTING = (3, 4, *OUTDATED)
FIELDS_WITH_AN_OLDER_WAY: dict[str, Any] = {  # what the older way tells
    "power_watts": 627.113,
    "power_limit_watts": 700.0,
    "energy_joules": 987_654_321.0,
    "ecc_corrected": 2,
    "ecc_uncorrected": 0,
    "remapped_rows": {"corrected": 0, "uncorrected": 0},
    "row_remap_pending": False,
    "row_remap_failed": False,
    "pcie_replays": 0,
}
FIELDS_ALONE = (
    "memory_temperature_celsius",
    "power_instant_watts",
    "power_memory_watts",
    "power_bounds_watts",
    "ecc_lifetime",
    "pcie_errors",
    "pcie_bytes",
    "nvlink_bytes",
    "nvlink_errors",
    "nvlink_links",
    "throttle_time_s",
)
COSTS: dict[str, tuple[str, ...]] = {  # what is unknown when a call fails
    "nvmlDeviceGetUtilizationRates": ("utilization", "memory_controller_utilization"),
    "nvmlDeviceGetEncoderUtilization": ("encoder_utilization",),
    "nvmlDeviceGetDecoderUtilization": ("decoder_utilization",),
    "nvmlDeviceGetJpgUtilization": ("jpeg_utilization",),
    "nvmlDeviceGetOfaUtilization": ("optical_flow_utilization",),
    "nvmlDeviceGetMemoryInfo_v2": ("memory_used_bytes", "memory_reserved_bytes", "memory_total_bytes"),
    "nvmlDeviceGetTemperature": ("temperature_celsius",),
    "nvmlDeviceGetMarginTemperature": ("temperature_margin_celsius",),
    "nvmlDeviceGetTemperatureThreshold": ("temperature_limits_celsius",),
    "nvmlDeviceGetClockInfo": ("clock_graphics_hz", "clock_sm_hz", "clock_memory_hz", "clock_video_hz"),
    "nvmlDeviceGetMaxClockInfo": (
        "clock_graphics_max_hz",
        "clock_sm_max_hz",
        "clock_memory_max_hz",
        "clock_video_max_hz",
    ),
    "nvmlDeviceGetEccMode": ("ecc_enabled",),
    "nvmlDeviceGetMemoryErrorCounter": ("ecc_located",),
    "nvmlDeviceGetRowRemapperHistogram": ("remap_banks",),
    "nvmlDeviceGetGpuFabricInfo": ("fabric_state",),
    "nvmlDeviceGetCurrentClocksEventReasons": ("throttle",),
    "nvmlDeviceGetPerformanceState": ("performance_level",),
    "nvmlDeviceGetMigMode": ("mig_enabled",),
    "nvmlDeviceGetPersistenceMode": ("persistence_enabled",),
    "nvmlDeviceGetFieldValues": (*FIELDS_WITH_AN_OLDER_WAY, *FIELDS_ALONE),
    "nvmlDeviceGetNumFans": (),
    "nvmlGpmQueryDeviceSupport": (),
    "nvmlGpmSampleGet": (),
    "nvmlDeviceGetSamples": (),
    "nvmlDeviceGetProcessUtilization": (),
    "nvmlDeviceGetSupportedEventTypes": (),
    "nvmlEventSetCreate": (),
    "nvmlDeviceRegisterEvents": (),
}
OLDER: dict[str, Any] = {  # what the older way tells; version 1 counts the driver's own share as used
    "nvmlDeviceGetMemoryInfo_v2": {
        "memory_used_bytes": 135_291_469_824 + 608_960_512,
        "memory_total_bytes": 150_754_820_096,
    },
    "nvmlDeviceGetTemperature": {"temperature_celsius": 54},
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttle": BUSY.throttle},
}


@pytest.mark.parametrize("call", COSTS)
def test_a_failing_call_costs_its_own_facts_and_no_others(machine: Machine, call: str) -> None:
    """Every documented code, one after the other: only those about the whole GPU or the whole driver cost more."""
    whole = replace(
        BUSY, processes=(computing(5, 1000)._replace(kinds=("graphics",)), computing(41000, 135_282_032_640))
    )
    codes = [code for code in [*range(2, 31), 999] if code not in (9, 15, 16, 18)]

    outcomes = machine.read(
        *(f"{SINGLE}gpu.0.processes.graphics=5:1000\ngpu.0.error.{call}={code}\n" for code in codes),
        times=range(0, 1000 * len(codes), 1000),  # what is not supported is asked anew by then
    )

    found = {code: snapshot_of(outcome).gpus for code, outcome in zip(codes, outcomes, strict=True)}
    unknown: dict[str, Any] = dict.fromkeys(COSTS[call])

    def costs(code: int) -> dict[str, Any]:
        if call == "nvmlDeviceGetFieldValues" and code in (2, *LASTING):
            return unknown | FIELDS_WITH_AN_OLDER_WAY
        return unknown | (OLDER.get(call, {}) if code in OUTDATED else {})

    assert found == {code: (replace(whole, **costs(code)),) for code in codes}


@pytest.mark.parametrize("code", [2, 3, 4, 10, 13, 15, 18, 25, 999])
def test_everything_failing_at_once_is_a_failed_gpu_and_no_number(machine: Machine, code: int) -> None:
    """From the second reading on, when there is nothing to remember of a first."""
    first, second, third = machine.read(SINGLE, f"{SINGLE}error.*={code}\n", SINGLE, times=[0, 1000, 2000])

    [failed] = snapshot_of(second).gpus
    assert snapshot_of(first).gpus == (BUSY,)
    assert failed == GpuReading(failed.identity, failure=failed.failure)
    assert (failed.identity, failed.status) == (BUSY.identity, "failed")
    assert {row.name for row in METRICS if values(row, snapshot_of(second))} == {
        "otel_llm.gpu.info",
        "hw.status",
        "otel_llm.gpu.answer.status",
    }
    assert snapshot_of(third).gpus == (BUSY,)


@pytest.mark.parametrize(
    ("older", "of_fields"),
    [
        ("power_mw=627113", "field_error.185=3"),
        ("energy_mj=1000", "field_error.83=3"),
        ("pcie_replays=7", "field_error.94=3"),
        ("ecc_volatile_corrected=9", "field_error.3=3"),
        ("power_limit_mw=500000", "field_error.190=3"),
    ],
)
def test_a_field_that_is_not_known_is_asked_in_its_older_way(machine: Machine, older: str, of_fields: str) -> None:
    [outcome] = machine.read(f"{SINGLE}gpu.0.{older}\ngpu.0.{of_fields}\n")

    name, value = {
        "power_mw": ("power_watts", 627.113),
        "energy_mj": ("energy_joules", 1.0),
        "pcie_replays": ("pcie_replays", 7),
        "ecc_volatile_corrected": ("ecc_corrected", 9),
        "power_limit_mw": ("power_limit_watts", 500.0),
    }[older.split("=", maxsplit=1)[0]]
    assert snapshot_of(outcome).gpus == (replace(BUSY, **{name: value}),)


def test_a_driver_that_knows_an_older_structure_is_asked_with_that(machine: Machine) -> None:
    [outcome] = machine.read(f"{SINGLE}gpu.0.fabric_version=2\n")

    assert snapshot_of(outcome).gpus == (BUSY,)


@pytest.mark.parametrize("field", [82, 83, 145, 186])
def test_a_field_that_fails_once_spoils_no_other_and_is_asked_again(machine: Machine, field: int) -> None:
    """Neither an older way nor the value before stands in for it."""
    outcomes = machine.read(SINGLE, f"{SINGLE}gpu.0.field_error.{field}=999\n", SINGLE)

    name = {
        82: "memory_temperature_celsius",
        83: "energy_joules",
        145: "row_remap_failed",
        186: "power_instant_watts",
    }[field]
    assert [snapshot_of(outcome).gpus for outcome in outcomes] == [(BUSY,), (replace(BUSY, **{name: None}),), (BUSY,)]


def test_a_counter_that_goes_back_is_told_as_it_is(machine: Machine) -> None:
    """Backends know that a counter that falls has begun anew; anything added to it here would be made up."""
    outcomes = machine.read(SINGLE, f"{SINGLE}gpu.0.field.83=5000\n", SINGLE, times=[0, 5, 10])

    assert [snapshot_of(outcome).gpus[0].energy_joules for outcome in outcomes] == [987_654_321, 5, 987_654_321]


def test_names_that_are_not_utf_8_are_unknown(machine: Machine) -> None:
    """The bindings cannot decode them; the GPU is there all the same."""
    [outcome] = machine.read(SINGLE.replace("gpu.*.name=NVIDIA H200", "gpu.*.name=\udce9"))

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
        ({"retired_pending": True}, "degraded"),
        ({"recovery_action": "gpu_reset"}, "degraded"),
        ({"recovery_action": "none"}, "ok"),
        ({"row_remap_failed": True, "row_remap_pending": True}, "predicted_failure"),
        ({"row_remap_failed": True, "failure": "GPU is lost"}, "failed"),
    ],
)
def test_the_status_of_a_gpu(facts: dict[str, Any], status: Status) -> None:
    assert GpuReading(GpuIdentity(0), **facts).status == status


def test_a_spread_is_of_what_came_since_the_last_reading(machine: Machine) -> None:
    """A burst that is over before the next reading is in its maximum; the present value does not show it."""
    burst = SINGLE.replace("samples.0=20:600000,627000,654000", "samples.0=20:90000 @0.2 20:700000 @0.35 20:90000")

    outcomes = machine.read(SINGLE, burst, burst, times=[0, 5, 10], pause_s=0.5, whole=True)

    spreads = [(snapshot_of(outcome).gpus[0].spreads or {}).get("power") for outcome in outcomes]
    assert spreads[0] is None
    assert isinstance(spreads[2], Spread)
    assert (spreads[2].min, spreads[2].max) == (90, 90)
