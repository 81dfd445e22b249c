"""A server of the newer APIs on loopback: OpenAI's `/v1/responses` and Anthropic's `/v1/messages`, beside the chat API.

Scripted by the words of the model's name, as `openai_server` is. What they do besides:

    many        100 pieces of text instead of four
    incomplete  the reply was cut at the token limit
    failed      the stream ends with an event of failure (Responses: `response.failed`, messages: `error`)
    short       the stream ends in good order before its last events
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from instrumentation.openai_server import PIECES, REPLY, SERVED_MODEL, OpenAIServer, _Handler, running

RESPONSES_USAGE = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens_details": {"reasoning_tokens": 2},
}
MESSAGES_USAGE = {  # of a prompt of 11 tokens, 3 read from the cache and 2 written to it
    "input_tokens": 6,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 2,
    "output_tokens": 7,
}
Event = tuple[str, dict[str, Any]]
_NEWER = ("/responses", "/messages")


class ResponsesServer(OpenAIServer):
    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address)
        self.RequestHandlerClass = _ResponsesHandler


class _ResponsesHandler(_Handler):
    def _refusal(self, word: str, body: dict[str, Any]) -> dict[str, Any]:
        if not self.path.endswith(_NEWER):
            return super()._refusal(word, body)
        return {"type": "error", "error": {"type": "api_error", "message": f"refused: {word}"}}

    def _reply(self, words: list[str], body: dict[str, Any]) -> None:
        if not self.path.endswith(_NEWER):
            super()._reply(words, body)
            return
        is_messages = self.path.endswith("/messages")
        if body.get("stream"):
            events = message_events(words) if is_messages else response_events(words, body)
            lines = (f"event: {kind}\ndata: {json.dumps({'type': kind, **event})}\n\n" for kind, event in events)
            self._events(words, lines, dropped_at=4)
        else:
            self._json(200, message(words) if is_messages else response(words, body))


def pieces(words: list[str]) -> list[str]:
    """The text of the reply, as it is streamed."""
    return ["word "] * 100 if "many" in words else list(PIECES)


def response(words: list[str], body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A reply of the Responses API."""
    output: list[dict[str, Any]] = [
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": REPLY, "annotations": []}],
        }
    ]
    if "tools" in words:
        output = [
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call-1",
                "name": "weather",
                "arguments": '{"city": "Ulm"}',
                "status": "completed",
            }
        ]
    document: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "status": "incomplete" if "incomplete" in words else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if "incomplete" in words else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "model": SERVED_MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "service_tier": "default",
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "max_output_tokens": body.get("max_output_tokens"),
        "previous_response_id": body.get("previous_response_id"),
        "usage": None if "silent" in words else RESPONSES_USAGE,
    }
    return {**document, **changes}


def response_events(words: list[str], body: dict[str, Any]) -> Iterator[Event]:
    """A streamed reply of the Responses API: ten events where there are four pieces of text."""
    number = 0
    started = response(words, body, status="in_progress", output=[], usage=None, incomplete_details=None)

    def event(kind: str, **content: Any) -> Event:
        nonlocal number
        number += 1
        return kind, {"sequence_number": number - 1, **content}

    yield event("response.created", response=started)
    yield event("response.in_progress", response=started)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    final = response(words, body)
    (item,) = final["output"]
    if "tools" in words:
        yield event(
            "response.output_item.added", output_index=0, item={**item, "arguments": "", "status": "in_progress"}
        )
        yield event("response.function_call_arguments.delta", item_id="fc_1", output_index=0, delta=item["arguments"])
        yield event("response.output_item.done", output_index=0, item=item)
    else:
        yield event("response.output_item.added", output_index=0, item={**item, "content": [], "status": "in_progress"})
        for piece in pieces(words):
            yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
        if "short" in words:
            return
        if "failed" in words:
            error = {"code": "server_error", "message": "the engine broke"}
            yield event("response.failed", response=response(words, body, status="failed", error=error, usage=None))
            return
        yield event("response.output_text.done", **place, text=REPLY, logprobs=[])
        yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.incomplete" if "incomplete" in words else "response.completed", response=final)


def message(words: list[str]) -> dict[str, Any]:
    """A reply of Anthropic's API."""
    content: list[dict[str, Any]] = [{"type": "text", "text": REPLY}]
    reason = "max_tokens" if "incomplete" in words else "end_turn"
    if "tools" in words:
        content = [{"type": "tool_use", "id": "call-1", "name": "weather", "input": {"city": "Ulm"}}]
        reason = "tool_use"
    document: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": SERVED_MODEL,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
    }
    return document if "silent" in words else {**document, "usage": MESSAGES_USAGE}


def message_events(words: list[str]) -> Iterator[Event]:
    """A streamed reply of Anthropic's API: nine events where there are four pieces of text."""
    silent = "silent" in words
    started = {**message(words), "content": [], "stop_reason": None}
    if not silent:
        started["usage"] = {**MESSAGES_USAGE, "output_tokens": 1}  # what has been written by then
    yield "message_start", {"message": started}
    (block,) = message(words)["content"]
    if "tools" in words:
        yield "content_block_start", {"index": 0, "content_block": {**block, "input": {}}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield "content_block_delta", {"index": 0, "delta": delta}
    else:
        yield "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
        for piece in pieces(words):
            yield "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}}
    if "short" in words:
        return
    if "failed" in words:
        yield "error", {"error": {"type": "overloaded_error", "message": "too much to do"}}
        return
    yield "content_block_stop", {"index": 0}
    end: dict[str, Any] = {"delta": {"stop_reason": message(words)["stop_reason"], "stop_sequence": None}}
    yield "message_delta", end if silent else {**end, "usage": {"output_tokens": MESSAGES_USAGE["output_tokens"]}}
    yield "message_stop", {}


def serve() -> AbstractContextManager[ResponsesServer]:
    """Serve on a free port for the length of the block."""
    return running(ResponsesServer())
