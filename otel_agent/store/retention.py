"""Clean-up by age and by size, in steps so small that the writing thread never stands still for long.

Rows go by age first: requests after their own time, everything else after the common one. While the file is still too large, the class and
service that take the most room lose their oldest rows, so that one noisy service cannot push out the others.
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from otel_agent.store import file, tallies
from otel_agent.store.identities import HOUR_MS, Identities

CHUNK_ROWS = 2_000
CHUNK_SERIES = 200
VACUUM_PAGES = 500  # given back to the file system in one step
FREE_PAGES = 16  # kept for the rows to come
DAY_S = 86_400
SPARE = 0.95  # a file at its limit shrinks to this share of it, so that not every sweep finds it full
# Bytes that one row takes, measured with indexes; only their proportion matters.
ROW_BYTES = {"requests": 1100, "traces": 600, "logs": 400, "metrics": 35}
POINT_TABLES = ("point", "hpoint", "exemplar")
SIGNAL_OF = {"requests": "traces", "traces": "traces", "metrics": "metrics", "logs": "logs"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How long and how much is kept: days of requests, days of everything else, bytes of the file."""

    retention_days: float
    request_days: float
    max_bytes: int


class Retention:
    """Belongs to the writing thread; `sweep` makes one round, one short transaction a step."""

    def __init__(
        self, connection: sqlite3.Connection, identities: Identities, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self._connection, self._identities, self._limits, self._clock = connection, identities, limits, clock

    def sweep(self) -> Iterator[None]:
        """Yield after each step; the caller may do other work, or stop, in between."""
        yield from self._by_age()
        yield from self._by_size()
        yield from self._unused()
        yield from self._shrink()

    def used_bytes(self) -> int:
        """Return the bytes of the file that hold data."""
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _by_age(self) -> Iterator[None]:
        now_s = self._clock()
        common_ns = int((now_s - self._limits.retention_days * DAY_S) * 1e9)
        request_ns = int((now_s - self._limits.request_days * DAY_S) * 1e9)
        for kind, where, horizon in (
            ("requests", "span WHERE request = 1 AND start_ns", request_ns),
            ("traces", "span WHERE request IS NULL AND start_ns", common_ns),
            ("logs", "log WHERE ts_ns", common_ns),
        ):
            while self._delete_oldest(kind, f"{where} < ?", (horizon,), tallies.AGE):
                yield
        yield from self._delete_points("", (), common_ns // 1_000_000, tallies.AGE)

    def _by_size(self) -> Iterator[None]:
        if self.used_bytes() <= self._limits.max_bytes:
            return
        while self.used_bytes() > SPARE * self._limits.max_bytes:
            largest = self._largest()
            if largest is None:
                logger.warning(
                    "the store takes %d bytes and has no rows left to drop; raise OTEL_LLM_STORE_MAX_BYTES",
                    self.used_bytes(),
                )
                return
            kind, service = largest
            of_service = "resource_id IN (SELECT id FROM resource WHERE coalesce(service, '') = ?)"
            if kind == "metrics":
                horizon_ms = self._tenth_ms(of_service, service)
                if horizon_ms is None:
                    self._correct(kind, service)
                else:
                    yield from self._delete_points(f"AND {of_service}", (service,), horizon_ms, tallies.SIZE)
            else:
                request = {"requests": "request = 1 AND ", "traces": "request IS NULL AND "}.get(kind, "")
                table = "log" if kind == "logs" else "span"
                if not self._delete_oldest(kind, f"{table} WHERE {request}{of_service}", (service,), tallies.SIZE):
                    self._correct(kind, service)
            yield

    def _largest(self) -> tuple[str, str] | None:
        rows = self._connection.execute("SELECT class, service, n FROM tally WHERE n > 0").fetchall()
        largest = max(rows, key=lambda row: row[2] * ROW_BYTES[row[0]], default=None)
        return None if largest is None else (largest[0], largest[1])

    def _tenth_ms(self, of_service: str, service: str) -> int | None:
        """Return the end of the oldest tenth of the time that a service's points cover, None where it has none."""
        oldest, newest = self._connection.execute(
            "SELECT min(coalesce((SELECT min(ts_ms) FROM point WHERE series_id = s.id), (SELECT min(ts_ms) FROM hpoint WHERE series_id = s.id))),"
            f" max(last_ms) FROM series s WHERE {of_service}",
            (service,),
        ).fetchone()
        return None if oldest is None else int(oldest + max(0, newest - oldest) / 10) + 1

    def _delete_oldest(self, kind: str, where: str, parameters: tuple[object, ...], reason: str) -> int:
        table = where.split(" ", 1)[0]
        time = "ts_ns" if table == "log" else "start_ns"
        with self._transaction():
            rows = self._connection.execute(
                f"SELECT t.id, coalesce(r.service, '') FROM (SELECT id, resource_id FROM {where} ORDER BY {time} LIMIT {CHUNK_ROWS}) t"
                " LEFT JOIN resource r ON r.id = t.resource_id",
                parameters,
            ).fetchall()
            self._connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(number,) for number, _ in rows])
            tallies.add_rows(
                self._connection,
                Counter({(kind, service): -n for service, n in Counter(service for _, service in rows).items()}),
            )
            tallies.add_drops(self._connection, Counter({(SIGNAL_OF[kind], reason): len(rows)}), self._clock())
        return len(rows)

    def _delete_points(
        self, condition: str, parameters: tuple[object, ...], horizon_ms: int, reason: str
    ) -> Iterator[None]:
        after = 0
        while True:
            lines = self._connection.execute(
                "SELECT series.id, coalesce(resource.service, '') FROM series JOIN resource ON resource.id = series.resource_id"
                f" WHERE series.id > ? {condition} ORDER BY series.id LIMIT {CHUNK_SERIES}",
                (after, *parameters),
            ).fetchall()
            if not lines:
                return
            after = lines[-1][0]
            with self._transaction():
                gone: Counter[str] = Counter()
                for number, service in lines:
                    for table in POINT_TABLES:
                        deleted = self._connection.execute(
                            f"DELETE FROM {table} WHERE series_id = ? AND ts_ms < ?", (number, horizon_ms)
                        ).rowcount
                        gone[service] += 0 if table == "exemplar" else deleted
                tallies.add_rows(self._connection, Counter({("metrics", service): -n for service, n in gone.items()}))
                tallies.add_drops(self._connection, Counter({("metrics", reason): gone.total()}), self._clock())
            yield

    def _correct(self, kind: str, service: str) -> None:
        """Set right a count that speaks of rows that are not there."""
        with self._transaction():
            self._connection.execute("DELETE FROM tally WHERE class = ? AND service = ?", (kind, service))

    def _unused(self) -> Iterator[None]:
        """Delete series that have no points left, and resources that nothing can refer to any more."""
        now_ms = int(self._clock() * 1000)
        line_ms = now_ms - int(self._limits.retention_days * DAY_S * 1000)
        with self._transaction():
            series = self._connection.execute("DELETE FROM series WHERE last_ms < ?", (line_ms - HOUR_MS,)).rowcount
            days = max(self._limits.retention_days, self._limits.request_days)
            resources = self._connection.execute(
                "DELETE FROM resource WHERE last_ms < ? AND id NOT IN (SELECT resource_id FROM series)",
                (now_ms - int(days * DAY_S * 1000) - 2 * HOUR_MS,),
            ).rowcount
            self._connection.execute("DELETE FROM tally WHERE n <= 0")
        if series or resources:
            self._identities.forget(series=series)
        yield

    def _shrink(self) -> Iterator[None]:
        free, before = self._free_pages(), -1
        while free > FREE_PAGES and free != before:  # a file without incremental vacuum gives nothing back
            self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            yield
            free, before = self._free_pages(), free
        file.truncate_log(self._connection)

    def _free_pages(self) -> int:
        return int(self._connection.execute("PRAGMA freelist_count").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
