"""OTLP/HTTP as a Starlette application: protobuf and JSON, gzip, and every limit before the bytes it limits are held.

A browser can send to a port of this machine from any page, so a foreign Origin and an unknown Host are refused. Listening is left to whoever
runs the application.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import urlsplit

from google.protobuf import json_format
from google.protobuf.message import Message as ProtobufMessage
from google.rpc import code_pb2, status_pb2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from otel_agent.receiver.intake import (
    COMMIT_S,
    MAX_BYTES,
    RETRY_S,
    Counts,
    Refused,
    from_json,
    from_protobuf,
    inflate,
    response,
    too_large,
)
from otel_agent.store.sink import Message, NotStored, QueueFull, Signal, Sink

PATHS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
BODY_S = 10.0  # longest time a body may take to arrive
AT_WORK = 64  # requests at a time; more are asked to come back
PROTOBUF, JSON = "application/x-protobuf", "application/json"
LOOPBACK_NAMES = frozenset(("localhost", "ip6-localhost"))


class HttpRefused(Refused):
    """A refusal that HTTP has a status of its own for."""

    def __init__(
        self, status: int, code: "code_pb2.Code.ValueType", reason: str, message: str, retry_s: int | None = None
    ) -> None:
        super().__init__(code, reason, message, retry_s)
        self.status = status


STATUS = {
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.UNAVAILABLE: 503,
}


def http_app(sink: Sink, counts: Counts | None = None, *, allowed_hosts: Collection[str] = ()) -> Starlette:
    """Return the application. Requests must name this machine by an address, as localhost, or by one of `allowed_hosts`."""
    door = _Door(sink, counts or Counts(), frozenset(name.lower() for name in allowed_hosts))
    return Starlette(
        routes=[Route(path, door.endpoint(signal), methods=["POST"]) for path, signal in PATHS.items()],
        exception_handlers={HTTPException: _foreign},
    )


class _Door:
    def __init__(self, sink: Sink, counts: Counts, allowed_hosts: frozenset[str]) -> None:
        self._sink, self._counts, self._allowed = sink, counts, allowed_hosts
        self._at_work = 0

    def endpoint(self, signal: Signal) -> Callable[[Request], Awaitable[Response]]:
        async def export(request: Request) -> Response:
            kind = PROTOBUF
            try:
                self._check_sender(request)
                kind = _content_type(request)
                answer, size = await self._take(signal, request, kind)
            except Refused as refused:
                self._counts.refused(signal, refused.reason)
                return _refusal(refused, kind)
            except ClientDisconnect:
                self._counts.refused(signal, "sender left")
                return Response(status_code=400)
            self._counts.accepted(signal, size)
            return _answer(answer, 200, kind)

        return export

    async def _take(self, signal: Signal, request: Request, kind: str) -> tuple[ProtobufMessage, int]:
        if self._at_work >= AT_WORK:
            raise Refused(code_pb2.RESOURCE_EXHAUSTED, "too many at a time", f"{AT_WORK} requests are at work", RETRY_S)
        self._at_work += 1
        try:
            body = await _body(request)
            message, size = await run_in_threadpool(
                _parse, signal, body, kind, request.headers.get("content-encoding", "")
            )
            del body
            return response(signal, await self._store(signal, message, size)), size
        finally:
            self._at_work -= 1

    async def _store(self, signal: Signal, message: Message, size: int) -> int:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._sink.submit(signal, message, size)), COMMIT_S)
        except QueueFull as full:
            raise Refused(code_pb2.RESOURCE_EXHAUSTED, "queue full", f"too much is waiting: {full}", RETRY_S) from full
        except NotStored as error:
            raise Refused(code_pb2.UNAVAILABLE, "not stored", f"it could not be stored: {error}", RETRY_S) from error
        except TimeoutError as error:
            raise Refused(
                code_pb2.UNAVAILABLE, "not stored", f"it was not stored within {COMMIT_S:.0f} s", RETRY_S
            ) from error

    def _check_sender(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            message = f"the host {host!r} is not known here; set OTEL_LLM_ALLOWED_HOSTS to allow it"
            raise HttpRefused(403, code_pb2.PERMISSION_DENIED, "unknown host", message)
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise HttpRefused(
                403, code_pb2.PERMISSION_DENIED, "foreign origin", f"pages of {origin!r} may not send here"
            )

    def _is_ours(self, host: str) -> bool:
        """Tell whether a Host names this machine by something that a foreign name server cannot decide: an address, or a known name."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
        except ValueError:
            return False
        if name in LOOPBACK_NAMES or name.endswith(".localhost") or name in self._allowed:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BYTES:
        raise too_large()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BYTES:
                    raise too_large()
                parts.append(part)
    except TimeoutError as error:
        message = f"the body did not arrive within {BODY_S:.0f} s"
        raise HttpRefused(408, code_pb2.DEADLINE_EXCEEDED, "too slow", message) from error
    return b"".join(parts)


def _parse(signal: Signal, body: bytes, kind: str, encoding: str) -> tuple[Message, int]:
    encoding = encoding.strip().lower()
    if encoding == "gzip":
        body = inflate(body)
    elif encoding not in ("", "identity"):
        message = f"the encoding {encoding[:40]!r} is not understood; send gzip or none"
        raise HttpRefused(415, code_pb2.INVALID_ARGUMENT, "content encoding", message)
    return (from_json if kind == JSON else from_protobuf)(signal, body), len(body)


def _content_type(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (PROTOBUF, JSON):
        message = f"the content type {kind[:80]!r} is not OTLP; send {PROTOBUF} or {JSON}"
        raise HttpRefused(415, code_pb2.INVALID_ARGUMENT, "content type", message)
    return kind


def _refusal(refused: Refused, kind: str) -> Response:
    if isinstance(refused, HttpRefused):
        status = refused.status
    else:
        status = 413 if refused.reason == "too large" else STATUS[refused.code]
    answer = _answer(status_pb2.Status(code=refused.code, message=refused.message), status, kind)
    if refused.retry_s is not None:
        answer.headers["retry-after"] = str(refused.retry_s)
    if status in (408, 413):
        answer.headers["connection"] = "close"  # the rest of the body is not wanted
    return answer


def _answer(message: ProtobufMessage, status: int, kind: str) -> Response:
    body = json_format.MessageToJson(message, indent=None).encode() if kind == JSON else message.SerializeToString()
    return Response(body, status, media_type=kind)


async def _foreign(request: Request, error: Exception) -> Response:
    """Answer what is no OTLP call at all: a wrong path or method."""
    assert isinstance(error, HTTPException)
    known = ", ".join(PATHS)
    message = (
        f"{request.method} is not served here; POST to {known}"
        if error.status_code == 405
        else f"nothing is here; OTLP goes to {known}"
    )
    code = code_pb2.UNIMPLEMENTED if error.status_code == 405 else code_pb2.NOT_FOUND
    answer = _answer(status_pb2.Status(code=code, message=message), error.status_code, JSON)
    answer.headers.update(error.headers or {})
    return answer
