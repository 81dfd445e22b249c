"""Which filesystems count, and that one that hangs holds up nothing but itself."""

import os
import threading
import time
from pathlib import Path

from recorded_host import BLOCK, Mounted, recorded_root

from otel_agent.sources.host.filesystems import MOST, Filesystems
from otel_agent.sources.host.snapshot import Filesystem

NODE = {
    "/": (1000, 700, 600, 500, 400),
    "/boot/efi": (10, 9, 9, 0, 0),
    "/data": (2000, 1500, 1400, 50, 40),
    "/models": (9000, 1000, 1000, 0, 0),
    "/buckets/a": (100, 90, 90, 0, 0),
    "/buckets/b": (100, 80, 80, 0, 0),
}
ROOT = Filesystem("/dev/mapper/vg-root", "/", "xfs", 1000 * BLOCK, 300 * BLOCK, 600 * BLOCK, 500, 400)
EFI = Filesystem("/dev/nvme0n1p1", "/boot/efi", "vfat", 10 * BLOCK, BLOCK, 9 * BLOCK)
BUCKETS = tuple(
    Filesystem("s3fs", f"/buckets/{name}", "fuse.s3fs", 100 * BLOCK, used * BLOCK, (100 - used) * BLOCK)
    for name, used in (("a", 10), ("b", 20))
)
DATA = Filesystem("/dev/md0", "/data", "ext4", 2000 * BLOCK, 500 * BLOCK, 1400 * BLOCK, 50, 40)
MODELS = Filesystem("nas:/models", "/models", "nfs4", 9000 * BLOCK, 8000 * BLOCK, 1000 * BLOCK)


def of(root: Path, mounted: Mounted, deadline_s: float = 5.0) -> Filesystems:
    return Filesystems(str(root), str(root / "proc/1/mounts"), mounted.statvfs, mounted.stat, deadline_s)


def table(root: Path, *lines: str) -> None:
    (root / "proc/1").mkdir(parents=True)
    (root / "proc/1/mounts").write_text("".join(f"{line} rw 0 0\n" for line in lines))


def test_each_device_counts_once_and_pseudo_filesystems_not_at_all(tmp_path: Path) -> None:
    """A mount that cannot be seen from here is named, since asking for it would answer for the filesystem above."""
    root = recorded_root(tmp_path, "handmade-gpu-node")

    assert of(root, Mounted(root, NODE)).read() == ((ROOT, EFI, *BUCKETS, DATA, MODELS), {"/data/late": "hidden"})


def test_space_adds_up_and_utilization_is_that_of_df() -> None:
    assert ROOT.used + ROOT.free + ROOT.reserved == ROOT.size
    assert ROOT.utilization == 300 / 900
    assert Filesystem("/dev/vda", "/", "ext4", 0, 0, 0).utilization is None


def test_the_root_filesystem_counts_whatever_its_type(tmp_path: Path) -> None:
    """In a container it is an overlay, and single files of other filesystems are mounted into it."""
    table(tmp_path, "overlay / overlay", "/dev/sda1 /etc/hosts ext4", "/dev/sda1 /models ext4", "tmpfs /run tmpfs")
    spaces = {"/": (100, 60, 50, 9, 8), "/etc/hosts": (500, 400, 400, 0, 0), "/models": (500, 400, 400, 0, 0)}
    mounted = Mounted(tmp_path, spaces, files=("/etc/hosts",))

    assert of(tmp_path, mounted).read() == (
        (
            Filesystem("overlay", "/", "overlay", 100 * BLOCK, 40 * BLOCK, 50 * BLOCK, 9, 8),
            Filesystem("/dev/sda1", "/models", "ext4", 500 * BLOCK, 100 * BLOCK, 400 * BLOCK),
        ),
        {},
    )


def test_a_mount_point_may_have_blanks(tmp_path: Path) -> None:
    table(tmp_path, r"/dev/sdb /models\040and\040weights ext4")

    found, unread = of(
        tmp_path, Mounted(tmp_path, {"/": (1, 1, 1, 0, 0), "/models and weights": (4, 2, 2, 0, 0)})
    ).read()

    assert ([one.mountpoint for one in found], unread) == (["/models and weights"], {})


def test_a_dead_server_holds_up_only_itself_and_is_not_asked_twice(tmp_path: Path) -> None:
    table(
        tmp_path, "/dev/vda / ext4", "nas:/models /models nfs4", "nas:/data /data nfs4", "/dev/loop7 /models/inner ext4"
    )
    mounted = Mounted(
        tmp_path,
        {"/": (9, 5, 5, 0, 0), "/models": (4, 2, 2, 0, 0), "/data": (4, 2, 2, 0, 0), "/models/inner": (2, 1, 1, 0, 0)},
    )
    answered = threading.Event()
    asked: list[str] = []

    def statvfs(path: str) -> os.statvfs_result:
        if "/models" in path:
            asked.append(path.removeprefix(str(tmp_path)))
            assert answered.wait(30)
        return mounted.statvfs(path)

    filesystems = Filesystems(str(tmp_path), str(tmp_path / "proc/1/mounts"), statvfs, mounted.stat, deadline_s=1.0)
    readings = [read_timed(filesystems) for _ in range(3)]
    asked_while_dead = sorted(asked)
    answered.set()
    recovered = read_until_nothing_is_missing(filesystems)

    assert [([one.mountpoint for one in found], unread) for found, unread, _ in readings] == [
        (["/", "/data"], {"/models": "stuck", "/models/inner": "stuck"})
    ] * 3
    assert asked_while_dead == ["/models", "/models/inner"]  # what lies below a dead mount hangs as well
    assert readings[2][2] < 1.0  # what is known to be stuck is not waited for again
    assert [one.mountpoint for one in recovered] == ["/", "/data", "/models", "/models/inner"]


def test_a_filesystem_that_fails_is_named_and_the_others_are_told(tmp_path: Path) -> None:
    table(tmp_path, "/dev/vda / ext4", "/dev/vdb /broken xfs", "sshfs /far fuse.sshfs")
    mounted = Mounted(tmp_path, {"/": (9, 5, 5, 0, 0), "/broken": (4, 2, 2, 0, 0), "/far": (4, 2, 2, 0, 0)})

    def statvfs(path: str) -> os.statvfs_result:
        if not path.endswith("/"):
            raise OSError(5, "Input/output error")
        return mounted.statvfs(path)

    found, unread = Filesystems(str(tmp_path), str(tmp_path / "proc/1/mounts"), statvfs, mounted.stat).read()

    assert ([one.mountpoint for one in found], unread) == (["/"], {"/broken": "failed", "/far": "failed"})


def test_more_filesystems_than_the_limit_are_named_not_read(tmp_path: Path) -> None:
    places = [f"/volumes/{number:03}" for number in range(MOST + 2)]
    table(tmp_path, "/dev/vda / ext4", *(f"/dev/vd{place} {place} ext4" for place in places))

    found, unread = of(
        tmp_path, Mounted(tmp_path, {"/": (9, 5, 5, 0, 0), **dict.fromkeys(places, (4, 2, 2, 0, 0))})
    ).read()

    assert (len(found), unread) == (MOST, dict.fromkeys(places[-3:], "limit"))


def test_a_missing_mount_table_gives_no_filesystem(tmp_path: Path) -> None:
    assert of(tmp_path, Mounted(tmp_path)).read() == ((), {})


def read_timed(filesystems: Filesystems) -> tuple[tuple[Filesystem, ...], dict[str, object], float]:
    start = time.monotonic()
    found, unread = filesystems.read()
    return found, dict(unread), time.monotonic() - start


def read_until_nothing_is_missing(filesystems: Filesystems) -> tuple[Filesystem, ...]:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found, unread = filesystems.read()
        if not unread:
            return found
    raise AssertionError(f"still missing: {unread}")
