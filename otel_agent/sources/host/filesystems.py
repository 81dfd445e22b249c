"""The space of mounted filesystems, from the machine's mount table and statvfs.

Pseudo filesystems and tmpfs are left out, but the root filesystem stays whatever its type; of a device mounted at several places the
shortest path counts. Filesystems on local block devices are asked directly, all others (NFS, CIFS, FUSE and so on) beside the reader.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from posixpath import dirname

from otel_agent.sources.host.aside import Aside
from otel_agent.sources.host.files import read_file
from otel_agent.sources.host.snapshot import Filesystem, Unread

MOST = 64  # filesystems read; a node with more has them from a storage plugin that reports them itself
_PSEUDO = re.compile(
    r"autofs|bdev|binfmt_misc|bpf|cgroup2?|configfs|cpuset|debugfs|devfs|devpts|devtmpfs|ecryptfs|efivarfs|erofs|fusectl|hugetlbfs|iso9660"
    r"|fuse\.(gvfsd-fuse|lxcfs|portal|snapfuse)|mqueue|nfsd|nsfs|overlay|pipefs|proc|pstore|ramfs|resctrl|rootfs|rpc_pipefs|securityfs"
    r"|selinuxfs|sockfs|squashfs|sysfs|tmpfs|tracefs|udf"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")
Answer = Filesystem | Unread | None


@dataclass(frozen=True)
class Mount:
    """One line of the mount table."""

    device: str
    mountpoint: str
    type: str

    @property
    def local(self) -> bool:
        """Tell whether the kernel can answer for it without asking somebody else."""
        return (self.device.startswith("/dev/") and not self.type.startswith("fuse")) or self.type in (
            "zfs",
            "overlay",
            "rootfs",
            "tmpfs",
        )


def parse_mounts(content: bytes | None) -> tuple[Mount, ...]:
    """Return the real filesystems of a mount table, each device once, the shortest mount point first."""
    last: dict[str, Mount] = {}  # what is mounted last at a place hides what was there
    for line in (content or b"").decode("utf-8", "surrogateescape").splitlines():
        words = [_ESCAPED.sub(lambda match: chr(int(match[1], 8)), word) for word in line.split(" ")]
        if len(words) >= 3:
            last[words[1]] = Mount(*words[:3])
    real = [mount for mount in last.values() if mount.mountpoint == "/" or not _PSEUDO.fullmatch(mount.type)]
    return tuple(sorted(real, key=lambda mount: (len(mount.mountpoint), mount.mountpoint)))


class Filesystems:
    """Reads the filesystems of the machine whose root stands at `root`; keeps only what is stuck from one reading to the next."""

    def __init__(
        self,
        root: str,
        table: str,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
        stat_path: Callable[[str], os.stat_result] = os.stat,
        deadline_s: float = 1.0,
    ) -> None:
        self._root = root.rstrip("/")
        self._table = table
        self._statvfs = statvfs
        self._stat = stat_path
        self._aside: Aside[Answer] = Aside(deadline_s)

    def read(self) -> tuple[tuple[Filesystem, ...], dict[str, Unread]]:
        """Return the filesystems, and by mount point why one is missing: stuck, failed, hidden by another mount, or beyond the limit."""
        found: dict[str, Filesystem] = {}
        unread: dict[str, Unread] = {}
        devices: set[str] = set()
        remote: dict[str, Mount] = {}
        far: list[str] = []  # mount points of what may hang, and of all that is mounted below
        for mount in parse_mounts(read_file(self._table)):
            below = any(mount.mountpoint.startswith(f"{place}/") for place in far)
            if below or not mount.local:
                far.append(mount.mountpoint)
            identity = mount.device if "/" in mount.device else f"{mount.device} {mount.mountpoint}"
            if identity in devices:
                continue
            if len(found) + len(remote) >= MOST:
                unread[mount.mountpoint] = "limit"
            elif below or not mount.local:
                devices.add(identity)
                remote[mount.mountpoint] = mount
            elif isinstance(answer := self._measure(mount), Filesystem):
                devices.add(identity)
                found[mount.mountpoint] = answer
            elif answer:
                unread[mount.mountpoint] = answer
        answers = self._aside.ask({place: partial(self._measure, mount) for place, mount in remote.items()})
        for place in remote:
            late: Answer = answers.get(place, "stuck")
            if isinstance(late, Filesystem):
                found[place] = late
            elif late:
                unread[place] = late
        return tuple(found[place] for place in sorted(found)), unread

    def _measure(self, mount: Mount) -> Answer:
        """Return the space of one filesystem, why it cannot be told, or None for what has no space of its own to speak of."""
        path = f"{self._root}{mount.mountpoint}"
        try:
            if mount.mountpoint != "/":
                top = self._stat(path)
                if not stat.S_ISDIR(top.st_mode):
                    return None  # a single file mounted into a container
                if top.st_dev == self._stat(dirname(path)).st_dev:
                    return (
                        "hidden"  # seen from here there is no mount: its numbers would be those of the filesystem above
                    )
            space = self._statvfs(path)
        except OSError:
            return "failed"
        if not space.f_blocks:
            return None
        return Filesystem(
            device=_printable(mount.device),
            mountpoint=_printable(mount.mountpoint),
            type=mount.type,
            size=space.f_blocks * space.f_frsize,
            used=(space.f_blocks - space.f_bfree) * space.f_frsize,
            free=space.f_bavail * space.f_frsize,
            inodes=space.f_files or None,
            inodes_free=space.f_ffree if space.f_files else None,
        )


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
