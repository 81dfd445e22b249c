"""All points of one export belong to one reading, and carry its time."""

import itertools

import pytest
from agent.telemetry.keeping import Keeping
from opentelemetry.sdk.resources import Resource
from waiting import until

from otel_agent.catalogue import Metric
from otel_agent.schedule import Worker
from otel_agent.telemetry.instruments import Latest
from otel_agent.telemetry.providers import SCOPE, Telemetry, stamps

NAMES = tuple(f"system.row{number}" for number in range(40))
ROWS = tuple(Metric(name, "gauge", "1", "The number of a reading.", lambda number: [(number, {})]) for name in NAMES)


@pytest.fixture
def kept():
    """Exports every 10 ms of a source that is read as fast as can be."""
    latest, numbers, times = Latest(), itertools.count(), {}

    def publish(published):
        times[published.snapshot] = int(published.time_s * 1e9)
        latest.publish(published)

    worker = Worker("thing", lambda: lambda: next(numbers), ROWS, interval_s=0.0005, deadline_s=1, on_publish=publish)
    workers = {"thing": (worker, latest)}

    def values_and_time(metrics):
        values = {metric.name: point.value for metric in metrics for point in metric.data.data_points}
        return values, stamps(workers)[SCOPE + "thing"].time_ns

    exporter = Keeping(values_and_time)
    worker.start()
    until(worker.latest)
    telemetry = Telemetry(workers, lambda: [worker.health()], exporter, 10, Resource({}))
    telemetry.start()
    yield exporter.exports, times
    telemetry.shutdown(5)
    worker.stop()


def test_an_export_mixes_no_readings_and_carries_the_time_of_its_own(kept):
    kept, times = kept
    exports = until(lambda: len(kept) > 50 and list(kept), "50 exports")

    for values, time_ns in exports:
        assert set(values) == set(NAMES)
        [reading] = set(values.values())
        assert time_ns == times[reading]
    assert len({time_ns for _, time_ns in exports}) > 25
