"""Who uses which GPU, as JSON: GPUs with their users, containers with their GPUs, processes with their container and model. Pure but for the routes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_agent.api import fields, shapes
from otel_agent.api.params import Asked
from otel_agent.api.view import View, latest
from otel_agent.history.model import Sample

Json = dict[str, Any]
PLACED_PROCESS = "otel_llm.placement.process"
MISMATCH = "otel_llm.placement.mismatch"
OBSERVED = "otel_llm.placement.observed"
SM_UTILIZATION = "otel_llm.gpu.process.utilization"
HEALTH = "otel_llm.container.health.status"
EXIT_CODE = "otel_llm.container.exit.code"
OOM_KILLED = "otel_llm.container.oom_killed"
LABEL = "container.label."
SOURCES = ("gpu", "containers", "processes", "placement")
TOPOLOGY_METRICS = (
    *(fields.PLACEMENT, PLACED_PROCESS, MISMATCH, OBSERVED),
    *(fields.GPU_INFO, fields.GPU_PROCESS_MEMORY, SM_UTILIZATION),
    *(fields.CONTAINER_INFO, fields.CONTAINER_STATUS, HEALTH, EXIT_CODE, OOM_KILLED),
)


def topology(view: View, asked: Asked) -> Json:
    """Answer with the whole picture."""
    return shape(latest(view, TOPOLOGY_METRICS, asked["host"]), _sources(view))


def processes(view: View, asked: Asked) -> list[Json]:
    """Answer with every process on a GPU."""
    return gpu_processes(latest(view, TOPOLOGY_METRICS, asked["host"]))


def _sources(view: View) -> Json:
    """Return how those fare that the picture is joined from; one that is unavailable says what to do about it."""
    found = {name: worker.health() for name, worker in view.workers.items() if name in SOURCES}
    return {
        name: {"state": health.state, "reason": health.reason or None, "remedy": health.remedy or None}
        for name, health in found.items()
    }


def shape(samples: Sequence[Sample], sources: Json) -> Json:
    """Return the picture: `observed` is false where processes could not be looked up and only declarations are told."""
    placements = [sample for sample in samples if sample.name == fields.PLACEMENT]
    on_gpus = gpu_processes(samples)
    observed = [sample.value == 1 for sample in samples if sample.name == OBSERVED]
    return {
        "timestamp": shapes.time(max((sample.time_s for sample in samples), default=None)),
        "observed": all(observed) if observed else None,
        "gpus": _gpus(samples, placements, on_gpus),
        "containers": _containers(samples, placements),
        "mismatches": [
            {
                "kind": sample.attributes.get("otel_llm.placement.mismatch.kind"),
                "gpu_uuid": sample.attributes.get(fields.GPU_ID),
                "container_id": sample.attributes.get(fields.CONTAINER_ID),
                "container_name": sample.attributes.get("container.name"),
                "pid": shapes.index(sample.attributes.get("process.pid")),
            }
            for sample in samples
            if sample.name == MISMATCH and sample.value == 1
        ],
        "sources": sources,
    }


def _gpus(samples: Iterable[Sample], placements: Sequence[Sample], on_gpus: Sequence[Json]) -> list[Json]:
    named = {str(one.attributes.get(fields.GPU_ID)): one for one in samples if one.name == fields.GPU_INFO}
    ids = dict.fromkeys([*named, *(str(one.attributes.get(fields.GPU_ID)) for one in placements)])
    found = []
    for uuid in ids:
        here = [one for one in placements if one.attributes.get(fields.GPU_ID) == uuid]
        about = named[uuid].attributes if uuid in named else here[0].attributes
        found.append(
            {
                "gpu_uuid": uuid,
                "gpu_id": shapes.index(about.get("otel_llm.gpu.index")),
                "gpu_name": about.get("hw.name"),
                "parent_uuid": about.get("hw.parent"),
                "users": [
                    {
                        "container_id": one.attributes.get(fields.CONTAINER_ID),
                        "container_name": one.attributes.get("container.name"),
                        "program": one.attributes.get("otel_llm.process.name"),
                        "model": one.attributes.get("otel_llm.model.name"),
                        "evidence": one.attributes.get("otel_llm.placement.evidence"),
                    }
                    for one in here
                ],
                "processes": [one for one in on_gpus if one["gpu_uuid"] == uuid],
            }
        )
    return sorted(found, key=lambda gpu: (gpu["gpu_id"] is None, gpu["gpu_id"] or 0, gpu["gpu_uuid"]))


def _containers(samples: Sequence[Sample], placements: Sequence[Sample]) -> list[Json]:
    users = fields.by_attribute(placements, fields.CONTAINER_ID)
    found = []
    for identity, own in fields.by_attribute(samples, fields.CONTAINER_ID).items():
        info = next((one.attributes for one in own if one.name == fields.CONTAINER_INFO), None)
        if info is None:
            continue
        mine = users.get(identity, [])
        exit_code, oom_killed = (_value(own, name) for name in (EXIT_CODE, OOM_KILLED))
        found.append(
            {
                "container_id": identity,
                "container_name": info.get("container.name"),
                "state": _state(own, fields.CONTAINER_STATUS, "otel_llm.container.state"),
                "health": _state(own, HEALTH, "otel_llm.container.health"),
                "exit_code": None if exit_code is None else round(exit_code),
                "oom_killed": None if oom_killed is None else oom_killed == 1,
                "labels": {key.removeprefix(LABEL): text for key, text in info.items() if key.startswith(LABEL)},
                "model": next((one.attributes.get("otel_llm.model.name") for one in mine), None),
                "gpu_uuids": [one.attributes.get(fields.GPU_ID) for one in mine],
                "gpu_indices": shapes.placed_indices(mine),
                "evidence": {
                    str(one.attributes.get(fields.GPU_ID)): one.attributes.get("otel_llm.placement.evidence")
                    for one in mine
                },
            }
        )
    return sorted(found, key=lambda one: (one["container_name"] or "", one["container_id"]))


def gpu_processes(samples: Sequence[Sample]) -> list[Json]:
    """Return every process on a GPU, with whose it is where that is known; those with most memory first."""
    indices = {
        one.attributes.get(fields.GPU_ID): shapes.index(one.attributes.get("otel_llm.gpu.index"))
        for one in samples
        if one.name == fields.GPU_INFO
    }
    found: dict[tuple[str, int | None], Json] = {}
    for one in samples:
        if one.name not in (PLACED_PROCESS, fields.GPU_PROCESS_MEMORY, SM_UTILIZATION):
            continue
        about, pid = one.attributes, shapes.index(one.attributes.get("process.pid"))
        row = found.setdefault((str(about.get(fields.GPU_ID)), pid), _row(about, pid))
        row["gpu_id"] = indices.get(row["gpu_uuid"], row["gpu_id"])
        for key, name in _NAMES.items():
            row[key] = row[key] if about.get(name) is None else about[name]
        if one.name == fields.GPU_PROCESS_MEMORY:
            row["memory_used_bytes"] = round(one.value)
        elif one.name == SM_UTILIZATION:
            row["utilization_percent"] = round(fields.PERCENT * one.value, 3)
    return sorted(
        found.values(), key=lambda row: (row["gpu_id"] is None, row["gpu_id"] or 0, -(row["memory_used_bytes"] or 0))
    )


_NAMES = {
    "name": "otel_llm.process.name",
    "container_id": fields.CONTAINER_ID,
    "container_name": "container.name",
    "model": "otel_llm.model.name",
}


def _row(about: Mapping[str, Any], pid: int | None) -> Json:
    return {
        "gpu_uuid": str(about.get(fields.GPU_ID)),
        "gpu_id": shapes.index(about.get("otel_llm.gpu.index")),
        "pid": pid,
        **dict.fromkeys(_NAMES),
        "memory_used_bytes": None,
        "utilization_percent": None,
    }


def _state(own: Iterable[Sample], metric: str, key: str) -> str | None:
    states = [one.attributes.get(key) for one in own if one.name == metric and one.value == 1]
    return str(states[0]) if states else None


def _value(own: Iterable[Sample], metric: str) -> float | None:
    return next((one.value for one in own if one.name == metric), None)
