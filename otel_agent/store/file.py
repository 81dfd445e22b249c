"""The store's file: where it lies, who may read it, who may write it, and what happens to a damaged one.

Nothing is ever deleted here: a damaged file is moved aside under a name that says so.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from otel_agent.errors import Unavailable
from otel_agent.store import schema

FILE = "store.db"
LOCK = "store.lock"
DAMAGED = "store.damaged"  # left by a run that met damage; the next one moves the file aside
BUSY_S = 5
CHECK_S = 1.0  # longest check of an existing file at start; damage that lies deeper is met while writing
REMEDY = "set OTEL_LLM_DATA_DIR to a folder that you may write"

logger = logging.getLogger(__name__)


class DamagedFile(Exception):
    """The file is no sound database."""


def take(folder: Path) -> int:
    """Make the folder, private to its owner, and take its lock; returns the lock's descriptor, which ends with the process.

    Raises Unavailable where the folder cannot be written or another process writes it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"the folder of the store, {folder}, cannot be written: {error.strerror}", REMEDY) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise Unavailable(f"the store in {folder} cannot be locked: {error.strerror}", REMEDY) from error
        raise Unavailable(
            f"the store in {folder} is being written by another process" + (f" (pid {holder})" if holder else ""),
            "stop that process, or set OTEL_LLM_DATA_DIR to another folder",
        ) from None
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(lock)
        raise Unavailable(f"the folder of the store, {folder}, cannot be written: {error.strerror}", REMEDY) from error
    return lock


def open_sound(folder: Path, *, clock: Callable[[], float] = time.time) -> sqlite3.Connection:
    """Open the store's file for writing; one that is damaged is moved aside, and a fresh one begun. The lock must be held.

    Raises Unavailable where neither works.
    """
    path = folder / FILE
    try:
        if (folder / DAMAGED).exists():
            _move_aside(path, "an earlier run met damage in it", clock())
            (folder / DAMAGED).unlink()
        try:
            return _open(path)
        except DamagedFile as damage:
            _move_aside(path, str(damage), clock())
            return _open(path)
    except (OSError, DamagedFile, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Unavailable(f"the store {path} cannot be opened: {reason}", REMEDY) from error


def truncate_log(connection: sqlite3.Connection) -> None:
    """Move the write-ahead log into the file and empty it, unless readers are at work in it; then the next time does it."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")


def mark_damaged(folder: Path) -> None:
    """Remember, for the next start, that the file is damaged."""
    with contextlib.suppress(OSError):  # the disk may be the very thing that fails
        (folder / DAMAGED).touch(mode=0o600)


def is_damage(error: BaseException) -> bool:
    """Tell whether an error of SQLite means that the file itself is broken."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _open(path: Path) -> sqlite3.Connection:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # SQLite gives -wal and -shm the same mode
    os.fchmod(descriptor, 0o600)
    is_new = os.fstat(descriptor).st_size == 0
    os.close(descriptor)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if is_new:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has effect before the first table only
        else:
            _check(connection)  # before anything is changed in it
        schema.prepare(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # acknowledged means on disk
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA cache_size = -16384")
    except (sqlite3.DatabaseError, ValueError) as error:
        connection.close()
        if is_damage(error) or isinstance(error, ValueError):
            raise DamagedFile(str(error)) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        answer = ("ok",)  # sound as far as the time went
    finally:
        connection.set_progress_handler(None, 0)
    if answer != ("ok",):
        raise DamagedFile(str(answer[0]).splitlines()[-1])


def _move_aside(path: Path, reason: str, now_s: float) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    logger.error("the store %s is damaged (%s): moved to %s, and a fresh one begun", path, reason, aside.name)
