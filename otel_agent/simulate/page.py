"""Counters, gauges, histograms and summaries, and the text that Prometheus reads of them.

As prometheus_client writes it: counters end in `_total`, what is counted has a `_created` series, labels are sorted.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Row:
    """One family: what it is called, what it is, and which labels its series have."""

    name: str
    type: Literal["counter", "gauge", "histogram", "summary"]
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()


class Series:
    """The numbers under one set of labels."""

    __slots__ = ("_edges", "count", "counts", "created_s", "value")

    def __init__(self, edges: tuple[float, ...], created_s: float) -> None:
        self._edges = edges
        self.created_s = created_s
        self.value = 0.0  # of a gauge or counter; the sum of a histogram or summary
        self.count = 0
        self.counts = [0] * len(edges)

    def add(self, amount: float = 1.0) -> None:
        """Count."""
        self.value += amount

    def set(self, value: float) -> None:
        """Say what it is now."""
        self.value = value

    def observe(self, value: float) -> None:
        """Take one more value into the distribution."""
        self.value += value
        self.count += 1
        if (at := bisect_left(self._edges, value)) < len(self.counts):
            self.counts[at] += 1


class Family:
    """The series of one row, made when their labels are first asked for."""

    def __init__(self, row: Row, wall: Callable[[], float]) -> None:
        self.row = row
        self._wall = wall
        self._series: dict[tuple[str, ...], Series] = {}

    def __getitem__(self, labels: tuple[str, ...]) -> Series:
        if (found := self._series.get(labels)) is None:
            found = self._series[labels] = Series(self.row.edges, self._wall())
        return found

    @property
    def used(self) -> bool:
        """Whether there is a series."""
        return bool(self._series)

    def lines(self) -> Iterator[str]:
        """Return what the page says of it."""
        row = self.row
        shown = f"{row.name}_total" if row.type == "counter" else row.name
        yield from (f"# HELP {shown} {row.help}", f"# TYPE {shown} {row.type}")
        for labels, series in self._series.items():
            yield from self._said(shown, dict(zip(row.labels, labels, strict=True)), series)
        if row.type != "gauge" and self._series:
            created = f"{row.name}_created"
            yield from (f"# HELP {created} {row.help}", f"# TYPE {created} gauge")
            for labels, series in self._series.items():
                yield _line(created, dict(zip(row.labels, labels, strict=True)), series.created_s)

    def _said(self, shown: str, labels: dict[str, str], series: Series) -> Iterator[str]:
        if self.row.type in ("counter", "gauge"):
            yield _line(shown, labels, series.value)
            return
        if self.row.type == "histogram":
            for edge, count in zip(self.row.edges, accumulate(series.counts), strict=True):
                yield _line(f"{shown}_bucket", {**labels, "le": str(float(edge))}, count)
            yield _line(f"{shown}_bucket", {**labels, "le": "+Inf"}, series.count)
        yield _line(f"{shown}_count", labels, series.count)
        yield _line(f"{shown}_sum", labels, series.value)


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(labels[key])}"' for key in sorted(labels))
    return f"{name}{{{inside}}} {float(value)}" if inside else f"{name} {float(value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def render(families: Iterable[Family]) -> str:
    """Return the page."""
    return "".join(f"{line}\n" for family in families for line in family.lines())
