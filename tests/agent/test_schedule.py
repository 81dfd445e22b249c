"""Workers: pace, staleness, one reading at a time, and what they say."""

import logging
import threading
import time

import pytest
from waiting import until

from otel_agent.catalogue import Metric
from otel_agent.errors import Follows, ReadError, Unavailable
from otel_agent.schedule import Worker

ROWS = (Metric("system.thing", "gauge", "1", "What it is about.", lambda snapshot: [(snapshot, {})]),)


@pytest.fixture
def start():
    """Make and start workers; joined at the end, lest one that wakes late speaks into the next test's log."""
    workers = []

    def make(read, *, opened=None, interval_s=0.02, deadline_s=0.2, **more):
        worker = Worker("thing", opened or (lambda: read), ROWS, interval_s=interval_s, deadline_s=deadline_s, **more)
        workers.append(worker)
        worker.start()
        return worker

    yield make
    for worker in workers:
        worker.stop()
    for thread in threading.enumerate():
        if thread.name == "source-thing":
            thread.join(10)


def test_a_reading_becomes_points_once(start):
    worker = start(lambda: 0.5, interval_s=60)

    until(worker.latest)
    assert worker.latest().points == {"system.thing": [(0.5, {})]}
    assert worker.health().state == "ok"
    assert worker.health().points == 1


def test_a_look_before_the_first_reading_makes_no_change_of_state_of_it(start, caplog):
    caplog.set_level(logging.INFO)
    release = threading.Event()
    worker = start(lambda: release.wait(10) and 1.0, deadline_s=10)
    assert worker.health().state == "starting"
    release.set()
    until(worker.latest)

    assert [record.getMessage() for record in caplog.records] == ["thing: ok"]


def test_a_source_that_hangs_is_stuck_and_no_second_reading_is_begun(start):
    release, begun = threading.Event(), []

    def read():
        begun.append(1)
        release.wait(10)
        return 1.0

    worker = start(read)
    until(lambda: worker.health().state == "stuck")
    time.sleep(0.1)  # five intervals in which a second reading could have begun
    assert begun == [1]
    release.set()
    until(lambda: worker.health().state == "ok")


def test_a_hung_source_does_not_hold_up_another(start):
    release, beats = threading.Event(), []
    hung = start(lambda: release.wait(10))
    healthy = start(lambda: beats.append(1) or 1.0)

    until(lambda: hung.health().state == "stuck")
    before = len(beats)
    until(lambda: len(beats) > before + 20)
    assert (hung.health().state, healthy.health().state) == ("stuck", "ok")
    release.set()


def test_an_old_snapshot_is_no_longer_handed_out(start):
    now = [100.0]
    worker = start(lambda: 1.0, interval_s=60, deadline_s=4, clock=lambda: now[0])
    until(lambda: worker.health().state == "ok")

    now[0] += 2 * 60 + 4
    assert worker.latest() is not None
    now[0] += 0.1
    assert worker.latest() is None


def test_failures_are_said_once_and_recovery_once(start, caplog):
    caplog.set_level(logging.INFO)
    answers = [ReadError("torn"), ReadError("torn"), ReadError("torn"), 1.0, 1.0]

    def read():
        answer = answers.pop(0) if answers else 1.0
        if isinstance(answer, Exception):
            raise answer
        return answer

    worker = start(read)
    until(lambda: not answers)
    assert [record.getMessage() for record in caplog.records] == ["thing: failing: torn", "thing: ok again"]
    assert worker.health().failures == 3


def test_unavailable_says_why_and_what_to_do_and_is_tried_again(start, caplog, monkeypatch):
    monkeypatch.setattr("otel_agent.schedule.REOPEN_S", (0.01, 0.02))
    opened = []

    def open_source():
        opened.append(1)
        if len(opened) < 4:
            raise Unavailable("no thing here", "plug it in")
        return lambda: 1.0

    worker = start(None, opened=open_source)
    until(lambda: worker.health().state == "ok")
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "thing: unavailable: no thing here (plug it in)"
    ]


def test_what_follows_from_another_source_is_no_second_warning(start, caplog):
    caplog.set_level(logging.INFO)
    answers = [Follows("no GPU is read", "see the source gpu"), ReadError("torn")]

    def read():
        if answers:
            raise answers.pop(0)
        return 1.0

    worker = start(read, opened=lambda: read)
    until(lambda: worker.health().state == "ok")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "thing: unavailable: no GPU is read (see the source gpu)"),
        ("WARNING", "thing: failing: torn"),
        ("INFO", "thing: ok again"),
    ]


def test_a_fault_of_ours_ends_no_thread(start):
    answers = [ZeroDivisionError("oops")]

    def read():
        if answers:
            raise answers.pop()
        return 1.0

    worker = start(read)
    until(lambda: worker.health().state == "ok")
