"""What each number of a record is rebuilt from: one row per field naming its metric, and the few rules that apply a row to samples.

The same rows serve the last reading (open routes), the store (/api/) and the lines of a chart, so all three say the same. How the
fields are put together into answers is left to `shapes`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from otel_agent.history.model import Attributes, Sample, Series
from otel_agent.schedule import Worker

PERCENT = 100.0
MHZ = 1e-6


@dataclass(frozen=True)
class Field:
    """One field: the values of `metric` where attributes match `where` and miss `unless`, combined, times `scale`.

    `rate` takes the growth per second of a counter instead of its value.
    """

    name: str
    metric: str
    where: Mapping[str, str] = field(default_factory=dict)
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    combine: Literal["sum", "max", "mean"] = "sum"
    scale: float = 1.0
    rate: bool = False


# A disk that keeps the CPU waiting does not make it busy, hence iowait counts as idle.
SYSTEM: tuple[Field, ...] = (
    Field("cpu_usage_percent", "system.cpu.utilization", unless={"cpu.mode": ("idle", "iowait")}, scale=PERCENT),
    Field("memory_used_bytes", "system.memory.usage", {"system.memory.state": "used"}),
    Field("memory_total_bytes", "system.memory.limit"),
    Field(
        "disk_used_bytes",
        "system.filesystem.usage",
        {"system.filesystem.mountpoint": "/", "system.filesystem.state": "used"},
    ),
    Field("disk_total_bytes", "system.filesystem.limit", {"system.filesystem.mountpoint": "/"}),
    Field("network_rx_bytes", "system.network.io", {"network.io.direction": "receive"}, rate=True),
    Field("network_tx_bytes", "system.network.io", {"network.io.direction": "transmit"}, rate=True),
    Field("load_1m", "otel_llm.host.load", {"otel_llm.window": "1m"}),
    Field("load_5m", "otel_llm.host.load", {"otel_llm.window": "5m"}),
    Field("load_15m", "otel_llm.host.load", {"otel_llm.window": "15m"}),
)
DISK_FREE = Field(
    "free", "system.filesystem.usage", {"system.filesystem.mountpoint": "/", "system.filesystem.state": "free"}
)
HOST_TEMPERATURE = Field("temperature", "hw.temperature", combine="max")

GPU_ID = "hw.id"
GPU_INFO = "otel_llm.gpu.info"
GPU_ONLY = frozenset(
    {"hw.gpu.utilization", "hw.gpu.memory.usage", "hw.gpu.memory.limit"}
)  # no other hardware has these
GPU_PROCESSES = "otel_llm.gpu.process.count"
GPU_PROCESS_MEMORY = "otel_llm.gpu.process.memory.usage"
GPU_STATUS = "hw.status"
GPU_INSTANCE = "otel_llm.gpu.instance.info"
GPU: tuple[Field, ...] = (
    Field("utilization_percent", "hw.gpu.utilization", {"hw.gpu.task": "general"}, scale=PERCENT),
    Field("memory_used_bytes", "hw.gpu.memory.usage"),
    Field("memory_total_bytes", "hw.gpu.memory.limit"),
    Field("temperature_celsius", "hw.temperature", {"hw.sensor_location": "gpu"}),
    Field("power_watts", "hw.power"),
    Field("clock_graphics_mhz", "otel_llm.gpu.clock.speed", {"otel_llm.clock": "graphics"}, scale=MHZ),
    Field("clock_memory_mhz", "otel_llm.gpu.clock.speed", {"otel_llm.clock": "memory"}, scale=MHZ),
)

CONTAINER_ID = "container.id"
CONTAINER_INFO = "otel_llm.container.info"
# A CPU kept busy is 100 %, and memory goes without the inactive page cache, as `docker stats` has both.
CONTAINER_STATUS = "otel_llm.container.status"
PLACEMENT = "otel_llm.placement"
CONTAINER_CREATED = Field("created_at", "otel_llm.container.created")
CONTAINER: tuple[Field, ...] = (
    Field("cpu_usage_percent", "container.cpu.usage", scale=PERCENT),
    Field("memory_used_bytes", "container.memory.working_set"),
    Field("memory_limit_bytes", "otel_llm.container.memory.limit"),
    Field("network_rx_bytes", "container.network.io", {"network.io.direction": "receive"}),
    Field("network_tx_bytes", "container.network.io", {"network.io.direction": "transmit"}),
    Field("restart_count", "otel_llm.container.restart.count"),
)


def metrics_of(fields: Iterable[Field], *, rate: bool | None = None) -> tuple[str, ...]:
    """Return the metrics these fields need, once each; with `rate`, of those alone that are (or are not) rates."""
    return tuple(dict.fromkeys(row.metric for row in fields if rate is None or row.rate == rate))


def fits(row: Field, attributes: Attributes) -> bool:
    """Tell whether a series with these attributes belongs to a field."""
    return all(str(attributes.get(name)) == text for name, text in row.where.items()) and not any(
        str(attributes.get(name)) in texts for name, texts in row.unless.items()
    )


def value(row: Field, samples: Iterable[Sample]) -> float | None:
    """Return a field's value from the last samples; None where nothing tells it, and for a rate, which one sample cannot tell."""
    if row.rate:
        return None
    return _combine(
        row, [sample.value for sample in samples if sample.name == row.metric and fits(row, sample.attributes)]
    )


def column(row: Field, lines: Sequence[Series], length: int) -> list[float | None]:
    """Return a field's values over the buckets of these lines, None for a bucket in which nothing tells it."""
    chosen = [
        line.values
        for line in lines
        if line.name == row.metric and fits(row, line.attributes) and len(line.values) == length
    ]
    return [
        _combine(row, [known for values in chosen if (known := values[bucket]) is not None]) for bucket in range(length)
    ]


def _combine(row: Field, values: Sequence[float]) -> float | None:
    if not values:
        return None
    combined = max(values) if row.combine == "max" else sum(values)
    return row.scale * (combined / len(values) if row.combine == "mean" else combined)


def last_reading(worker: Worker | None) -> list[Sample]:
    """Return the points that a source published last as samples; empty without a source, before its first reading and once it is too old."""
    published = worker.latest() if worker else None
    if worker is None or published is None:
        return []
    return [
        Sample(row.name, row.unit, row.kind, {}, attributes, published.time_s, value)
        for row in worker.metrics
        for value, attributes in published.points.get(row.name, ())
    ]


def by_attribute(samples: Iterable[Sample], name: str) -> dict[str, list[Sample]]:
    """Return the samples by one of their attributes; those without it are left out."""
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        if (identity := sample.attributes.get(name)) is not None:
            grouped.setdefault(str(identity), []).append(sample)
    return grouped
