"""Observable instruments bound from catalogue rows; callbacks hand out what a worker has published and do nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_agent.catalogue import Metric
from otel_agent.schedule import Published, Worker

Points = Mapping[str, Sequence[Observation]]  # by metric name


def wanted(rows: Iterable[Metric[Any]], off: Sequence[str]) -> tuple[Metric[Any], ...]:
    """Return the rows that no pattern of `off` names."""
    return tuple(row for row in rows if not any(fnmatchcase(row.name, pattern) for pattern in off))


def bind(meter: Meter, metrics: Iterable[Metric[Any]], latest: Callable[[], Points]) -> None:
    """Create one observable instrument per row; `latest` hands out the last fresh points, an empty mapping where there are none."""
    for metric in metrics:
        kind = "up_down_counter" if metric.kind == "updowncounter" else metric.kind
        create = getattr(meter, f"create_observable_{kind}")

        def observe(_: CallbackOptions, name: str = metric.name) -> Sequence[Observation]:
            return latest().get(name, ())

        create(metric.name, [observe], unit=metric.unit, description=metric.help)


class Latest:
    """The last points of one worker as observations, made once per reading and empty once the worker calls them stale."""

    def __init__(self) -> None:
        self._points: Points = {}
        self._of: Published | None = None

    def publish(self, published: Published) -> None:
        """Take over a reading; called in the worker's thread."""
        points = {
            name: [Observation(value, dict(attributes)) for value, attributes in found]
            for name, found in published.points.items()
        }
        self._points, self._of = points, published

    def read(self, worker: Worker) -> Points:
        """Return the points to export now."""
        return self._points if worker.latest() is not None else {}

    def start_s(self) -> float | None:
        """Return when the counters of these points began, in seconds since the epoch, where the source knows."""
        return self._of.start_s if self._of else None
