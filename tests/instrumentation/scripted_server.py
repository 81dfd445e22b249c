"""A server that answers chat calls with exactly the document, or the chunks, a test puts into it; besides, an `OpenAIServer`."""

import json
from contextlib import AbstractContextManager
from typing import Any

from instrumentation.openai_server import OpenAIServer, _Handler, running

HEAD = {"object": "chat.completion.chunk", "id": "chatcmpl-1", "created": 1700000000, "model": "served-model-1"}


class ScriptedServer(OpenAIServer):
    """`reply` answers plain calls and `chunks` streamed ones; a chunk of bytes is sent as it is and ends the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = _Scripted
        self.reply: dict[str, Any] = {}
        self.chunks: list[Any] = []

    def say(self, usage: Any = None, *, pieces: tuple[str, ...] = ("Hel", "lo"), **more: Any) -> None:
        """Answer with `pieces`; `usage`, where there is one, and `more` stand beside a reply and on the last chunk of a stream."""
        beside = {**({} if usage is None else {"usage": usage}), **more}
        message = {"role": "assistant", "content": "".join(pieces)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        self.reply = {**HEAD, "object": "chat.completion", "choices": choices, **beside}
        self.chunks = [*(chunk(content=piece) for piece in pieces), chunk("stop")]
        if beside:
            self.chunks.append({**HEAD, "choices": [], **beside})


class _Scripted(_Handler):
    server: ScriptedServer

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        body = self._received()
        if not body.get("stream"):
            self._json(200, self.server.reply)
            return
        chunks = self.server.chunks  # those of this moment: with the headers the client may go on to its next call
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for one in chunks:
            if isinstance(one, bytes):
                self._part(one)
                self.close_connection = True
                return
            self._part(f"data: {json.dumps(one)}\n\n".encode())
        self._part(b"data: [DONE]\n\n")
        self._part(b"")


def chunk(reason: str | None = None, *, usage: Any = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    """One chunk of a stream, as a server sends it."""
    document = {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}
    return document if usage is None else {**document, "usage": usage}


def serve_script() -> AbstractContextManager[ScriptedServer]:
    """Serve on a free port for the length of the block."""
    return running(ScriptedServer())
