"""The console's files, held in memory: they are few and small, and nothing on disk can be asked for by path."""

import gzip
import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from otel_agent.api.refusal import Refusal, not_found

INDEX, SIGN_IN = "index.html", "login.html"
REASON = "<!--reason-->"
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
FOREVER = "public, max-age=31536000, immutable"  # names below /assets/ carry a hash of the content


@dataclass(frozen=True)
class _File:
    content: bytes
    packed: bytes
    media_type: str
    etag: str


class Pages:
    """Serves the built console: the page, its assets, and the page that asks for the token."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {
            name: _file(name, content) for name, content in files.items() if name.rpartition(".")[2] in TYPES
        }

    async def index(self, request: Request) -> Response:
        """Answer with the console."""
        return self._send(request, INDEX, "no-cache")

    async def asset(self, request: Request) -> Response:
        """Answer with one file of the console."""
        return self._send(request, f"assets/{request.path_params['name']}", FOREVER)

    def sign_in(self, reason: str) -> Response:
        """Return the page that explains the printed link, with the reason why it is shown."""
        file = self._files.get(SIGN_IN)
        if file is None:
            return Refusal(
                401, reason or "this needs the token of the printed link", "open the printed link"
            ).response()
        said = f'<p role="alert">{html.escape(reason)}</p>' if reason else ""
        return Response(
            file.content.replace(REASON.encode(), said.encode()), 401, {"cache-control": "no-store"}, file.media_type
        )

    def _send(self, request: Request, name: str, caching: str) -> Response:
        file = self._files.get(name)
        if file is None and name == INDEX:
            raise Refusal(
                503,
                "the console is not built in this checkout",
                "run 'npm ci && npm run build' in otel_agent/console/web",
            )
        if file is None:
            raise not_found("no such file")
        headers = {"etag": file.etag, "cache-control": caching, "vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                file.packed, headers=headers | {"content-encoding": "gzip", "content-type": file.media_type}
            )
        return Response(file.content, headers=headers | {"content-type": file.media_type})


def _file(name: str, content: bytes) -> _File:
    etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    return _File(content, gzip.compress(content, 9, mtime=0), TYPES[name.rpartition(".")[2]], etag)
