"""A small OpenAI-style server on loopback, scripted by the name of the model; also a program for the end-to-end tests.

    python tests/instrumentation/openai_server.py --port 8000

A model's name is a list of words joined by `-`; what they do:

    plain       nothing: reply "Hello there", 11 tokens in, 7 out, 3 of them cached, 2 of them for reasoning
    silent      the reply has no usage at all, streams included
    error400, error429, error500
                answer with that status
    slow        wait 0.2 s before the reply and between chunks
    hang        wait until the client goes away (at most 30 s)
    drop        break the connection in the middle of a stream
    tools       answer with a tool call

Streams carry a usage chunk when asked for it by `stream_options`, as the real API does, or when the model says `usage`.
What the server saw of each request (path, headers, body) is kept in `requests`, the newest last, 1000 at most.
"""

import argparse
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPLY = "Hello there"
PIECES = ("Hel", "lo ", "the", "re")
SERVED_MODEL = "served-model-1"
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
TOOL_CALL = {
    "index": 0,
    "id": "call-1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Ulm"}'},
}
SLOW_S = 0.2
HANG_S = 30.0


class OpenAIServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, _Handler)
        self.requests: deque[dict[str, Any]] = deque(maxlen=1000)
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """The base of the API, as LiteLLM's `api_base` takes it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OpenAIServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": SERVED_MODEL, "object": "model", "owned_by": "vllm"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.server.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
        words = str(body.get("model", "")).replace("/", "-").split("-")
        for word in words:
            if word.startswith("error"):
                message = f"refused: {json.dumps(body.get('messages'))}"  # servers do quote what they were asked
                self._json(int(word.removeprefix("error")), {"error": {"message": message, "type": word}})
                return
        if "hang" in words:
            self.server.closing.wait(HANG_S)
            return
        if "slow" in words:
            time.sleep(SLOW_S)
        if body.get("stream"):
            self._stream(words, body)
        else:
            self._json(200, _completion(words, body))

    def _stream(self, words: list[str], body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, chunk in enumerate(_chunks(words, body)):
            if number and "slow" in words:
                time.sleep(SLOW_S)
            if number == 2 and "drop" in words:
                self.close_connection = True
                return
            self._part(f"data: {json.dumps(chunk)}\n\n".encode())
        self._part(b"data: [DONE]\n\n")
        self._part(b"")

    def _part(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _completion(words: list[str], body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": REPLY}
    reason = "stop"
    if "tools" in words:
        call = {key: value for key, value in TOOL_CALL.items() if key != "index"}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    document = {
        "id": "chatcmpl-plain-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": SERVED_MODEL,
        "choices": [
            {"index": index, "message": message, "finish_reason": reason} for index in range(body.get("n") or 1)
        ],
    }
    return document if "silent" in words else {**document, "usage": USAGE}


def _chunks(words: list[str], body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = {
        "id": "chatcmpl-stream-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": SERVED_MODEL,
    }

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    if "tools" in words:
        yield chunk({"role": "assistant", "tool_calls": [TOOL_CALL]})
        yield chunk({}, "tool_calls")
    else:
        yield chunk({"role": "assistant", "content": PIECES[0]})
        for piece in PIECES[1:]:
            yield chunk({"content": piece})
        yield chunk({}, "stop")
    asked = (body.get("stream_options") or {}).get("include_usage")
    if (asked or "usage" in words) and "silent" not in words:
        yield {**head, "choices": [], "usage": USAGE}


@contextmanager
def serve() -> Iterator[OpenAIServer]:
    """Serve on a free port for the length of the block."""
    server = OpenAIServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def main() -> None:
    parser = argparse.ArgumentParser(description="A small OpenAI-style server on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the line printed says which")
    server = OpenAIServer(("127.0.0.1", parser.parse_args().port))
    print(server.url, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
