"""The scripted server with what tests of the Router need besides; every reply says how much of a rate limit is left.

error400    is the refusal of a prompt that is too long
flaky       500 the first time that this model is asked, then the reply
begin       break the connection of a stream after its first chunk, which has no text yet
"""

import json
from contextlib import AbstractContextManager
from typing import Any

from instrumentation.openai_server import OpenAIServer, _Handler, running

REMAINING = {"x-ratelimit-remaining-requests": "59", "x-ratelimit-remaining-tokens": "149984"}
TOO_LONG = "This model's maximum context length is 4 tokens. Please reduce the length of the messages."
FIRST = {
    "id": "chatcmpl-stream-1",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "served-model-1",
    "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}],
}


class RouterServer(OpenAIServer):
    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = _RouterHandler
        self.flaked: set[str] = set()


class _RouterHandler(_Handler):
    server: RouterServer

    def end_headers(self) -> None:
        for name, value in REMAINING.items():
            self.send_header(name, value)
        super().end_headers()

    def _json(self, status: int, document: object) -> None:
        model = self.server.requests[-1]["body"].get("model", "") if self.server.requests else ""
        if status == 400:
            document = {
                "error": {"message": TOO_LONG, "type": "invalid_request_error", "code": "context_length_exceeded"}
            }
        elif "flaky" in model and model not in self.server.flaked:
            self.server.flaked.add(model)
            status, document = 500, {"error": {"message": "not yet", "type": "server_error"}}
        super()._json(status, document)

    def _stream(self, words: list[str], body: dict[str, Any]) -> None:
        if "begin" not in words:
            super()._stream(words, body)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._part(f"data: {json.dumps(FIRST)}\n\n".encode())
        self.close_connection = True


def serve_router() -> AbstractContextManager[RouterServer]:
    """Serve on a free port for the length of the block."""
    return running(RouterServer())
