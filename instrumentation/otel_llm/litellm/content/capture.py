"""Attaching what was said to the records of a call, where content is captured; one comparison of cost where it is not.

A call whose content is wanted has its `Request.content` set from the start, if only to an empty record; the readers of
replies go by that. What goes wrong in here costs the content, not the record of the call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from opentelemetry.trace import Span

from otel_llm import fault
from otel_llm.content import ContentRecorder
from otel_llm.litellm.content.parts import Message, said_by, text_part
from otel_llm.litellm.content.said import read_input, read_output
from otel_llm.litellm.content.said_streams import read_output_chunks, read_output_events
from otel_llm.records import Content, Reply, Request


def capture_input(recorder: ContentRecorder | None, span: Span, request: Request, arguments: Mapping[str, Any]) -> None:
    """Attach what the call says to its request, where the content of this span's call is wanted."""
    if recorder is None:
        return
    try:
        if recorder.wants(span):
            request.content = Content()
            request.content = read_input(request.operation, arguments)
    except Exception as own:
        fault.report("content of a LiteLLM call", own)


def capture_output(reply: Reply, result: Any, request: Request, streamed: Sequence[str] = ()) -> None:
    """Attach what a complete reply says; `streamed` are the pieces of text that arrived where it never became complete."""
    if request.content is not None:
        _attach(reply, partial(_output, request.operation, result, streamed))


def capture_chunks(reply: Reply, chunks: Sequence[Any], request: Request) -> None:
    """Attach what arrived of a stream of chat or text completion chunks."""
    if request.content is not None:
        _attach(reply, partial(read_output_chunks, chunks))


def capture_events(reply: Reply, events: Iterable[Any], request: Request) -> None:
    """Attach what arrived of a stream of events in the form of Anthropic's messages."""
    if request.content is not None:
        _attach(reply, partial(read_output_events, events))


def _output(operation: str, result: Any, streamed: Sequence[str]) -> list[Message] | None:
    return read_output(operation, result) or _unfinished(streamed)


def _unfinished(pieces: Sequence[str]) -> list[Message] | None:
    return [said_by("assistant", [text_part("".join(pieces))])] if pieces else None


def _attach(reply: Reply, read: Callable[[], list[Message] | None]) -> None:
    try:
        reply.content = Content(output_messages=read())
    except Exception as own:
        fault.report("content of a LiteLLM reply", own)
