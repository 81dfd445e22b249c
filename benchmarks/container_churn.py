"""A day of containers that come and go, one start and one stop a second: whether memory stays flat.

Everything between the engine's socket and the backend is real: event stream, list and inspections, the kernel's files (made up, as
is the engine), points, the SDK's collection and its forgetting, exports of metrics and of events. Time is made up too, so that a day passes as
fast as it goes. Engine, files and backend are in processes of their own; what is measured is the agent's side alone.
"""

import argparse
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from _sink import sink
from agent.sources.scripted_engine import HYBRID, scripted_engine
from waiting import until

from otel_agent.schedule import Worker
from otel_agent.sources.containers.events import events
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import open_containers
from otel_agent.telemetry.events import EventLog, log_exporter
from otel_agent.telemetry.exporters import metric_exporter
from otel_agent.telemetry.instruments import Latest
from otel_agent.telemetry.providers import Telemetry, resource, stamps

A_DAY = 86_400  # starts, and as many stops
INTERVAL_S, EXPORT_EVERY = 5, 2  # of the readings, and how many of them go to an export: as `otel-agent run` does
ALIVE = 10  # containers at a time
GROWTH = (
    4 * 2**20
)  # bytes a day that may be more resident at the end than after the first fifth: not fifty a start and stop
SLACK = 2 * 2**20  # bytes that come and go with the moment of looking


class Node:
    """The made-up engine and its files; `pass_time` lets one interval pass."""

    def __init__(self, engine, folder):
        self._engine, self._root = engine, folder / "root"
        shutil.copytree(HYBRID, self._root, symlinks=True)
        self._busy = engine.ids["busy"]
        self._template, self._entry = json.dumps(engine.containers[self._busy]), json.dumps(engine.entries[self._busy])
        engine.containers.clear()
        engine.entries.clear()
        self._folders = [found for found in self._root.rglob("*") if self._busy in found.name and found.is_dir()]
        self._free = []
        self._started = 0

    def pass_time(self):
        """Stop what has lived long enough and start as many."""
        for _ in range(INTERVAL_S):
            if self._started >= ALIVE:
                self._stop(self._started - ALIVE)
            self._start(self._started)
            self._started += 1
        self._engine.past.clear()
        self._engine.taken()
        self._engine._threads[:] = [one for one in self._engine._threads if one.is_alive()]  # noqa: SLF001 - a day is long

    def _start(self, number):
        fresh, pid, time_s = f"{number:064x}", 100_000 + number, 10.0 + number
        if self._free:
            before, pid_before = self._free.pop()
        else:
            before, pid_before = f"tree-{number}", None
        for folder in self._folders:
            if pid_before is None:
                shutil.copytree(folder, str(folder).replace(self._busy, before))
            Path(str(folder).replace(self._busy, before)).rename(str(folder).replace(self._busy, fresh))
        if pid_before is None:
            shutil.copytree(self._root / "proc/7685", self._root / f"proc/{pid}")
        else:
            (self._root / f"proc/{pid_before}").rename(self._root / f"proc/{pid}")
        told = (self._root / "proc/7685/cgroup").read_text().replace(self._busy, fresh)
        (self._root / f"proc/{pid}/cgroup").write_text(told)
        made = json.loads(self._template.replace(self._busy, fresh))
        made["State"]["Pid"], made["Name"] = pid, f"/job-{number}"
        self._engine.containers[fresh] = made
        self._engine.entries[fresh] = json.loads(self._entry.replace(self._busy, fresh)) | {"Names": [f"/job-{number}"]}
        self._engine.emit("create", fresh, time_s)
        self._engine.emit("start", fresh, time_s + 0.1)

    def _stop(self, number):
        gone, pid, time_s = f"{number:064x}", 100_000 + number, 10.5 + number + ALIVE
        del self._engine.containers[gone], self._engine.entries[gone]
        self._free.append((gone, pid))
        self._engine.emit("die", gone, time_s, exitCode="0")
        self._engine.emit("destroy", gone, time_s + 0.1)


def serve():
    """Be the node: let time pass with every line that comes in."""
    with scripted_engine() as engine, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        node = Node(engine, Path(folder))
        print(json.dumps({"host": engine.host, "root": str(Path(folder) / "root")}), flush=True)
        for _ in sys.stdin:
            node.pass_time()
            print(flush=True)


@contextmanager
def running_node():
    """Yield what leads to a node in a process of its own, and the function that lets one interval pass there."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--node"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        told = json.loads(process.stdout.readline())

        def pass_time():
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline()

        yield told["host"], Path(told["root"]), pass_time
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def resident():
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def live(starts, told):
    """Live through so many starts and stops; `told` is called with their number after each tenth."""
    now = 1000.0
    with sink() as endpoint, running_node() as (host, root, pass_time):
        about = resource(Path("/"))
        reader = open_containers(
            root, environ=host, timeout_s=10, clock=lambda: now, wall=lambda: 1_795_259_576.0 + now
        )
        latest, log = Latest(), EventLog(about)

        def publish(published):
            latest.publish(published)
            log.take("containers", events(published.snapshot))

        worker = Worker(
            "containers",
            lambda: reader,
            METRICS,
            interval_s=INTERVAL_S,
            deadline_s=4,
            on_publish=publish,
            clock=lambda: now,
        )
        workers = {"containers": (worker, latest)}
        exporter = metric_exporter("http/protobuf", endpoint, lambda: stamps(workers))
        telemetry = Telemetry(workers, lambda: [worker.health()], exporter, 10_000, about)
        log.start(log_exporter("http/protobuf", endpoint))
        until(lambda: reader().events, "the engine's events")
        readings = -(-starts // INTERVAL_S)
        for number in range(1, readings + 1):
            pass_time()
            now += INTERVAL_S
            newest, gone = f"{number * INTERVAL_S - 1:064x}", f"{number * INTERVAL_S - ALIVE - 1:064x}"

            def is_told(newest=newest, gone=gone):
                worker._read_once(reader)  # noqa: SLF001 - one beat, without the thread
                there = {container.identity.id for container in worker.latest().snapshot.containers}
                return newest in there and gone not in there

            until(is_told, "the events to come through the socket")
            if number % EXPORT_EVERY == 0:
                telemetry._export()  # noqa: SLF001 - one export, without the thread
                assert not exporter.failed
            if number * 10 // readings > (number - 1) * 10 // readings:
                gc.collect()
                told(number * INTERVAL_S)
        reader.close()
        assert log.shutdown(5)
        exporter.shutdown()


def main():
    """Print what is held after each tenth; returns 1 where it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=A_DAY)
    parser.add_argument("--node", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--trace", action="store_true", help="trace every allocation of Python's: four times as slow")
    options = parser.parse_args()
    if options.node:
        serve()
        return 0
    held = []

    def told(starts):
        traced = tracemalloc.get_traced_memory()[0] if options.trace else None
        held.append((resident(), traced))
        objects = f"{sys.getallocatedblocks()} blocks" if traced is None else f"{traced / 2**10:.0f} KiB"
        files = len(list(Path("/proc/self/fd").iterdir()))
        print(f"| {starts} | {held[-1][0] / 2**20:.1f} MiB | {objects} | {files} |", flush=True)

    print("| starts and stops | resident | Python's objects | open files |\n| --- | --- | --- | --- |")
    cpu = time.process_time()
    if options.trace:
        tracemalloc.start()
    live(options.starts, told)
    cost_ms = (time.process_time() - cpu) / options.starts * 1e3
    (resident_before, traced_before), (resident_after, traced_after) = held[1], held[-1]
    grown = (resident_after - resident_before) if traced_after is None else (traced_after - traced_before)
    print(
        f"\nFrom the second tenth to the last: {grown / 2**10:+.0f} KiB {'resident' if traced_after is None else 'of objects'}, "
        f"{grown / options.starts / 0.8:+.0f} bytes a start and stop, each of which took {cost_ms:.1f} ms of CPU."
    )
    return 1 if grown > GROWTH * options.starts / A_DAY + SLACK else 0


if __name__ == "__main__":
    sys.exit(main())
