"""What `otel-agent run` costs: CPU of one core and resident memory, per protocol and set of sources.

The agent runs as a user runs it, against an OTLP backend on loopback that discards; CPU is the process's own accounting between
two moments after the start, memory the largest of its readings in that time.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from processes import agent, backend

CASES = (
    ("HTTP, host and gpu", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_LLM_SOURCES": "host,gpu"}),
    ("gRPC, host, gpu and containers", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}),
)


def measure(settings, seconds):
    """Return (share of one core, largest resident memory in bytes) over `seconds`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        backend() as sink,
        agent("run", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_LLM_DATA_DIR=folder, **settings) as running,
    ):
        running.until(lambda: running.source("host") == "ok")
        process = psutil.Process(running.process.pid)
        time.sleep(5)  # the start is over
        began, before, memory = time.monotonic(), sum(process.cpu_times()[:2]), 0
        while time.monotonic() - began < seconds:
            memory = max(memory, process.memory_info().rss)
            time.sleep(1)
        used = sum(process.cpu_times()[:2]) - before
        return used / (time.monotonic() - began), memory


def main():
    """Print one row per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    print("| case | share of one core | resident memory |\n| --- | --- | --- |")
    for name, settings in CASES:
        share, memory = measure(settings, seconds)
        print(f"| {name} | {share:.2%} | {memory / 1e6:.1f} MB |", flush=True)


if __name__ == "__main__":
    main()
