"""The metrics of a GPU: the names of semantic conventions for hardware where they have one, our own where they have none.

Series carry the UUID alone; index, name and driver version stand once, on the info series, and are joined by `hw.id`.
"""

from collections.abc import Callable, Iterable, Iterator

from otel_agent.catalogue import Metric, Point
from otel_agent.sources.gpu.snapshot import STATUSES, GpuReading, GpuSnapshot

PROCESSES_MAX = 64  # of one GPU with a series of their own, those with most memory first; all are counted

Value = float | bool | None


def _id(gpu: GpuReading) -> dict[str, str]:
    return {"hw.id": gpu.identity.id}


def _typed(gpu: GpuReading) -> dict[str, str]:
    return {"hw.id": gpu.identity.id, "hw.type": "gpu"}


def _one(
    value: Callable[[GpuReading], float | None], attributes: Callable[[GpuReading], dict[str, str]] = _id
) -> Callable[[GpuSnapshot], Iterable[Point]]:
    """Make the points of a row that has one series a GPU."""
    return lambda snapshot: [(value(gpu), attributes(gpu)) for gpu in snapshot.gpus]


def _several(
    key: str,
    values: Callable[[GpuReading], Iterable[tuple[str, Value]]],
    attributes: Callable[[GpuReading], dict[str, str]] = _id,
) -> Callable[[GpuSnapshot], Iterable[Point]]:
    """Make the points of a row that has a series for each value of one attribute, too."""
    return lambda snapshot: [
        (_number(value), attributes(gpu) | {key: name}) for gpu in snapshot.gpus for name, value in values(gpu)
    ]


def _number(value: Value) -> float | None:
    return int(value) if isinstance(value, bool) else value


def _info(snapshot: GpuSnapshot) -> Iterator[Point]:
    for gpu in snapshot.gpus:
        told = {
            "hw.name": gpu.identity.name,
            "hw.driver_version": snapshot.driver_version,
            "otel_llm.gpu.index": gpu.identity.index,
        }
        yield 1, _id(gpu) | {key: value for key, value in told.items() if value is not None}


def _process_memory(snapshot: GpuSnapshot) -> Iterator[Point]:
    for gpu in snapshot.gpus:
        largest = sorted(gpu.processes or (), key=lambda process: process.memory_used_bytes or 0, reverse=True)[
            :PROCESSES_MAX
        ]
        for process in largest:
            name = {"otel_llm.process.name": process.name} if process.name is not None else {}
            yield process.memory_used_bytes, _id(gpu) | {"process.pid": process.pid} | name


METRICS: tuple[Metric[GpuSnapshot], ...] = (
    Metric(
        "otel_llm.gpu.info",
        "gauge",
        "",
        "What a GPU is: always 1, the meaning is in the attributes.",
        _info,
        attributes=("hw.id", "hw.name", "hw.driver_version", "otel_llm.gpu.index"),
        note="Semantic conventions put name and driver version on every series; here they stand once and are joined by hw.id.",
    ),
    Metric(
        "hw.status",
        "updowncounter",
        "1",
        "Operational status of a GPU: 1 for the state it is in, 0 for the others.",
        _several("hw.state", lambda gpu: ((state, gpu.status == state) for state in STATUSES), _typed),
        attributes=("hw.id", "hw.type", "hw.state"),
    ),
    Metric(
        "hw.gpu.utilization",
        "gauge",
        "1",
        "Share of time in which a task of the GPU was busy, over the driver's sample period of up to a second.",
        _several(
            "hw.gpu.task",
            lambda gpu: (
                ("general", gpu.utilization),
                ("encoder", gpu.encoder_utilization),
                ("decoder", gpu.decoder_utilization),
            ),
        ),
        attributes=("hw.id", "hw.gpu.task"),
    ),
    Metric(
        "otel_llm.gpu.memory.controller.utilization",
        "gauge",
        "1",
        "Share of time in which device memory was read or written.",
        _one(lambda gpu: gpu.memory_controller_utilization),
        attributes=("hw.id",),
        note="hw.gpu.memory.utilization is the share of memory in use; how busy its controller is has no name.",
    ),
    Metric(
        "hw.gpu.memory.usage",
        "updowncounter",
        "By",
        "GPU memory in use, without what the driver reserves.",
        _one(lambda gpu: gpu.memory_used_bytes),
        attributes=("hw.id",),
    ),
    Metric(
        "hw.gpu.memory.limit",
        "updowncounter",
        "By",
        "Size of the GPU memory.",
        _one(lambda gpu: gpu.memory_total_bytes),
        attributes=("hw.id",),
    ),
    Metric(
        "hw.gpu.memory.utilization",
        "gauge",
        "1",
        "GPU memory in use as a share of all of it.",
        _one(lambda gpu: gpu.memory_utilization),
        attributes=("hw.id",),
    ),
    Metric(
        "hw.temperature",
        "gauge",
        "Cel",
        "Temperature of the GPU and of its memory.",
        _several(
            "hw.sensor_location",
            lambda gpu: (("gpu", gpu.temperature_celsius), ("memory", gpu.memory_temperature_celsius)),
            _typed,
        ),
        attributes=("hw.id", "hw.type", "hw.sensor_location"),
    ),
    Metric(
        "hw.power",
        "gauge",
        "W",
        "Power drawn by the whole board.",
        _one(lambda gpu: gpu.power_watts, _typed),
        attributes=("hw.id", "hw.type"),
    ),
    Metric(
        "hw.energy",
        "counter",
        "J",
        "Energy used by the whole board since the driver was loaded.",
        _one(lambda gpu: gpu.energy_joules, _typed),
        attributes=("hw.id", "hw.type"),
    ),
    Metric(
        "otel_llm.gpu.power.limit",
        "gauge",
        "W",
        "Power limit in force, above which the driver lowers the clocks.",
        _one(lambda gpu: gpu.power_limit_watts),
        attributes=("hw.id",),
        note="Semantic conventions know a limit for power supplies and for the host, none for a GPU.",
    ),
    Metric(
        "otel_llm.gpu.clock.speed",
        "gauge",
        "Hz",
        "Present clock of graphics (the multiprocessors) and of memory.",
        _several("otel_llm.clock", lambda gpu: (("graphics", gpu.clock_graphics_hz), ("memory", gpu.clock_memory_hz))),
        attributes=("hw.id", "otel_llm.clock"),
        note="hw.cpu.speed is the model; there is none for a GPU.",
    ),
    Metric(
        "otel_llm.gpu.clock.limit",
        "gauge",
        "Hz",
        "Highest clock that graphics and memory can have.",
        _several(
            "otel_llm.clock", lambda gpu: (("graphics", gpu.clock_graphics_max_hz), ("memory", gpu.clock_memory_max_hz))
        ),
        attributes=("hw.id", "otel_llm.clock"),
        note="hw.cpu.speed.limit is the model; there is none for a GPU.",
    ),
    Metric(
        "otel_llm.gpu.performance.level",
        "gauge",
        "{level}",
        "Performance state (P-state) of the GPU: 0 is the fastest, 15 the slowest.",
        _one(lambda gpu: gpu.performance_level),
        attributes=("hw.id",),
        note="No convention has it; the level is a rank, so a number rather than sixteen states.",
    ),
    Metric(
        "otel_llm.gpu.throttle.active",
        "updowncounter",
        "1",
        "Why the clocks are lower than they could be: 1 for each reason that holds now, 0 for the others.",
        _several("otel_llm.reason", lambda gpu: (gpu.throttle or {}).items()),
        attributes=("hw.id", "otel_llm.reason"),
        note="No convention has reasons for lowered clocks.",
    ),
    Metric(
        "otel_llm.gpu.throttle.time",
        "counter",
        "s",
        "Time in which a reason held the clocks down since the driver was loaded.",
        _several("otel_llm.reason", lambda gpu: (gpu.throttle_time_s or {}).items()),
        attributes=("hw.id", "otel_llm.reason"),
        note="No convention has reasons for lowered clocks.",
    ),
    Metric(
        "hw.errors",
        "counter",
        "{error}",
        "Errors of GPU memory (corrected and uncorrected) and replayed PCIe packets since the driver was loaded.",
        _several(
            "error.type",
            lambda gpu: (
                ("corrected", gpu.ecc_corrected),
                ("uncorrected", gpu.ecc_uncorrected),
                ("pcie_replay", gpu.pcie_replays),
            ),
            _typed,
        ),
        attributes=("hw.id", "hw.type", "error.type"),
    ),
    Metric(
        "otel_llm.gpu.row_remap.status",
        "updowncounter",
        "1",
        "Replacement of faulty memory rows: 1 where it waits for a reset (pending), or where it failed (failed).",
        _several("otel_llm.state", lambda gpu: (("pending", gpu.row_remap_pending), ("failed", gpu.row_remap_failed))),
        attributes=("hw.id", "otel_llm.state"),
        note="hw.status sums it up as degraded and predicted_failure; which of several causes it was has no name.",
    ),
    Metric(
        "otel_llm.gpu.mode.enabled",
        "updowncounter",
        "1",
        "Modes of a GPU that are on (1) or off (0): partitioned into instances (mig), kept started without clients (persistence).",
        _several("otel_llm.mode", lambda gpu: (("mig", gpu.mig_enabled), ("persistence", gpu.persistence_enabled))),
        attributes=("hw.id", "otel_llm.mode"),
        note="No convention has modes of a GPU.",
    ),
    Metric(
        "otel_llm.gpu.process.count",
        "updowncounter",
        "{process}",
        "Processes with a context on the GPU.",
        _one(lambda gpu: None if gpu.processes is None else len(gpu.processes)),
        attributes=("hw.id",),
        note="system.process.count counts those of the host.",
    ),
    Metric(
        "otel_llm.gpu.process.memory.usage",
        "updowncounter",
        "By",
        f"GPU memory of each process, of at most the {PROCESSES_MAX} with most of it on a GPU.",
        _process_memory,
        attributes=("hw.id", "process.pid", "otel_llm.process.name"),
        note="process.memory.usage is host memory. The name is the kernel's (comm), which conventions do not have.",
    ),
)
