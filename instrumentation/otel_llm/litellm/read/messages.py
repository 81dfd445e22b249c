"""Reading calls in the form of Anthropic's messages and their replies into the core's records; nothing is changed.

Their input tokens leave out what was read from the cache and written to it; the conventions' count has both in it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from otel_llm import semconv
from otel_llm.litellm.content.capture import capture_events
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import cost
from otel_llm.litellm.read.chat import prompt_length
from otel_llm.litellm.read.fields import content_length, field, hidden_params, text, whole
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.litellm.read.responses import response_id
from otel_llm.litellm.read.usage import combine, is_reported
from otel_llm.records import Reply, Request, Usage

_FINISH_REASONS: Final[
    Mapping[str, str]
] = {  # in the words chat completions have for it, so that one query counts both
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def read_request(arguments: Mapping[str, Any], names: Names) -> Request:
    """Read a call in the form of Anthropic's messages from its arguments by name."""
    request = read_common(semconv.OPERATION_CHAT, arguments, names)
    length = prompt_length(arguments.get("messages"))
    if length is not None:
        request.parameters[semconv.PROMPT_LENGTH] = length + content_length(arguments.get("system"))
    effort = text(field(arguments.get("output_config"), "effort"))
    if effort is not None:
        request.parameters[semconv.REQUEST_REASONING_LEVEL] = effort
    return request


def read_reply(message: Any, asked: Asked) -> Reply:
    """Read a complete reply; what is no message gives an empty record."""
    content = field(message, "content")
    if not isinstance(content, list):
        return Reply()
    hidden = field(message, "_hidden_params") or hidden_params(message)
    length = content_length(content)
    calls = sum(field(block, "type") == "tool_use" for block in content)
    is_server = asked.is_server and is_reported(hidden if isinstance(hidden, Mapping) else {})
    counts = _counts(field(message, "usage"), is_server)
    return _reply(message, asked, field(message, "stop_reason"), counts, length, calls)


def read_events(chunks: Sequence[object], asked: Asked, is_server: bool) -> Reply:
    """Read what arrived of a stream of server-sent events, cut into chunks anywhere."""
    message: object = None
    reason: object = None
    counts: dict[str, int] = {}
    failed: str | None = None
    length, calls = 0, 0
    events = list(_events(chunks))
    for event in events:
        kind = event.get("type")
        if kind == "content_block_delta":
            length += len(text(field(event.get("delta"), "text")) or "")
        elif kind == "content_block_start":
            calls += field(event.get("content_block"), "type") == "tool_use"
        elif kind == "message_start":
            message = event.get("message")
            counts = _counts(field(message, "usage"), is_server)
            counts.pop("output_tokens", None)  # what was written by then, not what was written
        elif kind == "message_delta":
            reason = field(event.get("delta"), "stop_reason")
            counts.update(_counts(event.get("usage"), is_server))
        elif kind == "error":
            reason, failed = "error", text(field(event.get("error"), "type")) or "error"
    reply = _reply(message, asked, reason, counts, length, calls)
    reply.error = failed
    capture_events(reply, events, asked.request)
    return reply


def _reply(message: object, asked: Asked, reason: object, counts: Mapping[str, int], length: int, calls: int) -> Reply:
    stopped, request = text(reason), asked.request
    usage = _usage(counts, request.provider, length > 0 or calls > 0)
    return Reply(
        id=response_id(field(message, "id")),  # LiteLLM answers over the Responses API for some providers
        model=text(field(message, "model")),
        finish_reasons=(_FINISH_REASONS.get(stopped, stopped),) if stopped is not None else (),
        usage=usage,
        response_length=length if message is not None else None,
        tool_calls=calls if message is not None else None,
        cost=cost.read_cost(usage, asked, None, cost.of_part(usage, request.provider, request.model)),
    )


def _counts(usage: object, is_server: bool) -> dict[str, int]:
    if usage is None or not is_server:
        return {}
    found = ((name, whole(field(usage, name))) for name in _COUNTS)
    return {name: count for name, count in found if count is not None}


def _usage(counts: Mapping[str, int], provider: str | None, has_output: bool) -> Usage | None:
    if not counts:
        return None
    read, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
    in_chat_s_words = {
        "prompt_tokens": counts.get("input_tokens", 0) + (read or 0) + (written or 0),
        "completion_tokens": counts.get("output_tokens"),
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }
    return combine((in_chat_s_words,), provider, has_output)


def _events(chunks: Sequence[object]) -> Iterator[Mapping[str, Any]]:
    """The events in it; the first and the last piece of a stream read in part need not be whole."""
    said = b"".join(chunk if isinstance(chunk, bytes) else str(chunk).encode() for chunk in chunks)
    for line in said.splitlines():
        if line.startswith(b"data:"):
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
