"""What containers cost the agent, from the kernel's files to the backend, beside the engine's statistics by raw requests and by docker-py.

Fifty real containers of an engine started for this, in one run. A cycle is what the agent's worker does every time: it reads, makes
points and hands them over. An export, which happens at an interval of its own, is what the SDK and the exporter do with these
points on the way to a backend on loopback. CPU is the process's own accounting, of all its threads; the daemon's is that of
dockerd and containerd. Then the same cycle over made-up trees of 50 and 500 containers: whether the cost is linear.
"""

import argparse
import contextlib
import gc
import json
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from _sink import sink
from agent.sources.scripted_engine import HYBRID, scripted_engine
from e2e.engine import IMAGE, NoEngineError, run_engine
from waiting import until

from otel_agent.catalogue import values
from otel_agent.schedule import Worker
from otel_agent.sources.containers.engine import Address, Engine
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import open_containers
from otel_agent.telemetry.exporters import metric_exporter
from otel_agent.telemetry.instruments import Latest
from otel_agent.telemetry.providers import Telemetry, resource, stamps

CYCLES = 40
LIMIT_MS, TIMES = 10, 100  # what a cycle may cost, and how many times as long the engine's statistics must take
QUIET_S = 20.0
HEAD = "| way | wall | the least of it | own CPU | the least of it | CPU of the daemon |\n| --- | --- | --- | --- | --- | --- |"


def daemon_cpu(processes):
    """Return the CPU seconds of the engine's processes; those that have gone count no more."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def measured(work, daemon, cycles):
    """Return of one cycle, in seconds: median and least wall time, median and least own CPU, and the mean of the daemon's CPU."""
    walls, cpus, before = [], [], daemon_cpu(daemon)
    for _ in range(cycles):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    theirs = (daemon_cpu(daemon) - before) / cycles
    return statistics.median(walls), min(walls), statistics.median(cpus), min(cpus), theirs


class Beats:
    """What the agent does with containers, each part of it when asked: its worker and its telemetry without their threads."""

    def __init__(self, reader, endpoint):
        self.read, latest = reader, Latest()
        self._worker = Worker(
            "containers", lambda: reader, METRICS, interval_s=5, deadline_s=4, on_publish=latest.publish
        )
        workers = {"containers": (self._worker, latest)}
        exporter = metric_exporter("http/protobuf", endpoint, lambda: stamps(workers))
        self._telemetry = Telemetry(workers, lambda: [self._worker.health()], exporter, 10_000, resource(Path("/")))
        self.cycle()
        self.snapshot = self._worker.latest().snapshot

    def cycle(self):
        self._worker._read_once(self.read)  # noqa: SLF001 - one beat, without the thread

    def points(self):
        return {row.name: values(row, self.snapshot) for row in METRICS}

    def export(self):
        self._telemetry._export()  # noqa: SLF001 - one export, without the thread

    def count(self):
        return sum(map(len, self.points().values()))


def settle(reader, count):
    """Read until the engine is listened to, has described every container, and the numbers of so many are seen."""

    def is_settled():
        snapshot = reader()
        seen = sum(one.usage is not None for one in snapshot.containers)
        return snapshot.events and not snapshot.uninspected and seen == count

    until(is_settled, f"the numbers of {count} containers")


def with_engine(count, endpoint):
    """Print the table of a real engine with so many running containers; returns what is above its limit, in words."""
    with tempfile.TemporaryDirectory() as folder, run_engine(Path(folder)) as engine:
        for _ in range(count):
            engine.client.containers.run(IMAGE, ["sleep", "36000"], detach=True, mem_limit="64m")
        path = engine.path
        daemon = [
            one
            for one in psutil.process_iter(["name", "cmdline"])
            if one.info["name"] in ("dockerd", "containerd")
            and any(str(path.parent) in word for word in one.info["cmdline"])
        ]
        ids = [one.id for one in engine.client.containers.list(sparse=True)]
        raw = Engine(Address(path), 30.0)
        raw.negotiate()
        reader = open_containers(environ=engine.host)
        settle(reader, count)
        client = docker.DockerClient(base_url=f"unix://{path}", timeout=60)

        def one_shot():
            with ThreadPoolExecutor(min(64, count)) as pool:
                list(pool.map(lambda found: raw.get(f"/containers/{found}/stats?stream=false&one-shot=true"), ids))

        def docker_py():
            with ThreadPoolExecutor(min(64, count)) as pool:
                list(pool.map(lambda one: one.stats(stream=False), client.containers.list(sparse=True)))

        beats = Beats(reader, endpoint)
        ways = [
            ("this agent: a cycle", beats.cycle, CYCLES),
            ("of it, reading", reader, CYCLES),
            ("of it, points", beats.points, CYCLES),
            ("this agent: an export, by the SDK", beats.export, CYCLES),
            ("statistics of the engine, one-shot, all at once", one_shot, 3),
            ("docker-py: list, and stats of each, all at once", docker_py, 3),
        ]
        print(f"{count} running containers, {beats.count()} points\n\n{HEAD}")
        costs = []
        for name, work, cycles in ways:
            told = measured(work, daemon, cycles)
            costs.append(told)
            print(f"| {name} | {' | '.join(f'{seconds * 1e3:.1f} ms' for seconds in told)} |", flush=True)
        quiet(daemon, reader)
        reader.close()
        # The least wall times: at any other moment somebody else may have had the processor.
        whole, reading, theirs, docker_s = costs[0][2], costs[1][1], costs[-2][1], costs[-1][1]
        times = theirs / reading
        print(
            f"\nWall time of a reading: the engine's statistics take {times:.0f} times as long, docker-py {docker_s / reading:.0f} times."
        )
        found = [f"a cycle takes {whole * 1e3:.1f} ms of CPU, more than {LIMIT_MS}"] if whole * 1e3 >= LIMIT_MS else []
        return found + ([f"the statistics take only {times:.0f} times as long"] if times < TIMES else [])


def quiet(daemon, reader):
    """Print what the daemon uses with and without the agent reading beside it, between events."""
    shares = []
    for read in (False, True):
        before, began = daemon_cpu(daemon), time.monotonic()
        while time.monotonic() - began < QUIET_S:
            if read:
                reader()
            time.sleep(1)
        shares.append((daemon_cpu(daemon) - before) / (time.monotonic() - began))
    print(
        f"\nThe daemon between events, over {QUIET_S:.0f} s: {shares[0] * 100:.2f} % of a core alone, {shares[1] * 100:.2f} % read each second."
    )


def made_up(count, endpoint):
    """Return the median CPU seconds of a cycle over so many made-up containers."""
    with scripted_engine() as engine, tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(HYBRID, root, symlinks=True)
        busy = engine.ids["busy"]
        template, entry = json.dumps(engine.containers[busy]), json.dumps(engine.entries[busy])
        engine.containers.clear()
        engine.entries.clear()
        files = [file for file in root.rglob("*") if file.is_file() and busy in str(file)]
        for number in range(count):
            fresh, pid = f"{number:064x}", 100_000 + number
            made = json.loads(template.replace(busy, fresh))
            made["State"]["Pid"], made["Name"] = pid, f"/c{number}"
            engine.containers[fresh] = made
            engine.entries[fresh] = json.loads(entry.replace(busy, fresh)) | {"Names": [f"/c{number}"]}
            for file in files:
                copy = Path(str(file).replace(busy, fresh))
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
            shutil.copytree(root / "proc/7685", root / f"proc/{pid}")
            cgroup = root / f"proc/{pid}/cgroup"
            cgroup.write_text(cgroup.read_text().replace(busy, fresh))
        reader = open_containers(root, environ=engine.host)
        settle(reader, count)
        beats = Beats(reader, endpoint)
        gc.collect()
        gc.freeze()  # what the made-up engine holds is not for the agent's collector to look through
        _, _, cpu, _, _ = measured(beats.cycle, [], CYCLES)
        gc.unfreeze()
        reader.close()
        return cpu


def main():
    """Print the tables; returns 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=50)
    count = parser.parse_args().containers
    above = []
    with sink() as endpoint:
        try:
            above = with_engine(count, endpoint)
        except NoEngineError as error:
            print(f"without an engine: {error}")
        few, many = made_up(50, endpoint), made_up(500, endpoint)
    print(
        f"\nMade-up trees: 50 containers {few * 1e3:.1f} ms of CPU a cycle, 500 containers {many * 1e3:.1f} ms: {many / few:.1f} times as much."
    )
    for one in above:
        print(f"\nAbove the limit: {one}.")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
