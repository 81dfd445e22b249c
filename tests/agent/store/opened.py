"""A store in a folder of its own with its history, closed in the right order when a test ends."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_agent.history.sql import SqlHistory
from otel_agent.store.sink import Message, Signal
from otel_agent.store.store import Store, open_store

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Opened:
    store: Store
    history: SqlHistory

    def send(self, signal: Signal, message: Message) -> "Future[int]":
        return self.store.submit(signal, message, message.ByteSize())

    def keep(self, signal: Signal, message: Message) -> int:
        """Send, and wait for the answer: the number of rows left out."""
        return self.send(signal, message).result(DEADLINE_S)


@contextmanager
def opened(folder: Path, **settings: Any) -> Iterator[Opened]:
    settings = {"retention_days": 7, "request_days": 30, "max_bytes": 10**9} | settings
    store = open_store(folder, **settings)
    history = SqlHistory(store, **({"clock": settings["clock"]} if "clock" in settings else {}))
    try:
        yield Opened(store, history)
    finally:
        history.close()
        assert store.close()
