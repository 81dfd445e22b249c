"""The server of the Router's tests, whose replies also tell the engine's times: what boards can show of a server, it says."""

from collections.abc import Iterator
from contextlib import contextmanager

from instrumentation.router_server import RouterServer, _RouterHandler, serve_router

# As vLLM sends it with --enable-per-request-metrics; each in a bucket of its own.
METRICS = {"queue_time_ms": 30.0, "time_to_first_token_ms": 70.0, "generation_time_ms": 150.0}


class _Telling(_RouterHandler):
    def _json(self, status: int, document: object) -> None:
        if isinstance(document, dict) and "choices" in document:
            document = {**document, "metrics": METRICS}
        super()._json(status, document)


@contextmanager
def serve_telling() -> Iterator[RouterServer]:
    """Serve on a free port for the length of the block."""
    with serve_router() as server:
        server.RequestHandlerClass = _Telling
        yield server
