"""What a test reads of what was recorded: spans as plain values, histogram points as plain values."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from waiting import until

from otel_llm import semconv
from otel_llm.attributes import ATTRIBUTES
from otel_llm.litellm import LiteLLMInstrumentor

DEADLINE_S = 10.0
SCOPE = "otel_llm.litellm"
DECLARED = {row.name for row in ATTRIBUTES if row.spans != "engine"}


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
        return {name: points for name, points in self._all().items() if isinstance(points[0], HistogramDataPoint)}

    def counts(self) -> dict[str, int]:
        """How often each histogram was recorded to."""
        return {name: sum(point.count for point in points) for name, points in self.points().items()}

    def sums(self) -> dict[str, float]:
        """What each counter counted, over all its attributes."""
        return {
            name: sum(point.value for point in points)
            for name, points in self._all().items()
            if not isinstance(points[0], HistogramDataPoint)
        }

    def _all(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def record(**functions: Callable[..., Any]) -> Iterator[Recording]:
    """Instrument LiteLLM, as the environment says now, with an SDK of this block's own.

    `functions` take the place of LiteLLM's own of these names for the block, below the instrumentation.
    """
    import litellm

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    before = {name: getattr(litellm, name) for name in functions}
    for name, stand_in in functions.items():  # the instrumentation knows LiteLLM's functions by their globals
        its_own = {"__name__": "litellm.stand_in", "__builtins__": __builtins__}
        closure = stand_in.__closure__
        setattr(litellm, name, FunctionType(stand_in.__code__, its_own, name, stand_in.__defaults__, closure))
    instrumentor = LiteLLMInstrumentor()
    instrumentor.instrument(tracer_provider=tracers, meter_provider=meters)
    try:
        yield Recording(exporter, reader, tracers, meters)
    finally:
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()
        for name, original in before.items():
            setattr(litellm, name, original)
    assert _undeclared(exporter.get_finished_spans()) == set(), "the reference does not name these"


def _undeclared(spans: Sequence[ReadableSpan]) -> set[str]:
    """The attributes of our spans that no row of the reference declares."""
    ours = [span for span in spans if span.instrumentation_scope and span.instrumentation_scope.name == SCOPE]
    used = {name for span in ours for name in span.attributes or {}}
    return {name for name in used - DECLARED if not name.startswith(semconv.USAGE_PREFIX)}


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
