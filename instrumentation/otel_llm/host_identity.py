"""Which machine and which container this process runs in, as the files of the kernel and of the container engine tell.

Nothing is asked of an engine, a cloud or a cluster, and nothing is guessed: what the files do not prove is absent. Two traps
decide the shape. A container's `/etc/machine-id` comes with its image, the same in every container of it on every machine,
unless the machine's own is mounted there. And in a pod `/etc/hostname` is mounted from the sandbox, whose id is not the
container's. What else an SDK's detectors tell (host name, process, service) is left to them.
"""

import os
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MACHINE_ID_FILES: Final = ("etc/machine-id", "var/lib/dbus/machine-id")
FILE_CAP: Final = 1 << 20  # bytes; a container's mounts fill some kilobytes

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_MONITOR = "conmon-"  # the scope beside a container's, in which its engine waits for it
# Engines mount these into every container, and hardly anybody mounts them anywhere else. A file like /.dockerenv proves less:
# virtual machines are made of container images too.
_ENGINE_MOUNTS: Final = ("/etc/hostname", "/etc/hosts", "/run/.containerenv")


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process runs; None is unknown."""

    host_id: str | None
    container_id: str | None
    contained: bool  # inside a container, whether or not its id is told


def read_place(root: Path = Path("/")) -> Place:
    """Return where this process runs; `root` is the root of the file system that it sees."""
    mounts = _mounts(read_text(root / "proc/self/mountinfo") or "")
    container = _of_cgroups(read_text(root / "proc/self/cgroup") or "") or _of_mounts(mounts)
    contained = container is not None or any(point in mounts for point in _ENGINE_MOUNTS)
    names = MACHINE_ID_FILES if not contained else [name for name in MACHINE_ID_FILES if _is_hosts_own(name, mounts)]
    host = machine_id(root, names)
    if container is not None and host is not None and container.startswith(host):
        host = None  # Podman gives a container that runs systemd the start of its own id
    return Place(host, container, contained)


def machine_id(root: Path = Path("/"), names: Iterable[str] = MACHINE_ID_FILES) -> str | None:
    """Return the machine-id below a root that is known to be the machine's own, as `host.id` spells it."""
    for name in names:
        try:
            found = uuid.UUID((read_text(root / name) or "").strip())
        except ValueError:
            continue
        if found.int:
            return found.hex
    return None


def read_text(path: Path, cap: int = FILE_CAP) -> str | None:
    """Return the first bytes of a file as text, None where it cannot be read; a pipe in its place holds nobody up."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        found = b""
        while len(found) < cap and (more := os.read(file, cap - len(found))):
            found += more
    except OSError:
        return None
    finally:
        os.close(file)
    return found.decode("utf-8", "replace")


def _mounts(mountinfo: str) -> Mapping[str, str]:
    """Return, by mount point, the folder or file of its file system that is mounted there; the last mount is the one seen."""
    rows = (line.split(" ", 5) for line in mountinfo.splitlines())
    return {row[4]: row[3] for row in rows if len(row) == 6}


def _of_cgroups(text: str) -> str | None:
    """Return the container id that every line of /proc/self/cgroup with one agrees on: the innermost of its path."""
    paths = (line.split(":", 2)[-1] for line in text.splitlines())
    found = {_ID.findall(path)[-1] for path in paths if _MONITOR not in path and _ID.search(path)}
    return found.pop() if len(found) == 1 else None


def _of_mounts(mounts: Mapping[str, str]) -> str | None:
    """Return the container id in the folder from which the engine mounts what it writes for each container.

    It is what is left where the cgroup namespace hides the path. One limit: containers that share a network share these
    files too, so of such a group the id is that of the container which owns the network.
    """
    hostname, own = _id_in(mounts.get("/etc/hostname", "")), _id_in(mounts.get("/run/.containerenv", ""))
    if own is not None and own != hostname:
        return own
    in_pod = any("/kubelet/pods/" in mounts.get(point, "") for point in ("/etc/hosts", "/dev/termination-log"))
    return None if in_pod or "/sandboxes/" in mounts.get("/etc/hostname", "") else hostname


def _id_in(folder: str) -> str | None:
    found = _ID.findall(folder)
    return str(found[-1]) if found else None


def _is_hosts_own(name: str, mounts: Mapping[str, str]) -> bool:
    """Say whether a file of a container was mounted there from the machine, and not from what the engine keeps of containers."""
    point = f"/{name}"
    origin = mounts.get(point, mounts.get(point.rpartition("/")[0]))
    return origin is not None and not _ID.search(origin)
