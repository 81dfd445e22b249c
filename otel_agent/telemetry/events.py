"""Events as OTLP log records: what the sources say happened, kept while the backend is away, sent once it answers.

The queue is bounded; what does not fit any more is dropped, oldest first, and counted. What happened is decided by the sources.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otel_agent import __version__
from otel_agent.catalogue import Event, Metric, Point, Severity

SCOPE = "otel_agent.sources."
QUEUE = 2048  # events that wait for the backend
BATCH = 256
PAUSE_S = (1.0, 30.0)  # between two batches, and the longest after the backend refused one
NUMBERS: Mapping[Severity, SeverityNumber] = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "fatal": SeverityNumber.FATAL,
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventCounts:
    """What became of the events so far, and how many wait."""

    sent: int
    dropped: int
    waiting: int


def _counts(counts: EventCounts) -> Iterator[Point]:
    yield counts.sent, {"otel_llm.event.outcome": "sent"}
    yield counts.dropped, {"otel_llm.event.outcome": "dropped"}


_NOTE = "Semantic conventions name what an SDK's own queue does; this one keeps events over an outage of the backend."
METRICS: tuple[Metric[EventCounts], ...] = (
    Metric("otel_llm.event.count", "counter", "{event}", "Events by what became of them.", _counts,
           ("otel_llm.event.outcome",), note=_NOTE),
    Metric("otel_llm.event.waiting", "updowncounter", "{event}", "Events that wait for the backend.",
           lambda counts: [(counts.waiting, {})], note=_NOTE),
)  # fmt: skip


class EventLog:
    """Takes events from any thread, at any time, and sends them from its own, from `start()` to `shutdown()`."""

    def __init__(self, about: Resource, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._queue = _Queue()
        self._provider = LoggerProvider(resource=about, shutdown_on_exit=False)
        self._provider.add_log_record_processor(self._queue)
        self._failing = False
        self._ending = threading.Event()
        self._exporter: LogRecordExporter | None = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def take(self, source: str, events: Iterable[Event]) -> None:
        """Put events of one source into the queue; never waits."""
        speaker = self._provider.get_logger(SCOPE + source, __version__)
        for event in events:
            speaker.emit(
                LogRecord(
                    timestamp=int(event.time_s * 1e9),
                    observed_timestamp=self._clock_ns(),
                    severity_number=NUMBERS[event.severity],
                    severity_text=event.severity.upper(),
                    body=event.said,
                    attributes=dict(event.attributes),
                    event_name=event.name,
                )
            )

    def counts(self) -> EventCounts:
        """Return what became of the events so far."""
        return self._queue.counts()

    def start(self, exporter: LogRecordExporter) -> None:
        """Begin to send."""
        self._exporter = exporter
        self._thread.start()

    def shutdown(self, timeout_s: float) -> bool:
        """Send what waits and end; returns False where the backend did not take it within `timeout_s`."""
        self._ending.set()
        self._queue.news.set()
        if self._exporter is None:  # never started: there is nobody to send to
            return not self._queue.counts().waiting
        self._thread.join(timeout_s)
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # also ends the retries of an export that is under way
        return not self._thread.is_alive() and not self._queue.counts().waiting

    def _run(self) -> None:
        pause_s = PAUSE_S[0]
        while not self._ending.is_set():
            self._queue.news.wait()
            pause_s = PAUSE_S[0] if self._send() else min(2 * pause_s, PAUSE_S[1])
            self._ending.wait(pause_s)
        while self._queue.counts().waiting and not self._failing and self._send():
            pass

    def _send(self) -> bool:
        """Send one batch; False where the backend did not take it, which puts the batch back."""
        batch = self._queue.pull()
        if not batch:
            return True
        try:
            took = self._exporter is not None and self._exporter.export(batch) is LogRecordExportResult.SUCCESS
        except Exception:  # exporters are foreign code; one that raises must not end the sending
            logger.debug("events: the exporter raised", exc_info=True)
            took = False
        if took:
            self._queue.count_sent(len(batch))
        else:
            self._queue.put_back(batch)
        if took == self._failing:
            self._failing = not took
            logger.log(
                logging.INFO if took else logging.WARNING,
                "OTLP: events are taken again" if took else "OTLP: no events are taken; they wait until they are",
            )
        return took


class _Queue(LogRecordProcessor):
    """The records that wait, oldest first."""

    def __init__(self) -> None:
        self.news = threading.Event()
        self._lock = threading.Lock()
        self._records: deque[ReadableLogRecord] = deque()
        self._sent = self._dropped = 0

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        record = ReadableLogRecord(
            log_record.log_record,
            log_record.resource or Resource.get_empty(),
            instrumentation_scope=log_record.instrumentation_scope,
            limits=log_record.limits,
        )
        with self._lock:
            self._records.append(record)
            self._shorten()
        self.news.set()

    def pull(self) -> list[ReadableLogRecord]:
        with self._lock:
            batch = [self._records.popleft() for _ in range(min(BATCH, len(self._records)))]
            if not self._records:
                self.news.clear()
            return batch

    def put_back(self, batch: Iterable[ReadableLogRecord]) -> None:
        with self._lock:
            self._records.extendleft(reversed(list(batch)))
            self._shorten()
        self.news.set()

    def count_sent(self, count: int) -> None:
        with self._lock:
            self._sent += count

    def counts(self) -> EventCounts:
        with self._lock:
            return EventCounts(self._sent, self._dropped, len(self._records))

    def shutdown(self) -> None:
        """Nothing is held but memory."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def _shorten(self) -> None:
        while len(self._records) > QUEUE:
            self._records.popleft()
            self._dropped += 1


def log_exporter(protocol: str, endpoint: str | None) -> Any:
    """Return the exporter of logs for `grpc` or `http/protobuf`; without an endpoint the standard variables decide."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc

        return Grpc(endpoint=endpoint)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http

    return Http(endpoint=f"{endpoint}/v1/logs" if endpoint else None)
