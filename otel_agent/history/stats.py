"""How much the store keeps, how old it is, and what was dropped."""

from pathlib import Path

from sqlalchemy import Connection, func, select, text

from otel_agent.history.model import Signal, SignalStats, StoreStats
from otel_agent.store.schema import drop_count, series, tally
from otel_agent.store.store import WriterState

# First and last time of each table. Each is asked for alone: only then does SQLite look at one end of an index and no further.
SPAN_EDGES = (
    "SELECT min(a), max(b) FROM ("
    "SELECT (SELECT min(start_ns) FROM span WHERE request IS NULL) AS a, (SELECT max(start_ns) FROM span WHERE request IS NULL) AS b"
    " UNION ALL SELECT (SELECT min(start_ns) FROM span WHERE request = 1), (SELECT max(start_ns) FROM span WHERE request = 1))"
)
LOG_EDGES = "SELECT (SELECT min(ts_ns) FROM log), (SELECT max(ts_ns) FROM log)"
POINT_EDGES = (
    "SELECT min(coalesce((SELECT min(ts_ms) FROM point WHERE series_id = s.id), (SELECT min(ts_ms) FROM hpoint WHERE series_id = s.id))),"
    " max(coalesce((SELECT max(ts_ms) FROM point WHERE series_id = s.id), (SELECT max(ts_ms) FROM hpoint WHERE series_id = s.id)))"
    " FROM series s"
)


def read(connection: Connection, path: Path, state: WriterState | None) -> StoreStats:
    """Return the statistics of a store; `state` is what the writing process adds."""
    kind = tally.c["class"]
    rows = {name: int(n) for name, n in connection.execute(select(kind, func.sum(tally.c.n)).group_by(kind))}
    drops = connection.execute(
        select(drop_count.c.signal, drop_count.c.reason, func.sum(drop_count.c.n)).group_by(
            drop_count.c.signal, drop_count.c.reason
        )
    )
    signals: dict[Signal, SignalStats] = {
        "traces": _signal(connection, SPAN_EDGES, 1e9, rows.get("traces", 0) + rows.get("requests", 0)),
        "metrics": _signal(connection, POINT_EDGES, 1e3, rows.get("metrics", 0)),
        "logs": _signal(connection, LOG_EDGES, 1e9, rows.get("logs", 0)),
    }
    return StoreStats(
        path=str(path),
        bytes=_size(path),
        wal_bytes=_size(path.with_name(path.name + "-wal")),
        max_bytes=None if state is None else state.max_bytes,
        series=int(connection.scalar(select(func.count()).select_from(series)) or 0),
        requests=rows.get("requests", 0),
        signals=signals,
        dropped={(signal, reason): int(n) for signal, reason, n in drops},
        ingest_lag_s=None if state is None else state.lag_s,
        queue_bytes=None if state is None else state.queue_bytes,
        queue_limit_bytes=None if state is None else state.queue_limit_bytes,
        failure=None if state is None else state.failure,
    )


def _signal(connection: Connection, edges: str, unit: float, rows: int) -> SignalStats:
    oldest, newest = connection.execute(text(edges)).one()
    return SignalStats(rows, None if oldest is None else oldest / unit, None if newest is None else newest / unit)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
