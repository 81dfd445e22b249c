"""An ASGI application on a port of its own, in a thread of its own, stopped in bounded time."""

import socket
import threading
import time
from typing import Any

from otel_agent.errors import Unavailable

START_S = 5.0
OPEN_STREAMS_S = 0.5  # how long live streams and requests in flight may go on once the end is asked for


def bind(host: str, port: int, setting: str) -> socket.socket:
    """Return a listening socket; raises Unavailable naming the setting where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise Unavailable(
            f"port {port} on {host} cannot be listened on: {error.strerror}",
            f"stop what uses it, or set {setting} to another port",
        ) from error
    return listening


class Listener:
    """Serves one application from `start()` to `stop()`; `port` is the one that was given by the system where 0 was asked for."""

    def __init__(self, app: Any, host: str, port: int, setting: str) -> None:
        import uvicorn

        self._socket = bind(host, port, setting)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                timeout_keep_alive=30,
                limit_concurrency=512,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name=f"http-{self.port}", daemon=True
        )

    def start(self) -> None:
        """Begin to serve, and return once requests are answered."""
        self._thread.start()
        give_up = time.monotonic() + START_S
        while not self._server.started and time.monotonic() < give_up and self._thread.is_alive():
            time.sleep(0.01)
        if not self._server.started:
            raise Unavailable(f"the HTTP server on port {self.port} did not start", "see the log above")

    def stop(self) -> None:
        """End; streams still open are cut after a moment."""
        self._server.should_exit = True
        self._thread.join(OPEN_STREAMS_S)
        self._server.force_exit = True
        self._thread.join(1.0)
        self._socket.close()
