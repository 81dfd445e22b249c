"""Both doors of the receiver on free ports, before one real store."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from agent.store.opened import DEADLINE_S, Opened, opened

from otel_agent.receiver.grpc_server import start_grpc
from otel_agent.receiver.http_app import http_app
from otel_agent.receiver.intake import Counts
from otel_agent.store.sink import Sink


@dataclass(frozen=True)
class Doors:
    grpc: str  # address
    http: str  # URL
    counts: Counts

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        """Send a body as protobuf, unless `headers` say otherwise; underscores in their names stand for hyphens."""
        named = {"content-type": "application/x-protobuf"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return httpx.post(self.http + path, content=body, headers=named, timeout=DEADLINE_S)


@contextmanager
def doors(sink: Sink, *, allowed_hosts: Sequence[str] = ()) -> Iterator[Doors]:
    counts = Counts()
    grpc = start_grpc("127.0.0.1", 0, sink, counts)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        http_app(sink, counts, allowed_hosts=allowed_hosts), lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    deadline = time.monotonic() + DEADLINE_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield Doors(f"127.0.0.1:{grpc.port}", f"http://127.0.0.1:{listening.getsockname()[1]}", counts)
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        listening.close()
        assert grpc.stop(0.2)


@contextmanager
def standing(folder: Path, **settings: Any) -> Iterator[tuple[Opened, Doors]]:
    with opened(folder, **settings) as it, doors(it.store) as both:
        yield it, both
