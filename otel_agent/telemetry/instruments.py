"""Observable instruments bound from catalogue rows; callbacks hand out what a worker has published and do nothing else."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_agent.catalogue import NOTHING, Attributes, Columns, Metric
from otel_agent.schedule import Published, Worker

Points = Mapping[str, Columns[float]]  # by metric name


def wanted(rows: Iterable[Metric[Any]], off: Sequence[str]) -> tuple[Metric[Any], ...]:
    """Return the rows that no pattern of `off` names."""
    return tuple(row for row in rows if not any(fnmatchcase(row.name, pattern) for pattern in off))


def bind(
    meter: Meter, metrics: Iterable[Metric[Any]], latest: Callable[[], Points], begin: Callable[[], None] = lambda: None
) -> None:
    """Create one observable instrument per row; `latest` hands out the points to export, an empty mapping where there are none.

    `begin` is called once per collection, before the points of the first row: the SDK asks instruments in the order of their making.
    """
    first = True
    for metric in metrics:
        kind = "up_down_counter" if metric.kind == "updowncounter" else metric.kind
        create = getattr(meter, f"create_observable_{kind}")

        def observe(_: CallbackOptions, name: str = metric.name, first: bool = first) -> Iterable[Observation]:
            if first:
                begin()
            return cast("Iterable[Observation]", _observed(latest().get(name, NOTHING)))

        create(metric.name, [observe], unit=metric.unit, description=metric.help)
        first = False


class _Observed:
    """A point as the SDK looks at observations."""

    __slots__ = ("attributes", "value")
    value: float
    attributes: Attributes
    context = None


def _observed(points: Columns[float]) -> Iterator[_Observed]:
    """Yield every point in one and the same object, of which the SDK makes a measurement before it asks for the next.

    An object for each costs more than making the points does, and there are thousands to an export.
    """
    one = _Observed()
    for one.value, one.attributes in points:
        yield one


@dataclass(frozen=True)
class Stamp:
    """When a reading was made, and when its counters began where the source knows; nanoseconds since the epoch."""

    time_ns: int
    start_ns: int | None


class Latest:
    """The last reading of one worker; an export holds one for all of its instruments."""

    def __init__(self) -> None:
        self.readings = 0
        self._newest: Published | None = None
        self._held: Published | None = None

    def publish(self, published: Published) -> None:
        """Take over a reading; called in the worker's thread."""
        self._newest = published
        self.readings += 1

    def hold(self, worker: Worker) -> None:
        """Keep the newest reading for the export that begins; none where the worker calls it stale."""
        self._held = self._newest if worker.latest() is not None else None

    def points(self) -> Points:
        """Return the points of the reading that is held."""
        return self._held.points if self._held else {}

    def stamp(self) -> Stamp | None:
        """Return the times of the reading that is held."""
        held = self._held
        if held is None:
            return None
        return Stamp(int(held.time_s * 1e9), None if held.start_s is None else int(held.start_s * 1e9))
