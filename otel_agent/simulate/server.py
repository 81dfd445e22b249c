"""An OpenAI-style vLLM server without a model: its routes, its errors, its page of metrics and its spans.

Errors on demand: the header `x-simulate-error`, or the field `simulate_error` of a body, is a status from 400 to 599 (answered with
that), `500@7` (the engine fails after seven tokens, in a stream after they were sent) or `dead` (the engine dies: what runs fails,
/health says 503).
"""

import asyncio
import hashlib
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_agent.errors import Unavailable
from otel_agent.simulate.generate import Generation
from otel_agent.simulate.keeping import Keeping
from otel_agent.simulate.live import EngineDead, LiveEngine, QueueFull
from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.pooling import Pooling
from otel_agent.simulate.refusal import Refused
from otel_agent.simulate.spans import Spans
from otel_agent.simulate.tallies import EngineTallies, HttpTallies

UNCOUNTED = ("/metrics", "/health", "/load", "/ping", "/version")
STOP_S = 2

logger = logging.getLogger(__name__)


def create_app(options: EngineOptions) -> Starlette:
    """Return the ASGI application with an engine of its own, which works between the application's startup and its end."""
    tallies, http = EngineTallies(options), HttpTallies()
    spans = Spans(options.otlp_endpoint, options.otlp_protocol) if options.otlp_endpoint else None
    live = LiveEngine(options, tallies, *([spans.ended] if spans else []))
    generation, pooling = Generation(options, live), Pooling(options, live)
    keeping = Keeping(options, live, tallies, http)
    routes = [
        Route("/v1/chat/completions", generation.chat, methods=["POST"]),
        Route("/v1/completions", generation.completions, methods=["POST"]),
        Route("/v1/embeddings", pooling.embeddings, methods=["POST"]),
        *(Route(path, pooling.rerank, methods=["POST"]) for path in ("/rerank", "/v1/rerank", "/v2/rerank")),
        *(Route(path, pooling.score, methods=["POST"]) for path in ("/score", "/v1/score")),
        Route("/v1/models", keeping.models),
        *(Route(path, keeping.health, methods=["GET", "POST"]) for path in ("/health", "/ping")),
        Route("/metrics", keeping.metrics),
        Route("/version", keeping.version),
        Route("/load", keeping.load),
        Route("/tokenize", keeping.tokenize, methods=["POST"]),
        Route("/detokenize", keeping.detokenize, methods=["POST"]),
        Route("/sleep", keeping.sleep, methods=["POST"]),
        Route("/wake_up", keeping.wake_up, methods=["POST"]),
        Route("/is_sleeping", keeping.is_sleeping),
        Route("/reset_prefix_cache", keeping.reset_prefix_cache, methods=["POST"]),
    ]

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        work = asyncio.create_task(live.run())
        try:
            yield
        finally:
            work.cancel()
            if spans:
                await asyncio.to_thread(spans.close)

    paths = {(method, route.path) for route in routes for method in route.methods or ()}
    before = [Middleware(_Counted, http=http, paths=paths)]
    if options.api_key:
        before.append(Middleware(_Guarded, key=options.api_key))
    handlers: dict[Any, Callable[[Request, Any], Response]] = {
        Refused: lambda _, refused: JSONResponse(refused.body(), refused.status),
        EngineDead: lambda _, dead: JSONResponse(Refused(str(dead), 500).body(), 500),
        QueueFull: lambda _, full: JSONResponse(Refused(str(full), 503, type="Service Unavailable").body(), 503),
        HTTPException: lambda _, error: JSONResponse({"detail": error.detail}, error.status_code, error.headers),
    }
    app = Starlette(routes=routes, middleware=before, exception_handlers=handlers, lifespan=running)
    app.router.redirect_slashes = False
    return app


class _Counted:
    """Counts requests, their sizes and times, as the instrumentator of vLLM's server does."""

    def __init__(self, app: ASGIApp, http: HttpTallies, paths: set[tuple[str, str]]) -> None:
        self._app, self._http, self._paths = app, http, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, sent = 500, 0

        async def sending(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status, sent = message["status"], _length(Headers(raw=message["headers"]))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            method, path = scope["method"], scope["path"]
            handler = path if (method, path) in self._paths else "none"
            read = _length(Headers(scope=scope))
            self._http.record(handler, method, status, read, sent, time.perf_counter() - began)


def _length(headers: Headers) -> int:
    said = headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() else 0


class _Guarded:
    """Asks for the key on everything under /v1, as vLLM's --api-key does."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._digest = _digest(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not secrets.compare_digest(_digest(given), self._digest):
                await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def serve_engine(options: EngineOptions, started: Callable[[int], None] = lambda _: None) -> None:
    """Serve until SIGINT or SIGTERM; `started` is told the port. Raises Unavailable where it cannot be listened on."""
    import uvicorn

    listening = _listen(options)
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        create_app(options),
        lifespan="on",
        log_config=None,
        access_log=False,
        http="h11",
        ws="none",
        loop="asyncio",
        timeout_graceful_shutdown=STOP_S,
    )
    logger.info("a stand-in for vLLM, model %s, on http://%s:%d", options.model, options.host, port)
    started(port)  # connections made from here on wait in the socket until the server takes them
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listen(options: EngineOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        reason = f"port {options.port} on {options.host} cannot be listened on: {error.strerror}"
        raise Unavailable(reason, "stop what uses it, or choose another port") from error
    return listening
