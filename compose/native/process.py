"""One server of the stack as an ordinary process: started, waited for, stopped by its own pid."""

import contextlib
import http.client
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from compose.native.ports import StackError

ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Service:
    """How one server is started; every listener it opens is in its command or environment."""

    name: str
    command: tuple[str, ...]
    ready_url: str  # answers 200 when the server is ready; tcp:// where a connection says it
    ports: frozenset[str]  # fields of Ports that it listens on
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)  # written before each start
    links: Mapping[Path, Path] = field(default_factory=dict)  # link → what it points to, renewed before each start
    folders: tuple[Path, ...] = ()
    ready_s: float = 60.0
    stop_s: float = 15.0


class Process:
    """A service that can be started, stopped and started again; its output goes to a file."""

    def __init__(self, service: Service, log: Path) -> None:
        self.service = service
        self.log = log
        self.log_start = 0  # where in the log the last start begins
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen is not None else None

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start the process; what it prints is added to its log."""
        service = self.service
        for folder in (self.log.parent, *service.folders, *(path.parent for path in (*service.files, *service.links))):
            folder.mkdir(parents=True, exist_ok=True)
        for path, text in service.files.items():
            path.write_text(text)
        for link, target in service.links.items():
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        with self.log.open("ab") as output:
            self.log_start = output.tell()
            # A session of its own: Ctrl-C reaches only the stack, which stops its servers in order.
            self._popen = subprocess.Popen(
                service.command,
                env=os.environ | dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Return once the server says that it is ready; raises StackError when it ends before or takes too long."""
        deadline = time.monotonic() + self.service.ready_s
        while time.monotonic() < deadline:
            if not self.running:
                raise StackError(self.epitaph())
            with contextlib.suppress(OSError, http.client.HTTPException):  # not yet; the deadline decides
                _ask(self.service.ready_url)
                return
            time.sleep(0.1)
        raise StackError(f"{self.service.name} was not ready after {self.service.ready_s:.0f} s; see {self.log}")

    def stop(self) -> None:
        """Ask the process to end, and end it after its time is up."""
        if self._popen is None:
            return
        self._popen.terminate()
        try:
            self._popen.wait(self.service.stop_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process without a word to it (SIGKILL)."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait(10)

    def epitaph(self) -> str:
        """Say how the process ended, with the last lines it printed."""
        status = self._popen.poll() if self._popen is not None else None
        lines = self.log.read_text(errors="replace").splitlines()[-5:] if self.log.is_file() else []
        return "\n".join(
            [
                f"{self.service.name} ended with status {status}; see {self.log}",
                *(f"    {line[:400]}" for line in lines),
            ]
        )


def _ask(url: str) -> None:
    """Return where the server at this URL is ready; raises OSError where it is not."""
    parts = urlsplit(url)
    if parts.scheme == "tcp":
        socket.create_connection((parts.hostname or "", parts.port or 0), ASK_TIMEOUT_S).close()
    else:
        urllib.request.urlopen(url, timeout=ASK_TIMEOUT_S).close()  # noqa: S310 - our own URLs; an HTTPError is an OSError
