"""What reading containers costs: this agent's way beside the engine's statistics, by raw requests and by docker-py, in the same run.

Fifty real containers of an engine started for this. CPU is the process's own accounting, of all its threads; the daemon's is
that of dockerd and containerd. Then the same reader over made-up trees of 50 and 500 containers: whether the cost is linear.
"""

import argparse
import contextlib
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
from agent.sources.scripted_engine import HYBRID, scripted_engine
from e2e.engine import IMAGE, NoEngineError, run_engine

from otel_agent.catalogue import values
from otel_agent.sources.containers.engine import Address, Engine
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import open_containers

CYCLES = 20
QUIET_S = 20.0
HEAD = "| way | wall | CPU of the reader | the least of it | CPU of the daemon |\n| --- | --- | --- | --- | --- |"


def daemon_cpu(processes):
    """Return the CPU seconds of the engine's processes; those that have gone count no more."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def measured(work, daemon, cycles):
    """Return the medians of wall and own CPU seconds of one cycle, the least own CPU, and the mean of the daemon's."""
    walls, cpus, before = [], [], daemon_cpu(daemon)
    for _ in range(cycles):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus), min(cpus), (daemon_cpu(daemon) - before) / cycles


def points(snapshot):
    """Make the points of all rows, as the worker does."""
    return {row.name: values(row, snapshot) for row in METRICS}


def settled(reader):
    """Read until the engine is asked nothing more."""
    while not (snapshot := reader()).events or snapshot.uninspected:
        time.sleep(0.1)
    time.sleep(0.5)
    reader()
    return snapshot


def with_engine(count):
    """Print the table of a real engine with so many running containers; returns our wall time and the statistics'."""
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
        snapshot = settled(reader)
        assert sum(one.usage is not None for one in snapshot.containers) == count
        client = docker.DockerClient(base_url=f"unix://{path}", timeout=60)

        def one_shot():
            with ThreadPoolExecutor(min(64, count)) as pool:
                list(pool.map(lambda found: raw.get(f"/containers/{found}/stats?stream=false&one-shot=true"), ids))

        def docker_py():
            with ThreadPoolExecutor(min(64, count)) as pool:
                list(pool.map(lambda one: one.stats(stream=False), client.containers.list(sparse=True)))

        ways = [
            ("this agent: one reading", reader, CYCLES),
            ("this agent: its points", lambda: points(snapshot), CYCLES),
            ("statistics of the engine, one-shot, all at once", one_shot, 3),
            ("docker-py: list, and stats of each, all at once", docker_py, 3),
        ]
        print(f"{count} running containers, {sum(map(len, points(snapshot).values()))} points\n\n{HEAD}")
        walls = []
        for name, work, cycles in ways:
            wall, cpu, least, theirs = measured(work, daemon, cycles)
            walls.append(wall)
            print(
                f"| {name} | {wall * 1e3:.1f} ms | {cpu * 1e3:.1f} ms | {least * 1e3:.1f} ms | {theirs * 1e3:.1f} ms |",
                flush=True,
            )
        quiet(daemon, reader)
        reader.close()
        print(
            f"\nWall time: the engine's statistics take {walls[2] / walls[0]:.0f} times as long, docker-py {walls[3] / walls[0]:.0f} times."
        )


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


def made_up(count):
    """Return the median CPU seconds of a reading of so many made-up containers."""
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
        settled(reader)
        _, cpu, _, _ = measured(reader, [], CYCLES)
        reader.close()
        return cpu


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=50)
    count = parser.parse_args().containers
    try:
        with_engine(count)
    except NoEngineError as error:
        print(f"without an engine: {error}")
    few, many = made_up(50), made_up(500)
    print(
        f"\nMade-up trees: 50 containers {few * 1e3:.1f} ms of CPU a reading, 500 containers {many * 1e3:.1f} ms: {many / few:.1f} times as much."
    )


if __name__ == "__main__":
    main()
