"""What the agent says of itself: one set of rows over the health of its sources."""

from collections.abc import Callable, Iterator, Sequence

from otel_agent.catalogue import Metric, Point
from otel_agent.schedule import STATES, SourceHealth

Health = Sequence[SourceHealth]
_NOTE = "Semantic conventions have no name for the health of a collecting agent's sources."
_SOURCE = ("otel_llm.source",)


def _each(field: str) -> Callable[[Health], Iterator[Point]]:
    def points(health: Health) -> Iterator[Point]:
        return ((getattr(one, field), {"otel_llm.source": one.name}) for one in health)

    return points


def _states(health: Health) -> Iterator[Point]:
    for one in health:
        yield from (
            (int(one.state == state), {"otel_llm.source": one.name, "otel_llm.source.state": state}) for state in STATES
        )


METRICS: tuple[Metric[Health], ...] = (
    Metric(
        "otel_llm.source.status",
        "updowncounter",
        "1",
        "1 for the state a source is in, 0 for the others.",
        _states,
        (*_SOURCE, "otel_llm.source.state"),
        note=_NOTE,
    ),
    Metric(
        "otel_llm.source.age",
        "gauge",
        "s",
        "Time since the last reading of a source that succeeded.",
        _each("age_s"),
        _SOURCE,
        note=_NOTE,
    ),
    Metric(
        "otel_llm.source.duration",
        "gauge",
        "s",
        "Time that the last reading of a source took.",
        _each("duration_s"),
        _SOURCE,
        note=_NOTE,
    ),
    Metric(
        "otel_llm.source.points",
        "gauge",
        "{point}",
        "Points in the last reading of a source.",
        _each("points"),
        _SOURCE,
        note=_NOTE,
    ),
    Metric(
        "otel_llm.source.failures",
        "counter",
        "{failure}",
        "Readings of a source that failed.",
        _each("failures"),
        _SOURCE,
        note=_NOTE,
    ),
)
