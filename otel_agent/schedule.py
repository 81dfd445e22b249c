"""One worker per source: reads at an interval, turns the snapshot into points once, and knows how it fares.

A reading that hangs holds up its own thread and nothing else; while it hangs, no second one is started. What happens with the
points is decided elsewhere (telemetry), and so is what is read (sources).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from otel_agent.catalogue import NOTHING, Columns, Metric, values
from otel_agent.errors import Follows, ReadError, Unavailable

State = Literal["starting", "ok", "failing", "stuck", "unavailable"]
STATES: tuple[State, ...] = ("starting", "ok", "failing", "stuck", "unavailable")
REOPEN_S = (5.0, 60.0)  # first and longest pause before a source that is unavailable is tried again
SECOND_S = 1.0  # from the first reading to the second
STALE_INTERVALS = 2  # a snapshot older than this many intervals plus the deadline is no longer published

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """One reading and the points made of it, immutable; `at_s` is the monotonic time of the reading, `time_s` its wall clock.

    `start_s` is when the counters began, in seconds since the epoch, where the source knows.
    """

    snapshot: Any
    points: Mapping[str, Columns[float]]
    at_s: float
    time_s: float
    duration_s: float
    start_s: float | None


@dataclass(frozen=True)
class SourceHealth:
    """How one source fares: `reason` and `remedy` in words where it is not ok, ages and durations in seconds."""

    name: str
    state: State
    reason: str
    remedy: str
    age_s: float | None
    duration_s: float | None
    points: int | None
    failures: int


class Worker:
    """Reads one source in a thread of its own from `start()` to `stop()`; `latest` and `health` may be asked from any thread."""

    def __init__(
        self,
        name: str,
        open_source: Callable[[], Callable[[], Any]],
        metrics: Sequence[Metric[Any]],
        *,
        interval_s: float,
        deadline_s: float,
        start_of: Callable[[Any], float | None] = lambda _: None,
        on_publish: Callable[[Published], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.metrics = tuple(metrics)
        self._open, self._start_of, self._on_publish, self._clock = open_source, start_of, on_publish, clock
        self._interval_s, self._deadline_s = interval_s, deadline_s
        self._stopping = threading.Event()
        self._published: Published | None = None
        self._reading_since: float | None = None
        self._trouble: tuple[State, str, str] = ("starting", "", "")
        self._failures = 0
        self._level = logging.WARNING  # at which the trouble is told
        self._said: str | None = None
        self._saying = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"source-{name}", daemon=True)

    def start(self) -> None:
        """Begin to read; the first reading is made at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; returns at once, since a reading that hangs cannot be interrupted."""
        self._stopping.set()

    def latest(self) -> Published | None:
        """Return the last reading, or None before the first and once it is too old to be called current."""
        published = self._published
        if published is None or self._clock() - published.at_s > STALE_INTERVALS * self._interval_s + self._deadline_s:
            return None
        return published

    @property
    def begun(self) -> bool:
        """Whether it has read, or failed to, at least once."""
        return self._trouble[0] != "starting"

    def health(self) -> SourceHealth:
        """Return how the source fares now; also notices a reading that hangs, and logs the change."""
        published, since, now = self._published, self._reading_since, self._clock()
        state, reason, remedy = self._trouble
        if since is not None and now - since > self._deadline_s:
            state, reason = "stuck", f"a reading has not come back for {now - since:.0f} s"
            remedy = "look for a dead mount, a hung driver or daemon; the source goes on by itself once it answers"
        self._say(state, reason, remedy)
        return SourceHealth(
            name=self.name,
            state=state,
            reason=reason,
            remedy=remedy,
            age_s=None if published is None else max(0.0, now - published.at_s),
            duration_s=None if published is None else published.duration_s,
            points=None if published is None else sum(map(len, published.points.values())),
            failures=self._failures,
        )

    def _run(self) -> None:
        pause_s = REOPEN_S[0]
        while not self._stopping.is_set():
            self._reading_since = self._clock()
            try:
                read = self._open()
            except Unavailable as error:
                self._lack(error)
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, REOPEN_S[1])
                continue
            except Exception as error:  # a fault of ours in opening must not end the thread in silence
                self._fail("failing", f"cannot be opened: {error!r}", "please report this")
                self._stopping.wait(pause_s)
                continue
            pause_s = REOPEN_S[0]
            self._read_until_unavailable(read)

    def _read_until_unavailable(self, read: Callable[[], Any]) -> None:
        due = self._clock() - max(0.0, self._interval_s - SECOND_S)  # rates need two readings: the second comes soon
        while not self._stopping.is_set():
            try:
                self._read_once(read)
            except Unavailable as error:
                self._lack(error)
                return
            except ReadError as error:
                self._fail("failing", str(error), "")
            except Exception as error:  # foreign errors that nobody translated
                self._fail("failing", f"unexpected {error!r}", "please report this")
            due += self._interval_s
            if due <= self._clock():  # a slow reading skips beats, it does not catch up in a burst
                due = self._clock() + self._interval_s
            self._stopping.wait(max(0.0, due - self._clock()))

    def _read_once(self, read: Callable[[], Any]) -> None:
        began = self._reading_since = self._clock()
        time_s = time.time()
        snapshot = read()
        before = self._published.points if self._published else {}
        points = {row.name: values(row, snapshot, before.get(row.name, NOTHING)) for row in self.metrics}
        published = Published(snapshot, points, began, time_s, self._clock() - began, self._start_of(snapshot))
        self._published, self._reading_since, self._trouble = published, None, ("ok", "", "")
        self._say("ok", "", "")
        self._on_publish(published)

    def _lack(self, error: Unavailable) -> None:
        self._fail(
            "unavailable", error.reason, error.remedy, logging.INFO if isinstance(error, Follows) else logging.WARNING
        )

    def _fail(self, state: State, reason: str, remedy: str, level: int = logging.WARNING) -> None:
        self._failures += 1
        self._level = level
        self._reading_since, self._trouble = None, (state, reason, remedy)
        self._say(state, reason, remedy)

    def _say(self, state: State, reason: str, remedy: str) -> None:
        """Log a change of state, never its repetition; how long something hangs is no change."""
        if state == "starting":
            return
        said = state if state in ("ok", "stuck") else f"{state}: {reason}"
        with self._saying:
            before, self._said = self._said, said
        if said == before:
            return
        if state == "ok":
            logger.info("%s: ok%s", self.name, " again" if before else "")
        else:
            level = logging.WARNING if state == "stuck" else self._level
            logger.log(level, "%s: %s: %s%s", self.name, state, reason, f" ({remedy})" if remedy else "")
