"""Instruments bound from rows: what the SDK takes out of them is what was published."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_agent.catalogue import Columns, Metric
from otel_agent.telemetry.instruments import bind


def test_every_point_of_a_row_is_exported_with_its_own_value_and_attributes():
    """They pass through one object, one after the other."""
    rows = [Metric(f"system.{kind}", kind, "1", "What it is about.", tuple) for kind in ("gauge", "updowncounter")]
    points = {
        "system.gauge": Columns([0.5, 2], ({"a": "x"}, {"a": "y"})),
        "system.updowncounter": Columns([3], ({},)),
    }
    reader = InMemoryMetricReader()
    bind(MeterProvider([reader], shutdown_on_exit=False).get_meter("otel_agent.sources.thing"), rows, lambda: points)

    data = reader.get_metrics_data()

    assert {
        metric.name: [(point.value, dict(point.attributes)) for point in metric.data.data_points]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    } == {"system.gauge": [(0.5, {"a": "x"}), (2, {"a": "y"})], "system.updowncounter": [(3, {})]}
