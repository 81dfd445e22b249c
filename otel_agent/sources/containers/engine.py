"""The few questions the agent asks a Docker Engine: small GETs over its socket, under a total deadline and a size cap.

Written on http.client because the agent needs four paths and hard bounds. docker-py bounds each receive but not the
whole answer, caps no body, gives the events stream no timeout at all, loads the user's registry credentials, and its
import costs 8 to 14 MB and a quarter of a second. What the answers mean is left to `identity`, when to ask to `read`
and `watch`.
"""

import contextlib
import errno
import http.client
import io
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otel_agent.errors import ReadError, Unavailable

SOCKET = Path("/var/run/docker.sock")
PODMAN = Path("run/podman/podman.sock")  # below the host's root; Podman answers the same questions there
OLDEST_API, NEWEST_API = (
    (1, 41),
    (1, 52),
)  # Engine 20.10 to 29; https://docs.docker.com/reference/api/engine/#api-version-matrix
BODY_CAP = 32 * 2**20  # bytes; a list entry is about 2 KB, an inspection about 6 KB
LINE_CAP = 2**20


class MissingError(ReadError):
    """The engine knows no such container (any more)."""


@dataclass(frozen=True)
class Address:
    """Where the engine listens: a unix socket's path, or host and port of plain TCP (a socket proxy, for example)."""

    path: Path | None = None
    host: str = "localhost"
    port: int = 2375

    def __str__(self) -> str:
        return str(self.path) if self.path else f"{self.host}:{self.port}"


def find_address(environ: Mapping[str, str], root: Path) -> Address:
    """Return the engine's address from DOCKER_HOST, or the first usual socket there is; raises Unavailable for what cannot be used.

    Usual are Docker's, the user's own Docker (rootless), Podman's and the user's own Podman. Where the host's root is mounted
    elsewhere, its sockets count too (/var/run is an absolute link on hosts).
    """
    named = environ.get("DOCKER_HOST", "").strip()
    if not named:
        mine = [Path(folder)] if (folder := environ.get("XDG_RUNTIME_DIR", "").strip()).startswith("/") else []
        usual = [SOCKET, *([root / "run/docker.sock"] if root != Path("/") else [])]
        usual += [*(folder / "docker.sock" for folder in mine), root / PODMAN]
        usual += [folder / "podman/podman.sock" for folder in mine]
        return Address(next((path for path in usual if path.exists()), SOCKET))
    remedy = f"set DOCKER_HOST to unix://{SOCKET} or tcp://host:port, or unset it"
    try:
        parts = urlsplit(named)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Unavailable(f"DOCKER_HOST {named!r} is no address", remedy) from None
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Address(Path(parts.path))
    if parts.scheme == "tcp" and host and not parts.path.strip("/"):
        if environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS"):
            raise Unavailable("DOCKER_HOST asks for TLS, which is meant for engines on other machines", remedy)
        return Address(None, host, port or 2375)
    raise Unavailable(f"DOCKER_HOST {named!r} is neither a unix socket nor plain TCP", remedy)


class _Link(io.RawIOBase):
    """What http.client asks of a socket; reads share one deadline, so an answer that arrives byte by byte ends too."""

    def __init__(self, link: socket.socket, timeout_s: float) -> None:
        self._link = link
        self.until = time.monotonic() + timeout_s

    def sendall(self, data: bytes) -> None:
        self._link.sendall(data)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._link.settimeout(left)
        return self._link.recv_into(into)

    def close(self) -> None:
        """Leave the socket to its owner: http.client closes what it was given before the body is read."""


class Engine:
    """One Docker Engine, asked over a new connection each time: cheap on a unix socket, and nothing goes stale."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.api = ""  # negotiated again after each call that failed: the engine may have been replaced
        self.version: str | None = None
        self.kind = "docker"

    def get(self, path: str) -> Any:
        """Return the JSON answer of one GET; raises MissingError for 404, ReadError for everything else that goes wrong."""
        try:
            if not self.api:
                self.negotiate()
            return self._ask(f"/v{self.api}{path}")
        except MissingError:
            raise
        except ReadError:
            self.api = ""
            raise

    @contextlib.contextmanager
    def lines(self, path: str, lifetime_s: float, opened: Callable[[socket.socket], None]) -> Iterator[Iterator[bytes]]:
        """Yield the lines of a stream; raises ReadError where it cannot be opened or breaks.

        After `lifetime_s` the iterator raises TimeoutError. `opened` is handed the socket: shutting it down from another
        thread ends the stream.
        """
        self.negotiate()  # the engine may have been replaced since the last stream
        with self._errors(path), self._connect() as connected:
            opened(connected)
            link = _Link(connected, self.timeout_s)
            response = self._request(link, f"/v{self.api}{path}")
            link.until += lifetime_s
            yield self._split(response)

    def text(self, path: str, cap: int) -> bytes:
        """Return the first `cap` bytes of an answer that is no JSON; raises as `get` does."""
        if not self.api:
            self.negotiate()
        path = f"/v{self.api}{path}"
        with self._errors(path), self._connect() as connected:
            return self._request(_Link(connected, self.timeout_s), path).read(cap)

    def negotiate(self) -> None:
        """Agree on an API version; raises ReadError without a sound answer, Unavailable where the engine is too old."""
        told = self._ask("/version")
        told = told if isinstance(told, dict) else {}
        newest, oldest = _api(told.get("ApiVersion")), _api(told.get("MinAPIVersion"))
        if newest is None:
            raise ReadError(f"Docker at {self.address} tells no API version: is this a Docker Engine?")
        if newest < OLDEST_API:
            reason = f"Docker at {self.address} speaks API {_dotted(newest)}"
            raise Unavailable(reason, f"update it: Engine 20.10 (API {_dotted(OLDEST_API)}) is the oldest that is read")
        self.api = _dotted(max(min(newest, NEWEST_API), oldest or OLDEST_API))
        self.version = told["Version"] if isinstance(told.get("Version"), str) else None
        parts = told.get("Components")
        names = [str(part.get("Name")) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        self.kind = "podman" if any("podman" in name.lower() for name in names) else "docker"

    def _ask(self, path: str) -> Any:
        with self._errors(path), self._connect() as connected:
            body = self._request(_Link(connected, self.timeout_s), path).read(BODY_CAP + 1)
            if len(body) > BODY_CAP:
                raise ReadError(f"Docker at {self.address} answered {path} with more than {BODY_CAP} bytes")
            return json.loads(body)

    def _connect(self) -> socket.socket:
        if self.address.path is None:
            return socket.create_connection((self.address.host, self.address.port), self.timeout_s)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(self.timeout_s)
            link.connect(str(self.address.path))
        except BaseException:
            link.close()
            raise
        return link

    def _request(self, link: _Link, path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("docker")
        connection.sock = link
        connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:
            text = " ".join(response.read(300).decode("utf-8", "replace").split())
            error = MissingError if response.status == 404 else ReadError
            raise error(f"Docker at {self.address} answered {path} with {response.status}: {text}")
        return response

    def _split(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        rest = b""
        while data := response.read1(65536):
            *whole, rest = (rest + data).split(b"\n")
            yield from (line for line in whole if line.strip())
            if len(rest) > LINE_CAP:
                raise ReadError(f"Docker at {self.address} sent a line of more than {LINE_CAP} bytes")

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        path = path.partition("?")[0]
        try:
            yield
        except TimeoutError as error:
            raise ReadError(f"Docker at {self.address} did not answer {path} within {self.timeout_s:g} s") from error
        except OSError as error:
            raise ReadError(f"Docker at {self.address} cannot be reached: {error.strerror or error}") from error
        except (http.client.HTTPException, ValueError, RecursionError) as error:
            said = str(error)[:200] or type(error).__name__
            raise ReadError(f"Docker at {self.address} gave no sound answer to {path}: {said}") from error


def unavailable(address: Address, error: ReadError) -> Unavailable:
    """Translate a first call that failed into a reason and what the reader can do about it."""
    cause = error.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    if number == errno.ENOENT:
        return Unavailable(f"no Docker socket at {address}", "start Docker or set DOCKER_HOST")
    if number in (errno.EACCES, errno.EPERM):
        remedy = "add the agent's user to the group that owns the socket, usually docker"
        return Unavailable(f"no permission to use the Docker socket at {address}", remedy)
    if number in (errno.ECONNREFUSED, errno.ENOTSOCK):
        return Unavailable(f"nothing listens at the Docker socket {address}", "start Docker or set DOCKER_HOST")
    return Unavailable(str(error), "see whether `docker version` answers")


def _api(text: object) -> tuple[int, int] | None:
    major, dot, minor = text.partition(".") if isinstance(text, str) else ("", "", "")
    return (int(major), int(minor)) if dot and major.isdecimal() and minor.isdecimal() else None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
