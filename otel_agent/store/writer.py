"""The one thread that writes: it groups what waits, commits it, and only then lets the senders know.

Spans and log records are committed in groups of 512 or of 50 ms, whichever comes first; points are kept back up to 10 s and written sorted.
Between groups it makes one small step of the clean-up at a time.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agent.store import decode, decode_metrics, file, tallies
from otel_agent.store.identities import Identities
from otel_agent.store.points import PointBuffer
from otel_agent.store.retention import DAY_S, Limits, Retention
from otel_agent.store.sink import NotStored, Signal
from otel_agent.store.waiting import ByteQueue, Item

GROUP_ROWS = 512
GROUP_S = 0.05
POINTS_S = 10.0  # how long points wait for their batch
POINTS_MAX = 200_000  # how many points wait at most before the batch is written early
POINTS_LOST = 2 * POINTS_MAX  # how many may wait while writing fails, before they are given up
SWEEP_S = 60.0
SIZE_CHECK_S = 5.0
FAULT_PAUSE_S = 1.0  # between a fault of ours and the next attempt, so that a lasting one fills no log
LOST = "could not be written"

logger = logging.getLogger(__name__)


@dataclass
class _Group:
    """What one transaction will hold."""

    spans: list[tuple[Any, ...]] = field(default_factory=list)
    logs: list[tuple[Any, ...]] = field(default_factory=list)
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: list[tuple[Item, int]] = field(default_factory=list)  # with the number of rows left out
    signals: set[Signal] = field(default_factory=set)

    @property
    def rows(self) -> int:
        return len(self.spans) + len(self.logs)


class Writer:
    """Runs from `start` until the queue is closed and empty; `failure` and `lag_s` may be read from any thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        queue: ByteQueue,
        points: PointBuffer,
        limits: Limits,
        *,
        news: Callable[[frozenset[Signal]], None],
        on_damage: Callable[[], None],
        clock: Callable[[], float],
        points_s: float = POINTS_S,
    ) -> None:
        self._connection, self._queue, self._points, self._limits = connection, queue, points, limits
        self._news, self._on_damage, self._clock, self._points_s = news, on_damage, clock, points_s
        self._identities = Identities(connection, clock)
        self._retention = Retention(connection, self._identities, limits, clock)
        self._drops: Counter[tuple[str, str]] = Counter()
        self._sweep: Iterator[None] | None = None
        now = time.monotonic()
        self._points_due, self._sweep_due, self._size_due = now + points_s, now + SIZE_CHECK_S, now + SIZE_CHECK_S
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self.failure: str | None = None
        self.lag_s: float | None = None

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait until everything is written, after the queue was closed; tells whether that came in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._queue.ended:
            try:
                self._round()
            except Exception:  # a fault of ours must not end the thread, and with it all writing, in silence
                logger.exception("the store's writer met a fault of its own, and goes on")
                time.sleep(FAULT_PAUSE_S)
        self._commit(_Group(), flush=True)
        with contextlib.suppress(sqlite3.Error):  # the log is as safe as the file
            file.truncate_log(self._connection)
        self._connection.close()

    def _round(self) -> None:
        group = self._gather()
        now = time.monotonic()
        flush = bool(len(self._points)) and (now >= self._points_due or len(self._points) >= POINTS_MAX)
        if group.answers or flush or self._drops or self._identities.pending().total():
            self._commit(group, flush=flush)
        if now >= self._points_due:
            self._points_due = time.monotonic() + self._points_s
        if group.signals:
            self._news(frozenset(group.signals))
        self._clean(time.monotonic())

    def _gather(self) -> _Group:
        """Wait for the next request, or for something else to do, and take what comes with it."""
        group = _Group()
        item = self._queue.get(self._pause_s())
        until = time.monotonic() + GROUP_S
        while item is not None:
            self._take(item, group)
            if group.rows >= GROUP_ROWS or time.monotonic() >= until:
                break
            item = self._queue.get(max(0.0, until - time.monotonic()))
        return group

    def _pause_s(self) -> float:
        if self._sweep is not None:
            return 0.0
        return max(0.0, min(self._points_due, self._sweep_due, self._size_due) - time.monotonic())

    def _take(self, item: Item, group: _Group) -> None:
        try:
            refused = self._decode(item, group)
        except Exception as error:  # one request that we cannot read must not take the others with it
            logger.exception("a request with %s could not be read, and is refused", item.signal)
            _fail(item, f"it could not be read: {error!r}")
            return
        group.signals.add(item.signal)
        for reason, n in refused.items():
            self._drops[item.signal, reason] += n
        if item.signal != "metrics":
            group.answers.append((item, refused.total()))

    def _decode(self, item: Item, group: _Group) -> Counter[str]:
        now_ns = int(self._clock() * 1e9)
        if item.signal == "metrics":
            oldest_ns = max(1, now_ns - int(self._limits.retention_days * DAY_S * 1e9))
            found = decode_metrics.metrics(
                cast(ExportMetricsServiceRequest, item.message), self._identities, now_ns, oldest_ns
            )
            self._points.add(found.numbers, found.distributions, found.exemplars, found.owners)
            return found.refused
        if item.signal == "traces":
            rows, kept = (
                decode.spans(cast(ExportTraceServiceRequest, item.message), self._identities, now_ns),
                group.spans,
            )
        else:
            rows, kept = decode.logs(cast(ExportLogsServiceRequest, item.message), self._identities, now_ns), group.logs
        for (kind, service), found_rows in rows.kept.items():
            kept.extend(found_rows)
            group.kept[kind, service] += len(found_rows)
        return rows.refused

    def _commit(self, group: _Group, *, flush: bool) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._identities.write()
                kept = self._write_rows(group)
                if flush:
                    kept.update(self._write_points())
                tallies.add_rows(self._connection, kept)
                tallies.add_drops(self._connection, self._drops, self._clock())
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except Exception as error:
            self._failed(group, error)
            return
        self._identities.written()
        self._drops.clear()
        if flush:
            self._points.clear()
        if self.failure is not None:
            logger.info("the store writes again")
            self.failure = None
        if group.answers:
            self.lag_s = time.monotonic() - group.answers[0][0].at_s
        for item, refused in group.answers:
            item.done.set_result(refused)

    def _write_rows(self, group: _Group) -> Counter[tuple[str, str]]:
        """Write spans and log records; returns how many are new, by class and service."""
        self._connection.executemany(decode.INSERT_LOG, group.logs)
        written = self._connection.executemany(decode.INSERT_SPAN, group.spans).rowcount if group.spans else 0
        if written == len(group.spans):
            return group.kept.copy()
        # Some came a second time; SQLite does not tell which, so the largest share of the group is taken to be theirs.
        kept, repeated = group.kept.copy(), len(group.spans) - written
        for key, n in group.kept.most_common():
            if key[0] != "logs":
                kept[key] -= min(n, repeated)
                repeated -= min(n, repeated)
        return kept

    def _write_points(self) -> Counter[tuple[str, str]]:
        """Write the points that wait; returns how many are new, by class and service."""
        numbers, distributions, exemplars = self._points.sorted()
        kept: Counter[tuple[str, str]] = Counter()
        last_ms: dict[int, int] = {}
        for insert, batches in (
            ("INSERT OR IGNORE INTO point VALUES (?,?,?)", numbers),
            ("INSERT OR IGNORE INTO hpoint VALUES (?,?,?,?,?,?,?)", distributions),
        ):
            for service, rows in batches:
                kept["metrics", service] += self._connection.executemany(insert, rows).rowcount
                last_ms[rows[-1][0]] = rows[-1][1]
        self._connection.executemany(
            "INSERT OR IGNORE INTO exemplar (series_id, ts_ms, trace_id, span_id, v) VALUES (?,?,?,?,?)", exemplars
        )
        self._identities.write_last(last_ms)
        return kept

    def _failed(self, group: _Group, error: Exception) -> None:
        reason = str(error) or repr(error)
        if self.failure != reason:
            logger.error("the store cannot write: %s; senders are asked to try again", reason)
        self.failure = reason
        if file.is_damage(error):
            self._on_damage()
        if len(self._points) >= POINTS_LOST or not isinstance(error, sqlite3.OperationalError):
            self._drops["metrics", LOST] += self._points.clear()
        for item, _ in group.answers:
            _fail(item, reason)

    def _clean(self, now: float) -> None:
        """Make one step of the clean-up, or begin one when it is time or the file has grown too large."""
        try:
            if self._sweep is None and now >= self._size_due:
                self._size_due = now + SIZE_CHECK_S
                if self._retention.used_bytes() > self._limits.max_bytes:
                    self._sweep_due = now
            if self._sweep is None and now >= self._sweep_due:
                self._sweep = self._retention.sweep()
            if self._sweep is not None and next(self._sweep, self) is self:
                self._sweep, self._sweep_due = None, now + SWEEP_S
        except Exception as error:  # whatever stops the clean-up must not stop the writing
            logger.warning("the clean-up of the store stopped: %s; it is tried again in %.0f s", error, SWEEP_S)
            self._sweep, self._sweep_due = None, now + SWEEP_S


def _fail(item: Item, reason: str) -> None:
    if not item.done.done():
        item.done.set_exception(NotStored(reason))
