"""Bounding the values an attribute takes on metrics: the first ones stand for themselves, all others are `other`."""

import threading
from typing import Final

OTHER: Final = "other"


class Cap:
    """The values of one attribute; thread-safe. What was let in once stays, so that a series is never split."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def of(self, value: str) -> str:
        """Return the value, or `other` where the limit is reached and the value is new."""
        if value in self._known:
            return value
        with self._lock:
            if len(self._known) >= self._limit and value not in self._known:
                return OTHER
            self._known.add(value)
        return value
