"""Streams nobody finished: those collected while open are ended by one idle thread, those still open at exit by a hook.

The thread starts with the first stream of a process (of a forked child, with the child's first) and sleeps until one is
left behind. It exists because a finalizer may run inside any lock of any library and therefore must record nothing.
"""

import atexit
import os
import threading
import weakref
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from . import fault
from .semconv import StreamEnd

_EXIT_DEADLINE_S: Final = 2.0


class Open(Protocol):
    """What is watched: something open that can be told how it ended, and ignores being told twice."""

    def end(self, how: StreamEnd) -> None: ...


class _Watch:
    def __init__(self) -> None:
        self._exit_registered = False
        self._forget_all()

    def _forget_all(self) -> None:
        # Also in a forked child: the parent ends its own streams, and locks and threads do not survive a fork.
        self._open: dict[int, weakref.ref[Open]] = {}  # by id; each is removed at its end
        self._left: SimpleQueue[Open | None] = SimpleQueue()  # may be put to from a finalizer; bounded by _open
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, recorder: Open) -> None:
        """Keep an eye on an open stream, without holding it."""
        if self._thread is None:
            self._start()
        self._open[id(recorder)] = weakref.ref(recorder)

    def drop(self, recorder: Open) -> bool:
        """Stop watching; false if it was not watched, or not in this process."""
        return self._open.pop(id(recorder), None) is not None

    def hand_over(self, recorder: Open) -> None:
        """Take a recorder that is being collected; called from its finalizer, hence no lock and no telemetry here."""
        if self.drop(recorder):
            self._left.put(recorder)

    @fault.guarded("end of open streams")
    def end_all(self, how: StreamEnd, kind: type = object) -> None:
        """End everything of this kind that is still open, now."""
        while True:
            try:
                recorder = self._left.get_nowait()
            except Empty:
                break
            _end(recorder, StreamEnd.ABANDONED)
        for reference in list(self._open.values()):
            if isinstance(recorder := reference(), kind):
                _end(recorder, how)

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is not None:
                return
            if not self._exit_registered:
                # With the first stream, hence after the application set up its SDK: exit handlers run last in, first
                # out, so that open streams end before the SDK's own handler exports for the last time.
                atexit.register(self._at_exit)
                os.register_at_fork(after_in_child=self._forget_all)
                self._exit_registered = True
            thread = threading.Thread(target=self._work, name="otel-llm-leftovers", daemon=True)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        while (recorder := self._left.get()) is not None:
            _end(recorder, StreamEnd.ABANDONED)
            del recorder  # or it would be held until the next one

    def _at_exit(self) -> None:
        if self._thread is not None:
            self._left.put(None)
            self._thread.join(_EXIT_DEADLINE_S)
        self.end_all(StreamEnd.EXIT)


@fault.guarded("a stream left open")
def _end(recorder: Open | None, how: StreamEnd) -> None:
    if recorder is not None:
        try:
            recorder.end(how)
        except Exception as own:
            fault.report("a stream left open", own)


_watch = _Watch()
watch = _watch.add
forget = _watch.drop
hand_over = _watch.hand_over
end_all = _watch.end_all
