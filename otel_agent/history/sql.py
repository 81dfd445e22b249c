"""History over the embedded store's file, from inside the process that writes it or from another one."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Select, Table, and_, or_, select, text

from otel_agent.history import lines, spans, stats
from otel_agent.history.model import (
    MAX_ROWS,
    MAX_SPANS,
    Exemplar,
    History,
    LogRow,
    MetricName,
    RequestRow,
    Sample,
    Series,
    SpanRow,
    StoreStats,
)
from otel_agent.history.reading import LIMIT_S, Reading
from otel_agent.store.schema import exemplar, log, resource, scope, series, span
from otel_agent.store.store import WriterState
from otel_agent.store.values import INT64_MAX

TRACE_ID = re.compile(r"[0-9a-fA-F]{32}\Z")
DEPTH = 64  # how far up a trace it is looked for the request that another one belongs to
# A request is outermost when no span above it is a request too.
OUTERMOST = text(
    "NOT EXISTS (WITH RECURSIVE above(parent_id, depth) AS ("
    " SELECT span.parent_id, 0 UNION ALL"
    " SELECT up.parent_id, above.depth + 1 FROM above JOIN span AS up ON up.trace_id = span.trace_id AND up.span_id = above.parent_id"
    f" WHERE above.depth < {DEPTH} AND above.parent_id IS NOT NULL)"
    " SELECT 1 FROM above JOIN span AS up ON up.trace_id = span.trace_id AND up.span_id = above.parent_id WHERE up.request = 1)"
)


class OpenStore(lines.Waiting, Protocol):
    """What the writing process offers beside the file."""

    @property
    def path(self) -> Path: ...

    def state(self) -> WriterState: ...


class SqlHistory(History):
    """Fulfils `model.History`, over the open store where this process writes it, or else over the path of its file."""

    def __init__(
        self, store: OpenStore | Path, *, clock: Callable[[], float] = time.time, limit_s: float = LIMIT_S
    ) -> None:
        self._store = None if isinstance(store, Path) else store
        self._reading = Reading(store if isinstance(store, Path) else store.path, limit_s=limit_s)
        self._lines = lines.Lines(self._reading, self._store, clock)

    def close(self) -> None:
        """Close the connections; the file may be read by others still."""
        self._reading.close()

    def latest(self, names: Sequence[str], *, max_age_s: float = 30) -> list[Sample]:
        """See `model.History`. From another process than the writing one, what it sees is up to 10 s behind."""
        return self._lines.latest(names, max_age_s=max_age_s)

    def series(
        self,
        name: str,
        *,
        since_s: float,
        until_s: float,
        step_s: float,
        where: Mapping[str, str] | None = None,
        quantile: float | None = None,
    ) -> list[Series]:
        """See `model.History`."""
        if quantile is not None and not 0 <= quantile <= 1:
            raise ValueError("a quantile lies between 0 and 1")
        grid = lines.grid(since_s, until_s, step_s)
        return self._lines.series(name, grid, until_ms=int(until_s * 1000), where=where or {}, quantile=quantile)

    def metrics(self, *, since_s: float) -> list[MetricName]:
        """See `model.History`."""
        return self._lines.metrics(since_s=since_s)

    def exemplars(self, name: str, *, since_s: float, until_s: float, limit: int = 100) -> list[Exemplar]:
        """See `model.History`."""
        statement = (
            select(exemplar.c.ts_ms, exemplar.c.v, exemplar.c.trace_id, exemplar.c.span_id, series.c.attrs)
            .join(series, series.c.id == exemplar.c.series_id)
            .where(
                series.c.name == name, exemplar.c.ts_ms.between(_ns(since_s) // 1_000_000, _ns(until_s) // 1_000_000)
            )
            .order_by(exemplar.c.ts_ms.desc())
            .limit(_limit(limit))
        )
        with self._reading.connect() as connection:
            rows = connection.execute(statement).all()
        return [
            Exemplar(json.loads(row.attrs), row.ts_ms / 1000, row.v, row.trace_id.hex(), row.span_id.hex())
            for row in rows
        ]

    def requests(
        self,
        *,
        since_s: float,
        until_s: float,
        limit: int = 100,
        model: str | None = None,
        failed: bool | None = None,
        request_id: str | None = None,
    ) -> list[RequestRow]:
        """See `model.History`; `request_id` may also be a span id."""
        statement = (
            select(span, resource.c.service, resource.c.attrs.label("resource"))
            .outerjoin(resource, resource.c.id == span.c.resource_id)
            .where(span.c.request == text("1"), span.c.start_ns.between(_ns(since_s), _ns(until_s)), OUTERMOST)
            .order_by(span.c.start_ns.desc())
            .limit(_limit(limit))
        )
        if model is not None:
            statement = statement.where(span.c.model == model)
        if failed is not None:
            is_failed = or_(span.c.status == 2, span.c.error_type.is_not(None))
            statement = statement.where(is_failed if failed else ~is_failed)
        if request_id is not None:
            by_span = bytes.fromhex(request_id) if re.fullmatch(r"[0-9a-fA-F]{16}", request_id) else None
            statement = statement.where(
                or_(span.c.request_id == request_id, and_(span.c.request_id.is_(None), span.c.span_id == by_span))
            )
        with self._reading.connect() as connection:
            rows = connection.execute(statement).all()
        return [spans.request_row(row) for row in rows]

    def trace(self, trace_id: str) -> list[SpanRow]:
        """See `model.History`."""
        if not TRACE_ID.match(trace_id):
            raise ValueError("a trace id has 32 hexadecimal digits")
        statement = (
            _with_origin(span)
            .where(span.c.trace_id == bytes.fromhex(trace_id))
            .order_by(span.c.start_ns, span.c.id)
            .limit(MAX_SPANS)
        )
        with self._reading.connect() as connection:
            rows = connection.execute(statement).all()
        return [spans.span_row(row) for row in rows]

    def logs(
        self,
        *,
        since_s: float,
        until_s: float,
        limit: int = 100,
        trace_id: str | None = None,
        text: str | None = None,
        min_severity: int | None = None,
    ) -> list[LogRow]:
        """See `model.History`."""
        if trace_id is not None and not TRACE_ID.match(trace_id):
            raise ValueError("a trace id has 32 hexadecimal digits")
        statement = (
            _with_origin(log)
            .where(log.c.ts_ns.between(_ns(since_s), _ns(until_s)))
            .order_by(log.c.ts_ns.desc(), log.c.id.desc())
            .limit(_limit(limit))
        )
        if trace_id is not None:
            statement = statement.where(log.c.trace_id == bytes.fromhex(trace_id))
        if text:
            statement = statement.where(log.c.body.icontains(text, autoescape=True))
        if min_severity is not None:
            statement = statement.where(log.c.severity >= min_severity)
        with self._reading.connect() as connection:
            rows = connection.execute(statement).all()
        return [spans.log_row(row) for row in rows]

    def stats(self) -> StoreStats:
        """See `model.History`."""
        with self._reading.connect() as connection:
            return stats.read(connection, self._reading.path, None if self._store is None else self._store.state())


def _with_origin(table: Table) -> Select[Any]:
    """Return the question for rows of a table with their resource and scope beside them."""
    return (
        select(table, resource.c.service, resource.c.attrs.label("resource"), scope.c.name.label("scope"))
        .outerjoin(resource, resource.c.id == table.c.resource_id)
        .outerjoin(scope, scope.c.id == table.c.scope_id)
    )


def _ns(seconds: float) -> int:
    return max(-INT64_MAX, min(INT64_MAX, int(seconds * 1e9)))


def _limit(limit: int) -> int:
    if not 0 < limit <= MAX_ROWS:
        raise ValueError(f"a limit lies between 1 and {MAX_ROWS}")
    return limit
