"""Following streams of the Responses API: LiteLLM's iterators of events, native, made up of a whole reply, or over chat.

LiteLLM puts a tokenizer's estimate where the server's last event has no token counts, and the caller's event no longer
tells which it was. So the counts are taken from the server's own words, which pass `_process_chunk`.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, Final

from otel_llm import fault
from otel_llm.invocation import Invocation
from otel_llm.litellm.content.capture import capture_output
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import chat, cost, responses
from otel_llm.litellm.read.fields import field, text
from otel_llm.litellm.streams import chat as stream
from otel_llm.records import Cost, Reply
from otel_llm.streams import StreamRecorder

_HEARD: Final = "_otel_llm_heard"  # on an iterator: what the server has said so far
_TEXT: Final = "response.output_text.delta"
_LAST: Final = frozenset(("response.completed", "response.incomplete", "response.failed"))
_WITH_RESPONSE: Final = frozenset(("response.created", "response.in_progress", "response.queued", *_LAST))

Function = Callable[..., Any]


def follow(result: Any, invocation: Invocation, asked: Asked) -> bool:
    """Follow `result` to its end, if it is one of LiteLLM's streams of the Responses API."""
    read = reader_of(result, invocation, asked)
    if read is None:
        return False
    stream.attach(result, StreamRecorder(invocation, read))
    return True


def reader_of(events: Any, invocation: Invocation, asked: Asked) -> Callable[[], Reply] | None:
    """Return what reads such a stream so far, without holding it; None for what is no such stream."""
    from litellm.responses.streaming_iterator import BaseResponsesAPIStreamingIterator  # long imported: it made them

    if not isinstance(events, BaseResponsesAPIStreamingIterator):
        return None
    parts = vars(events)
    chat_stream = parts.get("litellm_custom_stream_wrapper")
    if chat_stream is not None:
        return chat.Arrived(chat_stream, asked, invocation).read
    provider = text(parts.get("custom_llm_provider"))
    if parts.get("_events") is not None:  # cut from a reply that is here as a whole, the server's or the cache's
        is_cached = provider == "cached_response"
        response = field(parts.get("completed_response"), "response")
        usage = field(response, "usage") if asked.is_server and not is_cached else None
        reply = responses.read_response(response, asked, None if is_cached else provider, usage)
        reply.cost = _cost(reply, asked, provider, usage)
        capture_output(reply, response, asked.request)
        return lambda: reply
    stream.put({BaseResponsesAPIStreamingIterator: {"_process_chunk": _process_chunk}})
    heard = parts[_HEARD] = _Heard(provider, asked)
    return heard.reply


class _Heard:
    """What the server has said so far, without the events themselves."""

    __slots__ = ("_asked", "_pieces", "_provider", "_response", "_usage")

    def __init__(self, provider: str | None, asked: Asked) -> None:
        self._provider, self._asked = provider, asked
        self._pieces: list[str] = []
        self._response: Any = None
        self._usage: object = None

    def note(self, event: Any, said: object) -> None:
        """Take in one event as LiteLLM made it of what the server `said`."""
        kind = field(event, "type")
        if kind == _TEXT:
            piece = field(event, "delta")
            if isinstance(piece, str):
                self._pieces.append(piece)
        elif kind in _WITH_RESPONSE:
            self._response = field(event, "response")
            if kind in _LAST and isinstance(said, str | bytes):
                self._usage = field(field(json.loads(said), "response"), "usage")

    def reply(self) -> Reply:
        """Return what it amounts to."""
        asked, is_reported = self._asked, self._usage is not None
        litellm_s = field(self._response, "usage")
        usage = (self._usage if is_reported else litellm_s) if asked.is_server else None
        reply = responses.read_response(
            self._response,
            asked,
            self._provider,
            usage,
            is_reported=is_reported,
            streamed_length=sum(map(len, self._pieces)),
        )
        reply.cost = _cost(reply, asked, self._provider, litellm_s)
        capture_output(reply, self._response, asked.request, self._pieces)
        return reply


def _cost(reply: Reply, asked: Asked, provider: str | None, usage: object) -> Cost | None:
    computed = field(usage, "cost")  # which LiteLLM writes there with the last event
    if computed is None:
        computed = cost.of_part(reply.usage, provider, asked.request.model)
    return cost.read_cost(reply.usage, asked, provider, computed)


def _process_chunk(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any, chunk: Any, *more: Any, **named: Any) -> Any:
        event = original(self, chunk, *more, **named)
        heard: _Heard | None = vars(self).get(_HEARD)
        if heard is not None and event is not None:
            try:
                heard.note(event, chunk)
            except Exception as own:
                fault.report("event of a Responses stream", own)
        return event

    return wrapper
