"""Puts a recorded machine together: a root with its /proc and /sys, and what its filesystems answer."""

import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"
BLOCK = 4096


def recorded_root(folder: Path, machine: str) -> Path:
    """Return a copy of a recorded machine's root below `folder`, free to be changed."""
    root = folder / "host"
    for kind in ("proc", "sys"):
        shutil.copytree(FIXTURES / kind / machine, root / kind, symlinks=True)
    (root / "etc").mkdir()
    (root / "etc" / "hostname").write_text("recorded\n")
    return root


@dataclass
class Mounted:
    """Stands for the kernel's answers about mounted filesystems: blocks, free, free for users, inodes and free inodes by mount point."""

    root: Path
    spaces: dict[str, tuple[int, int, int, int, int]] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # mount points that are single files

    def _mountpoint(self, path: str) -> str:
        inside = path.removeprefix(str(self.root)) or "/"
        return max((place for place in self.spaces if f"{inside}/".startswith(f"{place.rstrip('/')}/")), key=len)

    def statvfs(self, path: str) -> os.statvfs_result:
        """Answer like os.statvfs."""
        blocks, free, free_for_users, inodes, inodes_free = self.spaces[self._mountpoint(path)]
        return os.statvfs_result((BLOCK, BLOCK, blocks, free, free_for_users, inodes, inodes_free, inodes_free, 0, 255))

    def stat(self, path: str) -> os.stat_result:
        """Answer like os.stat: each mounted filesystem is a device of its own."""
        place = self._mountpoint(path)
        kind = stat.S_IFREG if place in self.files else stat.S_IFDIR
        return os.stat_result((kind | 0o755, 1, 1 + list(self.spaces).index(place), 1, 0, 0, 0, 0, 0, 0))


class Clock:
    """Tells the time that the test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
