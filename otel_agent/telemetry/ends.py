"""Series that end are closed: one last OTLP point with the flag NO_RECORDED_VALUE, the only staleness OTLP has.

Without it Prometheus answers the old value for five minutes more. The SDK's data points have no field for flags, so the
closing points are encoded from the last true ones and flagged in the request. Which series ended is seen by comparison:
what the last accepted export carried and this one does not. The SDK hands out one and the same attributes object of a series
as long as it keeps the series, so that only of what came or went attributes are compared.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics

NO_RECORDED_VALUE = metrics_pb2.DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
Name = tuple[frozenset[Any], str, str]  # of a metric: whose, scope and name


@dataclass(frozen=True)
class _Family:
    """The series of one metric: points by the identity of their attributes, which live as long as the points are held here."""

    resource: ResourceMetrics
    scope: ScopeMetrics
    metric: Metric
    points: Mapping[int, Any]


class SeriesEnds:
    """The series that the backend believes to be alive; used from one exporting thread."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._alive: Mapping[Name, _Family] = {}
        self._offered: Mapping[Name, _Family] = {}

    def closing(self, data: MetricsData) -> list[metrics_pb2.ResourceMetrics]:
        """Return encoded closing points for every series that is alive and not in `data`, which becomes the export on offer."""
        now = self._offered = _families(data)
        found = ((family, _gone(family, now.get(name))) for name, family in self._alive.items())
        return [self._close(family, gone) for family, gone in found if gone]

    def accepted(self) -> None:
        """Take note that the backend has the export on offer, and the closing points that went with it."""
        self._alive = self._offered

    def _close(self, family: _Family, gone: list[Any]) -> metrics_pb2.ResourceMetrics:
        about = family.metric
        metric = Metric(about.name, about.description, about.unit, _with(about.data, gone))
        scope = ScopeMetrics(family.scope.scope, [metric], family.scope.schema_url)
        data = MetricsData([ResourceMetrics(family.resource.resource, [scope], family.resource.schema_url)])
        encoded: metrics_pb2.ResourceMetrics = encode_metrics(data).resource_metrics[0]
        for closed in encoded.scope_metrics[0].metrics:
            for point in getattr(closed, str(closed.WhichOneof("data"))).data_points:
                point.flags |= NO_RECORDED_VALUE
                point.time_unix_nano = self._clock_ns()
                del point.exemplars[:]
                if isinstance(point, metrics_pb2.NumberDataPoint):
                    point.ClearField("value")
        return encoded


def _gone(before: _Family, now: _Family | None) -> list[Any]:
    """Return the last points of the series that are over."""
    there: Mapping[int, Any] = now.points if now else {}
    if before.points.keys() <= there.keys():
        return []
    come = {_attributes(point) for key, point in there.items() if key not in before.points}
    return [point for key, point in before.points.items() if key not in there and _attributes(point) not in come]


def _attributes(point: Any) -> frozenset[Any]:
    return frozenset((point.attributes or {}).items())


def _with(data: Any, points: list[Any]) -> Any:
    fields = {name: getattr(data, name) for name in data.__dataclass_fields__}
    return type(data)(**{**fields, "data_points": points})


def _families(data: MetricsData) -> dict[Name, _Family]:
    found: dict[Name, _Family] = {}
    for resource in data.resource_metrics:
        whose = frozenset(resource.resource.attributes.items())
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                name = (whose, scope.scope.name, metric.name)
                points = {id(point.attributes): point for point in metric.data.data_points}
                if (other := found.get(name)) is not None:  # a view can make two of one instrument
                    points.update(other.points)
                found[name] = _Family(resource, scope, metric, points)
    return found
