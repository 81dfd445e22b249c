"""The queue between the receivers' threads and the writing thread, bounded in bytes."""

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from otel_agent.store.sink import Message, NotStored, QueueFull, Signal


@dataclass(frozen=True)
class Item:
    """One accepted request; `done` is its answer, `at_s` the monotonic time of its acceptance."""

    signal: Signal
    message: Message
    size: int
    done: "Future[int]" = field(default_factory=Future)
    at_s: float = field(default_factory=time.monotonic)


class ByteQueue:
    """First in, first out; `put` refuses what does not fit, `get` waits with a deadline."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def bytes(self) -> int:
        """Return the bytes that wait."""
        return self._bytes

    @property
    def ended(self) -> bool:
        """Tell whether it is empty and nothing more will come."""
        return self._closed and not self._items

    def put(self, item: Item) -> None:
        """Add an item; raises QueueFull or, once closed, NotStored. An item larger than the queue fits into an empty one."""
        with self._changed:
            if self._closed:
                raise NotStored("the store is closing")
            if self._bytes and self._bytes + item.size > self.limit_bytes:
                raise QueueFull(f"{self._bytes} of {self.limit_bytes} bytes are waiting to be written")
            self._items.append(item)
            self._bytes += item.size
            self._changed.notify()

    def get(self, timeout_s: float) -> Item | None:
        """Return the next item, or None when none came in time or the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._bytes -= item.size
            return item

    def close(self) -> None:
        """Refuse everything from now on; what waits can still be got."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
