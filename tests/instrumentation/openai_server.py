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
    seconds     a transcription is billed by its seconds, not by tokens

Chat, /completions, /embeddings, /rerank, /images/*, /audio/* and /moderations are served; forms of files are read as far
as their fields. Streams carry a usage chunk when asked for it by `stream_options`, as the real API does, or when the model says `usage`.
What the server saw of each request (path, headers, body) is kept in `requests`, the newest last, 1000 at most.
"""

import argparse
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

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
EMBEDDINGS_USAGE = {"prompt_tokens": 5, "total_tokens": 5}
IMAGE_USAGE = {
    "input_tokens": 40,
    "output_tokens": 1056,
    "total_tokens": 1096,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 30},
}
TRANSCRIPTION_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "output_tokens": 4,
    "total_tokens": 18,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
}
SPEECH = b"not really sound"
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
    def root(self) -> str:
        """The base of Anthropic's API, which LiteLLM completes itself."""
        return f"http://127.0.0.1:{self.port}"

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
        body = self._received()
        words = str(body.get("model", "")).replace("/", "-").split("-")
        for word in words:
            if word.startswith("error"):
                self._json(int(word.removeprefix("error")), self._refusal(word, body))
                return
        if "hang" in words:
            self.server.closing.wait(HANG_S)
            return
        if "slow" in words:
            time.sleep(SLOW_S)
        self._reply(words, body)

    def _received(self) -> dict[str, Any]:
        """Read the body, and keep what came."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_form = self.headers.get_content_maintype() == "multipart"
        body = _form(data, self.headers["Content-Type"]) if is_form else json.loads(data or b"{}")
        self.server.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
        return body

    def _refusal(self, word: str, body: dict[str, Any]) -> dict[str, Any]:
        # Servers do quote what they were asked.
        message = f"refused: {json.dumps(body.get('messages') or body.get('prompt') or body.get('input'))}"
        return {"error": {"message": message, "type": word}}

    def _reply(self, words: list[str], body: dict[str, Any]) -> None:
        route = next((name for name in _REPLIES if self.path.endswith(name)), None)
        if body.get("stream"):
            self._stream(words, body)
        elif route is not None:
            document = _REPLIES[route](body)
            if "seconds" in words:
                document["usage"] = {"type": "duration", "seconds": 3}
            if "silent" in words:
                document.pop("usage", None)
            self._json(200, document)
        elif self.path.endswith("/audio/speech"):
            self._answer(200, "audio/mpeg", SPEECH)
        else:
            self._json(200, _completion(words, body))

    def _stream(self, words: list[str], body: dict[str, Any]) -> None:
        chunks = _text_chunks if self.path.endswith(_TEXT) else _chunks
        events = (f"data: {json.dumps(chunk)}\n\n" for chunk in chunks(words, body))
        self._events(words, events, dropped_at=2, mark=b"data: [DONE]\n\n")

    def _events(self, words: list[str], events: Iterable[str], *, dropped_at: int, mark: bytes = b"") -> None:
        """Stream them at the pace and as far as the words say, and the mark of the end with the last."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if number and "slow" in words:
                time.sleep(SLOW_S)
            if number == dropped_at and "drop" in words:
                self.close_connection = True
                return
            self._part(event.encode())
        if mark:  # an empty part ends the reply
            self._part(mark)
        self._part(b"")

    def _part(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, document: object) -> None:
        self._answer(status, "application/json", json.dumps(document).encode())

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _form(data: bytes, content_type: str) -> dict[str, Any]:
    message = BytesParser(policy=default).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + data)
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields[name] = len(content) if part.get_filename() else content.decode()
    return fields


def _text(body: dict[str, Any]) -> dict[str, Any]:
    choices = [{"index": index, "text": REPLY, "finish_reason": "stop"} for index in range(body.get("n") or 1)]
    return {**_TEXT_HEAD, "choices": choices, "usage": USAGE}


def _text_chunks(words: list[str], body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for chunk in _chunks([word for word in words if word != "tools"], body):
        choices = [
            {"index": c["index"], "text": c["delta"].get("content", ""), "finish_reason": c["finish_reason"]}
            for c in chunk["choices"]
        ]
        yield {**chunk, **_TEXT_HEAD, "choices": choices}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    count = len(body["input"]) if isinstance(body["input"], list) else 1
    data = [{"object": "embedding", "index": index, "embedding": [0.25, -0.5]} for index in range(count)]
    return {"object": "list", "model": SERVED_MODEL, "data": data, "usage": EMBEDDINGS_USAGE}


def _rerank(body: dict[str, Any]) -> dict[str, Any]:
    count = len(body["documents"])
    results = [{"index": index, "relevance_score": 1 / (index + 1)} for index in range(body.get("top_n") or count)]
    return {"id": "rerank-1", "model": SERVED_MODEL, "results": results, "usage": {"total_tokens": 9}}


def _images(body: dict[str, Any]) -> dict[str, Any]:
    data = [{"b64_json": "AAAA"}] * int(body.get("n") or 1)
    return {"created": 1700000000, "data": data, "usage": IMAGE_USAGE}


def _transcription(_: dict[str, Any]) -> dict[str, Any]:
    return {"text": REPLY, "usage": TRANSCRIPTION_USAGE}


def _moderation(body: dict[str, Any]) -> dict[str, Any]:
    result = {
        "flagged": "bad" in str(body["input"]),
        "categories": {"violence": False},
        "category_scores": {"violence": 0.1},
        "category_applied_input_types": {"violence": ["text"]},
    }
    return {"id": "modr-1", "model": SERVED_MODEL, "results": [result]}


_TEXT = "/v1/completions"
_TEXT_HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 1700000000, "model": SERVED_MODEL}
_REPLIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    _TEXT: _text,
    "/embeddings": _embeddings,
    "/rerank": _rerank,
    "/images/generations": _images,
    "/images/edits": _images,
    "/images/variations": _images,
    "/audio/transcriptions": _transcription,
    "/moderations": _moderation,
}


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


Server = TypeVar("Server", bound=OpenAIServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Serve for the length of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def serve() -> AbstractContextManager[OpenAIServer]:
    """Serve on a free port for the length of the block."""
    return running(OpenAIServer())


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
