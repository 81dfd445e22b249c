"""What goes, when, in which order, and that it is counted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.store import otlp
from agent.store.opened import Opened, opened
from waiting import until

from otel_agent.store import writer

NOW = 1_800_000_000.0
DAY_S = 86_400.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = NOW

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sweeps follow each other at once; what they do is the same."""
    monkeypatch.setattr(writer, "SWEEP_S", 0.05)
    monkeypatch.setattr(writer, "SIZE_CHECK_S", 0.05)
    return None


def _kept(it: Opened) -> dict[str, int]:
    stats = it.history.stats()
    return {"requests": stats.requests} | {signal: found.rows for signal, found in stats.signals.items()}


def test_age_takes_everything_after_its_days_and_requests_after_theirs(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock=clock, points_s=0.05) as it:
        for number, age_s in enumerate((4 * DAY_S, 0.0), start=1):
            clock.now_s = NOW - age_s  # as if each had come in its time
            it.keep("traces", otlp.joined([otlp.one_span(NOW - age_s), otlp.chat(NOW - age_s)]))
            it.keep("logs", otlp.one_log(NOW - age_s))
            it.keep("metrics", otlp.gauge("g", [(NOW - age_s, 1.0)]))
            it.keep("metrics", otlp.histogram("h", [(NOW - age_s, [1, 0, 0, 0])]))
            until(lambda: _kept(it)["metrics"] == 2 * number)  # noqa: B023 - asked before the next turn

        clock.now_s = NOW + 5 * DAY_S
        until(lambda: _kept(it) == {"requests": 2, "traces": 3, "metrics": 2, "logs": 1})
        assert it.history.stats().dropped == {
            ("traces", "older than the retention"): 1,
            ("metrics", "older than the retention"): 2,
            ("logs", "older than the retention"): 1,
        }

        clock.now_s = NOW + 8 * DAY_S
        until(lambda: _kept(it) == {"requests": 2, "traces": 2, "metrics": 0, "logs": 0})
        until(lambda: it.history.stats().series == 0)

        clock.now_s = NOW + 27 * DAY_S
        until(lambda: _kept(it) == {"requests": 1, "traces": 1, "metrics": 0, "logs": 0})

        clock.now_s = NOW + 31 * DAY_S
        until(lambda: _kept(it) == {"requests": 0, "traces": 0, "metrics": 0, "logs": 0})
        it.keep("metrics", otlp.gauge("g", [(clock.now_s, 5.0)]))
        until(lambda: [sample.value for sample in it.history.latest(["g"])] == [5.0])  # a series may come back
        until(lambda: _kept(it)["metrics"] == 1)


def test_a_file_that_grows_too_large_loses_the_oldest_of_the_loudest_and_becomes_smaller(tmp_path: Path) -> None:
    """The quiet service came first, and stays."""
    limit = 10_000_000
    with opened(tmp_path, clock=Clock(), max_bytes=limit) as it:
        it.keep("logs", otlp.one_log(NOW - 1000, "quiet", service="quiet"))
        it.keep("traces", otlp.one_span(NOW - 1000, service="quiet"))
        for second in range(30):
            noise = [otlp.one_log(NOW + second, "noise " * 600, service="noisy") for _ in range(200)]
            whole = noise[0]
            for other in noise[1:]:
                whole.MergeFrom(other)
            it.keep("logs", whole)
        until(lambda: it.history.stats().dropped.get(("logs", "oldest at the size limit"), 0) > 0)
        until(lambda: it.history.stats().bytes < limit)
        rows = it.history.logs(since_s=NOW - 2000, until_s=NOW + 100, limit=10_000)
        stats = it.history.stats()

    dropped = stats.dropped["logs", "oldest at the size limit"]
    noisy = [row for row in rows if row.service == "noisy"]
    assert [row.body for row in rows if row.service == "quiet"] == ["quiet"]
    assert stats.signals["traces"].rows == 1
    assert (len(noisy) + dropped, len(rows)) == (6000, stats.signals["logs"].rows)
    assert noisy[0].time_ns == (NOW + 29) * 1e9  # the newest are there
    assert noisy[-1].time_ns > NOW * 1e9  # the oldest are not


def test_points_too_give_way_to_the_size_limit(tmp_path: Path) -> None:
    with opened(tmp_path, clock=Clock(), max_bytes=2_000_000, points_s=0.05) as it:
        for start in range(0, 150_000, 10_000):
            points = [(NOW - 150_000 + start + second, 1.0) for second in range(10_000)]
            it.keep("metrics", otlp.gauge("g", points, attributes={"padding": start}))
        until(lambda: it.history.stats().dropped.get(("metrics", "oldest at the size limit"), 0) > 0)
        until(lambda: it.history.stats().bytes < 2_000_000)
        stats = it.history.stats()
    assert stats.signals["metrics"].newest_s == NOW - 1
