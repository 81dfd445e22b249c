"""CPU time from /proc/stat, and the numbers of CPUs.

The clock rate is left out: reading it asks every core by an interrupt, which on large machines costs more than all else here.
"""

import os
from collections.abc import Mapping

from otel_agent.sources.host.files import entries, read_file

# Columns of the line "cpu", as proc_pid_stat(5) orders them. Time for guests is contained in user and nice.
_COLUMNS: Mapping[str, tuple[int, ...]] = {
    "user": (1,),
    "nice": (2,),
    "system": (3,),
    "idle": (4,),
    "iowait": (5,),
    "interrupt": (6, 7),  # hardware interrupts and the soft ones they leave behind
    "steal": (8,),
}


def cpu_times(stat: bytes | None, ticks_per_s: int | None = None) -> dict[str, float]:
    """Return the seconds since boot by mode, of all CPUs together; empty where the line is missing or damaged."""
    line = (stat or b"").partition(b"\n")[0].split()
    if line[:1] != [b"cpu"]:
        return {}
    ticks = ticks_per_s or os.sysconf("SC_CLK_TCK")
    try:
        return {
            mode: sum(int(line[i]) for i in columns) / ticks
            for mode, columns in _COLUMNS.items()
            if columns[-1] < len(line)
        }
    except ValueError:
        return {}


def never_falling(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Return the times of now, none of them below before: the kernel takes back iowait and idle time at times."""
    return {mode: max(value, before.get(mode, 0.0)) for mode, value in now.items()}


def cpu_utilization(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each mode, 0-1, in the time between two readings; empty where no time has passed."""
    if not before or before.keys() != now.keys():
        return {}
    passed = {mode: max(0.0, value - before[mode]) for mode, value in now.items()}
    total = sum(passed.values())
    return {mode: value / total for mode, value in passed.items()} if total > 0 else {}


def logical_count(stat: bytes | None) -> int | None:
    """Return how many CPUs are online."""
    return (stat or b"").count(b"\ncpu") or None


def physical_count(sys: str) -> int | None:
    """Return how many cores there are, each with one or more threads, or None where the kernel does not tell."""
    folder = f"{sys}/devices/system/cpu"
    names = (name for name in entries(folder) if name.startswith("cpu") and name[3:].isdigit())
    cores = {read_file(f"{folder}/{name}/topology/thread_siblings_list") for name in names} - {None}
    return len(cores) or None
