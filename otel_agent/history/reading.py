"""Connections that only read the store's file, each answer bounded in time.

Another process may hold the file open for writing; these never write to it.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from otel_agent.history.model import HistoryError

POOL = 4
BUSY_S = 5.0
LIMIT_S = 10.0
STEPS = 20_000  # instructions of SQLite's machine between two looks at the clock, about a millisecond


class Reading:
    """A small pool of read-only connections to one file; `connect` lends one for one question."""

    def __init__(self, path: Path, *, limit_s: float = LIMIT_S) -> None:
        self.path, self._limit_s = path, limit_s
        self._engine = create_engine(
            "sqlite://", creator=self._open, poolclass=QueuePool, pool_size=POOL, max_overflow=0, pool_timeout=BUSY_S
        )

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Lend a connection; raises HistoryError where none is free, the file cannot be read or the time limit runs out."""
        try:
            with self._engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert isinstance(raw, sqlite3.Connection)
                deadline = time.monotonic() + self._limit_s
                raw.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
                try:
                    yield connection
                finally:
                    raw.set_progress_handler(None, 0)
        except PoolTimeout as error:
            raise HistoryError(f"{POOL} questions are being answered already; ask again") from error
        except (DBAPIError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise HistoryError(
                    f"the answer would take longer than {self._limit_s:g} s; ask for less time"
                ) from error
            raise HistoryError(f"the store {self.path} cannot be read: {cause}") from error

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=ro", uri=True, timeout=BUSY_S, check_same_thread=False
        )
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -8192")
        return connection
