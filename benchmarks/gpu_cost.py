"""What a reading of eight GPUs costs the agent, everything on, over the stand-in for NVIDIA's driver; in its own process and apart.

The CPU time is that of the whole process, the stand-in's own work included, which a real driver does partly in the kernel. What a real
driver takes besides is published as `otel_llm.gpu.driver.time`; here it is the stand-in's. Every reading is handed to the exporter here,
where the agent hands over every second one by default.

    python benchmarks/gpu_cost.py [--every 0.12] [--cycles 60]

With `--every 5 --cycles 15` it is read as seldom as the agent does by default: nothing is in the processor's caches then, and the driver's
sample buffers are full.
"""

import argparse
import ctypes
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fixtures.nvml.machine import HERE, build  # noqa: E402

from otel_agent.catalogue import values  # noqa: E402
from otel_agent.schedule import Published  # noqa: E402
from otel_agent.sources.gpu.child import open_gpus_apart  # noqa: E402
from otel_agent.sources.gpu.metrics import METRICS  # noqa: E402
from otel_agent.sources.gpu.read import open_gpus  # noqa: E402
from otel_agent.sources.gpu.snapshot import GpuSnapshot  # noqa: E402
from otel_agent.telemetry.instruments import Latest, bind  # noqa: E402

LIMIT_MS = 5.0


class Instruments:
    """Stands where a meter does: holds the callbacks that the SDK asks for points."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[None], Any]] = []

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda _name, callbacks, **_: self.callbacks.extend(callbacks)


def measure(
    read: Callable[[], GpuSnapshot], cycles: int, every_s: float
) -> tuple[list[tuple[float, float, float]], int, GpuSnapshot, GpuSnapshot]:
    """Return the CPU time of reading, of making points and of handing them to the exporter for each cycle, in seconds."""
    latest, instruments, fresh = Latest(), Instruments(), cast("Any", SimpleNamespace(latest=lambda: True))
    bind(cast("Any", instruments), METRICS, latest.points, begin=lambda: latest.hold(fresh))
    first = read()
    points = {row.name: values(row, first) for row in METRICS}
    found = []
    for _ in range(cycles):
        time.sleep(every_s)
        began = time.process_time()
        snapshot = read()
        was_read = time.process_time()
        points = {row.name: values(row, snapshot, points[row.name]) for row in METRICS}
        pointed = time.process_time()
        latest.publish(Published(snapshot, points, 0, 0, 0, None))
        for callback in instruments.callbacks:
            deque(callback(None), maxlen=0)
        found.append((was_read - began, pointed - was_read, time.process_time() - pointed))
    return found, sum(map(len, points.values())), first, snapshot


def typical(found: list[tuple[float, float, float]]) -> tuple[list[float], float]:
    """Return the medians over the cycles in milliseconds: each part, and together."""
    return [statistics.median(cycle[part] for cycle in found) * 1e3 for part in range(3)], statistics.median(
        map(sum, found)
    ) * 1e3


def child_cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int | str) -> float:
    """Return the resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def child_of(pid: int) -> int:
    """Return the one child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def main() -> int:
    """Print the costs; returns 1 where they are above the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--every", type=float, default=0.12, help="seconds between readings; the monitor wants a tenth of one"
    )
    parser.add_argument("--cycles", type=int, default=60)
    options = parser.parse_args()
    cycles: int = options.cycles
    library = build()
    if library is None:
        print("no C compiler: 'cc' is not on the PATH, the stand-in for the NVIDIA driver cannot be built")
        return 0
    os.environ["FAKE_NVML_SCRIPT"] = str(HERE / "h200x8-driver-590.48.01.conf")
    os.environ["LD_LIBRARY_PATH"] = str(library.parent)
    ctypes.CDLL(str(library))
    print("| reading | read | points | to the exporter | together | points |\n| --- | --- | --- | --- | --- | --- |")
    found, count, first, last = measure(open_gpus(), cycles, options.every)
    parts, inside = typical(found)
    print(f"| in the agent | {parts[0]:.2f} ms | {parts[1]:.2f} ms | {parts[2]:.2f} ms | {inside:.2f} ms | {count} |")
    groups: dict[str, float] = {}
    for before, after in zip(first.gpus, last.gpus, strict=True):
        for group, waited in (after.waited_s or {}).items():
            groups[group] = groups.get(group, 0.0) + (waited - (before.waited_s or {}).get(group, 0.0)) / cycles * 1e3
    own = rss_mib("self")
    apart = open_gpus_apart()
    pid = child_of(os.getpid())
    before_s = child_cpu_s(pid)
    found, count, _, _ = measure(apart, cycles, options.every)
    parts, outside = typical(found)
    child = (child_cpu_s(pid) - before_s) / cycles * 1e3
    print(
        f"| apart, the agent | {parts[0]:.2f} ms | {parts[1]:.2f} ms | {parts[2]:.2f} ms | {outside:.2f} ms | {count} |"
    )
    print(
        f"| apart, the other process, with the stand-in that looks for events 200 times a second | {child:.2f} ms | | | | |"
    )
    print(f"\nMemory: {own:.0f} MiB in one process; reading apart adds one of {rss_mib(pid):.0f} MiB.")
    waits = ", ".join(f"{group} {ms:.2f} ms" for group, ms in groups.items())
    print(f"Of the reading, spent in the stand-in, all GPUs together: {waits}; {sum(groups.values()):.2f} ms in all.")
    print(f"Without the stand-in: {inside - sum(groups.values()):.2f} ms of the agent's own.")
    print(f"The limit of a reading, the stand-in's work included: {LIMIT_MS:g} ms.")
    return 0 if inside <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
