"""vLLM instrumented with an SDK of a test's own, and what was recorded as plain values.

A fault of ours, and an attribute that the reference does not list, fail the test that has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from otel_llm import fault
from otel_llm.attributes import ATTRIBUTES
from otel_llm.vllm import VLLMInstrumentor

DECLARED = {row.name for row in ATTRIBUTES if row.spans != "client"}


@dataclass
class Recorded:
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracer_provider: TracerProvider

    def spans(self) -> list[ReadableSpan]:
        """Those of the instrumentation, in the order in which they ended."""
        return [span for span in self.exporter.get_finished_spans() if _scope(span) == "otel_llm.vllm"]

    def batch(self) -> ReadableSpan:
        """The one span of a call."""
        (found,) = [span for span in self.spans() if "otel_llm.batch.size" in (span.attributes or {})]
        return found

    def requests(self) -> list[ReadableSpan]:
        """The spans of requests, without those of their phases."""
        return [span for span in self.spans() if span.attributes and "otel_llm.batch.size" not in span.attributes]

    def phases(self, request: ReadableSpan) -> list[ReadableSpan]:
        """The spans below one of a request."""
        return [span for span in self.spans() if span.parent is not None and span.parent.span_id == _id(request)]

    def points(self) -> list[tuple[str, dict[str, Any], int, float]]:
        """Name, attributes, count and sum of every point of a histogram."""
        data = self.reader.get_metrics_data()
        return [
            (metric.name, dict(point.attributes or {}), point.count, point.sum)
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if isinstance(point, HistogramDataPoint)
        ]

    def counts(self) -> dict[str, int]:
        """How often each histogram was recorded to."""
        found: dict[str, int] = {}
        for name, _, count, _ in self.points():
            found[name] = found.get(name, 0) + count
        return found


@contextmanager
def recorded(sampler: Sampler = ALWAYS_ON, **environment: str) -> Iterator[Recorded]:
    """Instrument vLLM, with settings by their variables, for the length of a block."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    faults: list[tuple[str, Exception]] = []
    before = fault.set_on_fault(lambda place, error: faults.append((place, error)))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            VLLMInstrumentor().instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
        recording = Recorded(exporter, reader, tracer_provider)
        try:
            yield recording
        finally:
            VLLMInstrumentor().uninstrument()
    finally:
        fault.set_on_fault(before)
        tracer_provider.shutdown()
        meter_provider.shutdown()
    assert faults == []
    undeclared = {name for span in recording.spans() for name in span.attributes or () if name not in DECLARED}
    assert undeclared == set()


def _scope(span: ReadableSpan) -> str | None:
    return span.instrumentation_scope.name if span.instrumentation_scope is not None else None


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id
