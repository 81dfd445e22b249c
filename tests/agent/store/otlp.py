"""OTLP requests for tests, built with the protocol's own message classes."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

ENDED = pb.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


def any_value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[any_value(part) for part in value]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    return AnyValue()


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def resource(service: str = "app") -> Resource:
    return Resource(attributes=pairs({"service.name": service}))


def ids() -> tuple[bytes, bytes]:
    return os.urandom(16), os.urandom(8)


def one_span(
    start_s: float,
    *,
    duration_s: float = 1.0,
    name: str = "work",
    trace_id: bytes | None = None,
    span_id: bytes | None = None,
    parent_id: bytes = b"",
    attributes: Mapping[str, Any] | None = None,
    service: str = "app",
) -> ExportTraceServiceRequest:
    """A request with one span; the caller may change the span further through `span_of`."""
    message = ExportTraceServiceRequest()
    of_resource = message.resource_spans.add(resource=resource(service))
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = "test"
    start_ns = round(start_s * 1e9)
    of_scope.spans.add(
        trace_id=os.urandom(16) if trace_id is None else trace_id,
        span_id=os.urandom(8) if span_id is None else span_id,
        parent_span_id=parent_id,
        name=name,
        kind=3,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + round(duration_s * 1e9),
        attributes=pairs(attributes or {}),
    )
    return message


def span_of(message: ExportTraceServiceRequest) -> Any:
    return message.resource_spans[0].scope_spans[0].spans[0]


def joined(messages: Iterable[ExportTraceServiceRequest]) -> ExportTraceServiceRequest:
    whole = ExportTraceServiceRequest()
    for message in messages:
        whole.MergeFrom(message)
    return whole


def chat(start_s: float, *, model: str = "m1", **more: Any) -> ExportTraceServiceRequest:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model} | more.pop("attributes", {})
    return one_span(start_s, name=f"chat {model}", attributes=attributes, **more)


def one_log(
    time_s: float,
    body: Any = "hello",
    *,
    severity: int = 9,
    trace_id: bytes = b"",
    span_id: bytes = b"",
    attributes: Mapping[str, Any] | None = None,
    service: str = "app",
) -> ExportLogsServiceRequest:
    message = ExportLogsServiceRequest()
    of_scope = message.resource_logs.add(resource=resource(service)).scope_logs.add()
    of_scope.log_records.add(
        time_unix_nano=round(time_s * 1e9),
        severity_number=severity,
        severity_text="INFO",
        body=any_value(body),
        trace_id=trace_id,
        span_id=span_id,
        attributes=pairs(attributes or {}),
    )
    return message


def metric(service: str = "app") -> tuple[ExportMetricsServiceRequest, Any]:
    """An empty request and a metric in it to be filled."""
    message = ExportMetricsServiceRequest()
    scope = message.resource_metrics.add(resource=resource(service)).scope_metrics.add()
    scope.scope.name = "test"
    return message, scope.metrics.add()


def gauge(
    name: str,
    points: Iterable[tuple[float, float | None]],
    *,
    attributes: Mapping[str, Any] | None = None,
    service: str = "app",
) -> ExportMetricsServiceRequest:
    """Points are (seconds, value); None ends the series."""
    message, target = metric(service)
    target.name, target.unit = name, "1"
    target.gauge.SetInParent()
    _number_points(target.gauge.data_points, points, attributes)
    return message


def counter(
    name: str,
    points: Iterable[tuple[float, float | None]],
    *,
    attributes: Mapping[str, Any] | None = None,
    delta: bool = False,
    monotonic: bool = True,
    service: str = "app",
) -> ExportMetricsServiceRequest:
    message, target = metric(service)
    target.name, target.unit = name, "{thing}"
    target.sum.is_monotonic = monotonic
    target.sum.aggregation_temporality = 1 if delta else 2
    _number_points(target.sum.data_points, points, attributes)
    return message


def histogram(
    name: str,
    points: Iterable[tuple[float, list[int] | None]],
    *,
    bounds: tuple[float, ...] = (1.0, 2.0, 4.0),
    attributes: Mapping[str, Any] | None = None,
) -> ExportMetricsServiceRequest:
    """Points are (seconds, counts of the buckets); None ends the series."""
    message, target = metric()
    target.name, target.unit = name, "s"
    target.histogram.aggregation_temporality = 2
    for time_s, counts in points:
        target.histogram.data_points.add(
            time_unix_nano=round(time_s * 1e9),
            attributes=pairs(attributes or {}),
            count=sum(counts or ()),
            bucket_counts=counts,
            explicit_bounds=bounds,
            flags=ENDED if counts is None else 0,
            **({} if counts is None else {"sum": 1.5}),
        )
    return message


def _number_points(
    target: Any, points: Iterable[tuple[float, float | None]], attributes: Mapping[str, Any] | None
) -> None:
    for time_s, value in points:
        target.add(
            time_unix_nano=round(time_s * 1e9),
            attributes=pairs(attributes or {}),
            **({"flags": ENDED} if value is None else {"as_double": value}),
        )
