"""The SDK's OTLP exporters, with what they lack: series that end are closed, and counters carry the time they began.

A backend that does not answer is told once, and once more when it answers again. Only the module of the protocol in use is imported.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from otel_agent.telemetry.ends import SeriesEnds

Starts = Callable[[], Mapping[str, int]]  # by scope name: nanoseconds since the epoch

logger = logging.getLogger(__name__)


class _Complete:
    """What both protocols share; stands before the SDK's exporter in the order of classes."""

    _ends: SeriesEnds
    _starts: Starts
    _target: str
    _closing: list[metrics_pb2.ResourceMetrics]
    failed = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        self._closing = self._ends.closing(metrics_data)
        result: MetricExportResult = super().export(metrics_data, timeout_millis, **kwargs)  # type: ignore[misc]
        if result is MetricExportResult.SUCCESS:
            self._ends.accepted(metrics_data)
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
        starts = self._starts()
        for metric, start in _counters(request.resource_metrics, starts):
            for point in metric.sum.data_points:
                point.start_time_unix_nano = start
        request.resource_metrics.extend(self._closing)
        return request


def _counters(
    resources: Iterable[metrics_pb2.ResourceMetrics], starts: Mapping[str, int]
) -> Iterable[tuple[metrics_pb2.Metric, int]]:
    for resource in resources:
        for scope in resource.scope_metrics:
            if (start := starts.get(scope.scope.name)) is not None:
                yield from (
                    (metric, start) for metric in scope.metrics if metric.HasField("sum") and metric.sum.is_monotonic
                )


def metric_exporter(protocol: str, endpoint: str | None, starts: Starts) -> MetricExporter:
    """Return the exporter for `grpc` or `http/protobuf`; without an endpoint the standard variables decide."""
    exporter = _grpc(endpoint) if protocol == "grpc" else _http(endpoint)
    exporter._ends, exporter._starts, exporter._closing = SeriesEnds(), starts, []  # noqa: SLF001
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
