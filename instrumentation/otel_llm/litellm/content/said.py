"""Reading what was said out of LiteLLM's arguments and replies, of every operation; called only where content is captured.

What is sent apart from the conversation (`instructions`, `system`) are system instructions; a system message within it
stays a message. Nothing is consumed: what is no list is not iterated, and a file is not read. Masking and cutting to
length come later, in `otel_llm.content`; putting streams together is in `said_streams`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from otel_llm import semconv
from otel_llm.litellm.content.parts import (
    MAX_CHOICES,
    MAX_ITEMS,
    Message,
    Part,
    bounded,
    call_part,
    media_part,
    read_parts,
    read_tool_calls,
    reasoning_part,
    response_part,
    role_of,
    said_by,
    text_part,
    token_ids,
    tool_call,
)
from otel_llm.litellm.read.fields import field
from otel_llm.plain import plain
from otel_llm.records import Content

_NOT_ENDED: Final = ("in_progress", "queued")  # states of a response that is still being made


def read_input(operation: str, arguments: Mapping[str, Any]) -> Content:
    """Read what a call says, from its arguments by name."""
    content = Content()
    if operation == semconv.OPERATION_RERANK:
        content.input_messages = [
            said_by("user", read_parts(arguments.get("query"))),
            said_by("document", _texts(arguments.get("documents"))),
        ]
    elif operation == semconv.OPERATION_TRANSCRIPTION:
        content.input_messages = [said_by("user", [_read_file(arguments.get("file"))])]
    elif operation in (semconv.OPERATION_TEXT_COMPLETION, semconv.OPERATION_IMAGE):
        content.input_messages = _prompts(arguments.get("prompt"))
    elif operation in (semconv.OPERATION_EMBEDDINGS, semconv.OPERATION_SPEECH, semconv.OPERATION_MODERATION):
        content.input_messages = _prompts(arguments.get("input"))
    else:
        messages = arguments.get("messages")
        content.input_messages = _messages(messages) if messages is not None else _items(arguments.get("input"))
        separate = arguments.get("system") if messages is not None else arguments.get("instructions")
        content.system_instructions = read_parts(separate) or None
        content.tool_definitions = _tools(arguments.get("tools") or arguments.get("functions"))
    if not any(message["parts"] for message in content.input_messages):
        content.input_messages = None
    return content


def read_output(operation: str, reply: Any) -> list[Message] | None:
    """Read what a complete reply says, one message for each choice; None where it says nothing in words or pictures."""
    if operation in (semconv.OPERATION_EMBEDDINGS, semconv.OPERATION_RERANK, semconv.OPERATION_MODERATION):
        return None
    if operation == semconv.OPERATION_SPEECH:  # reading the audio would consume it
        return None
    if operation == semconv.OPERATION_TRANSCRIPTION:
        return [said_by("assistant", parts)] if (parts := read_parts(field(reply, "text"))) else None
    if operation == semconv.OPERATION_IMAGE:
        images = bounded(field(reply, "data"))
        return [said_by("assistant", [part for image in images for part in _image(image)])] if images else None
    choices = field(reply, "choices")
    if isinstance(choices, list):
        return [_choice(choice) for choice in choices[:MAX_CHOICES]] or None
    output = field(reply, "output")
    if isinstance(output, list):
        return _responses_output(reply, output)
    blocks = field(reply, "content")
    if isinstance(blocks, list):
        return [said_by(role_of(reply), read_parts(blocks), field(reply, "stop_reason"))]
    return None


def _latest(items: Sequence[Any]) -> tuple[list[Message], Sequence[Any]]:
    """The newest of a long conversation, and a mark for what went before."""
    left_out = len(items) - MAX_ITEMS
    if left_out <= 0:
        return [], items
    return [said_by("…", [text_part(f"…[+{left_out} messages]")])], items[-MAX_ITEMS:]


def _messages(messages: object) -> list[Message]:
    if not isinstance(messages, list | tuple):
        return []
    mark, latest = _latest(messages)
    return [*mark, *(_chat(message) for message in latest)]


def _chat(message: Any) -> Message:
    if isinstance(message, str):
        return said_by("user", [text_part(message)])
    role = role_of(message, "user")
    content = field(message, "content")
    if role in ("tool", "function"):
        return _named(message, said_by(role, [response_part(field(message, "tool_call_id"), content)]))
    return _named(message, said_by(role, _spoken(message, content)))


def _named(message: Any, read: Message) -> Message:
    name = field(message, "name")
    return {**read, "name": name} if isinstance(name, str) and name else read


def _spoken(message: Any, content: object) -> list[Part]:
    """The parts of a message of a user or a model, in the order they were said in."""
    parts: list[Part] = []
    reasoning = reasoning_part(field(message, "reasoning_content"))
    if reasoning is not None:
        parts.append(reasoning)
    else:
        parts += read_parts(field(message, "thinking_blocks"))
    parts += read_parts(content)
    refusal = field(message, "refusal")
    if isinstance(refusal, str) and refusal:
        parts.append(text_part(refusal))
    audio = field(message, "audio")
    if audio is not None:
        heard = media_part(field(audio, "data"), "audio")
        transcript = field(audio, "transcript")
        parts.append({**heard, "transcript": transcript} if isinstance(transcript, str) else heard)
    parts += read_parts(list(bounded(field(message, "images"))))
    parts += read_tool_calls(field(message, "tool_calls"))
    legacy = field(message, "function_call")
    if legacy is not None:
        parts.append(tool_call(legacy))
    return parts


def _choice(choice: Any) -> Message:
    message, reason = field(choice, "message"), field(choice, "finish_reason")
    if message is None:  # a text completion's
        return said_by("assistant", read_parts(field(choice, "text")), reason)
    return said_by(role_of(message), _spoken(message, field(message, "content")), reason)


def _items(given: object) -> list[Message]:
    """The input of Responses: a text, or a list of messages, tool calls and their results."""
    if isinstance(given, str):
        return [said_by("user", [text_part(given)])]
    if not isinstance(given, list | tuple):
        return []
    mark, latest = _latest(given)
    return [*mark, *(_item(item) for item in latest)]


def _item(item: Any) -> Message:
    if isinstance(item, str) or field(item, "role") is not None:
        return _chat(item)
    if field(item, "type") in ("function_call_output", "custom_tool_call_output"):
        return said_by("tool", [response_part(field(item, "call_id"), field(item, "output"))])
    return said_by("assistant", _item_parts(item))


def _item_parts(item: Any) -> list[Part]:
    kind = field(item, "type")
    if kind == "message":
        return read_parts(field(item, "content"))
    if kind == "function_call":
        return [call_part(field(item, "call_id"), field(item, "name"), field(item, "arguments"))]
    if kind == "custom_tool_call":
        return [call_part(field(item, "call_id"), field(item, "name"), field(item, "input"))]
    if kind == "reasoning":
        told = [*bounded(field(item, "content")), *bounded(field(item, "summary"))]
        return [part for block in told if (part := reasoning_part(field(block, "text"))) is not None]
    if kind == "image_generation_call":
        return [media_part(field(item, "result"), "image")]
    return read_parts([item])


def _responses_output(reply: Any, output: list[Any]) -> list[Message] | None:
    reason = field(field(reply, "incomplete_details"), "reason") or field(reply, "status")
    parts = [part for item in output[:MAX_ITEMS] for part in _item_parts(item)]
    if reason in _NOT_ENDED:
        reason = None
    elif reason == "completed" and any(part["type"] == "tool_call" for part in parts):
        reason = "tool_call"
    return [said_by("assistant", parts, reason)] if parts or reason else None


def _prompts(prompt: object) -> list[Message]:
    """A prompt or input that may be several: texts, or the numbers of their tokens."""
    if not isinstance(prompt, list | tuple) or token_ids(prompt):
        return [said_by("user", read_parts(prompt))]
    several = [said_by("user", read_parts(one if isinstance(one, list) else [one])) for one in prompt[:MAX_ITEMS]]
    left_out = len(prompt) - len(several)
    return [*several, *([said_by("…", [text_part(f"…[+{left_out} messages]")])] if left_out else ())]


def _texts(documents: object) -> list[Part]:
    return read_parts(documents) if isinstance(documents, list | tuple) else []


def _image(image: Any) -> list[Part]:
    prompt, link, data = field(image, "revised_prompt"), field(image, "url"), field(image, "b64_json")
    told = [text_part(prompt)] if isinstance(prompt, str) and prompt else []
    source = link if isinstance(link, str) else data
    return [*told, *([media_part(source, "image")] if source is not None else ())]


def _tools(tools: object) -> list[dict[str, Any]] | None:
    return [_tool(tool) for tool in bounded(tools)] or None


def _tool(tool: Any) -> dict[str, Any]:
    function = field(tool, "function") or field(tool, "custom") or tool
    name, kind = field(function, "name"), field(tool, "type")
    parameters = field(function, "parameters") or field(function, "input_schema")
    if kind not in (None, "function", "custom") and parameters is None:
        # A tool of the provider's. Its settings are left out: an MCP server's hold its keys.
        return {"type": str(kind), "name": name if isinstance(name, str) else str(kind)}
    read: dict[str, Any] = {"type": "function", "name": name if isinstance(name, str) else ""}
    description = field(function, "description")
    if isinstance(description, str):
        read["description"] = description
    if parameters is not None:
        read["parameters"] = plain(parameters)
    return read


def _read_file(file: Any) -> Part:
    """Name and size of a file to be sent, which is not read: its position is the application's."""
    name, opened = (
        (file[0], file[1]) if isinstance(file, tuple) and len(file) > 1 else (getattr(file, "name", None), file)
    )
    part: Part = {"type": "blob", "modality": "audio", "content": ""}
    if isinstance(opened, bytes | bytearray):
        part["size"] = len(opened)
    elif hasattr(opened, "getbuffer"):
        with opened.getbuffer() as view:
            part["size"] = view.nbytes
    elif hasattr(opened, "fileno"):
        try:
            part["size"] = os.fstat(opened.fileno()).st_size
        except (OSError, ValueError):  # closed, or no file of the system
            part.pop("size", None)
    if isinstance(opened, str | os.PathLike):
        name = os.fspath(opened)
    return {**part, "name": os.path.basename(name)} if isinstance(name, str) else part  # noqa: PTH119 - a name, no path
