"""What is read as having been said in a stream, of chunks and of events, whatever numbers the server gives them."""

import json
from typing import Any

from otel_llm.litellm.content.said_streams import read_output_chunks, read_output_events


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def test_streamed_choices_are_put_together_and_kept_apart() -> None:
    def chunk(index: Any, reason: str | None = None, **delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}

    def call(index: Any, name: str | None = None, arguments: str | None = None, identity: str | None = None) -> Any:
        return [{"index": index, "id": identity, "function": {"name": name, "arguments": arguments}}]

    chunks = [
        chunk(1, content="Ho"),
        chunk(0, role="assistant", reasoning_content="H"),
        chunk(0, reasoning_content="m."),
        chunk(0, content="Hel"),
        chunk(0, tool_calls=call(1, "b", '{"x":', "c2")),
        chunk(0, tool_calls=call(0, "a", "{}", "c1")),
        chunk(0, tool_calls=call(1, None, " 1}")),
        chunk(0, content="lo"),
        chunk(0, "tool_calls"),
        chunk(1, "length"),
    ]
    assert read_output_chunks(chunks) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                text("Hello"),
                {"type": "tool_call", "id": "c1", "name": "a", "arguments": {}},
                {"type": "tool_call", "id": "c2", "name": "b", "arguments": {"x": 1}},
            ],
            "finish_reason": "tool_call",
        },
        {"role": "assistant", "parts": [text("Ho")], "finish_reason": "length"},
    ]
    many = [chunk(n, content="x") for n in range(10_000)] + [
        chunk(0, tool_calls=call(n, "f", "")) for n in range(10_000)
    ]
    read = read_output_chunks([*many, chunk(10**30, content="x"), chunk("x", tool_calls=call("y")), {}, None, 7])
    assert read is not None
    assert len(read) == 128
    assert len(read[0]["parts"]) == 1 + 128
    assert read_output_chunks([]) is None


def test_streamed_events_in_the_form_of_anthropics() -> None:
    events = [
        {"type": "message_start", "message": {"role": "assistant"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "lo"}},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"x": 1}'}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]
    assert read_output_events(events) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                text("Hello"),
                {"type": "tool_call", "id": "t", "name": "f", "arguments": {"x": 1}},
            ],
            "finish_reason": "tool_call",
        }
    ]
    json.dumps(read_output_events([{"type": "content_block_delta", "index": 9}, None, 7]))
