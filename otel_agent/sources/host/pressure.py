"""Pressure stall information (PSI), as kernel.org's accounting/psi describes it."""

from dataclasses import replace

from otel_agent.sources.host.files import entries, read_file
from otel_agent.sources.host.snapshot import Stall


def parse_stall(content: bytes) -> Stall:
    """Return the stall times of one resource; a kernel that has no row for all tasks gives None for it."""
    totals: dict[bytes, float] = {}
    for line in content.splitlines():
        kind, _, rest = line.partition(b" ")
        total = rest.rpartition(b"total=")[2]
        if total.isdigit():
            totals[kind] = int(total) / 1e6
    return Stall(totals.get(b"some"), totals.get(b"full"))


def read_pressure(proc: str) -> dict[str, Stall]:
    """Return the stalls by resource; empty where the kernel keeps none (it must be started with psi=1)."""
    folder = f"{proc}/pressure"
    contents = {name: read_file(f"{folder}/{name}") for name in entries(folder)}
    stalls = {name: parse_stall(content) for name, content in contents.items() if content}
    if "cpu" in stalls:
        # Of the machine as a whole the kernel cannot tell it, and writes 0 to keep the format (since 5.13).
        stalls["cpu"] = replace(stalls["cpu"], full_s=None)
    return stalls
