"""The SDK's OTLP exporters, with what they lack: ends of series, the times of readings, and the beginnings of counters.

The SDK knows only the time of the export; rates over readings stamped with that would be off by the difference.
A backend that does not answer is told once, and once more when it answers again. Only the module of the protocol in use is imported.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from otel_agent.telemetry.ends import SeriesEnds
from otel_agent.telemetry.instruments import Stamp

Stamps = Callable[[], Mapping[str, Stamp]]  # by scope name

logger = logging.getLogger(__name__)


class _Complete:
    """What both protocols share; stands before the SDK's exporter in the order of classes."""

    _ends: SeriesEnds
    _stamps: Stamps
    _target: str
    _closing: list[metrics_pb2.ResourceMetrics]
    failed = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        self._closing = self._ends.closing(metrics_data)
        result: MetricExportResult = super().export(metrics_data, timeout_millis, **kwargs)  # type: ignore[misc]
        if result is MetricExportResult.SUCCESS:
            self._ends.accepted()
            if self.failed:
                logger.info("OTLP: %s answers again; %d exports of metrics were lost", self._target, self.failed)
            self.failed = 0
        else:
            self.failed += 1
            if self.failed == 1:
                logger.warning(
                    "OTLP: %s takes no metrics; they are lost until it does (OTEL_EXPORTER_OTLP_ENDPOINT moves it)",
                    self._target,
                )
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if not self.failed:  # a backend that was silent a moment ago is not waited for
            self.export(MetricsData([]), timeout_millis)
        super().shutdown(timeout_millis, **kwargs)  # type: ignore[misc]

    def _complete(self, request: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest:
        stamps = self._stamps()
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                if stamp := stamps.get(scope.scope.name):
                    _put(stamp, scope.metrics)
        request.resource_metrics.extend(self._closing)
        return request


def _put(stamp: Stamp, metrics: Iterable[metrics_pb2.Metric]) -> None:
    for metric in metrics:
        start_ns = stamp.start_ns if metric.HasField("sum") and metric.sum.is_monotonic else None
        for point in getattr(metric, str(metric.WhichOneof("data"))).data_points:
            point.time_unix_nano = stamp.time_ns
            if start_ns is not None:
                point.start_time_unix_nano = start_ns


def metric_exporter(protocol: str, endpoint: str | None, stamps: Stamps) -> MetricExporter:
    """Return the exporter for `grpc` or `http/protobuf`; without an endpoint the standard variables decide."""
    exporter = _grpc(endpoint) if protocol == "grpc" else _http(endpoint)
    exporter._ends, exporter._stamps, exporter._closing = SeriesEnds(), stamps, []  # noqa: SLF001
    exporter._target = str(exporter._endpoint)  # noqa: SLF001
    return exporter  # type: ignore[no-any-return]


def _http(endpoint: str | None) -> Any:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    class HttpExporter(_Complete, OTLPMetricExporter):  # type: ignore[misc] # the SDK's exporters disagree about timeouts
        def _export_batch(self, export_request: ExportMetricsServiceRequest) -> MetricExportResult:
            return super()._export_batch(self._complete(export_request))

    return HttpExporter(endpoint=f"{endpoint}/v1/metrics" if endpoint else None)


def _grpc(endpoint: str | None) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    class GrpcExporter(_Complete, OTLPMetricExporter):
        def _translate_data(self, data: MetricsData) -> ExportMetricsServiceRequest:
            return self._complete(super()._translate_data(data))

    return GrpcExporter(endpoint=endpoint)
