"""A node may have more series of one metric than an SDK keeps apart by itself; each leaves under its own attributes."""

import itertools

from agent.telemetry.keeping import Keeping
from opentelemetry.sdk.resources import Resource
from waiting import until

from otel_agent.catalogue import Metric
from otel_agent.schedule import Worker
from otel_agent.telemetry.instruments import Latest
from otel_agent.telemetry.providers import Telemetry

MANY = 2_500
ROWS = tuple(
    Metric(
        f"container.{kind}", kind, "1", "A number for each container.",
        lambda number: [(number, {"container.id": str(one)}) for one in range(MANY)], ("container.id",),
    )
    for kind in ("gauge", "counter", "updowncounter")
)  # fmt: skip


def _attributes(metrics):
    return {metric.name: [dict(point.attributes) for point in metric.data.data_points] for metric in metrics}


def test_every_series_keeps_its_name():
    latest, numbers, exporter = Latest(), itertools.count(1), Keeping(_attributes)
    worker = Worker(
        "thing", lambda: lambda: next(numbers), ROWS, interval_s=60, deadline_s=5, on_publish=latest.publish
    )
    worker.start()
    until(worker.latest)
    telemetry = Telemetry({"thing": (worker, latest)}, lambda: [worker.health()], exporter, 50, Resource({}))
    telemetry.start()
    [*_, last] = until(lambda: [export for export in exporter.exports if export])
    telemetry.shutdown(5)
    worker.stop()

    every = [{"container.id": str(one)} for one in range(MANY)]
    assert {name: sorted(points, key=str) for name, points in last.items()} == {
        row.name: sorted(every, key=str) for row in ROWS
    }
