"""Following streams in the form of Anthropic's messages: server-sent events as bytes, from Anthropic or made by LiteLLM.

Where LiteLLM makes the events out of a stream of chat or of the Responses API, that stream is read: the counts in the
events may be a tokenizer's. It is reached through the objects around it, whose attributes have had these names for long.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final

from otel_llm.invocation import Invocation
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import chat, messages
from otel_llm.litellm.read.fields import hidden_params
from otel_llm.litellm.read.usage import is_reported
from otel_llm.litellm.streams import chat as stream
from otel_llm.litellm.streams import responses as responses_stream
from otel_llm.records import Reply
from otel_llm.semconv import StreamEnd
from otel_llm.streams import StreamRecorder

_INWARDS: Final = ("responses_stream", "_anthropic_wrapper", "_wrapper", "completion_stream", "_stream")
_MOST_LAYERS: Final = 8


def follow(result: Any, invocation: Invocation, asked: Asked) -> bool:
    """Follow `result` to its end, if it is a stream."""
    events = result
    if inspect.isgenerator(result):
        # The methods of a generator cannot be wrapped. Those of the object whose method it runs can: one step of the
        # generator is one step of that object, and nothing else holds it.
        events = inspect.getgeneratorlocals(result).get("self")
    elif not hasattr(type(result), "__anext__"):
        return False
    if not hasattr(events, "__dict__"):
        StreamRecorder(invocation, Reply).end(StreamEnd.UNOBSERVED)
        return True
    inner = _inside(events)
    if inner is not None:
        read = responses_stream.reader_of(inner, invocation, asked)
        witness = _Witness()
        stream.attach(inner, witness)
        read = chat.Arrived(inner, asked, invocation).read if read is None else read
        stream.attach(events, _Recorder(invocation, read, witness))
        return True
    chunks: list[object] = []  # LiteLLM keeps the same ones till the end, out of reach
    is_server = asked.is_server and is_reported(hidden_params(events))
    recorder = StreamRecorder(invocation, lambda: messages.read_events(chunks, asked, is_server))
    stream.attach(events, recorder, chunks.append)
    return True


def _inside(events: Any) -> Any:
    """The stream of chat or of the Responses API the events are made of; None where they are the server's own."""
    from litellm import CustomStreamWrapper  # long imported
    from litellm.responses.streaming_iterator import BaseResponsesAPIStreamingIterator

    for _ in range(_MOST_LAYERS):
        if events is None or isinstance(events, CustomStreamWrapper | BaseResponsesAPIStreamingIterator):
            return events
        parts = getattr(events, "__dict__", {})
        events = next((parts[name] for name in _INWARDS if name in parts), None)
    return None


class _Witness:
    """Stands on the stream inside, and sees the error that LiteLLM makes a last event of."""

    is_reading = False

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def enter(self) -> None:
        """Nothing: the stream around it has entered."""

    def leave(self, token: None) -> None:
        """Nothing, likewise."""

    def chunk(self) -> None:
        """Nothing: chunks are counted as the caller sees them."""

    def end(self, how: StreamEnd) -> None:
        """Nothing: the stream around it ends when it does."""

    def fail(self, error: BaseException) -> None:
        """Keep what was raised."""
        self.error = error


class _Recorder(StreamRecorder):
    """Ends a stream as failed whose last event was made of an error."""

    __slots__ = ("_witness",)

    def __init__(self, invocation: Invocation, read_reply: Callable[[], Reply], witness: _Witness) -> None:
        super().__init__(invocation, read_reply)
        self._witness = witness

    def end(self, how: StreamEnd) -> None:
        """End as told, unless an error came first."""
        error, self._witness.error = self._witness.error, None
        if error is not None:
            self.fail(error)
        else:
            super().end(how)
