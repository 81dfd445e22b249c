"""The registry of sources, one line each: nothing registers itself, and nothing is read when this is imported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from otel_agent.catalogue import Metric
from otel_agent.settings import Settings
from otel_agent.sources.containers import metrics as containers_metrics
from otel_agent.sources.containers import read as containers_read
from otel_agent.sources.gpu import metrics as gpu_metrics
from otel_agent.sources.gpu import read as gpu_read
from otel_agent.sources.host import metrics as host_metrics
from otel_agent.sources.host import read as host_read


@dataclass(frozen=True)
class Source:
    """One thing that is read: `open` may raise Unavailable and returns the reader of one snapshot; `metrics` are its rows.

    `start` tells when the counters of a snapshot began, in seconds since the epoch, where that is known for all of them at once.
    """

    name: str
    open: Callable[[Settings], Callable[[], Any]]
    metrics: tuple[Metric[Any], ...]
    start: Callable[[Any], float | None] = lambda _: None


SOURCES: tuple[Source, ...] = (
    Source(
        "host",
        lambda settings: host_read.open_host(settings.host_root),
        host_metrics.METRICS,
        start=lambda snapshot: snapshot.boot_time_s,
    ),
    Source("gpu", lambda _: gpu_read.open_gpus(), gpu_metrics.METRICS),
    Source(
        "containers", lambda settings: containers_read.open_containers(settings.host_root), containers_metrics.METRICS
    ),
)
