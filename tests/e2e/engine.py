"""A real Docker Engine of its own for tests: own socket, data and bridge below one folder, so that no other is disturbed.

It installs nothing: scripts/system_packages.py does, for all end-to-end tests.
"""

import contextlib
import io
import itertools
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker

IMAGE = "otel-llm-toy:1"
APPLETS = ("cat", "dd", "ping", "sh", "sleep", "true")
READY_S = 60.0
_BRIDGES = itertools.count()


class NoEngineError(Exception):
    """No engine can be started here; the text says why and what would help."""


@dataclass(frozen=True)
class RealEngine:
    """A running engine: `client` talks to it, its containers reach this machine at `gateway`."""

    path: Path
    client: docker.DockerClient
    gateway: str

    @property
    def host(self) -> dict[str, str]:
        """The environment that leads to it."""
        return {"DOCKER_HOST": f"unix://{self.path}"}


@contextlib.contextmanager
def run_engine(folder: Path) -> Iterator[RealEngine]:
    """Start an engine below `folder`, with the image there and no container; raises NoEngineError with the reason."""
    if os.geteuid() != 0:
        raise NoEngineError("a Docker Engine is started by root only")
    if missing := [name for name in ("dockerd", "busybox", "ip") if not shutil.which(name, path=_path())]:
        raise NoEngineError(f"no {' and no '.join(missing)} here: scripts/system_packages.py installs them")
    path, log = folder / "docker.sock", folder / "dockerd.log"
    with _bridge() as (bridge, gateway), log.open("wb") as out:
        server = subprocess.Popen(
            [
                "dockerd",
                f"--host=unix://{path}",
                f"--data-root={folder / 'data'}",
                f"--exec-root={folder / 'exec'}",
                f"--pidfile={folder / 'dockerd.pid'}",
                "--storage-driver=vfs",  # works on every file system, also inside another container
                f"--bridge={bridge}",
                "--iptables=false",
                "--ip-forward=false",
                "--ip-masq=false",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": _path()},
        )
        try:
            with contextlib.closing(_client(path, server, log)) as client:
                name, _, tag = IMAGE.partition(":")
                client.api.import_image_from_data(_root_file_system(), repository=name, tag=tag)
                try:
                    yield RealEngine(path, client, gateway)
                finally:
                    for container in client.containers.list(all=True):
                        container.remove(force=True)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(5)
            _unmount(folder)


def _client(path: Path, server: "subprocess.Popen[bytes]", log: Path) -> docker.DockerClient:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and server.poll() is None:
        # A client is made only once something listens: one that fails leaves its socket open.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return docker.DockerClient(base_url=f"unix://{path}", version="auto", timeout=20)
        time.sleep(0.1)
    last = " / ".join(log.read_text(errors="replace").splitlines()[-3:])
    raise NoEngineError(f"dockerd did not come up within {READY_S:.0f} s: {last}")


@contextlib.contextmanager
def _bridge() -> Iterator[tuple[str, str]]:
    """Yield name and address of a bridge of this process; several engines may run at a time, here and in other processes."""
    number = next(_BRIDGES)
    bridge, gateway = f"otel{os.getpid()}-{number}", f"10.213.{(os.getpid() + number) % 256}.1"
    try:
        for command in ("link add {0} type bridge", "addr add {1}/24 dev {0}", "link set {0} up"):
            done = _ip(command.format(bridge, gateway))
            if done.returncode:
                raise NoEngineError(f"no bridge can be made: {done.stderr.strip()}")
        yield bridge, gateway
    finally:
        _ip(f"link del {bridge}")


def _ip(command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *command.split()], check=False, capture_output=True, text=True, env={"PATH": _path()})


def _unmount(folder: Path) -> None:
    """Unmount what the daemon leaves mounted when it ends: the folder could not be removed otherwise."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def _root_file_system() -> bytes:
    """Return a tar archive that is a whole root: the static busybox and links to it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(shutil.which("busybox", path=_path()) or "busybox", "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return archive.getvalue()


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/bin"
