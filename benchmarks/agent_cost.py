"""What `otel-agent run` costs: CPU of one core and resident memory, per protocol and set of sources.

The agent runs as a user runs it, with its own intervals (readings every 5 s, exports every 10 s), against an OTLP backend on
loopback that discards. CPU is the process's own accounting between two moments after the start, memory the largest of its
readings in that time. Containers are those of a Docker Engine started for this, where that can be done.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from e2e.engine import IMAGE, NoEngineError, run_engine
from processes import agent, backend

CONTAINERS = 10
HTTP, GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}


def measure(settings, seconds):
    """Return (share of one core, largest resident memory in bytes, points of one reading) over `seconds`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        backend() as sink,
        agent("run", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_LLM_DATA_DIR=folder, **settings) as running,
    ):
        running.until(lambda: running.source("host") == "ok")
        process = psutil.Process(running.process.pid)
        time.sleep(12)  # the start is over, and the first export
        began, before, memory = time.monotonic(), sum(process.cpu_times()[:2]), 0
        while time.monotonic() - began < seconds:
            memory = max(memory, process.memory_info().rss)
            time.sleep(1)
        share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        points = sum(source["points"] or 0 for source in running.get("/health")[1]["sources"].values())
        return share, memory, points


@contextlib.contextmanager
def containers(folder):
    """Run containers on an engine of their own, and yield what leads the agent there; an empty mapping where none can be had."""
    try:
        with run_engine(Path(folder)) as engine:
            for _ in range(CONTAINERS):
                engine.client.containers.run(IMAGE, ["sleep", "3600"], detach=True)
            yield engine.host
    except NoEngineError as error:
        print(f"without containers: {error}", file=sys.stderr)
        yield {}


def main():
    """Print one row per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    print("| case | points a reading | share of one core | resident memory |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, containers(folder) as engine:
        for name, settings in (
            ("OTLP over HTTP, host", {**HTTP, "OTEL_LLM_SOURCES": "host,gpu"}),
            (f"OTLP over HTTP, host and {CONTAINERS if engine else 0} containers", {**HTTP, **engine}),
            (f"OTLP over gRPC, host and {CONTAINERS if engine else 0} containers", {**GRPC, **engine}),
        ):
            share, memory, points = measure(settings, seconds)
            print(f"| {name} | {points} | {share:.2%} | {memory / 1e6:.1f} MB |", flush=True)


if __name__ == "__main__":
    main()
