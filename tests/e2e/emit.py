"""An application's telemetry for tests, by the real SDK and its exporters: every call returns once the receiver has acknowledged."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util.types import AnyValue

NEVER_MS = 3_600_000.0  # the tests flush
__all__ = ["Application", "SeverityNumber", "application"]


@dataclass(frozen=True)
class Application:
    """One process's providers, exporting to one OTLP endpoint."""

    tracers: TracerProvider
    meters: MeterProvider
    loggers: LoggerProvider

    def flush(self) -> None:
        """Send everything now; fails where the receiver did not take it."""
        assert self.tracers.force_flush(10_000)
        assert self.meters.force_flush(10_000)
        assert self.loggers.force_flush(10_000)

    def log(
        self, body: AnyValue, attributes: Mapping[str, AnyValue] | None = None, event_name: str | None = None
    ) -> None:
        """Emit one log record in the current context."""
        self.loggers.get_logger("e2e").emit(
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=body,
            attributes=dict(attributes or {}),
            event_name=event_name,
        )


@contextlib.contextmanager
def application(
    endpoint: str,
    resource: Mapping[str, str],
    *,
    grpc_endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Application]:
    """Provide an application that exports to an OTLP/HTTP endpoint, its spans over gRPC where an endpoint for that is named."""
    described = Resource.create(dict(resource))
    sent = dict(headers or {})
    tracers = TracerProvider(resource=described, shutdown_on_exit=False)
    spans = (
        GrpcSpanExporter(endpoint=grpc_endpoint, insecure=True)
        if grpc_endpoint
        else OTLPSpanExporter(f"{endpoint}/v1/traces", headers=sent)
    )
    tracers.add_span_processor(BatchSpanProcessor(spans))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{endpoint}/v1/metrics", headers=sent), export_interval_millis=NEVER_MS
    )
    meters = MeterProvider([reader], described, shutdown_on_exit=False)
    loggers = LoggerProvider(described, shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{endpoint}/v1/logs", headers=sent)))
    try:
        yield Application(tracers, meters, loggers)
    finally:
        for provider in (tracers, meters, loggers):
            provider.shutdown()
