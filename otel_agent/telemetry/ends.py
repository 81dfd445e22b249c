"""Series that end are closed: one last OTLP point with the flag NO_RECORDED_VALUE, the only staleness OTLP has.

Without it Prometheus answers the old value for five minutes more. The SDK's data points have no field for flags, so the
closing points are encoded from the last true ones and flagged in the request. Which series ended is seen by comparison:
what the last accepted export carried and this one does not.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics

NO_RECORDED_VALUE = metrics_pb2.DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
Key = tuple[frozenset[Any], str, str, frozenset[Any]]


@dataclass(frozen=True)
class _Series:
    resource: ResourceMetrics
    scope: ScopeMetrics
    metric: Metric
    point: Any


class SeriesEnds:
    """The series that the backend believes to be alive; used from one exporting thread."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._alive: dict[Key, _Series] = {}

    def closing(self, data: MetricsData) -> list[metrics_pb2.ResourceMetrics]:
        """Return encoded closing points for every series that is alive and not in `data`."""
        now = dict(_series(data))
        gone = [series for key, series in self._alive.items() if key not in now]
        return [self._close(series) for series in gone]

    def accepted(self, data: MetricsData) -> None:
        """Take note that the backend has `data`, and the closing points that went with it."""
        self._alive = dict(_series(data))

    def _close(self, series: _Series) -> metrics_pb2.ResourceMetrics:
        metric = Metric(
            series.metric.name, series.metric.description, series.metric.unit, _with(series.metric.data, [series.point])
        )
        scope = ScopeMetrics(series.scope.scope, [metric], series.scope.schema_url)
        data = MetricsData([ResourceMetrics(series.resource.resource, [scope], series.resource.schema_url)])
        encoded: metrics_pb2.ResourceMetrics = encode_metrics(data).resource_metrics[0]
        for closed in encoded.scope_metrics[0].metrics:
            for point in getattr(closed, str(closed.WhichOneof("data"))).data_points:
                point.flags |= NO_RECORDED_VALUE
                point.time_unix_nano = self._clock_ns()
                del point.exemplars[:]
                if isinstance(point, metrics_pb2.NumberDataPoint):
                    point.ClearField("value")
        return encoded


def _with(data: Any, points: list[Any]) -> Any:
    fields = {name: getattr(data, name) for name in data.__dataclass_fields__}
    return type(data)(**{**fields, "data_points": points})


def _series(data: MetricsData) -> Iterator[tuple[Key, _Series]]:
    for resource in data.resource_metrics:
        identity = frozenset(resource.resource.attributes.items())
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    key = (identity, scope.scope.name, metric.name, frozenset((point.attributes or {}).items()))
                    yield key, _Series(resource, scope, metric, point)
