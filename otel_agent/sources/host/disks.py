"""The counters of whole block devices, from /proc/diskstats.

Partitions, loop and RAM disks, and what is only mapped onto other devices (dm, md) are left out: their bytes are counted below already.
"""

from otel_agent.sources.host.files import link_target, read_number
from otel_agent.sources.host.snapshot import Disk

SECTOR = 512  # bytes; the unit of these files whatever the device's own sectors are
_NEVER = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd")


def is_whole_disk(name: str, sys: str) -> bool:
    """Tell whether this is a device of its own that holds data.

    The heads of NVMe multipath devices are virtual to the kernel, but the only ones that count the bytes.
    """
    if name.startswith(_NEVER):
        return False
    target = link_target(f"{sys}/block/{name.replace('/', '!')}")
    return target is not None and ("/virtual/" not in target or "/nvme-subsystem/" in target)


def read_disks(diskstats: bytes | None, sys: str, known: dict[str, bool]) -> tuple[Disk, ...]:
    """Return the disks; `known` remembers which names are whole disks, from one reading to the next."""
    found = []
    names = set()
    for line in (diskstats or b"").splitlines():
        words = line.split()
        if len(words) < 14:
            continue
        name = words[2].decode("utf-8", "replace")
        names.add(name)
        if name not in known:
            known[name] = is_whole_disk(name, sys)
        if known[name] and (disk := _disk(name, words[3:14], sys)):
            found.append(disk)
    for name in known.keys() - names:
        del known[name]
    return tuple(found)


def _disk(name: str, words: list[bytes], sys: str) -> Disk | None:
    try:
        reads, reads_merged, sectors_read, read_ms, writes, writes_merged, sectors_written, write_ms, _, io_ms, _ = map(
            int, words
        )
    except ValueError:
        return None
    size = read_number(f"{sys}/block/{name.replace('/', '!')}/size")
    return Disk(
        device=name,
        read_bytes=sectors_read * SECTOR,
        written_bytes=sectors_written * SECTOR,
        reads=reads,
        writes=writes,
        reads_merged=reads_merged,
        writes_merged=writes_merged,
        read_time_s=read_ms / 1000,
        write_time_s=write_ms / 1000,
        io_time_s=io_ms / 1000,
        size=None if size is None else size * SECTOR,
    )
