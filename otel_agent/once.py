"""`otel-agent once`: one reading of every source, as a table or as JSON; nothing is sent."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from otel_agent.app import Workers, build_workers
from otel_agent.catalogue import Metric
from otel_agent.schedule import Published, Worker
from otel_agent.settings import Settings

BETWEEN_S = 1.0  # rates need two readings


def main(settings: Settings, *, as_json: bool) -> int:
    """Print what is read; returns 0 where at least one source answered."""
    workers, readings = read_twice(settings)
    if as_json:
        json.dump(
            {name: _as_json(worker, readings[name]) for name, (worker, _) in workers.items()}, sys.stdout, indent=2
        )
        print()
    else:
        for name, (worker, _) in workers.items():
            print("\n".join(_as_table(worker, readings[name])))
    return 0 if any(readings.values()) else 1


def read_twice(settings: Settings) -> tuple[Workers, dict[str, Published | None]]:
    """Return the workers, and the second reading of every source that answers inside the deadline, None for the others."""
    workers = build_workers(replace(settings, interval_s=BETWEEN_S))
    for worker, _ in workers.values():
        worker.start()
    first = _wait(workers, settings.deadline_s, {})
    second = _wait(workers, settings.deadline_s + BETWEEN_S, first)
    for worker, _ in workers.values():
        worker.stop()
    return workers, second


def _wait(workers: Workers, deadline_s: float, before: Mapping[str, Published | None]) -> dict[str, Published | None]:
    """Return each source's reading that is newer than the one before, waiting for those that still may have one."""
    give_up = time.monotonic() + deadline_s
    while True:
        latest = {name: worker.latest() for name, (worker, _) in workers.items()}
        pending = [
            name
            for name, (worker, _) in workers.items()
            if latest[name] is before.get(name) and worker.health().state in ("starting", "ok")
        ]
        if not pending or time.monotonic() > give_up:
            return latest
        time.sleep(0.02)


def _rows(worker: Worker, reading: Published) -> Iterator[tuple[Metric[Any], float, dict[str, Any]]]:
    for row in worker.metrics:
        for value, attributes in reading.points.get(row.name, ()):
            yield row, value, dict(attributes)


def _as_json(worker: Worker, reading: Published | None) -> dict[str, Any]:
    if reading is None:
        health = worker.health()
        return {"state": health.state, "reason": health.reason, "remedy": health.remedy, "points": []}
    points = [
        {"name": row.name, "unit": row.unit, "value": value, "attributes": attributes}
        for row, value, attributes in _rows(worker, reading)
    ]
    return {"state": "ok", "points": points}


def _as_table(worker: Worker, reading: Published | None) -> Iterator[str]:
    if reading is None:
        health = worker.health()
        yield f"{worker.name}: {health.state}: {health.reason}" + (f"\n  {health.remedy}" if health.remedy else "")
        return
    yield f"{worker.name}: {sum(map(len, reading.points.values()))} points in {reading.duration_s * 1e3:.1f} ms"
    for row, value, attributes in _rows(worker, reading):
        shown = " ".join(f"{key}={text}" for key, text in attributes.items())
        yield f"  {row.name:<42} {value:>18,.6g} {row.unit:<12} {shown}".rstrip()
