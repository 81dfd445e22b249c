"""What the embedded store costs: rows a second and CPU time a row, written through its own door, and how fast questions are answered.

    python benchmarks/store_ingest.py [--seconds 8] [--folder DIR]

Spans come 512 to a request with 15 attributes each, one in fifty failed; scrapes have 800 gauges and 200 histograms of 14 buckets;
log records have 6 attributes. Rows count once they are acknowledged, points once they are written. Commits are synchronous=FULL.
"""

import argparse
import os
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from otel_agent.history.sql import SqlHistory
from otel_agent.store.sink import Message, QueueFull, Signal
from otel_agent.store.store import Store, open_store

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from agent.store import otlp
from waiting import until

SPANS, LOGS, GAUGES, HISTOGRAMS = 512, 500, 800, 200
DISTINCT = 20  # requests prepared beforehand; ids and times are made fresh for each sending


def spans(number: int) -> Message:
    made = []
    for i in range(SPANS):
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": f"model-{i % 5}",
            "gen_ai.response.model": f"model-{i % 5}",
            "gen_ai.response.id": f"chatcmpl-{number}-{i}",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 100 + i,
            "gen_ai.usage.output_tokens": 200 + i,
            "gen_ai.response.time_to_first_chunk": 0.1 + i / 1000,
            "gen_ai.request.temperature": 0.7,
            "gen_ai.request.max_tokens": 512,
            "gen_ai.request.stream": True,
            "server.address": "127.0.0.1",
            "server.port": 8000,
            "otel_llm.prompt.length": 4000 + i,
        }
        if i % 50 == 0:
            attributes["error.type"] = "TimeoutError"
        if i % 5:
            attributes.pop("gen_ai.operation.name")  # four in five are ordinary spans
            attributes.pop("gen_ai.response.id")
        message = otlp.one_span(time.time(), name="work", attributes=attributes, service="bench")
        if i % 50 == 0:
            event = otlp.span_of(message).events.add(name="exception", time_unix_nano=time.time_ns())
            event.attributes.extend(otlp.pairs({"exception.message": "it took too long"}))
        made.append(message)
    whole = made[0]
    for other in made[1:]:
        whole.resource_spans[0].scope_spans[0].spans.append(otlp.span_of(other))
    return whole


def logs(number: int) -> Message:
    attributes = {f"key.{i}": f"value {i} of {number}" for i in range(6)}
    whole = otlp.one_log(time.time(), f"something of interest happened in batch {number}", attributes=attributes)
    records = whole.resource_logs[0].scope_logs[0].log_records
    for _ in range(LOGS - 1):
        records.append(records[0])
    return whole


def scrape(_: int) -> Message:
    whole, metric = otlp.metric("bench")
    metric.name, metric.unit = "bench.gauge", "1"
    for i in range(GAUGES):
        attributes = {"a": f"part-{i}", "b": "same", "c": f"group-{i % 7}"}
        metric.gauge.data_points.add(attributes=otlp.pairs(attributes), as_double=i)
    metric = whole.resource_metrics[0].scope_metrics[0].metrics.add(name="bench.histogram", unit="s")
    metric.histogram.aggregation_temporality = 2
    for i in range(HISTOGRAMS):
        metric.histogram.data_points.add(
            attributes=otlp.pairs({"a": f"part-{i}", "b": "same", "c": "x"}),
            count=105,
            sum=3.5,
            bucket_counts=range(15),
            explicit_bounds=range(14),
        )
    return whole


def refresh(signal: Signal, message: Message, number: int) -> None:
    """Give the rows fresh ids and times, as they would have on arrival; scrapes are a second apart and begin 15 minutes ago."""
    now_ns = time.time_ns()
    if signal == "traces":
        for i, span in enumerate(message.resource_spans[0].scope_spans[0].spans):
            span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
            span.start_time_unix_nano, span.end_time_unix_nano = now_ns + i, now_ns + i + 10**8
    elif signal == "logs":
        for i, record in enumerate(message.resource_logs[0].scope_logs[0].log_records):
            record.time_unix_nano = now_ns + i
    else:
        for metric in message.resource_metrics[0].scope_metrics[0].metrics:
            for point in (metric.gauge if metric.HasField("gauge") else metric.histogram).data_points:
                point.time_unix_nano = now_ns - 10**9 * (900 - number)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def taken(store: Store, signal: Signal, message: Message, size: int) -> Future[int] | None:
    """Hand a message to the store; None where its queue is full."""
    try:
        return store.submit(signal, message, size)
    except QueueFull:
        return None


def ingest(store: Store, signal: Signal, make: Callable[[int], Message], rows: int, seconds: float) -> str:
    """Send for some seconds as fast as it is taken; the sender's own work is measured apart and taken off."""
    prepared = [make(number).SerializeToString() for number in range(DISTINCT)]
    kind = type(make(0))
    began, cpu, own, sent, answers = time.monotonic(), cpu_s(), 0.0, 0, []
    while time.monotonic() - began < seconds:
        own_began = time.thread_time()
        message = kind.FromString(prepared[sent % DISTINCT])
        refresh(signal, message, sent)
        size = message.ByteSize()
        own += time.thread_time() - own_began
        answers.append(until(partial(taken, store, signal, message, size), "room in the queue"))
        sent += 1
    for answer in answers:
        answer.result(60)
    if signal == "metrics":
        until(lambda: not store.waiting_newest(), "the newest values to be written")
    wall, used = time.monotonic() - began, cpu_s() - cpu - own
    count = sent * rows
    return f"{signal:8} {count:>9,} rows {count / wall:>9,.0f} rows/s {used / count * 1e6:>7.1f} us CPU/row"


def questions(history: SqlHistory) -> Iterator[str]:
    now_s = time.time()
    week, quarter = {"since_s": now_s - 86_400, "until_s": now_s}, {"since_s": now_s - 900, "until_s": now_s}
    trace_id = history.requests(**week, limit=1)[0].trace_id
    for name, ask in {
        "last 100 requests": lambda: history.requests(**week),
        "last 1000 requests": lambda: history.requests(**week, limit=1000),
        "failed requests of one model": lambda: history.requests(**week, failed=True, model="model-0"),
        "one trace": lambda: history.trace(trace_id),
        f"last values of {GAUGES + HISTOGRAMS} series": lambda: history.latest(
            ["bench.gauge", "bench.histogram"], max_age_s=900
        ),
        "15 min of one series": lambda: history.series("bench.gauge", **quarter, step_s=5, where={"a": "part-1"}),
        "15 min of 115 series": lambda: history.series("bench.gauge", **quarter, step_s=5, where={"c": "group-1"}),
        "last 100 log records": lambda: history.logs(**week),
        "text that is in no log record": lambda: history.logs(**week, text="absent"),
        "statistics": history.stats,
    }.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            ask()
            times.append(time.perf_counter() - began)
        yield f"{name:32} {sorted(times)[2] * 1000:>8.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="of each signal")
    parser.add_argument("--folder", type=Path, help="where the store is made; a temporary folder otherwise")
    arguments = parser.parse_args()
    print(
        f"{platform.platform()} · {os.cpu_count()} cores · Python {platform.python_version()} · SQLite {sqlite3.sqlite_version}"
    )
    print(f"load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        store = open_store(Path(folder) / "store", retention_days=7, request_days=30, max_bytes=10**11)
        history = SqlHistory(store, limit_s=60)
        for signal, make, rows in (
            ("traces", spans, SPANS),
            ("logs", logs, LOGS),
            ("metrics", scrape, GAUGES + HISTOGRAMS),
        ):
            print(ingest(store, signal, make, rows, arguments.seconds), flush=True)
        stats = history.stats()
        print(
            f"file {stats.bytes / 1e6:,.0f} MB, log {stats.wal_bytes / 1e6:,.0f} MB; peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
        )
        for line in questions(history):
            print(line)
        history.close()
        assert store.close(60)


if __name__ == "__main__":
    main()
