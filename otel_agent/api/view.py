"""What every route may look at, and the questions to history that several of them share."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from otel_agent.api import fields
from otel_agent.api.fields import Field
from otel_agent.api.refusal import Refusal
from otel_agent.history.model import MAX_POINTS, History, Sample, Series
from otel_agent.schedule import Worker
from otel_agent.settings import Settings

HOST = "host.name"
EXPORT_S = 5.0  # between two exports into the store beside us, where the setting says nothing


@dataclass(frozen=True)
class View:
    """The running agent as the API sees it; `history` is None where nothing is stored here and no stack was named."""

    settings: Settings
    workers: Mapping[str, Worker]
    history: History | None
    hostname: str
    clock: Callable[[], float] = time.time

    @property
    def stored(self) -> History:
        """Return the history; raises Refusal (503) where there is none."""
        if self.history is None:
            raise Refusal(
                503,
                "nothing is stored here, so there is no past to ask about",
                "start 'otel-agent up', which keeps a store of its own",
            )
        return self.history

    def step_s(self, asked: float | None) -> float:
        """Return the step of a chart: as asked, or else wide enough that points which come a little late leave no gaps."""
        return 2 * self.beat_s if asked is None else asked

    @property
    def beat_s(self) -> float:
        """Seconds between two points of one series in the store."""
        export_s = EXPORT_S if self.settings.export_interval_ms is None else self.settings.export_interval_ms / 1000
        return max(self.settings.interval_s, export_s)


def latest(view: View, names: Sequence[str], host: str | None = None) -> list[Sample]:
    """Return the last samples of these metrics that are still current, of one host where one is named."""
    samples = view.stored.latest(names, max_age_s=3 * view.beat_s + view.settings.deadline_s)
    return samples if host is None else [sample for sample in samples if _host(sample) == host]


def one_host(view: View, samples: Iterable[Sample], asked: str | None) -> tuple[str | None, list[Sample]]:
    """Return the host a record of "the machine" is about and its samples: the one asked for, this one, or the first by name."""
    by_host: dict[str | None, list[Sample]] = {}
    for sample in samples:
        by_host.setdefault(_host(sample), []).append(sample)
    chosen = asked or (
        view.hostname if view.hostname in by_host else min(by_host, key=lambda name: name or "", default=None)
    )
    return chosen, by_host.get(chosen, [])


def _host(sample: Sample) -> str | None:
    name = sample.resource.get(HOST)
    return str(name) if name is not None else None


def lines(
    view: View, rows: Iterable[Field], since_s: float, until_s: float, step_s: float, where: Mapping[str, str]
) -> list[Series]:
    """Return the lines that these fields are rebuilt from."""
    return [
        line
        for name in fields.metrics_of(rows)
        for line in view.stored.series(name, since_s=since_s, until_s=until_s, step_s=step_s, where=where)
    ]


def rates(view: View, rows: Sequence[Field], now_s: float, host: str | None) -> dict[str, float | None]:
    """Return the last known value of those fields that are growth per second."""
    growing = [row for row in rows if row.rate]
    found = lines(view, growing, now_s - 4 * view.beat_s, now_s, view.beat_s, {HOST: host} if host else {})
    length = max((len(line.values) for line in found), default=0)
    return {
        row.name: next((value for value in reversed(fields.column(row, found, length)) if value is not None), None)
        for row in growing
    }


def window(since_s: float, until_s: float, step_s: float) -> None:
    """Check the bounds of a chart; raises Refusal (400)."""
    if since_s >= until_s:
        raise Refusal(400, "since: must lie before until", "leave out until for the present")
    if (until_s - since_s) / step_s > MAX_POINTS:
        smallest = (until_s - since_s) / MAX_POINTS
        raise Refusal(
            400,
            f"step: {step_s:g} s makes more than {MAX_POINTS} points",
            f"ask for a step of at least {smallest:.0f} s, or a shorter time",
        )
