"""The JSON of every answer: pure functions from samples, rows and health to objects with the documented field names.

Unknown is null, never 0. Numbers are in the units their names say; times are RFC 3339 in UTC, except in the columns of charts, which
are seconds since the epoch. Where the facts come from is left to `fields` and the routes; requests, traces and logs have
their shapes in `records`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from otel_agent.api import fields
from otel_agent.api.fields import Field
from otel_agent.history.model import Attributes, MetricName, Sample, Series, StoreStats
from otel_agent.schedule import SourceHealth
from otel_agent.settings import Settings

Json = dict[str, Any]
STATUS = {"running": "running", "paused": "running", "restarting": "restarting"}  # any other state is stopped
TROUBLE = ("failing", "stuck")  # a source that is unavailable is a fact about the machine, not a fault


@dataclass(frozen=True)
class GpuLimits:
    """From where the verdict on a GPU is a warning: memory as a ratio, temperature in degrees Celsius."""

    memory: float
    temperature_celsius: float


def time(seconds: float | None) -> str | None:
    """Return seconds since the epoch as RFC 3339 in UTC, with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _whole(row: Field, value: float | None) -> float | int | None:
    """Bytes and counts are whole numbers; rates and percentages are not."""
    if value is None or row.rate or not row.name.endswith(("_bytes", "_count", "used", "free", "total")):
        return value if value is None else round(value, 3)
    return round(value)


def _values(rows: Iterable[Field], samples: Sequence[Sample], rates: Mapping[str, float | None]) -> Json:
    return {row.name: _whole(row, rates.get(row.name) if row.rate else fields.value(row, samples)) for row in rows}


def _newest(samples: Iterable[Sample]) -> str | None:
    return time(max((sample.time_s for sample in samples), default=None))


def system(samples: Sequence[Sample], rates: Mapping[str, float | None], hostname: str | None) -> Json | None:
    """Return SystemMetrics; `rates` are the fields that grow per second. None where no sample tells anything."""
    values = _values(fields.SYSTEM, samples, rates)
    if all(value is None for value in values.values()):
        return None
    return {
        "timestamp": _newest(sample for sample in samples if sample.name in fields.metrics_of(fields.SYSTEM)),
        "hostname": hostname,
        **values,
    }


def gpus(samples: Iterable[Sample]) -> list[Json]:
    """Return GPUMetrics of every GPU, by index, with its MIG devices; the identity comes from the info series."""
    records = []
    by_id = fields.by_attribute(samples, fields.GPU_ID)
    parts = {uuid: found for uuid, own in by_id.items() if (found := _instance(uuid, own))}
    for uuid, own in by_id.items():
        if uuid in parts or not any(sample.name in (fields.GPU_INFO, *fields.GPU_ONLY) for sample in own):
            continue  # hardware of another kind has an id too
        info = _info(own, fields.GPU_INFO)
        records.append(
            {
                "timestamp": _newest(own),
                "gpu_id": index(info.get("otel_llm.gpu.index")),
                "gpu_uuid": uuid,
                "gpu_name": info.get("hw.name"),
                "status": _state(own, fields.GPU_STATUS, "hw.state"),
                **_values(fields.GPU, own, {}),
                "processes": _processes(own),
                "instances": [part for parent, part in parts.values() if parent == uuid],
            }
        )
    return sorted(records, key=lambda record: (record["gpu_id"] is None, record["gpu_id"] or 0, record["gpu_uuid"]))


def _instance(uuid: str, own: Sequence[Sample]) -> tuple[str, Json] | None:
    """Return the GPU of a MIG device, and what the device is and holds; None for what is no such device."""
    info = _info(own, fields.GPU_INSTANCE)
    if not info:
        return None
    told = _values([row for row in fields.GPU if row.metric in fields.GPU_ONLY], own, {})
    return str(info.get("hw.parent")), {
        "gpu_uuid": uuid,
        "gpu_name": info.get("hw.name"),
        "gpu_instance_id": index(info.get("otel_llm.gpu.instance.id")),
        "compute_instance_id": index(info.get("otel_llm.gpu.instance.compute.id")),
        "memory_used_bytes": told["memory_used_bytes"],
        "memory_total_bytes": told["memory_total_bytes"],
    }


def _state(own: Iterable[Sample], metric: str, attribute: str) -> str | None:
    found = (sample.attributes.get(attribute) for sample in own if sample.name == metric and sample.value == 1)
    state = next(found, None)
    return None if state is None else str(state)


def _processes(own: Sequence[Sample]) -> list[Json] | None:
    """None where the driver does not list processes; those of which it tells no memory are counted elsewhere but not listed."""
    listed = [sample for sample in own if sample.name == fields.GPU_PROCESS_MEMORY]
    if not listed and not any(sample.name == fields.GPU_PROCESSES for sample in own):
        return None
    rows = [
        {
            "pid": index(sample.attributes.get("process.pid")),
            "name": sample.attributes.get("otel_llm.process.name"),
            "memory_used_bytes": round(sample.value),
        }
        for sample in listed
    ]
    return sorted(rows, key=lambda row: (-row["memory_used_bytes"], row["pid"] or 0))


def containers(samples: Iterable[Sample], cards: Sequence[Json]) -> list[Json]:
    """Return ContainerMetrics of every container, by name; `cards` are the GPUs, which a declaration may name by UUID or all at once."""
    records = []
    for identity, own in fields.by_attribute(samples, fields.CONTAINER_ID).items():
        info = _info(own, fields.CONTAINER_INFO)
        if not info:
            continue
        image, tag = info.get("container.image.name"), info.get("otel_llm.container.image.tag")
        enabled = info.get("otel_llm.container.gpu.enabled")
        records.append(
            {
                "timestamp": _newest(own),
                "container_id": identity,
                "container_name": info.get("container.name"),
                "image": f"{image}:{tag}" if image and tag else image,
                "status": _status(own),
                **_values(fields.CONTAINER, own, {}),
                "created_at": time(fields.value(fields.CONTAINER_CREATED, own)),
                "gpu_enabled": None if enabled is None else str(enabled).lower() == "true",
                "gpu_indices": _gpus_of(own, info, cards),
            }
        )
    return sorted(records, key=lambda record: (record["container_name"] or "", record["container_id"]))


def _status(own: Iterable[Sample]) -> str | None:
    """running, stopped or restarting; a paused container still holds what it was given, so it counts as running."""
    states = [
        sample.attributes.get("otel_llm.container.state")
        for sample in own
        if sample.name == fields.CONTAINER_STATUS and sample.value == 1
    ]
    return None if not states else STATUS.get(str(states[0]), "stopped")


def _gpus_of(own: Iterable[Sample], info: Attributes, cards: Sequence[Json]) -> list[int] | None:
    """The GPUs it is placed on; where nothing places it, those that its declaration names."""
    if placed := placed_indices(sample for sample in own if sample.name == fields.PLACEMENT):
        return placed
    if str(info.get("otel_llm.container.gpu.enabled")).lower() == "false":
        return []
    return _indices(info.get("otel_llm.container.gpu.declared"), cards)


def placed_indices(placements: Iterable[Sample]) -> list[int]:
    """Return the indices of a container's GPUs: those it is seen on, or where it is seen on none, those it was given."""
    by_evidence: dict[bool, set[int]] = {True: set(), False: set()}
    for one in placements:
        number = index(one.attributes.get("otel_llm.gpu.index"))
        if number is not None:
            by_evidence[one.attributes.get("otel_llm.placement.evidence") != "declared"].add(number)
    return sorted(by_evidence[True] or by_evidence[False])


def _indices(declared: object, cards: Sequence[Json]) -> list[int] | None:
    """None where the declaration is not told, or names a GPU that nobody sees here."""
    if not isinstance(declared, str):
        return None
    known = {card["gpu_uuid"]: card["gpu_id"] for card in cards}
    if declared == "all":
        found = list(known.values())
    else:
        found = [int(name) if name.isdigit() else known.get(name) for name in declared.split(",")]
    return sorted(found) if found and None not in found else None


def _info(own: Iterable[Sample], metric: str) -> Attributes:
    return next((sample.attributes for sample in own if sample.name == metric), {})


def index(value: object) -> int | None:
    """Return an attribute that is a whole number, however the store keeps it."""
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else None


def node(host: Sequence[Sample], gpu: Sequence[Sample], now_s: float) -> Json:
    """Return the body of /metrics: cpu, ram and gpu (the mean over GPUs) 0-100, temperature of the hottest GPU, or sensor where there is no GPU."""
    own = system(host, {}, None) or {}
    cards = gpus(gpu)
    used, total, free = own.get("disk_used_bytes"), own.get("disk_total_bytes"), fields.value(fields.DISK_FREE, host)
    hottest = [card["temperature_celsius"] for card in cards if card["temperature_celsius"] is not None]
    return {
        "cpu": own.get("cpu_usage_percent"),
        "ram": percent(own.get("memory_used_bytes"), own.get("memory_total_bytes")),
        "gpu": _mean([card["utilization_percent"] for card in cards]),
        "temperature": max(hottest) if hottest else fields.value(fields.HOST_TEMPERATURE, host),
        # As df has it: the share of what ordinary users can use, so without the blocks reserved for root.
        "disk": {
            "used": used,
            "free": None if free is None else round(free),
            "total": total,
            "percent": percent(used, used + free if used is not None and free is not None else None),
        },
        "timestamp": _newest([*host, *gpu]) or time(now_s),
    }


def gpu_overview(samples: Iterable[Sample]) -> Json:
    """Return the body of /api/metrics/gpu: the host at top level (hottest, mean, sums), the parts in `gpus`; a sum with an unknown part is unknown."""
    cards = gpus(samples)
    parts = [
        {
            "gpu_id": card["gpu_id"],
            "gpu_uuid": card["gpu_uuid"],
            "gpu_name": card["gpu_name"],
            "temperature": card["temperature_celsius"],
            "memory_percent": percent(card["memory_used_bytes"], card["memory_total_bytes"]),
            "utilization": card["utilization_percent"],
            "power_watts": card["power_watts"],
        }
        for card in cards
    ]
    hottest = [part["temperature"] for part in parts if part["temperature"] is not None]
    return {
        "timestamp": max((card["timestamp"] for card in cards), default=None),
        "temperature": max(hottest, default=None),
        "memory_percent": percent(
            _sum([card["memory_used_bytes"] for card in cards]), _sum([card["memory_total_bytes"] for card in cards])
        ),
        "utilization": _mean([part["utilization"] for part in parts]),
        "power_watts": _sum([part["power_watts"] for part in parts]),
        "gpus": parts,
    }


def percent(part: float | None, whole: float | None) -> float | None:
    """Return a share as 0-100, None where either is unknown or the whole is nothing."""
    return None if part is None or not whole else round(100 * part / whole, 3)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None


def agent(version: str, hostname: str, settings: Settings, beat_s: float) -> Json:
    """Return what the page says of the agent itself; a port that the system chose is unknown here."""
    return {
        "version": version,
        "hostname": hostname,
        "interval_s": settings.interval_s,
        "beat_s": beat_s,
        "otlp_http_port": settings.http_port or None,
        "otlp_grpc_port": settings.grpc_port or None,
    }


def source(health: SourceHealth) -> Json:
    """Return how one source fares; ages and durations in seconds."""
    return {
        "name": health.name,
        "state": health.state,
        "reason": health.reason or None,
        "remedy": health.remedy or None,
        "age_s": _rounded(health.age_s),
        "duration_s": _rounded(health.duration_s),
        "points": health.points,
        "failures": health.failures,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def gpu_verdict(cards: Sequence[Json], limits: GpuLimits) -> Json | None:
    """Return whether every GPU is below the limits, and each reason why not; None where there is no GPU to judge."""
    if not cards:
        return None
    reasons = []
    for card in cards:
        name = f"GPU {card['gpu_id'] if card['gpu_id'] is not None else card['gpu_uuid']}"
        if card["status"] in ("failed", "predicted_failure"):
            reasons.append(f"{name}: {card['status']}")
        used = percent(card["memory_used_bytes"], card["memory_total_bytes"])
        if used is not None and used >= 100 * limits.memory:
            reasons.append(f"{name}: memory {used:.1f} %, limit {100 * limits.memory:g} %")
        if (celsius := card["temperature_celsius"]) is not None and celsius >= limits.temperature_celsius:
            reasons.append(f"{name}: {celsius:g} °C, limit {limits.temperature_celsius:g} °C")
    return {
        "ok": not reasons,
        "reasons": reasons,
        "memory_limit_percent": 100 * limits.memory,
        "temperature_limit_celsius": limits.temperature_celsius,
    }


def health(
    version: str, sources: Sequence[SourceHealth], cards: Sequence[Json], limits: GpuLimits, store: str, now_s: float
) -> Json:
    """Return the body of /health: `ok`, `degraded` where a source fails or a GPU is beyond its limits, `starting` before the first reading.

    A source that is unavailable does not degrade a machine: many have no GPU or no Docker.
    """
    verdict = gpu_verdict(cards, limits)
    degraded = (
        any(one.state in TROUBLE for one in sources)
        or (verdict is not None and not verdict["ok"])
        or store == "failing"
    )
    starting = not any(one.state == "ok" for one in sources)
    return {
        "status": "degraded" if degraded else "starting" if starting else "ok",
        "version": version,
        "timestamp": time(now_s),
        "sources": {
            one.name: {name: value for name, value in source(one).items() if name != "name"} for one in sources
        },
        "gpu": verdict,
        "store": store,
    }


def columns(rows: Sequence[Field], lines: Sequence[Series], times: Sequence[float]) -> Json:
    """Return a record over time: `time_s`, and one column per field with null for a gap."""
    return {
        "time_s": list(times),
        **{row.name: [_whole(row, value) for value in fields.column(row, lines, len(times))] for row in rows},
    }


def series(line: Series) -> Json:
    """Return one line of a chart; `time_s` are the starts of its buckets."""
    return {
        "name": line.name,
        "unit": line.unit,
        "kind": line.kind,
        "attributes": dict(line.attributes),
        "resource": dict(line.resource),
        "time_s": list(line.times_s),
        "values": list(line.values),
    }


def metric(name: MetricName) -> Json:
    """Return one metric that the store knows."""
    return {"name": name.name, "unit": name.unit, "kind": name.kind, "series": name.series}


def store(stats: StoreStats) -> Json:
    """Return how the store fares: what is kept since when, what was dropped and why, what waits to be written."""
    dropped: dict[str, dict[str, int]] = {}
    for (signal, reason), count in sorted(stats.dropped.items()):
        dropped.setdefault(signal, {})[reason] = count
    return {
        "path": stats.path,
        "bytes": stats.bytes,
        "wal_bytes": stats.wal_bytes,
        "max_bytes": stats.max_bytes,
        "series": stats.series,
        "requests": stats.requests,
        "signals": {
            signal: {"rows": kept.rows, "oldest": time(kept.oldest_s), "newest": time(kept.newest_s)}
            for signal, kept in stats.signals.items()
        },
        "dropped": dropped,
        "ingest_lag_s": _rounded(stats.ingest_lag_s),
        "queue_bytes": stats.queue_bytes,
        "queue_limit_bytes": stats.queue_limit_bytes,
        "failure": stats.failure,
    }
