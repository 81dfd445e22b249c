"""The application: which routes there are and what stands before them. It listens nowhere itself."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from otel_agent.api.access import Guard
from otel_agent.api.answer import as_json
from otel_agent.api.live import Live, News
from otel_agent.api.node import Node
from otel_agent.api.pages import Pages
from otel_agent.api.params import understand
from otel_agent.api.refusal import Refusal, bad
from otel_agent.api.routes import ROUTES, Route, index
from otel_agent.api.view import View
from otel_agent.console import files
from otel_agent.history.model import History, HistoryError
from otel_agent.schedule import Worker
from otel_agent.settings import Settings
from otel_agent.telemetry.providers import host_name


def create_app(
    *, settings: Settings, token: str, workers: Mapping[str, Worker], history: History | None, news: News | None
) -> Starlette:
    """Return the ASGI application of API and console.

    `history` is None where nothing is stored: the open routes and the page's frame then still answer, /api/ says 503. `news` is
    called with a listener that takes the signals which got something new; without it the live stream looks at every interval.
    """
    view = View(settings, workers, history, host_name(settings.host_root))
    node, live, pages = Node(view), Live(view, news), Pages(files())
    routes = [
        Path("/", pages.index),
        Path("/assets/{name}", pages.asset),
        Path("/health", node.health),
        Path("/ready", node.ready),
        Path("/metrics", node.metrics),
        Path("/gpu", node.gpu),
        Path("/api/live", live.answer),
        Path("/api/v1/live", _counts(live)),
        *(Path(route.path, _endpoint(route, view)) for route in ROUTES),
        Path("/api/v1/", _index),
    ]
    guard = Middleware(
        Guard, token=token, listen=settings.listen, allowed_hosts=settings.allowed_hosts, sign_in=pages.sign_in
    )
    handlers: dict[Any, Callable[[Request, Any], Response]] = {
        Refusal: _refused,
        HistoryError: _no_answer,
        HTTPException: _http_error,
    }
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.state.live = live
    return app


def _endpoint(route: Route, view: View) -> Callable[[Request], Response]:
    """Return the endpoint of one declared route; Starlette runs it in a thread, since history waits for a disk or a server."""

    def answer(request: Request) -> Response:
        now_s = view.clock()
        asked = understand(route.params, request.query_params.multi_items(), now_s, attributes=route.attributes)
        in_path = understand(route.path_params, request.path_params.items(), now_s)
        try:
            content = route.answer(view, type(asked)({**asked.values, **in_path.values}, asked.where, now_s))
        except ValueError as error:  # history's word for a question it cannot take
            raise bad(str(error)) from error
        return as_json(content)

    return answer


def _counts(live: Live) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return as_json(live.counts())

    return answer


async def _index(_: Request) -> Response:
    return as_json({"routes": index()})


def _refused(_: Request, refusal: Refusal) -> Response:
    return refusal.response()


def _no_answer(_: Request, error: HistoryError) -> Response:
    return Refusal(
        503, f"history has no answer: {error}", "ask for a shorter time, or again in a moment", {"retry-after": "5"}
    ).response()


def _http_error(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return Refusal(404, f"no route {request.url.path[:200]!r}", "GET /api/v1/ lists them", headers).response()
    if error.status_code == 405:
        return Refusal(
            405, f"{request.method} is not answered here", f"use {headers.get('Allow', 'GET')}", headers
        ).response()
    return Refusal(error.status_code, error.detail, "", headers).response()
