"""Who may ask: Host and Origin for everything, the token for all but the open routes, and the headers every answer carries.

Loopback is not private on a shared machine, and a browser reaches loopback from any web site: hence a token even there, and a
check of Host (against DNS rebinding) and Origin even on open routes. What the answers say is left to the routes.
"""

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_agent.api.refusal import Refusal

OPEN = frozenset({"/health", "/ready", "/metrics", "/gpu"})
OPEN_BELOW = "/assets/"  # scripts and styles of the page: published code, and the sign-in page needs them
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
UNSPECIFIED = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
SECURITY_HEADERS = {
    "content-security-policy": "; ".join(POLICY),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

logger = logging.getLogger(__name__)


def session_of(token: str) -> str:
    """Return what the browser keeps: proof of the token without the token itself, which may open more than this page."""
    return hmac.new(token.encode(), b"otel-llm console session", hashlib.sha256).hexdigest()


def host_allowed(host: str, listen: str, further: Iterable[str]) -> bool:
    """Tell whether a Host header names this server: loopback, the address listened on, or a name that was set.

    Where every address is listened on, any literal address will do: rebinding needs a name.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in LOOPBACK or name == listen or name in {allowed.lower() for allowed in further}:
        return True
    return listen in UNSPECIFIED and _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Stands before the application; `sign_in` makes the page shown in place of the console, given the reason (empty: no token yet)."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        listen: str,
        allowed_hosts: tuple[str, ...],
        sign_in: Callable[[str], Response],
    ) -> None:
        self._app, self._listen, self._allowed_hosts, self._sign_in = app, listen, allowed_hosts, sign_in
        self._token, self._session = token, session_of(token)
        self._cookie = f"otel_llm_{self._session[:8]}"  # browsers give a cookie to every port of a host: two agents must not share its name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, not {scope['type']}")
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            answer: ASGIApp = self._refuse(scope) or self._app
            await answer(scope, receive, send_guarded)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not started:
                failed = Refusal(500, "this request failed inside the agent", "its log says more; please report this")
                await failed.response()(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not pass, or that signs in; None where it may."""
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if not host_allowed(host, self._listen, self._allowed_hosts):
            return Refusal(
                403,
                f"host {host[:100]!r} is not served here",
                "open the printed link, or name the host in OTEL_LLM_ALLOWED_HOSTS",
            ).response()
        if (origin := headers.get("origin")) is not None and urlsplit(origin).netloc.lower() != host.lower():
            return Refusal(
                403, f"requests from {origin[:100]!r} are refused", "open the page under the address it is served from"
            ).response()
        if path in OPEN or path.startswith(OPEN_BELOW):
            return None
        if path == "/" and "token=" in scope["query_string"].decode("latin-1"):
            return self._signing_in(scope, headers)
        if self._known(headers):
            return None
        if path == "/":
            return self._sign_in("")
        remedy = "open the printed link once in this browser, or send 'Authorization: Bearer <token>' with the token of that link"
        return Refusal(
            401, "this needs the token of the printed link", remedy, {"www-authenticate": "Bearer"}
        ).response()

    def _signing_in(self, scope: Scope, headers: Headers) -> Response:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not _same(given.strip(), self._token):
            return self._sign_in("This token does not fit.")
        # A link in a page of another site starts a chain of redirects to which SameSite=Strict cookies are not added;
        # a page that leads on by itself starts anew.
        elsewhere = headers.get("sec-fetch-site") == "cross-site"
        response = (
            Response(status_code=200, headers={"refresh": "0; url=/"})
            if elsewhere
            else Response(status_code=303, headers={"location": "/"})
        )
        response.set_cookie(
            self._cookie, self._session, httponly=True, samesite="strict", secure=scope["scheme"] == "https", path="/"
        )
        return response

    def _known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _same(given.strip(), self._token)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._session)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
