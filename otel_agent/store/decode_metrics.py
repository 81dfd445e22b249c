"""Parsed OTLP metrics to points of numbered series.

A point that is flagged NO_RECORDED_VALUE ends its series. A value that is no finite number is unknown and gives no point.
"""

import sys
from array import array
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from math import isfinite

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp

from otel_agent.store.decode import AHEAD, AHEAD_NS
from otel_agent.store.identities import Identities, Line, MetricId, Origin
from otel_agent.store.points import Distribution, Exemplar, Number
from otel_agent.store.tallies import AGE
from otel_agent.store.values import attributes_of, encode, signed, value_of

ENDED = otlp.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
NO_TIME = "point without a time"
NOT_FINITE = "value is not a finite number"
TOO_MANY = "too many series"
U32_MAX = 2**32 - 1

AnyPoint = otlp.NumberDataPoint | otlp.HistogramDataPoint | otlp.ExponentialHistogramDataPoint | otlp.SummaryDataPoint


@dataclass
class Points:
    """Points of one message, the service of each of their series, and how many were left out, by reason."""

    numbers: list[Number] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    owners: dict[int, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)


def metrics(message: ExportMetricsServiceRequest, identities: Identities, now_ns: int, oldest_ns: int) -> Points:
    """Return all points of a message that are no older than `oldest_ns`."""
    points = Points()
    decoder = _Decoder(points, identities, oldest_ns, now_ns + AHEAD_NS)
    for of_resource in message.resource_metrics:
        origin = identities.origin(of_resource.resource)
        for of_scope in of_resource.scope_metrics:
            scope = identities.scope(of_scope.scope)
            for metric in of_scope.metrics:
                _metric(metric, origin, scope, decoder)
    return points


def counts(buckets: bytes, bounds: int) -> list[int]:
    """Return the counts of a histogram of that many bounds from the bytes that the store keeps."""
    values = array("I" if len(buckets) == 4 * (bounds + 1) else "Q")
    values.frombytes(buckets)
    return _little_endian(values).tolist()


def _metric(metric: otlp.Metric, origin: Origin, scope: int, decoder: "_Decoder") -> None:
    data = metric.WhichOneof("data")
    if data == "gauge":
        decoder.numbers(MetricId(origin, scope, metric.name, "gauge", metric.unit, 0), metric.gauge.data_points)
    elif data == "sum":
        kind = "counter" if metric.sum.is_monotonic else "updowncounter"
        decoder.numbers(
            MetricId(origin, scope, metric.name, kind, metric.unit, metric.sum.aggregation_temporality),
            metric.sum.data_points,
        )
    elif data == "histogram":
        temporality = metric.histogram.aggregation_temporality
        decoder.histograms(
            MetricId(origin, scope, metric.name, "histogram", metric.unit, temporality), metric.histogram.data_points
        )
    elif data == "exponential_histogram":
        temporality = metric.exponential_histogram.aggregation_temporality
        kept = MetricId(origin, scope, metric.name, "exponential_histogram", metric.unit, temporality)
        decoder.exponential(kept, metric.exponential_histogram.data_points)
    elif data == "summary":
        decoder.summaries(MetricId(origin, scope, metric.name, "summary", metric.unit, 2), metric.summary.data_points)


class _Decoder:
    def __init__(self, points: Points, identities: Identities, oldest_ns: int, latest_ns: int) -> None:
        self._points, self._identities, self._oldest_ns, self._latest_ns = points, identities, oldest_ns, latest_ns

    def numbers(self, metric: MetricId, data: Iterable[otlp.NumberDataPoint]) -> None:
        keep = self._points.numbers.append
        for point in data:
            value: float | None = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
            if point.flags & ENDED:
                value = None
            elif value is None or not isfinite(value):
                self._points.refused[NOT_FINITE] += 1
                continue
            line = self._line(metric, point)
            if line is not None:
                keep((line.id, point.time_unix_nano // 1_000_000, None if value is None else float(value)))
                if point.exemplars:
                    self._exemplars(line, point.exemplars)

    def histograms(self, metric: MetricId, data: Iterable[otlp.HistogramDataPoint]) -> None:
        for point in data:
            line = self._line(metric, point, tuple(point.explicit_bounds))
            if line is None:
                continue
            ended = point.flags & ENDED
            buckets = None if ended or not point.bucket_counts else _packed(point.bucket_counts)
            self._distribution(line, point, buckets)
            if point.exemplars:
                self._exemplars(line, point.exemplars)

    def exponential(self, metric: MetricId, data: Iterable[otlp.ExponentialHistogramDataPoint]) -> None:
        for point in data:
            line = self._line(metric, point)
            if line is not None:
                self._exemplars(line, point.exemplars)
                point.ClearField("attributes")
                point.ClearField("exemplars")
                self._distribution(line, point, point.SerializeToString())

    def summaries(self, metric: MetricId, data: Iterable[otlp.SummaryDataPoint]) -> None:
        for point in data:
            line = self._line(metric, point)
            if line is not None:
                total = point.sum if isfinite(point.sum) else None
                count = None if point.flags & ENDED else signed(point.count)
                point.ClearField("attributes")
                self._points.distributions.append(
                    (line.id, point.time_unix_nano // 1_000_000, count, total, None, None, point.SerializeToString())
                )

    def _distribution(
        self, line: Line, point: otlp.HistogramDataPoint | otlp.ExponentialHistogramDataPoint, buckets: bytes | None
    ) -> None:
        ms = point.time_unix_nano // 1_000_000
        if point.flags & ENDED:
            self._points.distributions.append((line.id, ms, None, None, None, None, None))
            return
        total = point.sum if point.HasField("sum") else None
        low = point.min if point.HasField("min") else None
        high = point.max if point.HasField("max") else None
        self._points.distributions.append((line.id, ms, signed(point.count), total, low, high, buckets))

    def _line(self, metric: MetricId, point: AnyPoint, bounds: tuple[float, ...] | None = None) -> Line | None:
        time_ns = point.time_unix_nano
        if not self._oldest_ns <= time_ns <= self._latest_ns:
            self._points.refused[AHEAD if time_ns > self._latest_ns else AGE if time_ns else NO_TIME] += 1
            return None
        key = (metric, _key(point.attributes), bounds)
        line = self._identities.line(key)
        if line is None:
            attributes = attributes_of(point.attributes)
            line = self._identities.new_line(key, metric, attributes, _bounds_text(bounds), time_ns // 1_000_000)
            if line is None:
                self._points.refused[TOO_MANY] += 1
                return None
        self._points.owners[line.id] = line.service
        return line

    def _exemplars(self, line: Line, data: Iterable[otlp.Exemplar]) -> None:
        for found in data:
            value = found.as_int if found.WhichOneof("value") == "as_int" else found.as_double
            if (
                len(found.trace_id) == 16
                and len(found.span_id) == 8
                and self._oldest_ns <= found.time_unix_nano <= self._latest_ns
                and isfinite(value)
            ):
                self._points.exemplars.append(
                    (line.id, found.time_unix_nano // 1_000_000, found.trace_id, found.span_id, float(value))
                )


def _bounds_text(bounds: tuple[float, ...] | None) -> str | None:
    return None if bounds is None else encode([bound if isfinite(bound) else str(bound) for bound in bounds])


def _key(pairs: Iterable[KeyValue]) -> Hashable:
    """Return attributes as a key that is cheap to build; values that are no text go in by type, so that 1, 1.0 and true differ."""
    return tuple([(pair.key, pair.value.string_value or _other(pair)) for pair in pairs])


def _other(pair: KeyValue) -> Hashable:
    value = value_of(pair.value)
    return "" if value == "" else (type(value).__name__, encode(value))


def _packed(values: Iterable[int]) -> bytes:
    found = list(values)
    return _little_endian(array("I" if max(found) <= U32_MAX else "Q", found)).tobytes()


def _little_endian(values: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
