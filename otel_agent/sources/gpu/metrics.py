"""The metrics of a GPU: the names of semantic conventions for hardware where they have one, our own where they have none.

Series carry the UUID alone; index, name and versions stand once, on the info series, and are joined by `hw.id`. A MIG device is one more
`hw.id`, whose info series names its GPU. What goes wrong is in `metrics_health`, what moves over links and in pipes in `metrics_depth`.
"""

from collections.abc import Iterator, Mapping

from otel_agent.catalogue import Attributes, Metric, Point
from otel_agent.sources.gpu.metrics_depth import DEPTH
from otel_agent.sources.gpu.metrics_health import HEALTH
from otel_agent.sources.gpu.points import Made, Series, described, flags, mapped, named, one, states, with_parts
from otel_agent.sources.gpu.processes import PROCESSES_MAX
from otel_agent.sources.gpu.snapshot import ANSWERS, STATUSES, GpuIdentity, GpuSnapshot

__all__ = ["METRICS", "PROCESSES_MAX"]

# How semantic conventions name the temperatures at which something happens.
_LIMITS: Mapping[str, tuple[str, str]] = {
    "shutdown": ("gpu", "high.critical"),
    "slowdown": ("gpu", "throttled"),
    "gpu_max": ("gpu", "high.degraded"),
    "memory_max": ("memory", "high.degraded"),
}


def _described(known: tuple[GpuIdentity, str | None, str | None]) -> Attributes:
    identity, driver_version, cuda_version = known
    told: dict[str, str | int | None] = {
        "hw.name": identity.name,
        "hw.driver_version": driver_version,
        "otel_llm.gpu.index": identity.index,
        "hw.serial_number": identity.serial,
        "hw.firmware_version": identity.firmware_version,
        "otel_llm.gpu.pci_address": identity.pci_bus_id,
        "otel_llm.gpu.cuda_version": cuda_version,
    }
    return described(identity.id, told)


_ABOUT = Made(_described)


def _info(snapshot: GpuSnapshot) -> Iterator[Point]:
    for gpu in snapshot.gpus:
        yield 1, _ABOUT[gpu.identity, snapshot.driver_version, snapshot.cuda_version]


def _instances(snapshot: GpuSnapshot) -> Iterator[Point]:
    for gpu in snapshot.gpus:
        for part in gpu.instances:
            told: dict[str, str | int | None] = {
                "hw.parent": part.parent,
                "hw.name": part.name,
                "otel_llm.gpu.instance.id": part.gpu_instance,
                "otel_llm.gpu.instance.compute.id": part.compute_instance,
                "otel_llm.gpu.instance.multiprocessors": part.multiprocessors,
            }
            yield 1, described(part.uuid, told)


METRICS: tuple[Metric[GpuSnapshot], ...] = (
    Metric(
        "otel_llm.gpu.info",
        "gauge",
        "",
        "What a GPU is: always 1, the meaning is in the attributes.",
        _info,
        attributes=(
            "hw.id",
            "hw.name",
            "hw.driver_version",
            "hw.serial_number",
            "hw.firmware_version",
            "otel_llm.gpu.index",
            "otel_llm.gpu.pci_address",
            "otel_llm.gpu.cuda_version",
        ),
        note="Semantic conventions put name and driver version on every series; here they stand once and are joined by hw.id.",
    ),
    Metric(
        "otel_llm.gpu.instance.info",
        "gauge",
        "",
        "What a MIG device is, and of which GPU: always 1, the meaning is in the attributes.",
        _instances,
        attributes=(
            "hw.id",
            "hw.parent",
            "hw.name",
            "otel_llm.gpu.instance.id",
            "otel_llm.gpu.instance.compute.id",
            "otel_llm.gpu.instance.multiprocessors",
        ),
        note="Semantic conventions put name and parent on every series; here they stand once and are joined by hw.id.",
    ),
    Metric(
        "hw.status",
        "updowncounter",
        "1",
        "Operational status of a GPU: 1 for the state it is in, 0 for the others.",
        states("hw.state", STATUSES, lambda gpu: gpu.status, typed=True),
        attributes=("hw.id", "hw.type", "hw.state"),
    ),
    Metric(
        "otel_llm.gpu.answer.status",
        "updowncounter",
        "1",
        "How the driver answers for a GPU: 1 for the state, 0 for the others; stuck is a call that does not come back.",
        states("otel_llm.state", ANSWERS, lambda gpu: gpu.answer),
        attributes=("hw.id", "otel_llm.state"),
        note="hw.status says failed for both; that a driver hangs, rather than refuses, has no name.",
    ),
    Metric(
        "hw.gpu.utilization",
        "gauge",
        "1",
        "Share of time in which a task of the GPU was busy, over the driver's sample period of up to a second.",
        mapped(
            named("hw.gpu.task"),
            lambda gpu: {
                "general": gpu.utilization,
                "encoder": gpu.encoder_utilization,
                "decoder": gpu.decoder_utilization,
                "jpeg": gpu.jpeg_utilization,
                "optical_flow": gpu.optical_flow_utilization,
            },
        ),
        attributes=("hw.id", "hw.gpu.task"),
    ),
    Metric(
        "otel_llm.gpu.memory.controller.utilization",
        "gauge",
        "1",
        "Share of time in which device memory was read or written.",
        one(lambda gpu: gpu.memory_controller_utilization),
        attributes=("hw.id",),
        note="hw.gpu.memory.utilization is the share of memory in use; how busy its controller is has no name.",
    ),
    Metric(
        "hw.gpu.memory.usage",
        "updowncounter",
        "By",
        "GPU memory in use, without what the driver reserves.",
        with_parts(lambda device: device.memory_used_bytes),
        attributes=("hw.id",),
    ),
    Metric(
        "hw.gpu.memory.limit",
        "updowncounter",
        "By",
        "Size of the GPU memory.",
        with_parts(lambda device: device.memory_total_bytes),
        attributes=("hw.id",),
    ),
    Metric(
        "hw.gpu.memory.utilization",
        "gauge",
        "1",
        "GPU memory in use as a share of all of it.",
        with_parts(lambda device: device.memory_utilization),
        attributes=("hw.id",),
    ),
    Metric(
        "otel_llm.gpu.memory.reserved",
        "updowncounter",
        "By",
        "GPU memory that the driver keeps for itself.",
        one(lambda gpu: gpu.memory_reserved_bytes),
        attributes=("hw.id",),
        note="hw.gpu.memory.usage and limit leave it out and in; the part itself has no name.",
    ),
    Metric(
        "hw.temperature",
        "gauge",
        "Cel",
        "Temperature of the GPU and of its memory.",
        mapped(
            named("hw.sensor_location", typed=True),
            lambda gpu: {"gpu": gpu.temperature_celsius, "memory": gpu.memory_temperature_celsius},
        ),
        attributes=("hw.id", "hw.type", "hw.sensor_location"),
    ),
    Metric(
        "hw.temperature.limit",
        "gauge",
        "Cel",
        "Temperatures at which the GPU shuts down (high.critical), lowers its clocks (throttled), or should not work any longer (high.degraded).",
        mapped(
            Series(
                lambda name: (("hw.sensor_location", _LIMITS[name][0]), ("hw.limit_type", _LIMITS[name][1])),
                typed=True,
            ),
            lambda gpu: gpu.temperature_limits_celsius,
        ),
        attributes=("hw.id", "hw.type", "hw.sensor_location", "hw.limit_type"),
    ),
    Metric(
        "otel_llm.gpu.temperature.margin",
        "gauge",
        "Cel",
        "Degrees left until the driver lowers the clocks for heat.",
        one(lambda gpu: gpu.temperature_margin_celsius),
        attributes=("hw.id",),
        note="Newer boards tell this margin rather than a limit in degrees; conventions have no name for it.",
    ),
    Metric(
        "hw.power",
        "gauge",
        "W",
        "Power drawn by the whole board, averaged by the driver over a second where the GPU can (A100 and before: the present draw).",
        one(lambda gpu: gpu.power_watts, typed=True),
        attributes=("hw.id", "hw.type"),
    ),
    Metric(
        "otel_llm.gpu.power.instant",
        "gauge",
        "W",
        "Power drawn by the whole board at this moment.",
        one(lambda gpu: gpu.power_instant_watts),
        attributes=("hw.id",),
        note="hw.power is one figure; the driver has an average and a present one.",
    ),
    Metric(
        "otel_llm.gpu.power.memory",
        "gauge",
        "W",
        "Power drawn by the GPU's memory, as part of the board's.",
        one(lambda gpu: gpu.power_memory_watts),
        attributes=("hw.id",),
        note="hw.power of a part of a board would be counted twice in its sum.",
    ),
    Metric(
        "hw.energy",
        "counter",
        "J",
        "Energy used by the whole board since the driver was loaded.",
        one(lambda gpu: gpu.energy_joules, typed=True),
        attributes=("hw.id", "hw.type"),
    ),
    Metric(
        "otel_llm.gpu.power.limit",
        "gauge",
        "W",
        "Power limit in force, above which the driver lowers the clocks.",
        one(lambda gpu: gpu.power_limit_watts),
        attributes=("hw.id",),
        note="Semantic conventions know a limit for power supplies and for the host, none for a GPU.",
    ),
    Metric(
        "otel_llm.gpu.power.limit.bound",
        "gauge",
        "W",
        "Between which values the power limit can be set, and the one after a start.",
        mapped(named("otel_llm.bound"), lambda gpu: gpu.power_bounds_watts),
        attributes=("hw.id", "otel_llm.bound"),
        note="Semantic conventions know a limit for power supplies and for the host, none for a GPU.",
    ),
    Metric(
        "otel_llm.gpu.clock.speed",
        "gauge",
        "Hz",
        "Present clock of graphics, multiprocessors (sm), memory and video.",
        mapped(
            named("otel_llm.clock"),
            lambda gpu: {
                "graphics": gpu.clock_graphics_hz,
                "sm": gpu.clock_sm_hz,
                "memory": gpu.clock_memory_hz,
                "video": gpu.clock_video_hz,
            },
        ),
        attributes=("hw.id", "otel_llm.clock"),
        note="hw.cpu.speed is the model; there is none for a GPU.",
    ),
    Metric(
        "otel_llm.gpu.clock.limit",
        "gauge",
        "Hz",
        "Highest clock that graphics, multiprocessors (sm), memory and video can have.",
        mapped(
            named("otel_llm.clock"),
            lambda gpu: {
                "graphics": gpu.clock_graphics_max_hz,
                "sm": gpu.clock_sm_max_hz,
                "memory": gpu.clock_memory_max_hz,
                "video": gpu.clock_video_max_hz,
            },
        ),
        attributes=("hw.id", "otel_llm.clock"),
        note="hw.cpu.speed.limit is the model; there is none for a GPU.",
    ),
    Metric(
        "otel_llm.gpu.performance.level",
        "gauge",
        "{level}",
        "Performance state (P-state) of the GPU: 0 is the fastest, 15 the slowest.",
        one(lambda gpu: gpu.performance_level),
        attributes=("hw.id",),
        note="No convention has it; the level is a rank, so a number rather than sixteen states.",
    ),
    Metric(
        "hw.fan.speed_ratio",
        "gauge",
        "1",
        "Speed of a fan as a share of its highest; boards cooled by the server have none.",
        mapped(
            named("hw.sensor_location"),
            lambda gpu: {f"fan{number}": speed for number, speed in enumerate(gpu.fan_speed or ())},
        ),
        attributes=("hw.id", "hw.sensor_location"),
    ),
    Metric(
        "otel_llm.gpu.mode.enabled",
        "updowncounter",
        "1",
        "Modes of a GPU that are on (1) or off (0): partitioned (mig), kept started without clients (persistence), memory with ECC (ecc).",
        flags(
            "otel_llm.mode",
            lambda gpu: {"mig": gpu.mig_enabled, "persistence": gpu.persistence_enabled, "ecc": gpu.ecc_enabled},
        ),
        attributes=("hw.id", "otel_llm.mode"),
        note="No convention has modes of a GPU.",
    ),
    *HEALTH,
    *DEPTH,
)
