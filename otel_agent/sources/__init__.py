"""The registry of sources, one line each: nothing registers itself, and nothing is read when this is imported."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from otel_agent.catalogue import Event, Metric
from otel_agent.settings import Settings
from otel_agent.sources.containers import events as containers_events
from otel_agent.sources.containers import metrics as containers_metrics
from otel_agent.sources.containers import read as containers_read
from otel_agent.sources.gpu import child as gpu_child
from otel_agent.sources.gpu import events as gpu_events
from otel_agent.sources.gpu import metrics as gpu_metrics
from otel_agent.sources.gpu import read as gpu_read
from otel_agent.sources.host import metrics as host_metrics
from otel_agent.sources.host import read as host_read
from otel_agent.sources.processes import metrics as processes_metrics
from otel_agent.sources.processes import read as processes_read


class Reading(Protocol):
    """One reading of another source."""

    @property
    def snapshot(self) -> Any: ...


class Running(Protocol):
    """Another source as it runs."""

    def latest(self) -> Reading | None:
        """Return its last reading that is still current."""

    @property
    def begun(self) -> bool:
        """Whether it has read, or failed to, at least once."""


@dataclass(frozen=True)
class Others:
    """What a source may know of the others: no more than what they have read."""

    find: Callable[[str], Running | None]

    def snapshot(self, name: str) -> Any | None:
        """Return the last snapshot of a source; None where it is switched off, fails, or has read nothing yet."""
        running = self.find(name)
        reading = running.latest() if running else None
        return reading.snapshot if reading else None

    def begun(self, name: str) -> bool:
        """Tell whether a source has come to a first result of any kind; one that is switched off has."""
        running = self.find(name)
        return running is None or running.begun


@dataclass(frozen=True)
class Source:
    """One thing that is read: `open` may raise Unavailable and returns the reader of one snapshot; `metrics` are its rows.

    `start` tells when the counters of a snapshot began, in seconds since the epoch, where that is known for all of them at once.
    `events` tells what happened since the snapshot before.
    """

    name: str
    open: Callable[[Settings, Others], Callable[[], Any]]
    metrics: tuple[Metric[Any], ...]
    start: Callable[[Any], float | None] = lambda _: None
    events: Callable[[Any], Iterable[Event]] = lambda _: ()


def gpu_pids(others: Others) -> set[int]:
    """Return the pids of every process that the last reading of the GPUs names."""
    gpus = getattr(others.snapshot("gpu"), "gpus", ())
    parts = [part for gpu in gpus for part in (gpu, *gpu.instances)]
    return {process.pid for part in parts for process in part.processes or ()}


SOURCES: tuple[Source, ...] = (
    Source(
        "host",
        lambda settings, _: host_read.open_host(settings.host_root),
        host_metrics.METRICS,
        start=lambda snapshot: snapshot.boot_time_s,
    ),
    Source(
        "gpu",
        lambda settings, _: (gpu_child.open_gpus_apart if settings.gpu_process else gpu_read.open_gpus)(
            settings.host_root / "proc", deadline_s=min(2 * settings.interval_s, settings.deadline_s / 2)
        ),
        gpu_metrics.METRICS,
        events=gpu_events.events,
    ),
    Source(
        "containers",
        lambda settings, _: containers_read.open_containers(
            settings.host_root,
            containers_read.Wishes(
                settings.container_labels, settings.container_log_tail, stats=settings.container_stats == "auto"
            ),
        ),
        containers_metrics.METRICS,
        events=containers_events.events,
    ),
    Source(
        "processes",
        lambda settings, others: processes_read.open_processes(
            settings.host_root, settings.processes_top, lambda: gpu_pids(others)
        ),
        processes_metrics.METRICS,
    ),
)
