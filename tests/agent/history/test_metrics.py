"""Metric questions over the real store: what waits in memory and what is in the file answer as one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from agent.store import otlp
from agent.store.opened import Opened, opened
from waiting import until

from otel_agent.history.model import MetricName, Sample, Series
from otel_agent.history.sql import SqlHistory

NOW = 1_800_000_000.0
RESOURCE = {"service.name": "app"}


def clock() -> float:
    return NOW


def _rows(it: Opened, count: int) -> Callable[[], bool]:
    return lambda: it.history.stats().signals["metrics"].rows == count


@pytest.mark.parametrize("written", [False, True], ids=["waiting", "written"])
def test_the_last_sample_of_each_series_that_is_young_enough_and_has_not_ended(tmp_path: Path, written: bool) -> None:
    with opened(tmp_path, clock=clock, points_s=0.05 if written else 60) as it:
        it.keep("metrics", otlp.gauge("g", [(NOW - 5, 2.0), (NOW - 10, 1.0)], attributes={"gpu": 0}))
        it.keep("metrics", otlp.gauge("g", [(NOW - 40, 3.0)], attributes={"gpu": 1}))
        it.keep("metrics", otlp.gauge("g", [(NOW - 9, 4.0), (NOW - 1, None)], attributes={"gpu": 2}))
        it.keep("metrics", otlp.counter("c", [(NOW - 2, 9.0)]))
        it.keep("metrics", otlp.counter("u", [(NOW - 2, -9.0)], monotonic=False))
        it.keep("metrics", otlp.histogram("h", [(NOW - 3, [1, 2, 0, 0])]))
        it.keep("metrics", otlp.histogram("gone", [(NOW - 3, [1, 2, 0, 0]), (NOW - 2, None)]))
        it.keep("logs", otlp.one_log(NOW))
        until(_rows(it, 10 if written else 0))
        found = until(lambda: it.history.latest(["g", "c", "u", "h", "gone", "unknown"]))
        old = it.history.latest(["g"], max_age_s=60)

    assert found == [
        Sample("g", "1", "gauge", RESOURCE, {"gpu": 0}, NOW - 5, 2.0),
        Sample("c", "{thing}", "counter", RESOURCE, {}, NOW - 2, 9.0),
        Sample("u", "{thing}", "updowncounter", RESOURCE, {}, NOW - 2, -9.0),
        Sample("h", "s", "histogram", RESOURCE, {}, NOW - 3, 3.0),
    ]
    assert [sample.attributes["gpu"] for sample in old] == [0, 1]


@pytest.mark.parametrize("written", [False, True], ids=["waiting", "written"])
def test_charts_of_every_kind(tmp_path: Path, written: bool) -> None:
    with opened(tmp_path, clock=clock, points_s=0.05 if written else 60) as it:
        it.keep("metrics", otlp.gauge("g", [(NOW - 30, 1.0), (NOW - 20, None)], attributes={"a": "x"}))
        it.keep("metrics", otlp.gauge("g", [(NOW - 15, 5.0)], attributes={"a": "y", "flag": True}))
        it.keep("metrics", otlp.counter("c", [(NOW - 30, 0.0), (NOW - 20, 10.0), (NOW - 10, 40.0)]))
        it.keep("metrics", otlp.counter("d", [(NOW - 30, 0.0), (NOW - 20, 10.0), (NOW - 10, 40.0)], delta=True))
        counts = [(NOW - 30, [0, 0, 0, 0]), (NOW - 20, [0, 10, 0, 0]), (NOW - 10, [0, 10, 2**33, 0])]
        it.keep("metrics", otlp.histogram("h", counts))
        it.keep("logs", otlp.one_log(NOW))
        until(_rows(it, 12 if written else 0))
        window = {"since_s": NOW - 30, "until_s": NOW, "step_s": 10}
        gauges = it.history.series("g", **window)
        flagged = it.history.series("g", where={"flag": "true", "service.name": "app"}, **window)
        other = it.history.series("g", where={"service.name": "another"}, **window)
        counter = it.history.series("c", **window)
        delta = it.history.series("d", **window)
        counted = it.history.series("h", **window)
        median = it.history.series("h", quantile=0.5, **window)

    starts = (NOW - 30, NOW - 20, NOW - 10)
    assert gauges == [
        Series("g", "1", "gauge", RESOURCE, {"a": "x"}, starts, (1.0, None, None)),
        Series("g", "1", "gauge", RESOURCE, {"a": "y", "flag": True}, starts, (None, 5.0, 5.0)),
    ]
    assert (flagged, other) == (gauges[1:], [])
    assert [line.values for line in counter] == [(1.0, 3.0, None)]
    assert [line.values for line in delta] == [(1.0, 4.0, None)]
    assert [line.values for line in counted] == [(1.0, 2**33 / 10, None)]
    assert median[0].values == (1.5, 3.0, None)


def test_a_chart_of_many_hours_reads_one_point_of_each_bucket(tmp_path: Path) -> None:
    points = [(NOW - 6 * 3600 + second, float(second)) for second in range(0, 6 * 3600, 60)]
    with opened(tmp_path, clock=clock, points_s=0.05) as it:
        it.keep("metrics", otlp.gauge("g", points))
        it.keep("metrics", otlp.counter("c", points))
        until(_rows(it, 720))
        window = {"since_s": NOW - 6 * 3600, "until_s": NOW, "step_s": 3600}
        (gauge,) = it.history.series("g", **window)
        (counter,) = it.history.series("c", **window)

    assert gauge.values == tuple(hour * 3600 - 60.0 for hour in range(1, 7))
    assert counter.values == pytest.approx((1, 1, 1, 1, 1, 1))


def test_names_of_what_had_points_lately(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock, points_s=0.05) as it:
        it.keep("metrics", otlp.gauge("g", [(NOW - 5, 2.0)], attributes={"gpu": 0}))
        it.keep("metrics", otlp.gauge("g", [(NOW - 5, 2.0)], attributes={"gpu": 1}))
        it.keep("metrics", otlp.counter("c", [(NOW - 5000, 2.0)]))
        until(_rows(it, 3))
        found = it.history.metrics(since_s=NOW - 60)
    assert found == [MetricName("g", "1", "gauge", 2)]


def test_attributes_that_only_look_alike_make_series_of_their_own(tmp_path: Path) -> None:
    values = [1, 1.0, "1", True, [1], ""]
    with opened(tmp_path, clock=clock) as it:
        for value in values:
            it.keep("metrics", otlp.gauge("g", [(NOW, 1.0)], attributes={"a": value}))
        until(lambda: len(it.history.latest(["g"])) == len(values))
        found = [sample.attributes["a"] for sample in it.history.latest(["g"])]
    assert [(type(value), value) for value in found] == [(type(value), value) for value in values]


def test_another_process_reads_what_is_written(tmp_path: Path) -> None:
    """Its connection is one of its own; nothing of the open store is shared with it."""
    with opened(tmp_path, clock=clock, points_s=0.05) as it:
        it.keep("metrics", otlp.gauge("g", [(NOW, 2.0)]))
        elsewhere = SqlHistory(it.store.path, clock=clock)
        until(lambda: [sample.value for sample in elsewhere.latest(["g"])] == [2.0])
        stats = elsewhere.stats()
        elsewhere.close()
    assert (stats.signals["metrics"].rows, stats.queue_bytes, stats.max_bytes) == (1, None, None)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({"since_s": 0, "until_s": NOW, "step_s": 1}, "buckets are more than"),
        ({"since_s": NOW, "until_s": NOW, "step_s": 1}, "an end after its beginning"),
        ({"since_s": 0, "until_s": 10, "step_s": 0}, "a step above zero"),
        ({"since_s": 0, "until_s": 10, "step_s": float("nan")}, "a step above zero"),
        ({"since_s": 0, "until_s": 10, "step_s": 1, "quantile": 2}, "between 0 and 1"),
    ],
)
def test_questions_that_make_no_sense_are_refused(tmp_path: Path, question: dict[str, float], answer: str) -> None:
    with opened(tmp_path) as it, pytest.raises(ValueError, match=answer):
        it.history.series("g", **question)  # type: ignore[arg-type]
