"""Answers from history: every function is one route, given what was asked, and says nothing that the store does not hold."""

from typing import Any

from otel_agent import __version__
from otel_agent.api import fields, records, shapes
from otel_agent.api.params import Asked
from otel_agent.api.refusal import not_found
from otel_agent.api.view import HOST, View, latest, lines, one_host, rates, window

SYSTEM_METRICS = fields.metrics_of(fields.SYSTEM)
GPU_METRICS = (
    fields.GPU_INFO,
    fields.GPU_INSTANCE,
    fields.GPU_STATUS,
    *fields.metrics_of(fields.GPU),
    fields.GPU_PROCESSES,
    fields.GPU_PROCESS_MEMORY,
)
CONTAINER_METRICS = (
    fields.CONTAINER_INFO,
    fields.CONTAINER_STATUS,
    fields.CONTAINER_CREATED.metric,
    *fields.metrics_of(fields.CONTAINER),
)
Json = dict[str, Any]


def system(view: View, asked: Asked) -> Json | None:
    """Answer with SystemMetrics of one host; null where the store has no current sample of it."""
    host, samples = one_host(view, latest(view, SYSTEM_METRICS), asked["host"])
    return shapes.system(samples, rates(view, fields.SYSTEM, asked.now_s, host), host)


def gpus(view: View, asked: Asked) -> list[Json]:
    """Answer with GPUMetrics of every GPU."""
    return shapes.gpus(latest(view, GPU_METRICS, asked["host"]))


def containers(view: View, asked: Asked) -> list[Json]:
    """Answer with ContainerMetrics of every container."""
    found = latest(view, (*CONTAINER_METRICS, fields.PLACEMENT), asked["host"])
    return shapes.containers(found, gpus(view, asked))


def now(view: View, asked: Asked) -> Json:
    """Answer with everything the first page shows of the machine."""
    return {
        "time_s": asked.now_s,
        "agent": shapes.agent(__version__, view.hostname, view.settings, view.beat_s),
        "system": system(view, asked),
        "gpus": gpus(view, asked),
        "containers": containers(view, asked),
        "sources": sources(view, asked),
    }


def system_history(view: View, asked: Asked) -> Json:
    """Answer with SystemMetrics over time, in columns."""
    since_s, until_s, step_s = asked["since"], asked["until"], view.step_s(asked["step"])
    window(since_s, until_s, step_s)
    host, _ = one_host(view, latest(view, SYSTEM_METRICS), asked["host"])
    found = lines(view, fields.SYSTEM, since_s, until_s, step_s, {HOST: host} if host else {})
    return {
        "hostname": host,
        "step_s": step_s,
        **shapes.columns(fields.SYSTEM, found, found[0].times_s if found else ()),
    }


def gpus_history(view: View, asked: Asked) -> list[Json]:
    """Answer with GPUMetrics over time, in columns, for each GPU that had a point."""
    since_s, until_s, step_s = asked["since"], asked["until"], view.step_s(asked["step"])
    window(since_s, until_s, step_s)
    where = {HOST: asked["host"]} if asked["host"] else {}
    found = lines(view, fields.GPU, since_s, until_s, step_s, where)
    known = {gpu["gpu_uuid"]: gpu for gpu in shapes.gpus(latest(view, GPU_METRICS, asked["host"]))}
    seen = {str(line.attributes.get(fields.GPU_ID)) for line in found if line.name in fields.GPU_ONLY}
    return [
        {
            "gpu_uuid": uuid,
            "gpu_id": known.get(uuid, {}).get("gpu_id"),
            "gpu_name": known.get(uuid, {}).get("gpu_name"),
            "step_s": step_s,
            **shapes.columns(
                fields.GPU, [line for line in found if line.attributes.get(fields.GPU_ID) == uuid], found[0].times_s
            ),
        }
        for uuid in sorted(
            seen,
            key=lambda uuid: (known.get(uuid, {}).get("gpu_id") is None, known.get(uuid, {}).get("gpu_id") or 0, uuid),
        )
    ]


def gpu_overview(view: View, asked: Asked) -> Json:
    """Answer with the state of all GPUs together and of each."""
    return shapes.gpu_overview(latest(view, GPU_METRICS, asked["host"]))


def series(view: View, asked: Asked) -> Json:
    """Answer with the lines of one metric, filtered by attributes."""
    step_s = view.step_s(asked["step"])
    window(asked["since"], asked["until"], step_s)
    found = view.stored.series(
        asked["metric"],
        since_s=asked["since"],
        until_s=asked["until"],
        step_s=step_s,
        where=asked.where,
        quantile=asked["quantile"],
    )
    return {
        "metric": asked["metric"],
        "since_s": asked["since"],
        "until_s": asked["until"],
        "step_s": step_s,
        "series": [shapes.series(line) for line in found],
    }


def metrics(view: View, asked: Asked) -> list[Json]:
    """Answer with the metrics that had points since a time."""
    return [shapes.metric(name) for name in view.stored.metrics(since_s=asked["since"])]


def requests(view: View, asked: Asked) -> Json:
    """Answer with the newest LLM requests."""
    limit = asked["limit"]
    rows = view.stored.requests(
        since_s=asked["since"], until_s=asked["until"], limit=limit, model=asked["model"], failed=asked["failed"]
    )
    return {
        "requests": [records.request(row) for row in rows],
        "shown": len(rows),
        "limit": limit,
        "complete": len(rows) < limit,
    }


def request(view: View, asked: Asked) -> Json:
    """Answer with one LLM request."""
    rows = view.stored.requests(since_s=0, until_s=asked.now_s + 1, limit=1, request_id=asked["request_id"])
    if not rows:
        raise not_found(
            f"no request {asked['request_id'][:80]!r} is stored",
            "it may not have arrived yet, or its time in the store is over",
        )
    return records.request(rows[0])


def trace(view: View, asked: Asked) -> Json:
    """Answer with the spans of one trace."""
    rows = view.stored.trace(asked["trace_id"])
    if not rows:
        raise not_found(
            f"no span of trace {asked['trace_id']} is stored",
            "it may not have arrived yet, or its time in the store is over",
        )
    return records.trace(asked["trace_id"], rows)


def logs(view: View, asked: Asked) -> Json:
    """Answer with the newest log records."""
    limit = asked["limit"]
    rows = view.stored.logs(
        since_s=asked["since"],
        until_s=asked["until"],
        limit=limit,
        trace_id=asked["trace_id"],
        text=asked["text"],
        min_severity=asked["min_severity"],
    )
    return {
        "logs": [records.log(row) for row in rows],
        "shown": len(rows),
        "limit": limit,
        "complete": len(rows) < limit,
    }


def store(view: View, _: Asked) -> Json:
    """Answer with what the store holds and how it fares."""
    return shapes.store(view.stored.stats())


def sources(view: View, _: Asked) -> list[Json]:
    """Answer with how every source of this agent fares."""
    return [shapes.source(worker.health()) for worker in view.workers.values()]
