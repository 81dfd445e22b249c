"""Asking GPUs one after the other, without one that does not answer holding up the rest.

One thread asks them all, since threads that ask at once would only fight for the interpreter. Where a call keeps it for long, another one
takes over what is left. A thread stuck in the driver cannot be ended, only left to itself; until it comes back, nothing more is asked about
its GPU.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE_S = 0.05  # with one call, before another thread goes on with the rest


class Lanes(Generic[T]):
    """Does pieces of work, each known by a number of which one is under way at a time, in as few threads as come through."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._work, self._done = threading.Condition(self._lock), threading.Condition(self._lock)
        self._todo: deque[tuple[int, Callable[[], T]]] = deque()
        self._since: dict[int, float] = {}  # monotonic: when what is under way began
        self._results: dict[int, T | BaseException] = {}
        self._waited_for: set[int] = set()
        self._idle = 0
        self._ending = False

    def together(self, works: Mapping[int, Callable[[], T]], deadline_s: float) -> Mapping[int, T | BaseException]:
        """Do all that is not under way already; return what each came to, or the error it raised, of those that came back in time."""
        give_up = time.monotonic() + deadline_s
        with self._lock:
            fresh = {number: work for number, work in works.items() if number not in self._since}
            self._results, self._waited_for = {}, set(fresh)
            self._todo.extend(fresh.items())
            while self._waited_for and (left := give_up - time.monotonic()) > 0:
                if self._todo and self._all_slow():
                    self._hire()
                self._done.wait(min(PATIENCE_S, left))
            self._todo.clear()
            self._waited_for = set()
            return self._results

    def since(self, number: int) -> float | None:
        """Return the monotonic time at which work that has not come back began."""
        with self._lock:
            return self._since.get(number)

    def end(self) -> bool:
        """End the threads that are free; tells whether all are."""
        with self._lock:
            self._ending = True
            self._work.notify_all()
            return not self._since

    def _all_slow(self) -> bool:
        now = time.monotonic()
        return all(now - began >= PATIENCE_S for began in self._since.values())

    def _hire(self) -> None:
        if self._idle:
            self._work.notify()
        else:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        with self._lock:
            while not self._ending:
                if not self._todo:
                    self._idle += 1
                    self._work.wait()
                    self._idle -= 1
                    continue
                number, work = self._todo.popleft()
                self._since[number] = time.monotonic()
                self._lock.release()
                try:
                    result: T | BaseException = work()
                except BaseException as error:
                    result = error
                self._lock.acquire()
                del self._since[number]
                if number in self._waited_for:  # what comes back later is of a moment that is over
                    self._results[number] = result
                    self._waited_for.discard(number)
                    if not self._waited_for:
                        self._done.notify()
                del work, result
