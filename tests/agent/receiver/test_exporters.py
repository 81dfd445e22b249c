"""The SDK's own exporters, over gRPC and over HTTP, plain and gzipped, reach the store with every signal."""

import time
from pathlib import Path

import pytest
from agent.receiver.doors import Doors, doors, standing
from agent.store.opened import opened
from grpc import Compression as GrpcCompression
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from waiting import until

from otel_agent.receiver.intake import ACCEPTED
from otel_agent.store.sink import QueueFull

RESOURCE = Resource({"service.name": "shop"})


def _exporters(way: str, to: Doors):
    if way.startswith("grpc"):
        compression = GrpcCompression.Gzip if "gzip" in way else None
        return [made(to.grpc, insecure=True, compression=compression) for made in (GrpcSpans, GrpcMetrics, GrpcLogs)]
    compression = Compression.Gzip if "gzip" in way else None
    return [
        made(f"{to.http}/v1/{signal}", compression=compression)
        for made, signal in ((HttpSpans, "traces"), (HttpMetrics, "metrics"), (HttpLogs, "logs"))
    ]


@pytest.mark.parametrize("way", ["grpc", "grpc gzip", "http", "http gzip"])
def test_every_signal_of_the_sdk_arrives_whole(tmp_path: Path, way: str) -> None:
    with standing(tmp_path, points_s=0.1) as (it, to):
        spans, metrics, logs = _exporters(way, to)
        tracing, logging_ = TracerProvider(resource=RESOURCE), LoggerProvider(RESOURCE)
        tracing.add_span_processor(SimpleSpanProcessor(spans))
        logging_.add_log_record_processor(SimpleLogRecordProcessor(logs))
        metering = MeterProvider([PeriodicExportingMetricReader(metrics, 3_600_000)], RESOURCE)
        since_s = time.time()

        with tracing.get_tracer("checkout").start_as_current_span("buy", attributes={"items": 3}) as span:
            logging_.get_logger("till").emit(
                body={"price": 1.5}, severity_number=SeverityNumber.WARN, attributes={"paid": True}
            )
            metering.get_meter("till").create_histogram("basket", unit="{item}").record(3)
        for provider in (tracing, logging_, metering):
            provider.shutdown()

        trace_id = f"{span.get_span_context().trace_id:032x}"
        span_id = f"{span.get_span_context().span_id:016x}"
        until(lambda: it.history.exemplars("basket", since_s=since_s - 1, until_s=time.time() + 1))
        (kept,) = it.history.trace(trace_id)
        (record,) = it.history.logs(since_s=since_s, until_s=time.time())
        (sample,) = it.history.latest(["basket"])
        (exemplar,) = it.history.exemplars("basket", since_s=since_s - 1, until_s=time.time() + 1)
        requests = to.counts.requests()

    assert (kept.span_id, kept.parent_id, kept.name, kept.kind) == (span_id, None, "buy", "internal")
    assert (kept.service, kept.scope, kept.attributes, kept.status) == ("shop", "checkout", {"items": 3}, "unset")
    assert (kept.start_ns, kept.start_ns + kept.duration_ns) == (span.start_time, span.end_time)
    assert kept.resource["service.name"] == "shop"
    assert (record.body, record.severity, record.attributes) == ({"price": 1.5}, 13, {"paid": True})
    assert (record.trace_id, record.span_id, record.service, record.scope) == (trace_id, span_id, "shop", "till")
    assert (sample.value, sample.unit, sample.kind, sample.attributes) == (1.0, "{item}", "histogram", {})
    assert (exemplar.value, exemplar.trace_id, exemplar.span_id) == (3.0, trace_id, span_id)
    assert requests == {("traces", ACCEPTED): 1, ("metrics", ACCEPTED): 1, ("logs", ACCEPTED): 1}


def test_an_exporter_that_is_told_to_come_back_comes_back(tmp_path: Path) -> None:
    """RetryInfo makes RESOURCE_EXHAUSTED a transient error: without it, the SDK's exporter gives the batch up."""
    with opened(tmp_path) as it:

        class FullAtFirst:
            calls = 0

            def submit(self, signal, message, size):
                self.calls += 1
                if self.calls == 1:
                    raise QueueFull("full")
                return it.store.submit(signal, message, size)

        sink = FullAtFirst()
        with doors(sink) as to:
            provider = TracerProvider(resource=RESOURCE)
            provider.add_span_processor(SimpleSpanProcessor(GrpcSpans(to.grpc, insecure=True)))
            provider.get_tracer("x").start_span("once").end()
            provider.shutdown()
        rows = it.history.stats().signals["traces"].rows
    assert (sink.calls, rows) == (2, 1)
