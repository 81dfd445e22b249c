"""What a test reads of what was recorded: spans as plain values, histogram points as plain values."""

from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from waiting import until

DEADLINE_S = 10.0


@dataclass
class Recording:
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracer_provider: TracerProvider
    meter_provider: MeterProvider

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self) -> ReadableSpan:
        """The one span there is; waits for it, as a stream left behind is ended by another thread."""
        until(lambda: bool(self.spans()))
        (span,) = self.spans()
        return span

    def points(self) -> dict[str, list[HistogramDataPoint]]:
        """All points of all histograms, by name of the metric."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def counts(self) -> dict[str, int]:
        """How often each histogram was recorded to."""
        return {name: sum(point.count for point in points) for name, points in self.points().items()}


def whole(span: ReadableSpan) -> dict[str, Any]:
    """Everything of a span but its times and ids."""
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "description": span.status.description,
        "events": [event.name for event in span.events],
        "attributes": dict(span.attributes or {}),
    }
