"""The series of a GPU: names, values and attributes, and which devices have which."""

from dataclasses import replace

import pytest
from fixtures.nvml.machine import (
    A100,
    BUSY,
    H100,
    L40S,
    MIG,
    PCIE_ERRORS,
    REASONS,
    Machine,
    snapshot,
    snapshot_of,
)

from otel_agent.catalogue import problems, values
from otel_agent.sources.gpu.changes import KINDS
from otel_agent.sources.gpu.metrics import METRICS, PROCESSES_MAX
from otel_agent.sources.gpu.read import GpuIdentity, GpuProcess, GpuReading, GpuSnapshot
from otel_agent.sources.gpu.snapshot import FABRIC_STATES, Counts, Spread

OWN = {"hw.id": "GPU-00000000-5a1d-4e0b-9c7e-0f0e0d0c0b00"}
TYPED = OWN | {"hw.type": "gpu"}


def test_the_rows_are_sound() -> None:
    assert problems(METRICS) == []


def test_the_metrics_of_a_gpu() -> None:
    """Every series that one GPU has, with its value: identity stands on the info series alone."""
    gpu = replace(
        BUSY,
        activity={"sm": 0.5, "tensor": 0.25},
        throughput={"pcie.receive": 1024.0},
        spreads={"power": Spread(1, 2, 3)},
        fan_speed=(0.3,),
        recovery_action="none",
        waited_s={"fields": 0.5},
        processes=(
            GpuProcess(41000, "VLLM::Worker_TP", 135_282_032_640, 0.9, "ab" * 32),
            GpuProcess(41001, None, None),
        ),
    )
    counts = {gpu.identity.id: Counts(dict.fromkeys(KINDS, 0) | {"xid": 3}, {79: 1, 31: 2})}

    def states(key: str, base: dict[str, str], **known: float) -> list[tuple[float, dict[str, str]]]:
        return [(value, base | {key: name}) for name, value in known.items()]

    def process(**more: str | int) -> dict[str, str | int]:
        return (
            OWN | {"process.pid": 41000, "otel_llm.process.name": "VLLM::Worker_TP", "container.id": "ab" * 32} | more
        )

    points = {row.name: values(row, snapshot(1000, gpu, counts=counts)) for row in METRICS}

    errors = {"corrected": 2, "uncorrected": 0, "pcie_replay": 0, "xid": 3}
    errors |= {f"pcie_{name}": int(name == "recovery") for name in PCIE_ERRORS}
    errors |= {f"nvlink_{name}": 0 for name in ("crc_flit", "crc_data", "replay", "recovery", "ecc_data")}
    located = {
        ("dram", "corrected"): 2,
        ("dram", "uncorrected"): 0,
        ("sram", "corrected"): 0,
        ("sram", "uncorrected"): 0,
    }
    assert {name: found for name, found in points.items() if found} == {
        "otel_llm.gpu.info": [
            (
                1,
                OWN
                | {
                    "hw.name": "NVIDIA H200",
                    "hw.driver_version": "590.48.01",
                    "otel_llm.gpu.index": 0,
                    "hw.serial_number": "1650000000000",
                    "hw.firmware_version": "96.00.A5.00.03",
                    "otel_llm.gpu.pci_address": "0000:19:00.0",
                    "otel_llm.gpu.cuda_version": "13.1",
                },
            )
        ],
        "hw.status": states("hw.state", TYPED, ok=1, degraded=0, predicted_failure=0, failed=0),
        "otel_llm.gpu.answer.status": states("otel_llm.state", OWN, ok=1, failed=0, stuck=0),
        "hw.gpu.utilization": states("hw.gpu.task", OWN, general=0.97, encoder=0, decoder=0, jpeg=0, optical_flow=0),
        "otel_llm.gpu.memory.controller.utilization": [(0.41, OWN)],
        "hw.gpu.memory.usage": [(135_291_469_824, OWN)],
        "hw.gpu.memory.limit": [(150_754_820_096, OWN)],
        "hw.gpu.memory.utilization": [(135_291_469_824 / 150_754_820_096, OWN)],
        "otel_llm.gpu.memory.reserved": [(608_960_512, OWN)],
        "hw.temperature": states("hw.sensor_location", TYPED, gpu=54, memory=63),
        "hw.temperature.limit": [
            (celsius, TYPED | {"hw.sensor_location": place, "hw.limit_type": kind})
            for celsius, place, kind in (
                (97, "gpu", "high.critical"),
                (92, "gpu", "throttled"),
                (95, "memory", "high.degraded"),
                (87, "gpu", "high.degraded"),
            )
        ],
        "otel_llm.gpu.temperature.margin": [(33, OWN)],
        "hw.power": [(627.4, TYPED)],
        "otel_llm.gpu.power.instant": [(626.26, OWN)],
        "otel_llm.gpu.power.memory": [(118, OWN)],
        "hw.energy": [(987_654_321, TYPED)],
        "otel_llm.gpu.power.limit": [(700, OWN)],
        "otel_llm.gpu.power.limit.bound": states("otel_llm.bound", OWN, min=200, max=700, default=700),
        "otel_llm.gpu.clock.speed": states(
            "otel_llm.clock", OWN, graphics=1.755e9, sm=1.755e9, memory=3.201e9, video=1.425e9
        ),
        "otel_llm.gpu.clock.limit": states(
            "otel_llm.clock", OWN, graphics=1.98e9, sm=1.98e9, memory=3.201e9, video=1.98e9
        ),
        "otel_llm.gpu.performance.level": [(0, OWN)],
        "hw.fan.speed_ratio": [(0.3, OWN | {"hw.sensor_location": "fan0"})],
        "otel_llm.gpu.mode.enabled": states("otel_llm.mode", OWN, mig=0, persistence=1, ecc=1),
        "otel_llm.gpu.throttle.active": states(
            "otel_llm.reason", OWN, **{reason: int(reason == "sw_power_cap") for reason in REASONS}
        ),
        "otel_llm.gpu.throttle.time": states("otel_llm.reason", OWN, **dict(BUSY.throttle_time_s or {})),
        "hw.errors": states("error.type", TYPED, **errors),
        "otel_llm.gpu.xid.errors": [(1, OWN | {"otel_llm.gpu.xid": "79"}), (2, OWN | {"otel_llm.gpu.xid": "31"})],
        "otel_llm.gpu.events": states("otel_llm.gpu.event", OWN, **(dict.fromkeys(KINDS, 0) | {"xid": 3})),
        "otel_llm.gpu.memory.errors": [
            (count, OWN | {"otel_llm.gpu.memory.location": where, "error.type": kind})
            for (where, kind), count in located.items()
        ],
        "otel_llm.gpu.memory.errors.lifetime": states("error.type", OWN, corrected=11, uncorrected=0),
        "otel_llm.gpu.memory.rows.remapped": states("error.type", OWN, corrected=0, uncorrected=0),
        "otel_llm.gpu.memory.banks": states("otel_llm.spare", OWN, max=3072, high=0, partial=0, low=0, none=0),
        "otel_llm.gpu.row_remap.status": states("otel_llm.state", OWN, pending=0, failed=0),
        "otel_llm.gpu.recovery.status": [
            (int(name == "none"), OWN | {"otel_llm.gpu.recovery": name})
            for name in (
                "none",
                "gpu_reset",
                "node_reboot",
                "drain_p2p",
                "drain_and_reset",
                "recover_imex_domain",
                "bus_reset",
                "system_reboot",
            )
        ],
        "otel_llm.gpu.fabric.status": states(
            "otel_llm.state", OWN, **{name: int(name == "completed") for name in FABRIC_STATES}
        ),
        "otel_llm.gpu.activity": states("otel_llm.gpu.part", OWN, sm=0.5, tensor=0.25),
        "otel_llm.gpu.throughput": [(1024, OWN | {"otel_llm.gpu.link": "pcie", "network.io.direction": "receive"})],
        "hw.gpu.io": states("network.io.direction", OWN, transmit=123_456_789, receive=987_654_321),
        "otel_llm.gpu.nvlink.io": states("network.io.direction", OWN, transmit=5_120_000_000, receive=4_096_000_000),
        "otel_llm.gpu.nvlink.links": [(18, OWN)],
        "otel_llm.gpu.pcie.link": states(
            "otel_llm.gpu.link.property", OWN, generation_max=5, width_max=16, generation=5, width=16
        ),
        "otel_llm.gpu.power.sampled": states("otel_llm.statistic", OWN, min=1, mean=2, max=3),
        "otel_llm.gpu.process.count": [(2, OWN)],
        "otel_llm.gpu.process.memory.usage": [(135_282_032_640, process())],
        "otel_llm.gpu.process.utilization": [(0.9, process())],
        "otel_llm.gpu.driver.time": [(0.5, OWN | {"otel_llm.gpu.questions": "fields"})],
    }


def test_counts_of_events_begin_at_0_and_go_on_while_a_gpu_is_lost(machine: Machine) -> None:
    """A counter that appears with its first event hides it from every rate."""
    outcomes = machine.read(H100, f"{H100}gpu.0.error.*=15\n", times=[0, 5], whole=True)

    def counted(step: int, name: str) -> dict[str, float]:
        [row] = [row for row in METRICS if row.name == name]
        return {
            str(attributes.get("otel_llm.gpu.event") or attributes.get("error.type")): value
            for value, attributes in values(row, snapshot_of(outcomes[step]))
        }

    assert counted(0, "otel_llm.gpu.events") == dict.fromkeys(KINDS, 0)
    assert counted(1, "otel_llm.gpu.events") == dict.fromkeys(KINDS, 0) | {"failed": 1}
    assert (counted(0, "hw.errors")["xid"], counted(1, "hw.errors")) == (0, {"xid": 0})


def test_a_failed_gpu_is_a_status_and_an_identity_and_no_other_series() -> None:
    lost = GpuSnapshot(1000, None, (GpuReading(BUSY.identity, failure="GPU is lost"),))

    points = {row.name: found for row in METRICS if (found := values(row, lost))}

    assert set(points) == {"otel_llm.gpu.info", "hw.status", "otel_llm.gpu.answer.status"}
    assert points["hw.status"] == [
        (int(state == "failed"), TYPED | {"hw.state": state})
        for state in ("ok", "degraded", "predicted_failure", "failed")
    ]


def test_a_value_stays_with_its_series_when_others_come_and_go() -> None:
    """Attributes are shared from one reading to the next: not where a GPU, or one of its series, is another."""
    one, other = GpuIdentity(0, "GPU-a"), GpuIdentity(1, "GPU-b")
    both, power = {"transmit": 1, "receive": 2}, {"min": 200.0}
    readings = (
        (GpuReading(one, pcie_bytes=both), GpuReading(other, pcie_bytes={"transmit": 3})),
        (GpuReading(one, pcie_bytes={"transmit": 4}), GpuReading(other, pcie_bytes={"transmit": 5, "receive": 6})),
        (GpuReading(other, pcie_bytes=both), GpuReading(one)),
        (GpuReading(one, pcie_bytes=both, power_bounds_watts=power, mig_enabled=False),),
        (GpuReading(other, power_bounds_watts=power, mig_enabled=True),),
    )

    told = [
        {row.name: found for row in METRICS if (found := values(row, GpuSnapshot(1000, None, gpus)))}
        for gpus in readings
    ]

    def moved(gpu: str, **known: int) -> list[tuple[int, dict[str, str]]]:
        return [(value, {"hw.id": gpu, "network.io.direction": name}) for name, value in known.items()]

    assert [points.get("hw.gpu.io") for points in told] == [
        moved("GPU-a", transmit=1, receive=2) + moved("GPU-b", transmit=3),
        moved("GPU-a", transmit=4) + moved("GPU-b", transmit=5, receive=6),
        moved("GPU-b", transmit=1, receive=2),
        moved("GPU-a", transmit=1, receive=2),
        None,
    ]
    assert [points.get("otel_llm.gpu.power.limit.bound") for points in told[3:]] == [
        [(200.0, {"hw.id": "GPU-a", "otel_llm.bound": "min"})],
        [(200.0, {"hw.id": "GPU-b", "otel_llm.bound": "min"})],
    ]
    assert [points.get("otel_llm.gpu.mode.enabled") for points in told[3:]] == [
        [(0, {"hw.id": "GPU-a", "otel_llm.mode": "mig"})],
        [(1, {"hw.id": "GPU-b", "otel_llm.mode": "mig"})],
    ]


def test_the_processes_with_most_memory_have_a_series_and_all_are_counted() -> None:
    many = tuple(GpuProcess(pid, None, pid * 10) for pid in range(1, 101))
    crowded = GpuSnapshot(1000, None, (GpuReading(GpuIdentity(0, "GPU-a"), processes=many),))

    points = {row.name: values(row, crowded) for row in METRICS}

    assert points["otel_llm.gpu.process.count"] == [(100, {"hw.id": "GPU-a"})]
    assert points["otel_llm.gpu.process.memory.usage"] == [
        (pid * 10, {"hw.id": "GPU-a", "process.pid": pid}) for pid in range(100, 100 - PROCESSES_MAX, -1)
    ]


@pytest.mark.parametrize(
    ("profile", "absent"),
    [
        (H100, {"hw.fan.speed_ratio", "otel_llm.gpu.recovery.status", "otel_llm.gpu.memory.pages.retired"}),
        (
            A100,
            {
                "otel_llm.gpu.activity",  # no performance monitor before Hopper
                "otel_llm.gpu.throughput",
                "otel_llm.gpu.fabric.status",
                "otel_llm.gpu.temperature.margin",
                "otel_llm.gpu.power.memory",
                "hw.gpu.io",
                "hw.fan.speed_ratio",
                "otel_llm.gpu.recovery.status",
                "otel_llm.gpu.memory.pages.retired",
            },
        ),
        (
            L40S,
            {
                "otel_llm.gpu.activity",
                "otel_llm.gpu.throughput",
                "otel_llm.gpu.fabric.status",
                "otel_llm.gpu.nvlink.io",
                "otel_llm.gpu.nvlink.links",
                "otel_llm.gpu.power.memory",
                "hw.fan.speed_ratio",
                "otel_llm.gpu.memory.pages.retired",
            },
        ),
    ],
    ids=["H100", "A100", "L40S"],
)
def test_each_kind_of_gpu_has_the_rows_that_it_can_tell(machine: Machine, profile: str, absent: set[str]) -> None:
    outcomes = machine.read(profile, profile, times=[0, 5], pause_s=0.4, whole=True)

    told = snapshot_of(outcomes[1])
    never = {"otel_llm.gpu.instance.info", "otel_llm.gpu.xid.errors"}
    assert {row.name for row in METRICS if not values(row, told)} == absent | never
    assert [gpu.status for gpu in told.gpus] == ["ok"]


def test_an_a100_tells_its_present_power_and_an_l40s_its_average(machine: Machine) -> None:
    [a100], [l40s] = (snapshot_of(outcome).gpus for outcome in (*machine.read(A100), *machine.read(L40S)))

    assert (a100.power_watts, a100.power_instant_watts) == (312.45, 312.45)
    assert (l40s.power_watts, l40s.power_instant_watts) == (110.23, 112.38)
    assert (l40s.memory_temperature_celsius, l40s.recovery_action, l40s.persistence_enabled) == (None, "none", False)


def test_a_partitioned_gpu_tells_of_its_instances(machine: Machine) -> None:
    """Each is one more hw.id, its GPU stands on its info series; compute instances of one GPU instance share memory and monitor."""
    outcomes = machine.read(MIG, MIG, times=[0, 5], whole=True)

    told = snapshot_of(outcomes[1])
    whole = "GPU-10000000-0100-4e0b-9c7e-0f0e0d0c0b00"
    first, second, empty = (f"MIG-0000000{slot}-1111-5a1d-9c7e-0f0e0d0c0b00" for slot in (0, 1, 3))
    points = {row.name: values(row, told) for row in METRICS}
    assert points["otel_llm.gpu.instance.info"] == [
        (
            1,
            {
                "hw.id": uuid,
                "hw.parent": whole,
                "hw.name": f"NVIDIA H100 80GB HBM3 MIG {name}",
                "otel_llm.gpu.instance.id": instance,
                "otel_llm.gpu.instance.compute.id": compute,
                "otel_llm.gpu.instance.multiprocessors": sms,
            },
        )
        for uuid, name, instance, compute, sms in (
            (first, "1c.3g.40gb", 1, 0, 16),
            (second, "2c.3g.40gb", 1, 1, 32),
            (empty, "1g.10gb", 9, 0, 16),
        )
    ]
    assert points["hw.gpu.memory.usage"] == [
        (30_070_013_952, {"hw.id": whole}),
        (30_064_771_072, {"hw.id": first}),
        (30_064_771_072, {"hw.id": second}),
        (0, {"hw.id": empty}),
    ]
    assert points["otel_llm.gpu.activity"] == [
        (0.75, {"hw.id": first, "otel_llm.gpu.part": "sm"}),
        (0.5, {"hw.id": first, "otel_llm.gpu.part": "tensor"}),
        (0.75, {"hw.id": second, "otel_llm.gpu.part": "sm"}),
        (0.5, {"hw.id": second, "otel_llm.gpu.part": "tensor"}),
        (0, {"hw.id": empty, "otel_llm.gpu.part": "sm"}),
    ]
    assert points["hw.gpu.utilization"] == []  # the whole GPU tells none while it is partitioned
    assert points["hw.power"] == [(230, {"hw.id": whole, "hw.type": "gpu"})]
    assert [[process.pid for process in part.processes or ()] for part in told.gpus[0].instances] == [
        [61000],
        [61001],
        [],
    ]


def test_instances_come_and_go_while_the_agent_runs(machine: Machine) -> None:
    """What the whole GPU did not tell while it was partitioned is asked again once it is whole."""
    gone = MIG.replace("gpu.0.mig.3.uuid=", "gpu.0.mig.3.was=")
    whole = (
        MIG.replace("gpu.*.mig_mode=1", "gpu.*.mig_mode=0")
        + "gpu.0.utilization_percent=50\ngpu.0.memory_controller_percent=5\n"
    )

    outcomes = machine.read(MIG, gone, MIG, whole, times=[0, 5, 10, 15])

    gpus = [snapshot_of(outcome).gpus[0] for outcome in outcomes]
    assert [len(gpu.instances) for gpu in gpus] == [3, 2, 3, 0]
    assert [(gpu.mig_enabled, gpu.utilization) for gpu in gpus] == [(True, None)] * 3 + [(False, 0.5)]
