"""The door of the embedded store: takes parsed OTLP, tells listeners what came, and lets readers see what waits to be written.

Questions are answered by `history`, from the same file.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from otel_agent.store import file
from otel_agent.store.points import Distribution, Number, PointBuffer
from otel_agent.store.retention import Limits
from otel_agent.store.sink import Message, Signal, Sink
from otel_agent.store.waiting import ByteQueue, Item
from otel_agent.store.writer import POINTS_S, Writer

QUEUE_BYTES = 32 * 1024 * 1024  # as sent; parsed, it takes several times that
CLOSE_S = 4.0

News = Callable[[frozenset[Signal]], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WriterState:
    """What only the writing process knows of the store; see `history.model.StoreStats`."""

    max_bytes: int
    queue_bytes: int
    queue_limit_bytes: int
    lag_s: float | None
    failure: str | None


class Store(Sink):
    """One open store; made by `open_store`, used from any thread, ended by `close`."""

    def __init__(
        self, folder: Path, lock: int, limits: Limits, *, clock: Callable[[], float], points_s: float, queue_bytes: int
    ) -> None:
        self._path = folder / file.FILE
        self._lock = lock
        self._limits = limits
        self._listeners: tuple[News, ...] = ()
        self._listening = threading.Lock()
        self._queue = ByteQueue(queue_bytes)
        self._points = PointBuffer()
        self._writer = Writer(
            file.open_sound(folder, clock=clock),
            self._queue,
            self._points,
            limits,
            news=self._tell,
            on_damage=lambda: file.mark_damaged(folder),
            clock=clock,
            points_s=points_s,
        )
        self._writer.start()

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        return self._path

    def submit(self, signal: Signal, message: Message, size: int) -> "Future[int]":
        """Accept one request of OTLP; see `sink.Sink`. Metrics are answered before they are written: up to 10 s of them die with the process."""
        item = Item(signal, message, size)
        self._queue.put(item)
        if signal == "metrics":
            item.done.set_result(0)
        return item.done

    def subscribe(self, listener: News) -> Callable[[], None]:
        """Call `listener` with the signals that got news after each commit; returns what ends that.

        It is called in the writing thread and must return at once.
        """
        with self._listening:
            self._listeners += (listener,)

        def unsubscribe() -> None:
            with self._listening:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return unsubscribe

    def waiting_newest(self) -> Mapping[int, tuple[int, float | None]]:
        """Return, for every series with points that are not in the file yet, the newest as milliseconds and value (None: it ended)."""
        return self._points.newest()

    def waiting_numbers(self, series: int) -> Sequence[Number]:
        """Return the points of a series that are not in the file yet. Read these before the file, and no point is missed."""
        return self._points.numbers(series)

    def waiting_distributions(self, series: int) -> Sequence[Distribution]:
        """Return the same for a series of histograms or summaries."""
        return self._points.distributions(series)

    def state(self) -> WriterState:
        """Return how the writing goes."""
        return WriterState(
            self._limits.max_bytes, self._queue.bytes, self._queue.limit_bytes, self._writer.lag_s, self._writer.failure
        )

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Refuse what comes from now on, write what waits and free the file; tells whether that was done in time."""
        self._queue.close()
        done = self._writer.join(timeout_s)
        if not done:
            logger.warning("the store did not finish writing in %.0f s; what was acknowledged is safe", timeout_s)
        elif self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return done

    def _tell(self, signals: frozenset[Signal]) -> None:
        for listener in self._listeners:
            try:
                listener(signals)
            except Exception:  # a listener's fault is not the store's
                logger.exception("a listener of the store failed")


def open_store(
    folder: Path,
    *,
    retention_days: float,
    request_days: float,
    max_bytes: int,
    clock: Callable[[], float] = time.time,
    points_s: float = POINTS_S,
    queue_bytes: int = QUEUE_BYTES,
) -> Store:
    """Open the store in this folder, making what is missing, and begin to write.

    Requests are kept `request_days`, everything else `retention_days`; the file is kept under about `max_bytes`. Points wait up to `points_s`.
    A damaged file is moved aside. Raises Unavailable where the folder cannot be used or another process writes it.
    """
    lock = file.take(folder)
    try:
        return Store(
            folder,
            lock,
            Limits(retention_days, request_days, max_bytes),
            clock=clock,
            points_s=points_s,
            queue_bytes=queue_bytes,
        )
    except BaseException:
        os.close(lock)
        raise
