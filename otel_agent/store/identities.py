"""Numbers for resources, scopes and series, so that each is written once and rows refer to it.

Known ones are found in memory without building their JSON; a new one waits here until the transaction that first uses it has written it.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_agent.store.genai import text
from otel_agent.store.values import attributes_of, encode

MAX_CACHED = 100_000  # entries of one cache; a full one starts anew and is filled again from the file
MAX_SERIES = 200_000  # series kept at a time; points of more are left out and counted
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


class Origin(NamedTuple):
    """A resource as rows refer to it; `service` is its service.name, empty where it has none."""

    id: int
    service: str


class MetricId(NamedTuple):
    """What all series of one metric of one resource share; a tuple, since it is part of every key."""

    origin: Origin
    scope: int
    name: str
    kind: str
    unit: str
    temporality: int


@dataclass(frozen=True, slots=True)
class Line:
    """A series as points refer to it."""

    id: int
    service: str


class Identities:
    """Belongs to the writing thread. `write` puts what is new into the open transaction, `written` forgets it after the commit."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection, self._clock = connection, clock
        self._origins: dict[bytes, Origin] = {}
        self._scopes: dict[bytes, int] = {}
        self._lines: dict[Hashable, Line] = {}
        self._next = {table: self._top(table) + 1 for table in ("resource", "scope", "series")}
        self._series = int(connection.execute("SELECT count(*) FROM series").fetchone()[0])
        self._new: dict[str, dict[bytes, tuple[Any, ...]]] = {"resource": {}, "scope": {}, "series": {}}
        self._seen: dict[int, int] = {}  # resource id to the hour last written
        self._touched: dict[int, int] = {}
        self._line_seen: dict[int, int] = {}  # series id to the time last written

    def origin(self, message: Resource) -> Origin:
        """Return the number of a resource."""
        key = message.SerializeToString()
        known = self._origins.get(key)
        if known is None:
            known = self._origin(attributes_of(message.attributes))
            _keep(self._origins, key, known)
        now_ms = int(self._clock() * 1000)
        if now_ms - self._seen.get(known.id, 0) > HOUR_MS:
            self._touched[known.id] = now_ms
        return known

    def scope(self, message: InstrumentationScope) -> int:
        """Return the number of an instrumentation scope."""
        key = message.SerializeToString()
        known = self._scopes.get(key)
        if known is None:
            known, _ = self._number("scope", encode([message.name, message.version]), (message.name, message.version))
            _keep(self._scopes, key, known)
        return known

    def line(self, key: Hashable) -> Line | None:
        """Return the series that was kept under this key, if it is known by now."""
        return self._lines.get(key)

    def new_line(
        self, key: Hashable, metric: MetricId, attributes: dict[str, Any], bounds: str | None, ts_ms: int
    ) -> Line | None:
        """Return the number of a series that `line` does not know, or None where there are too many."""
        origin, *told = metric
        identity = encode([origin.id, *told, dict(sorted(attributes.items())), bounds])
        row = (
            metric.name,
            metric.kind,
            metric.unit,
            metric.temporality,
            origin.id,
            metric.scope,
            encode(attributes),
            bounds,
            ts_ms,
        )
        if self._series >= MAX_SERIES and not self._exists("series", _hash(identity)):
            return None
        number, fresh = self._number("series", identity, row)
        self._series += fresh
        line = Line(number, origin.service)
        _keep(self._lines, key, line)
        return line

    def write(self) -> None:
        """Write what is new inside the transaction that is open."""
        execute = self._connection.executemany
        execute(
            "INSERT OR IGNORE INTO resource VALUES (?,?,?,?,?,?,?,?)",
            [(row[0], h, *row[1:]) for h, row in self._new["resource"].items()],
        )
        execute(
            "INSERT OR IGNORE INTO scope VALUES (?,?,?,?)",
            [(row[0], h, *row[1:]) for h, row in self._new["scope"].items()],
        )
        execute(
            "INSERT OR IGNORE INTO series VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            [(row[0], h, *row[1:]) for h, row in self._new["series"].items()],
        )
        execute("UPDATE resource SET last_ms = ? WHERE id = ?", [(ms, number) for number, ms in self._touched.items()])

    def written(self) -> None:
        """Forget what was new, once the transaction is committed."""
        for rows in self._new.values():
            rows.clear()
        if len(self._seen) > MAX_CACHED:
            self._seen.clear()
        self._seen.update(self._touched)
        self._touched.clear()

    def write_last(self, last_ms: dict[int, int]) -> None:
        """Write when series had their last point, each at most once a minute, inside the transaction that is open."""
        due = [(ms, number, ms) for number, ms in last_ms.items() if ms - self._line_seen.get(number, 0) >= MINUTE_MS]
        self._connection.executemany("UPDATE series SET last_ms = ? WHERE id = ? AND last_ms < ?", due)
        if len(self._line_seen) > 2 * MAX_SERIES:
            self._line_seen.clear()
        self._line_seen.update((number, ms) for ms, number, _ in due)

    def forget(self, *, series: int = 0) -> None:
        """Empty the caches after a clean-up took rows away, `series` of them series; they fill again from the file."""
        self._series -= series
        self._origins.clear()
        self._scopes.clear()
        self._lines.clear()
        self._line_seen.clear()
        self._seen.clear()

    def pending(self) -> Counter[str]:
        """Return how much waits to be written, by table."""
        return Counter({table: len(rows) for table, rows in self._new.items()})

    def _origin(self, attributes: dict[str, Any]) -> Origin:
        service = text(attributes, ("service.name",))
        now_ms = int(self._clock() * 1000)
        row = (
            service,
            text(attributes, ("host.name",)),
            text(attributes, ("container.id",)),
            encode(attributes),
            now_ms,
            now_ms,
        )
        number, _ = self._number("resource", json.dumps(attributes, sort_keys=True), row)
        return Origin(number, service or "")

    def _number(self, table: str, identity: str, row: tuple[Any, ...]) -> tuple[int, bool]:
        """Return the number of a thing, and whether it is new."""
        digest = _hash(identity)
        waiting = self._new[table].get(digest)
        if waiting is not None:
            return int(waiting[0]), False
        found = self._connection.execute(f"SELECT id FROM {table} WHERE hash = ?", (digest,)).fetchone()
        if found is not None:
            return int(found[0]), False
        number = self._next[table]
        self._next[table] += 1
        self._new[table][digest] = (number, *row)
        return number, True

    def _exists(self, table: str, digest: bytes) -> bool:
        return (
            digest in self._new[table]
            or self._connection.execute(f"SELECT 1 FROM {table} WHERE hash = ?", (digest,)).fetchone() is not None
        )

    def _top(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])


def _hash(identity: str) -> bytes:
    return blake2b(identity.encode(), digest_size=16).digest()


def _keep(cache: dict[Any, Any], key: Hashable, value: object) -> None:
    if len(cache) >= MAX_CACHED:
        cache.clear()
    cache[key] = value
