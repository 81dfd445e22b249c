"""Counts that are written in the transaction of the rows they count: rows kept by class and service, rows dropped by signal and reason."""

import sqlite3
from collections import Counter

ADD_ROWS = "INSERT INTO tally VALUES (?,?,?) ON CONFLICT DO UPDATE SET n = max(0, n + excluded.n)"
ADD_DROPS = "INSERT INTO drop_count VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
AGE = "older than the retention"
SIZE = "oldest at the size limit"


def add_rows(connection: sqlite3.Connection, rows: Counter[tuple[str, str]]) -> None:
    """Add to the rows kept, by (class, service); a negative number takes away."""
    connection.executemany(ADD_ROWS, [(kind, service, n) for (kind, service), n in rows.items() if n])


def add_drops(connection: sqlite3.Connection, drops: Counter[tuple[str, str]], now_s: float) -> None:
    """Add to the rows dropped, by (signal, reason), under the present hour."""
    hour_s = int(now_s) // 3600 * 3600
    connection.executemany(ADD_DROPS, [(hour_s, signal, reason, n) for (signal, reason), n in drops.items() if n])
