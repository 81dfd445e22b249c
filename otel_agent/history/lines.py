"""Metric questions over the embedded store: the last samples, charts, names.

Points that wait in the writer are read before the file: what leaves the one meanwhile is found in the other.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy import Column, Connection, Row, Select, Table, func, select

from otel_agent.history import charts
from otel_agent.history.model import MAX_POINTS, MAX_SERIES, Attributes, MetricName, Sample, Series
from otel_agent.history.reading import Reading
from otel_agent.store.decode_metrics import counts
from otel_agent.store.points import Distribution, Number
from otel_agent.store.schema import hpoint, point, resource, series

NUMBERS = ("gauge", "counter", "updowncounter")
DISTRIBUTIONS = ("histogram", "exponential_histogram", "summary")
SERIES_COLUMNS = (
    series.c.id,
    series.c.name,
    series.c.kind,
    series.c.unit,
    series.c.temporality,
    series.c.attrs,
    series.c.bounds,
    series.c.last_ms,
    resource.c.attrs.label("resource"),
)
DELTA = 1  # OTLP's aggregation temporality
# `series.last_ms` is written at most once a minute, and at the end of a batch.
LAST_BEHIND_MS = 75_000
THIN_MS = 3 * 3_600_000  # charts of a longer time read one point for each bucket


class Waiting(Protocol):
    """Points that are not in the file yet; what the open store offers to readers in its own process."""

    def waiting_newest(self) -> Mapping[int, tuple[int, float | None]]: ...

    def waiting_numbers(self, series: int, /) -> Sequence[Number]: ...

    def waiting_distributions(self, series: int, /) -> Sequence[Distribution]: ...


class Lines:
    """Answers from the file and, in the writing process, from what waits."""

    def __init__(self, reading: Reading, waiting: Waiting | None, clock: Callable[[], float] = time.time) -> None:
        self._reading, self._waiting, self._clock = reading, waiting, clock

    def latest(self, names: Sequence[str], *, max_age_s: float) -> list[Sample]:
        """See `model.History.latest`."""
        since_ms = int((self._clock() - max_age_s) * 1000)
        fresh = self._waiting_series()
        found: list[tuple[int, Sample]] = []
        origins: dict[str, Attributes] = {}  # many series share one
        with self._reading.connect() as connection:
            for table, column, kinds in ((point, point.c.v, NUMBERS), (hpoint, hpoint.c.cnt, DISTRIBUTIONS)):
                for row in connection.execute(_newest(table, column, names, kinds)):
                    if row.last_ms < since_ms - LAST_BEHIND_MS and row.id not in fresh:
                        continue
                    ms, value = fresh.get(row.id) or (row.ts_ms, row.value)
                    if ms is not None and ms >= since_ms and value is not None:
                        if (origin := origins.get(row.resource)) is None:
                            origin = origins[row.resource] = json.loads(row.resource)
                        attributes = json.loads(row.attrs)
                        found.append(
                            (row.id, Sample(row.name, row.unit, row.kind, origin, attributes, ms / 1000, float(value)))
                        )
        return [sample for _, sample in sorted(found, key=lambda pair: pair[0])]

    def series(
        self, name: str, grid: charts.Grid, *, until_ms: int, where: Mapping[str, str], quantile: float | None
    ) -> list[Series]:
        """See `model.History.series`."""
        before_ms = int(grid.since_ms + grid.step_ms * (-charts.CARRY_MAX_MS // grid.step_ms))  # whole steps earlier
        fresh = self._waiting_series()
        found: list[Series] = []
        with self._reading.connect() as connection:
            for row in self._series_rows(connection, [name], before_ms, fresh):
                attributes, origin = json.loads(row.attrs), json.loads(row.resource)
                if not _matches(where, attributes, origin):
                    continue
                values = self._values(connection, row, grid, before_ms, until_ms, quantile)
                if any(value is not None for value in values):
                    found.append(Series(row.name, row.unit, row.kind, origin, attributes, grid.starts_s(), values))
                if len(found) >= MAX_SERIES:
                    break
        return found

    def metrics(self, *, since_s: float) -> list[MetricName]:
        """See `model.History.metrics`."""
        statement = (
            select(series.c.name, series.c.unit, series.c.kind, func.count())
            .where(series.c.last_ms >= int(since_s * 1000) - LAST_BEHIND_MS)
            .group_by(series.c.name, series.c.unit, series.c.kind)
            .order_by(series.c.name, series.c.unit, series.c.kind)
        )
        with self._reading.connect() as connection:
            return [MetricName(*row) for row in connection.execute(statement)]

    def _waiting_series(self) -> Mapping[int, tuple[int, float | None]]:
        """Return the series that have points waiting, with the newest of each."""
        return {} if self._waiting is None else self._waiting.waiting_newest()

    def _series_rows(
        self, connection: Connection, names: Sequence[str], since_ms: int, fresh: Mapping[int, object]
    ) -> list[Row[Any]]:
        """Return the series of these metrics that may have points since then, in the order in which they first came."""
        statement: Select[Any] = (
            select(*SERIES_COLUMNS)
            .join(resource, resource.c.id == series.c.resource_id)
            .where(series.c.name.in_(names))
            .order_by(series.c.id)
        )
        return [
            row for row in connection.execute(statement) if row.last_ms >= since_ms - LAST_BEHIND_MS or row.id in fresh
        ]

    def _values(
        self,
        connection: Connection,
        row: Row[Any],
        grid: charts.Grid,
        since_ms: int,
        until_ms: int,
        quantile: float | None,
    ) -> tuple[float | None, ...]:
        delta = row.temporality == DELTA
        thinned_ms = 0
        if delta:  # each of its points tells something that the next one does not
            grid = replace(grid, thinned=False)
        elif grid.thinned:
            thinned_ms = max(1, int(grid.step_ms))
        if row.kind in NUMBERS:
            numbers = self._numbers(connection, row.id, since_ms, until_ms, thinned_ms)
            return (
                charts.rates(numbers, grid, delta=delta) if row.kind == "counter" else charts.last_values(numbers, grid)
            )
        found = self._distributions(connection, row.id, since_ms, until_ms, thinned_ms)
        if quantile is None:
            return charts.rates([(ms, count) for ms, count, _ in found], grid, delta=delta)
        if row.kind != "histogram" or not row.bounds:
            return ()
        bounds = [float(bound) for bound in json.loads(row.bounds)]
        points = [
            (ms, None if count is None or buckets is None else counts(buckets, len(bounds)))
            for ms, count, buckets in found
        ]
        return charts.quantiles(points, bounds, quantile, grid, delta=delta)

    def _numbers(
        self, connection: Connection, number: int, since_ms: int, until_ms: int, thinned_ms: int
    ) -> list[charts.Point]:
        waiting = () if self._waiting is None else self._waiting.waiting_numbers(number)
        statement = _points(point, [point.c.v], number, since_ms, until_ms, thinned_ms)
        stored: dict[int, float | None] = {row[0]: row[1] for row in connection.execute(statement)}
        return sorted((stored | {ms: value for _, ms, value in waiting if since_ms <= ms <= until_ms}).items())

    def _distributions(
        self, connection: Connection, number: int, since_ms: int, until_ms: int, thinned_ms: int
    ) -> list[tuple[int, int | None, bytes | None]]:
        waiting = () if self._waiting is None else self._waiting.waiting_distributions(number)
        statement = _points(hpoint, [hpoint.c.cnt, hpoint.c.buckets], number, since_ms, until_ms, thinned_ms)
        stored = {ms: (count, buckets) for ms, count, buckets in connection.execute(statement)}
        stored |= {row[1]: (row[2], row[6]) for row in waiting if since_ms <= row[1] <= until_ms}
        return [(ms, *stored[ms]) for ms in sorted(stored)]


def _newest(table: Table, column: Column[Any], names: Sequence[str], kinds: Sequence[str]) -> Select[Any]:
    """Return the question for the series of some metrics, each with its newest point in the file.

    As two questions within a row, since the planner reads all points of a series where it joins them.
    """
    newest = select(table.c.ts_ms).where(table.c.series_id == series.c.id).order_by(table.c.ts_ms.desc()).limit(1)
    return (
        select(
            *SERIES_COLUMNS,
            newest.scalar_subquery().label("ts_ms"),
            newest.with_only_columns(column).scalar_subquery().label("value"),
        )
        .join(resource, resource.c.id == series.c.resource_id)
        .where(series.c.name.in_(names), series.c.kind.in_(kinds))
    )


def _points(
    table: Table, columns: Sequence[Column[Any]], number: int, since_ms: int, until_ms: int, thinned_ms: int
) -> Select[Any]:
    """Return the question for the points of one series; with `thinned_ms` only for the last one of each such stretch of time."""
    within = (table.c.series_id == number, table.c.ts_ms.between(since_ms, until_ms))
    if not thinned_ms:
        return select(table.c.ts_ms, *columns).where(*within)
    # Beside max(), SQLite takes the other columns from the row that has the maximum: sqlite.org/lang_select.html#bareagg
    return select(func.max(table.c.ts_ms), *columns).where(*within).group_by((table.c.ts_ms - since_ms) // thinned_ms)


def grid(since_s: float, until_s: float, step_s: float) -> charts.Grid:
    """Return the buckets of a chart, begun at a multiple of the step so that they stay put while time goes on; raises ValueError."""
    if not step_s > 0 or not since_s < until_s:
        raise ValueError("a chart needs a step above zero and an end after its beginning")
    count = -int(-(until_s - since_s // step_s * step_s) // step_s)
    if count > MAX_POINTS:
        raise ValueError(f"{count} buckets are more than {MAX_POINTS}; ask for a longer step")
    thinned = (until_s - since_s) * 1000 > THIN_MS
    return charts.Grid(round(since_s // step_s * step_s * 1000), step_s * 1000, count, thinned)


def _matches(where: Mapping[str, str], attributes: Mapping[str, Any], origin: Mapping[str, Any]) -> bool:
    return all(_text(attributes.get(name, origin.get(name))) == value for name, value in where.items())


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)
