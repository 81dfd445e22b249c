"""An exporter for the tests of what the agent exports: it keeps what they ask for of each export."""

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics.export import Metric, MetricExporter, MetricExportResult

from otel_agent.telemetry.providers import SCOPE


class Keeping(MetricExporter):
    """Keeps what `take` makes of the metrics of the source `thing`, export by export."""

    def __init__(self, take: Callable[[list[Metric]], Any]) -> None:
        super().__init__()
        self._take, self.exports = take, []

    def export(self, metrics_data, timeout_millis=10_000, **_):
        scopes = (scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics)
        metrics = [metric for scope in scopes if scope.scope.name == SCOPE + "thing" for metric in scope.metrics]
        self.exports.append(self._take(metrics))
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **_):
        pass
