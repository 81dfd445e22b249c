"""Following a stream from its first chunk to whichever end it has: exhausted, closed, failed, left behind, exit.

A library's module tells the recorder what happens to the stream object; the recorder keeps the times and ends the
invocation. It never holds the stream itself, so that a stream left behind is collected as it would be without us, and
that is noticed by the collection of the recorder.
"""

from array import array
from collections.abc import Callable
from contextvars import Token
from time import perf_counter, time_ns
from typing import Final

from opentelemetry.context import Context

from . import fault, leftovers
from .invocation import Invocation
from .records import Reply, Streamed
from .semconv import StreamEnd

_MAX_INTERVALS: Final = 4096  # held until the end of the stream; a longer one is recorded in parts of this size


class StreamRecorder:
    """The state of one open stream. Called by the one consumer a stream has at a time; ends once, from any thread."""

    __slots__ = ("__weakref__", "_ended", "_first_s", "_intervals", "_invocation", "_last", "_read_reply", "is_reading")

    def __init__(self, invocation: Invocation, read_reply: Callable[[], Reply]) -> None:
        """`read_reply` tells what has arrived so far; it must not hold the stream."""
        self._invocation = invocation
        self._read_reply = read_reply
        self._first_s: float | None = None
        self._last = invocation.started
        self._intervals = array("d")
        self._ended: tuple[float, int] | None = None
        self.is_reading = False
        leftovers.watch(self)

    def enter(self) -> Token[Context] | None:
        """Make the span current while the library fetches a chunk, for it may send the request only then."""
        self.is_reading = True
        return self._invocation.attach()

    def leave(self, token: Token[Context] | None) -> None:
        """Undo `enter`."""
        self.is_reading = False
        self._invocation.detach(token)

    def chunk(self) -> None:
        """Note that a chunk was handed to the caller."""
        now = perf_counter()
        if self._first_s is None:
            self._first_s = now - self._invocation.started
        else:
            intervals = self._intervals
            intervals.append(now - self._last)
            if len(intervals) >= _MAX_INTERVALS:
                self._flush()
        self._last = now

    def end(self, how: StreamEnd) -> None:
        """End with the stream, which came to an end that is not an error."""
        if self._invocation.is_open:
            reply = self._reply()
            self._invocation.complete(reply, self._streamed(how))
            leftovers.forget(self)

    def fail(self, error: BaseException) -> None:
        """End with the stream, which raised into its consumer."""
        if self._invocation.is_open:
            reply = self._reply()
            self._invocation.fail(error, reply, self._streamed(StreamEnd.FAILED))
            leftovers.forget(self)

    def __del__(self) -> None:
        # The collector may run inside any lock, the SDK's own included: nothing may be recorded from here.
        try:
            if self._invocation.is_open:
                self._ended = (perf_counter(), time_ns())
                leftovers.hand_over(self)
        except Exception as own:
            fault.report("a stream left behind", own)

    def _streamed(self, how: StreamEnd) -> Streamed:
        return Streamed(how.value, self._first_s, self._intervals, self._ended)

    def _flush(self) -> None:
        intervals, self._intervals = self._intervals, array("d")
        try:
            self._invocation.record_chunk_intervals(intervals)
        except Exception as own:
            fault.report("time per output chunk", own)

    def _reply(self) -> Reply:
        try:
            return self._read_reply()
        except Exception as own:
            fault.report("reply of a stream", own)
            return Reply()
