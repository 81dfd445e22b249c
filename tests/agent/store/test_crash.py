"""A process that is killed while it writes: what it acknowledged is there afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.store.opened import opened

ROOT = Path(__file__).resolve().parents[3]
ACKED_BEFORE_KILL = 100

# Sends from four threads without pause, and prints the id of each span and log record once it is acknowledged.
WRITER = """
import os, sys, threading, time
from pathlib import Path
sys.path.insert(0, "tests")
from agent.store import otlp
from otel_agent.store.store import open_store

store = open_store(Path(sys.argv[1]), retention_days=7, request_days=30, max_bytes=10**9)

def send():
    while True:
        now, ids = time.time(), [os.urandom(16) for _ in range(20)]
        spans = otlp.joined([otlp.one_span(now, trace_id=each) for each in ids])
        log = otlp.one_log(now, ids[0].hex())
        answers = store.submit("traces", spans, spans.ByteSize()), store.submit("logs", log, log.ByteSize())
        for answer in answers:
            answer.result(10)
        os.write(1, (" ".join(each.hex() for each in ids) + "\\n").encode())

for _ in range(4):
    threading.Thread(target=send).start()
"""


def test_killing_the_writing_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout is not None
        acked = [writer.stdout.readline() for _ in range(ACKED_BEFORE_KILL)]
        os.kill(writer.pid, signal.SIGKILL)
        acked += writer.stdout.readlines()
        assert writer.wait(10) == -signal.SIGKILL
    batches = [line.decode().split() for line in acked if line.endswith(b"\n")]

    with opened(tmp_path) as it:
        logs = it.history.logs(since_s=0, until_s=4e9, limit=10_000)
        spans = {trace_id: len(it.history.trace(trace_id)) for batch in batches for trace_id in batch}
        stats = it.history.stats()

    assert len(batches) >= ACKED_BEFORE_KILL
    assert {batch[0] for batch in batches} <= {row.body for row in logs}
    assert set(spans.values()) == {1}
    assert stats.signals["traces"].rows >= len(spans)
    assert not list(tmp_path.glob("*.damaged-*"))
