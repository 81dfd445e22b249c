"""Runs calls that may never return beside the reader, which waits for them only so long.

A call into a dead network filesystem cannot be interrupted, not even at the end of the program; so it gets a thread of its own, which
the program does not wait for, and no second call is made while the first is stuck.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """Asks many such calls at once and hands out the answers that came in time."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._running: dict[str, threading.Thread] = {}

    def ask(self, calls: Mapping[str, Callable[[], T]]) -> dict[str, T]:
        """Return the answers by name; one that is missing is stuck, now or since an earlier time. The calls themselves must not raise.

        All together take one deadline at most, and those already known to be stuck take no time at all.
        """
        answers: dict[str, T] = {}
        self._running = {name: thread for name, thread in self._running.items() if thread.is_alive()}
        started = {name: self._start(name, call, answers) for name, call in calls.items() if name not in self._running}
        self._running.update(started)
        end = time.monotonic() + self._deadline_s
        for thread in started.values():
            thread.join(max(0.0, end - time.monotonic()))
        return dict(answers)  # a copy: whoever answers late writes into the other

    def _start(self, name: str, call: Callable[[], T], answers: dict[str, T]) -> threading.Thread:
        def run() -> None:
            answers[name] = call()

        thread = threading.Thread(target=run, name=f"host {name}", daemon=True)
        thread.start()
        return thread
