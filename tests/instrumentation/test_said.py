"""What is read as having been said: of calls in every form, and of replies the real LiteLLM made of a server's answers."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer

from otel_llm import semconv
from otel_llm.litellm.content.said import read_input, read_output
from otel_llm.litellm.content.said_streams import read_output_chunks
from otel_llm.plain import dumps
from otel_llm.records import Content

CHAT = semconv.OPERATION_CHAT
PNG = "data:image/png;base64," + "iVBORw0KGgo" + "A" * 389
MESSAGES = [{"role": "user", "content": "Hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells it.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def user(*contents: str) -> dict[str, Any]:
    return {"role": "user", "parts": [text(content) for content in contents]}


def test_a_chat_with_tools_pictures_and_reasoning() -> None:
    content = read_input(
        CHAT,
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "name": "bob",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": PNG}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
                        {"type": "input_audio", "input_audio": {"data": "QUJD" * 10, "format": "wav"}},
                        {"type": "file", "file": {"file_id": "f-1", "filename": "a.pdf"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "Let me see.",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Ulm"}'},
                        },
                        {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"ci'}},
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": '{"sun": true}'},
            ],
            "tools": [WEATHER, {"type": "mcp", "server_url": "http://x", "headers": {"Authorization": "secret"}}],
        },
    )

    assert content == Content(
        input_messages=[
            {"role": "system", "parts": [text("Be brief.")]},
            {
                "role": "user",
                "name": "bob",
                "parts": [
                    text("What is this?"),
                    {"type": "blob", "content": "", "size": 300, "mime_type": "image/png", "modality": "image"},
                    {"type": "uri", "uri": "https://example.com/x.png", "modality": "image"},
                    {"type": "blob", "content": "", "size": 30, "mime_type": "audio/wav", "modality": "audio"},
                    {"type": "file", "modality": "document", "file_id": "f-1", "name": "a.pdf"},
                ],
            },
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "Let me see."},
                    {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Ulm"}},
                    {"type": "tool_call", "id": "c2", "name": "weather", "arguments": '{"ci'},
                ],
            },
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": '{"sun": true}'}]},
        ],
        tool_definitions=[
            {
                "type": "function",
                "name": "weather",
                **{k: WEATHER["function"][k] for k in ("description", "parameters")},
            },  # type: ignore[index]
            {"type": "mcp", "name": "mcp"},
        ],
    )


def test_anthropics_messages() -> None:
    content = read_input(
        CHAT,
        {
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                        {"type": "tool_use", "id": "t2", "name": "weather", "input": {"city": "Ulm"}},
                    ],
                },
            ],
            "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        },
    )

    assert content == Content(
        system_instructions=[text("Be brief.")],
        input_messages=[
            {
                "role": "user",
                "parts": [
                    {"type": "blob", "content": "", "size": 3, "mime_type": "image/png", "modality": "image"},
                    {"type": "tool_call_response", "id": "t1", "response": [text("sunny")]},
                ],
            },
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "Hm."},
                    {"type": "tool_call", "id": "t2", "name": "weather", "arguments": {"city": "Ulm"}},
                ],
            },
        ],
        tool_definitions=[{"type": "function", "name": "weather", "parameters": {"type": "object"}}],
    )


def test_responses() -> None:
    assert read_input(CHAT, {"input": "Hi", "instructions": "Be brief."}) == Content(
        system_instructions=[text("Be brief.")], input_messages=[user("Hi")]
    )
    content = read_input(
        CHAT,
        {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": PNG}],
                },
                {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Ulm"}'},
                {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                {"type": "web_search_call", "id": "w1", "status": "completed"},
            ]
        },
    )
    assert content.input_messages == [
        {
            "role": "user",
            "parts": [
                text("Hi"),
                {"type": "blob", "content": "", "size": 300, "mime_type": "image/png", "modality": "image"},
            ],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Ulm"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hm."}]},
        {
            "role": "assistant",
            "parts": [
                {
                    "type": "server_tool_call",
                    "id": "w1",
                    "name": "web_search",
                    "server_tool_call": {"type": "web_search_call", "id": "w1", "status": "completed"},
                }
            ],
        },
    ]


@pytest.mark.parametrize(
    ("operation", "arguments", "messages"),
    [
        (semconv.OPERATION_TEXT_COMPLETION, {"prompt": "Hi"}, [user("Hi")]),
        (semconv.OPERATION_TEXT_COMPLETION, {"prompt": ["Hi", "Ho"]}, [user("Hi"), user("Ho")]),
        (semconv.OPERATION_TEXT_COMPLETION, {"prompt": [1, 2, 3]}, [user("[3 token ids]")]),
        (semconv.OPERATION_EMBEDDINGS, {"input": [[1, 2], "Hi"]}, [user("[2 token ids]"), user("Hi")]),
        (semconv.OPERATION_EMBEDDINGS, {}, None),
        (
            semconv.OPERATION_RERANK,
            {"query": "Hi", "documents": ["a", {"text": "b"}]},
            [user("Hi"), {"role": "document", "parts": [text("a"), text("b")]}],
        ),
        (semconv.OPERATION_IMAGE, {"prompt": "a cat"}, [user("a cat")]),
        (semconv.OPERATION_SPEECH, {"input": "Hi", "voice": "x"}, [user("Hi")]),
        (semconv.OPERATION_MODERATION, {"input": ["Hi"]}, [user("Hi")]),
        (CHAT, {"messages": []}, None),
        (CHAT, {"messages": "Hi"}, None),
    ],
)
def test_other_operations(operation: str, arguments: dict[str, Any], messages: object) -> None:
    assert read_input(operation, arguments).input_messages == messages


def test_a_recording_is_told_by_name_and_size_and_not_read(tmp_path: Path) -> None:
    file = tmp_path / "speech.wav"
    file.write_bytes(b"0123456789")
    blob = {"type": "blob", "modality": "audio", "content": "", "size": 10, "name": "speech.wav"}
    with file.open("rb") as opened:
        opened.seek(3)
        for given in (opened, ("speech.wav", b"0123456789"), ("speech.wav", io.BytesIO(b"0123456789"))):
            content = read_input(semconv.OPERATION_TRANSCRIPTION, {"file": given})
            assert content.input_messages == [{"role": "user", "parts": [blob]}]
        assert opened.tell() == 3


def test_nothing_is_consumed_and_nothing_foreign_is_asked() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    class Shy:
        def __str__(self) -> str:
            raise AssertionError("asked to describe itself")

        __repr__ = __str__

    given = endless()
    content = read_input(CHAT, {"messages": [{"role": "user", "content": given}, Shy(), None, 7, "Hi"], "tools": given})
    assert next(given) == 1
    assert content.input_messages is not None
    assert [message["parts"] for message in content.input_messages] == [
        [text("[builtins.generator]")],
        [],
        [],
        [],
        [text("Hi")],
    ]
    assert read_input(CHAT, {"messages": given}) == Content()


def test_what_the_caller_changes_later_is_not_changed_here() -> None:
    arguments: dict[str, Any] = {"city": "Ulm"}
    messages: list[Any] = [
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}
    ]
    content = read_input(CHAT, {"messages": messages})
    arguments["city"] = "Bonn"
    messages.clear()
    assert content.input_messages is not None
    assert content.input_messages[0]["parts"][0]["arguments"] == {"city": "Ulm"}


def test_a_long_conversation_keeps_its_end() -> None:
    content = read_input(CHAT, {"messages": [{"role": "user", "content": str(n)} for n in range(5000)]})
    assert content.input_messages is not None
    assert len(content.input_messages) == 501
    assert content.input_messages[0] == {"role": "…", "parts": [text("…[+4500 messages]")]}
    assert content.input_messages[-1] == user("4999")


def test_replies_of_the_real_litellm(litellm: ModuleType, server: OpenAIServer) -> None:
    def ask(model: str, **more: Any) -> Any:
        return litellm.completion(f"openai/{model}", MESSAGES, api_base=server.url, api_key="k", **more)

    said = {"role": "assistant", "parts": [text("Hello there")], "finish_reason": "stop"}
    call = {"type": "tool_call", "id": "call-1", "name": "weather", "arguments": {"city": "Ulm"}}
    called = {"role": "assistant", "parts": [call], "finish_reason": "tool_call"}

    assert read_output(CHAT, ask("plain")) == [said]
    assert read_output(CHAT, ask("plain", n=2)) == [said, said]
    assert read_output(CHAT, ask("tools")) == [called]
    asked_again = read_input(CHAT, {"messages": [*MESSAGES, ask("tools").choices[0].message]})
    assert asked_again.input_messages == [user("Hi"), {"role": "assistant", "parts": [call]}]
    for model, expected in (("plain", said), ("tools", called)):
        stream = ask(model, stream=True)
        list(stream)
        assert read_output_chunks(stream.chunks) == [expected]
    left = ask("plain", stream=True)
    next(left)
    assert read_output_chunks(left.chunks) == [{"role": "assistant", "parts": [text("Hel")]}]


def test_replies_of_other_operations_of_the_real_litellm(litellm: ModuleType, server: OpenAIServer) -> None:
    at = {"api_base": server.url, "api_key": "k"}
    written = litellm.text_completion(model="text-completion-openai/plain", prompt="Hi", **at)
    (message,) = read_output(semconv.OPERATION_TEXT_COMPLETION, written) or ()
    assert message["role"] == "assistant"
    assert message["parts"] == [text(written.choices[0].text)]
    assert read_output(semconv.OPERATION_EMBEDDINGS, litellm.embedding("openai/plain", ["Hi"], **at)) is None
    (heard,) = (
        read_output(
            semconv.OPERATION_TRANSCRIPTION,
            litellm.transcription("openai/plain", ("a.wav", b"RIFF", "audio/wav"), **at),
        )
        or ()
    )
    assert heard["parts"][0]["type"] == "text"
    speech = litellm.speech("openai/plain", "Hi", voice="x", **at)
    assert read_output(semconv.OPERATION_SPEECH, speech) is None


def test_replies_in_the_forms_of_responses_anthropic_and_images() -> None:
    responses = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        ],
    }
    assert read_output(CHAT, responses) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                text("Hello"),
                {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {}},
            ],
            "finish_reason": "length",
        }
    ]
    anthropic = {"role": "assistant", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"}
    assert read_output(CHAT, anthropic) == [{"role": "assistant", "parts": [text("Hello")], "finish_reason": "stop"}]
    images = {"data": [{"b64_json": "iVBORw0KGgo" + "A" * 389, "revised_prompt": "a cat"}, {"url": "https://x/y.png"}]}
    assert read_output(semconv.OPERATION_IMAGE, images) == [
        {
            "role": "assistant",
            "parts": [
                text("a cat"),
                {"type": "blob", "content": "", "size": 300, "mime_type": "image/png", "modality": "image"},
                {"type": "uri", "uri": "https://x/y.png", "modality": "image"},
            ],
        }
    ]
    for nonsense in (None, 7, "x", object(), {"choices": None}, {"choices": [None]}):
        dumps(read_output(CHAT, nonsense))
