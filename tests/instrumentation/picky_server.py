"""An OpenAI-style server that keeps what it was sent byte by byte, refuses stream options, and sends clients elsewhere.

A model's name is a list of words joined by `-`; what they do:

    plain           nothing: chat or text, streamed where asked for, with a usage chunk where asked for
    refuses400, refuses422
                    answer with that status to a request that has `stream_options`, and to no other
    error400, error500
                    answer with that status to any request
    breaks          go away without an answer
    moved           answer 307 with the address that `elsewhere` holds
    tools           stream a tool call

It answers as a forward proxy does too: hosts that do not exist are asked through it, and nothing leaves the machine.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
MODEL = "served-model-1"


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: Message
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class PickyServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []
        self.elsewhere: str | None = None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PickyServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_json = self.headers.get_content_type() == "application/json"
        body = json.loads(data) if is_json else {}
        words = str(body.get("model", "")).split("-")
        status = next((int(word.removeprefix("error")) for word in words if word.startswith("error")), 200)
        if "stream_options" in body:
            status = next((int(word.removeprefix("refuses")) for word in words if word.startswith("refuses")), status)
        moved = self.server.elsewhere if "moved" in words else None
        if moved is not None:
            status, self.server.elsewhere = 307, None
        self.server.received.append(Received(self.path, self.headers, data, status))
        if "breaks" in words:
            self.close_connection = True
        elif moved is not None:
            self._answer(307, {}, Location=moved)
        elif status != 200:
            self._answer(status, {"error": {"message": "refused", "type": "invalid_request_error"}})
        elif body.get("stream"):
            chunks = _chunks(self.path.endswith("/chat/completions"), words, body)
            events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            self._send(200, "text/event-stream", events.encode())
        elif self.path.endswith("/transcriptions"):
            self._answer(200, {"text": "Hello"})
        elif self.path.endswith("/embeddings"):
            row = {"object": "embedding", "index": 0, "embedding": [0.5]}
            self._answer(200, {"object": "list", "model": MODEL, "data": [row], "usage": USAGE})
        else:
            message = {"role": "assistant", "content": "Hello"}
            choice = {"index": 0, "finish_reason": "stop", "message": message, "text": "Hello"}
            self._answer(200, {"id": "cmpl-1", "created": 1, "model": MODEL, "choices": [choice], "usage": USAGE})

    def _answer(self, status: int, document: object, **headers: str) -> None:
        self._send(status, "application/json", json.dumps(document).encode(), **headers)

    def _send(self, status: int, kind: str, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _chunks(is_chat: bool, words: list[str], body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = {"id": "cmpl-1", "created": 1700000000, "model": MODEL}
    head["object"] = "chat.completion.chunk" if is_chat else "text_completion"
    options = body.get("stream_options") or {}
    tail = {"usage": None} if options.get("include_usage") else {}

    def piece(index: int, text: str | None, reason: str | None = None) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant", "content": text} if text is not None else {}
        if "tools" in words and text is not None:
            call = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            delta = {"role": "assistant", "tool_calls": [call]}
        said = {"delta": delta} if is_chat else {"text": text or "", "logprobs": None}
        return {**head, "choices": [{"index": index, **said, "finish_reason": reason}], **tail}

    choices = range(body.get("n") or 1)
    for text in ("Hel", "lo"):
        yield from (piece(index, text) for index in choices)
    yield from (piece(index, None, "tool_calls" if "tools" in words else "stop") for index in choices)
    if options.get("include_usage"):
        yield {**head, "choices": [], "usage": USAGE}


@contextmanager
def serve() -> Iterator[PickyServer]:
    """Serve on a free port for the length of the block."""
    server = PickyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
