"""Putting together what was said in a stream, out of its chunks or events; called only where content is captured.

Pieces are told apart by numbers the server sends, which may be anything: their count is bounded, not their value.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from otel_llm.litellm.content.parts import (
    MAX_CHOICES,
    MAX_ITEMS,
    Message,
    Part,
    bounded,
    call_part,
    read_parts,
    reasoning_part,
    said_by,
    text_part,
)
from otel_llm.litellm.read.fields import field


def read_output_chunks(chunks: Sequence[Any]) -> list[Message] | None:
    """Put together what arrived of a stream of chat or text completion chunks, one message for each choice."""
    choices: dict[int, _Choice] = {}
    for chunk in chunks:
        for streamed in bounded(field(chunk, "choices")):
            index = field(streamed, "index")
            index = index if isinstance(index, int) else 0
            if index in choices or len(choices) < MAX_CHOICES:
                choices.setdefault(index, _Choice()).add(streamed)
    return [choices[index].message() for index in sorted(choices)] or None


def read_output_events(events: Iterable[Any]) -> list[Message] | None:
    """Put together what arrived of a stream of events in the form of Anthropic's messages."""
    blocks: dict[object, _Block] = {}
    reason: object = None
    for event in events:
        kind, index = field(event, "type"), field(event, "index")
        if kind == "content_block_start" and len(blocks) < MAX_ITEMS:
            blocks[index] = _Block(field(event, "content_block"))
        elif kind == "content_block_delta" and index in blocks:
            blocks[index].add(field(event, "delta"))
        elif kind == "message_delta":
            reason = field(field(event, "delta"), "stop_reason") or reason
    parts = [part for block in blocks.values() for part in block.parts()]
    return [said_by("assistant", parts, reason)] if parts or reason else None


class _Choice:
    """One choice of a stream, growing."""

    def __init__(self) -> None:
        self._role = "assistant"
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._others: list[Part] = []
        self._reason: object = None

    def add(self, streamed: Any) -> None:
        """Add one chunk's part of this choice."""
        reason = field(streamed, "finish_reason")
        if reason is not None:
            self._reason = reason
        delta = field(streamed, "delta")
        if delta is None:  # a text completion's
            _add(self._texts, field(streamed, "text"))
            return
        role = field(delta, "role")
        if isinstance(role, str) and role:
            self._role = role
        _add(self._texts, field(delta, "content"))
        _add(self._texts, field(delta, "refusal"))
        _add(self._reasoning, field(delta, "reasoning_content"))
        for call in bounded(field(delta, "tool_calls")):
            self._add_call(field(call, "index"), field(call, "id"), field(call, "function") or field(call, "custom"))
        legacy = field(delta, "function_call")
        if legacy is not None:
            self._add_call(0, None, legacy)
        for image in bounded(field(delta, "images")):
            if len(self._others) < MAX_ITEMS:
                self._others += read_parts([image])

    def _add_call(self, index: object, identity: object, function: object) -> None:
        number = index if isinstance(index, int) else len(self._calls)
        if number in self._calls or len(self._calls) < MAX_CHOICES:
            self._calls.setdefault(number, _Call()).add(identity, function)

    def message(self) -> Message:
        """Return the message so far."""
        reasoning, text = reasoning_part("".join(self._reasoning)), "".join(self._texts)
        calls = [self._calls[number].part() for number in sorted(self._calls)]
        parts = [*([reasoning] if reasoning else ()), *([text_part(text)] if text else ()), *self._others, *calls]
        return said_by(self._role, parts, self._reason)


class _Call:
    """One tool call of a stream, growing."""

    def __init__(self) -> None:
        self._id: object = None
        self._names: list[str] = []
        self._arguments: list[str] = []

    def add(self, identity: object, function: object) -> None:
        """Add one chunk's part of this call."""
        self._id = identity or self._id
        _add(self._names, field(function, "name"))
        _add(self._arguments, field(function, "arguments"))
        _add(self._arguments, field(function, "input"))

    def part(self) -> Part:
        """Return the call so far; arguments that broke off stay text."""
        return call_part(self._id, "".join(self._names), "".join(self._arguments))


def _add(texts: list[str], text: object) -> None:
    if isinstance(text, str) and text:
        texts.append(text)


class _Block:
    """One content block of a stream of events, growing."""

    def __init__(self, start: Any) -> None:
        self._start = start
        self._pieces: list[str] = []

    def add(self, delta: Any) -> None:
        """Add one event's part of this block."""
        for name in ("text", "thinking", "partial_json"):
            _add(self._pieces, field(delta, name))

    def parts(self) -> list[Part]:
        """Return the block so far."""
        start, text = self._start, "".join(self._pieces)
        kind = field(start, "type")
        if kind == "text":
            return read_parts((field(start, "text") or "") + text)
        if kind == "thinking":
            reasoning = reasoning_part((field(start, "thinking") or "") + text)
            return [reasoning] if reasoning is not None else []
        if kind == "tool_use":
            return [call_part(field(start, "id"), field(start, "name"), text or field(start, "input"))]
        return read_parts([start])
