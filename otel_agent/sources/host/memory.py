"""Main memory and swap, from /proc/meminfo and /proc/vmstat."""

from collections.abc import Mapping

from otel_agent.sources.host.files import fact
from otel_agent.sources.host.snapshot import Memory, Paging


def parse_meminfo(content: bytes | None) -> dict[str, int]:
    """Return the bytes by name of /proc/meminfo; a damaged line is left out."""
    found: dict[str, int] = {}
    for line in (content or b"").splitlines():
        name, _, rest = line.partition(b":")
        words = rest.split()
        if len(words) == 2 and words[1] == b"kB" and words[0].isdigit():
            found[name.decode("ascii", "replace")] = int(words[0]) * 1024
    return found


def memory(info: Mapping[str, int]) -> Memory:
    """Return main memory by state; used and cached are unknown where the kernel lacks one of the facts they are made of.

    Cached is page cache and reclaimable slab without the pages of tmpfs, which nothing can drop; `free` and many tools count these as
    cached, and so hide the shared memory of an inference server.
    """
    total, free, buffers = info.get("MemTotal"), info.get("MemFree"), info.get("Buffers")
    pages, shared, slab = info.get("Cached"), info.get("Shmem"), info.get("SReclaimable")
    cached = None if pages is None or shared is None or slab is None else max(0, pages + slab - shared)
    used = (
        None
        if total is None or free is None or buffers is None or cached is None
        else max(0, total - free - buffers - cached)
    )
    return Memory(total, used, free, buffers, cached, info.get("MemAvailable"), shared, slab, info.get("SUnreclaim"))


def paging(info: Mapping[str, int], vmstat: bytes | None) -> Paging:
    """Return swap space and the counters of paging; minor faults are all faults that needed no disk."""
    faults, major = fact(vmstat, b"pgfault"), fact(vmstat, b"pgmajfault")
    return Paging(
        total=info.get("SwapTotal"),
        free=info.get("SwapFree"),
        faults_minor=None if faults is None or major is None else max(0, faults - major),
        faults_major=major,
        pages_in=fact(vmstat, b"pswpin"),
        pages_out=fact(vmstat, b"pswpout"),
        oom_kills=fact(vmstat, b"oom_kill"),
    )
