"""How much a hung source disturbs the others: the intervals of healthy sources with and without one.

The hung ones are real: a FIFO in place of /proc/stat that nobody writes to, and a Docker socket that accepts and never answers. The
healthy one beside them is read by the same worker as every source, every second.
"""

import itertools
import os
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from waiting import until

from otel_agent.app import build_workers
from otel_agent.catalogue import Metric
from otel_agent.schedule import Worker
from otel_agent.settings import load

BEATS = 20
INTERVAL_S = 1.0
ROWS = (Metric("system.uptime", "gauge", "s", "Time since the start.", lambda snapshot: [(snapshot, {})]),)


def beats():
    """Return the intervals, in seconds, between the readings of a healthy source."""
    times = []
    worker = Worker(
        "healthy", lambda: lambda: times.append(time.monotonic()) or 1.0, ROWS, interval_s=INTERVAL_S, deadline_s=4
    )
    worker.start()
    until(lambda: len(times) > BEATS, "the readings of the healthy source", 2 * BEATS * INTERVAL_S)
    worker.stop()
    return [later - sooner for sooner, later in itertools.pairwise(times)]


def main():
    """Print the intervals alone and beside the hung sources."""
    alone = beats()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as silent:
        proc = Path(folder) / "proc"
        proc.mkdir()
        os.mkfifo(proc / "stat")
        silent.bind(f"{folder}/docker.sock")
        silent.listen()
        os.environ["DOCKER_HOST"] = f"unix://{folder}/docker.sock"
        workers = build_workers(
            replace(
                load({}), host_root=Path(folder), sources=("host", "containers"), interval_s=INTERVAL_S, deadline_s=1.0
            )
        )
        for worker, _ in workers.values():
            worker.start()
        beside = beats()
        states = ", ".join(f"{name} {worker.health().state}" for name, (worker, _) in workers.items())
        for worker, _ in workers.values():
            worker.stop()
    print("| healthy source | median interval | longest | largest deviation |\n| --- | --- | --- | --- |")
    for name, found in (("alone", alone), (f"beside hung ones ({states})", beside)):
        worst = max(abs(one - INTERVAL_S) for one in found) / INTERVAL_S
        print(f"| {name} | {statistics.median(found):.4f} s | {max(found):.4f} s | {worst:.2%} |")
    os._exit(0)  # the hung threads have nothing to wait for


if __name__ == "__main__":
    main()
