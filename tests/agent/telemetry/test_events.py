"""Events wait for a backend that is away, arrive in order and once, and are counted where they had to be dropped."""

import threading

import pytest
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from waiting import until

from otel_agent.catalogue import Event, problems
from otel_agent.telemetry import events
from otel_agent.telemetry.events import METRICS, QUEUE, EventCounts, EventLog

NOW = 1_795_000_000.25


class Backend(LogRecordExporter):
    """Keeps what it takes; `refuses` lets it take nothing, `raises` lets it fail in the way of foreign code."""

    def __init__(self):
        self.records, self.refuses, self.raises = [], threading.Event(), threading.Event()
        self.tried = 0

    def export(self, batch):
        self.tried += 1
        if self.raises.is_set():
            raise RuntimeError("foreign")
        if self.refuses.is_set():
            return LogRecordExportResult.FAILURE
        self.records.extend(batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self):
        pass

    @property
    def said(self):
        return [record.log_record.body for record in self.records]


def event(number=0, **told):
    facts = {"name": "otel_llm.thing.happened", "severity": "warn", "said": f"thing {number}", "attributes": {"a.b": 7}}
    return Event(time_s=NOW, **facts | told)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(events, "PAUSE_S", (0.01, 0.02))


@pytest.fixture
def log():
    made = EventLog(Resource({"service.name": "otel-agent"}), clock_ns=lambda: 42)
    yield made
    made.shutdown(5)


def test_the_rows_are_sound():
    assert problems(METRICS) == []


def test_an_event_becomes_a_log_record_of_its_source(log):
    backend = Backend()
    log.take("containers", [event()])
    log.start(backend)
    [record] = until(lambda: backend.records)

    about = record.log_record
    assert (about.event_name, about.body, about.timestamp, about.observed_timestamp) == (
        "otel_llm.thing.happened",
        "thing 0",
        int(NOW * 1e9),
        42,
    )
    assert (about.severity_text, about.severity_number.value, dict(about.attributes)) == ("WARN", 13, {"a.b": 7})
    assert (record.instrumentation_scope.name, record.resource.attributes["service.name"]) == (
        "otel_agent.sources.containers",
        "otel-agent",
    )


@pytest.mark.parametrize("trouble", ["refuses", "raises"])
def test_what_a_backend_does_not_take_waits_and_arrives_once_in_order(log, trouble):
    backend = Backend()
    getattr(backend, trouble).set()
    log.start(backend)
    log.take("gpu", map(event, range(3)))
    until(lambda: backend.tried > 2, "several attempts")
    log.take("gpu", map(event, range(3, 600)))
    assert log.counts() == EventCounts(sent=0, dropped=0, waiting=log.counts().waiting)

    getattr(backend, trouble).clear()
    until(lambda: len(backend.records) == 600)
    assert backend.said == [f"thing {number}" for number in range(600)]
    assert log.counts() == EventCounts(600, 0, 0)


def test_what_does_not_fit_is_dropped_oldest_first_and_counted(log):
    log.take("gpu", map(event, range(QUEUE + 5)))
    assert log.counts() == EventCounts(0, 5, QUEUE)
    backend = Backend()
    log.start(backend)
    until(lambda: len(backend.records) == QUEUE)
    assert backend.said[0] == "thing 5"


def test_a_stop_sends_what_waits_and_does_not_wait_for_a_backend_that_is_away(log):
    backend = Backend()
    log.start(backend)
    log.take("gpu", [event()])
    assert log.shutdown(5)
    assert backend.said == ["thing 0"]

    away, backend = EventLog(Resource({})), Backend()
    backend.refuses.set()
    away.start(backend)
    away.take("gpu", [event()])
    until(lambda: backend.tried)
    assert away.shutdown(5) is False, "something was left behind, and it says so"
