"""What the store promises to whoever sends to it: written means written, and nothing is refused in silence."""

import sqlite3
import threading
from pathlib import Path

import pytest
from agent.store import otlp
from agent.store.opened import opened
from waiting import until

from otel_agent.store.sink import NotStored, QueueFull

NOW = 1_800_000_000.0


def clock() -> float:
    return NOW


def test_an_answer_means_that_the_rows_are_in_the_file(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock) as it:
        assert it.keep("traces", otlp.one_span(NOW)) == 0
        assert it.keep("logs", otlp.one_log(NOW)) == 0

        with sqlite3.connect(f"file:{it.store.path}?mode=ro", uri=True) as other:
            kept = [other.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("span", "log")]
        other.close()
        assert kept == [1, 1]


def test_a_restart_keeps_everything_and_knows_its_series_again(tmp_path: Path) -> None:
    trace_id, _ = otlp.ids()
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", otlp.one_span(NOW, trace_id=trace_id))
        it.keep("logs", otlp.one_log(NOW, "before"))
        it.keep("metrics", otlp.gauge("g", [(NOW, 1.0)]))
    with opened(tmp_path, clock=clock) as it:
        it.keep("metrics", otlp.gauge("g", [(NOW + 5, 2.0)]))
        until(lambda: [sample.value for sample in it.history.latest(["g"])] == [2.0])
        span_names = [span.name for span in it.history.trace(trace_id.hex())]
        bodies = [row.body for row in it.history.logs(since_s=NOW - 1, until_s=NOW + 1)]
    with opened(tmp_path, clock=clock) as it:
        stats = it.history.stats()

    assert (span_names, bodies) == (["work"], ["before"])
    assert (stats.series, stats.signals["metrics"].rows) == (1, 2)


def test_points_are_answered_at_once_seen_at_once_and_written_when_their_time_comes(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock, points_s=0.2) as it:
        assert it.send("metrics", otlp.gauge("g", [(NOW, 1.0)])).done()
        until(lambda: it.history.latest(["g"]))
        until(lambda: it.history.stats().signals["metrics"].rows == 1)
        assert [sample.value for sample in it.history.latest(["g"])] == [1.0]


def test_a_batch_that_is_sent_again_is_kept_once(tmp_path: Path) -> None:
    """An exporter sends again when it did not hear the answer."""
    message = otlp.joined([otlp.one_span(NOW), otlp.chat(NOW)])
    with opened(tmp_path, clock=clock) as it:
        assert [it.keep("traces", message), it.keep("traces", message)] == [0, 0]
        stats = it.history.stats()
        assert len(it.history.requests(since_s=NOW - 1, until_s=NOW + 1)) == 1
    assert stats.signals["traces"].rows == 2


def test_rows_that_cannot_be_kept_are_told_and_counted_and_the_others_stay(tmp_path: Path) -> None:
    good, short, zero, ahead = (otlp.one_span(NOW) for _ in range(4))
    otlp.span_of(short).trace_id = b"short"
    otlp.span_of(zero).span_id = bytes(8)
    otlp.span_of(ahead).start_time_unix_nano = 2**64 - 1
    endless = otlp.one_span(NOW)
    otlp.span_of(endless).end_time_unix_nano = 2**64 - 1
    with opened(tmp_path, clock=clock, points_s=0.1) as it:
        assert it.keep("traces", otlp.joined([good, short, zero, ahead, endless])) == 3
        assert it.keep("logs", otlp.one_log(NOW + 2 * 86_400)) == 1
        it.keep("metrics", otlp.gauge("g", [(NOW, float("nan")), (NOW + 2 * 86_400, 1.0), (0, 1.0), (NOW - 9e6, 1.0)]))
        until(lambda: ("metrics", "point without a time") in it.history.stats().dropped)
        stats = it.history.stats()

    assert stats.signals["traces"].rows == 2
    assert stats.dropped == {
        ("traces", "id is not valid"): 2,
        ("traces", "time lies more than a day ahead"): 1,
        ("logs", "time lies more than a day ahead"): 1,
        ("metrics", "value is not a finite number"): 1,
        ("metrics", "time lies more than a day ahead"): 1,
        ("metrics", "point without a time"): 1,
        ("metrics", "older than the retention"): 1,
    }


def test_a_full_queue_refuses_and_takes_again_once_there_is_room(tmp_path: Path) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(_signals: frozenset[str]) -> None:
        held.set()
        go_on.wait(10)

    message = otlp.one_log(NOW, "x" * 1000)
    with opened(tmp_path, clock=clock, queue_bytes=2500) as it:
        it.store.subscribe(hold)
        it.keep("logs", message)
        assert held.wait(10)
        waiting = [it.send("logs", message), it.send("logs", message)]
        with pytest.raises(QueueFull, match="of 2500 bytes are waiting"):
            it.send("logs", message)
        state = it.store.state()
        go_on.set()
        assert [future.result(10) for future in waiting] == [0, 0]
        assert it.keep("logs", message) == 0

    assert (state.queue_bytes, state.queue_limit_bytes) == (2 * message.ByteSize(), 2500)


def test_listeners_hear_which_signals_got_news_until_they_leave_and_a_faulty_one_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_signals: frozenset[str]) -> None:
        raise RuntimeError("a listener's own fault")

    heard: list[frozenset[str]] = []
    with opened(tmp_path, clock=clock) as it:
        it.store.subscribe(broken)
        leave = it.store.subscribe(heard.append)
        it.keep("traces", otlp.one_span(NOW))
        until(lambda: heard)
        it.keep("metrics", otlp.gauge("g", [(NOW, 1.0)]))
        until(lambda: len(heard) == 2)
        leave()
        it.keep("logs", otlp.one_log(NOW))

    assert heard == [frozenset({"traces"}), frozenset({"metrics"})]
    assert "a listener of the store failed" in caplog.text


def test_while_the_file_cannot_be_written_senders_are_asked_to_come_back_and_points_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, clock=clock, points_s=0.1) as it:
        blocker = sqlite3.connect(it.store.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        it.send("metrics", otlp.gauge("g", [(NOW, 1.0)]))
        with pytest.raises(NotStored, match="locked"):
            it.keep("traces", otlp.one_span(NOW))
        failure = it.history.stats().failure
        blocker.execute("ROLLBACK")
        blocker.close()
        assert it.keep("traces", otlp.one_span(NOW)) == 0
        until(lambda: it.history.stats().signals["metrics"].rows == 1)
        stats = it.history.stats()

    assert failure == "database is locked"
    assert (stats.failure, stats.signals["traces"].rows) == (None, 1)
    told = [record.getMessage() for record in caplog.records]
    assert (
        told
        == [
            "the store cannot write: database is locked; senders are asked to try again",
            "the store writes again",
        ][: len(told)]
    )


def test_a_closed_store_refuses_and_has_written_what_waited(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock) as it:
        it.send("metrics", otlp.gauge("g", [(NOW, 1.0)]))
        waiting = [it.send("traces", otlp.one_span(NOW)) for _ in range(20)]
        assert it.store.close()
        assert [future.result(0) for future in waiting] == [0] * 20
        with pytest.raises(NotStored, match="closing"):
            it.send("logs", otlp.one_log(NOW))
        stats = it.history.stats()

    assert (stats.signals["traces"].rows, stats.signals["metrics"].rows) == (20, 1)


def test_many_threads_may_send_at_a_time(tmp_path: Path) -> None:
    def send() -> None:
        answers.extend(it.keep("traces", otlp.one_span(NOW)) for _ in range(25))

    answers: list[int] = []
    with opened(tmp_path, clock=clock) as it:
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        rows = it.history.stats().signals["traces"].rows

    assert (len(answers), sum(answers), rows) == (200, 0, 200)
