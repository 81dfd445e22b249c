"""Facts joined from the snapshots of several sources: nothing is read here. The registry, one line each."""

from otel_agent.derived import metrics
from otel_agent.derived.read import open_placement
from otel_agent.sources import Source

DERIVED: tuple[Source, ...] = (
    Source(
        "placement",
        lambda settings, others: open_placement(others, settings.gpu_idle_s),
        metrics.METRICS,
        events=metrics.events,
    ),
)
