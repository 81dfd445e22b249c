"""The pieces of a message, of any API LiteLLM speaks, in the structure of the GenAI conventions: text, tool calls, files.

Blocks of OpenAI's chat and Responses APIs and of Anthropic's messages are told by their `type`; one of another type is
kept as a part of that type. Images, audio and documents sent inline become their media type and size. Nothing here is
the caller's: all that is not text is copied plain.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from otel_llm.litellm.read.fields import field
from otel_llm.plain import media, plain

MAX_ITEMS: Final = 500  # messages of a call, parts of a message
MAX_CHOICES: Final = 128  # of a reply, and tool calls of each in a stream
_MAX_ARGUMENTS: Final = 1 << 16  # a longer JSON text of arguments stays text
_MODALITIES: Final = ("image", "video", "audio")

_FINISH_REASONS: Final = {  # into the words of the conventions
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "tool_use": "tool_call",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "refusal": "content_filter",
    "completed": "stop",
    "failed": "error",
}

Part = dict[str, Any]
Message = dict[str, Any]


def said_by(role: str, parts: list[Part], reason: object = None) -> Message:
    """Return a message, with its finish reason in the words of the conventions where it has one."""
    message: Message = {"role": role, "parts": parts}
    if isinstance(reason, str) and reason:
        message["finish_reason"] = _FINISH_REASONS.get(reason, reason)
    return message


def role_of(message: Any, otherwise: str = "assistant") -> str:
    """Return who said a message."""
    role = field(message, "role")
    return role if isinstance(role, str) and role else otherwise


def bounded(items: object) -> Sequence[Any]:
    """Return the items of a list that is not endless; what is no list has none."""
    return items[:MAX_ITEMS] if isinstance(items, list | tuple) else ()


def text_part(text: str) -> Part:
    """Return text as a part."""
    return {"type": "text", "content": text}


def read_parts(content: object) -> list[Part]:
    """Read the content of one message: a text, one block or a list of them."""
    if isinstance(content, str):
        return [text_part(content)] if content else []
    if content is None:
        return []
    if not isinstance(content, list | tuple):
        return [_part(content)]
    if token_ids(content):
        return [text_part(f"[{len(content)} token ids]")]
    parts = [_part(block) for block in content[:MAX_ITEMS] if block is not None]
    if len(content) > MAX_ITEMS:
        parts.append(text_part(f"…[+{len(content) - MAX_ITEMS} parts]"))
    return parts


def token_ids(content: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a text stands there as the numbers of its tokens."""
    return bool(content) and isinstance(content[0], int)


def read_tool_calls(calls: object) -> list[Part]:
    """Read the `tool_calls` of a chat message."""
    return [tool_call(call) for call in calls[:MAX_ITEMS]] if isinstance(calls, list | tuple) else []


def tool_call(call: object) -> Part:
    """Read one tool call of a chat message: a function's, or a custom tool's."""
    function = field(call, "function") or field(call, "custom") or call
    arguments = field(function, "arguments")
    return call_part(
        field(call, "id"), field(function, "name"), field(function, "input") if arguments is None else arguments
    )


def call_part(identity: object, name: object, arguments: object) -> Part:
    """Return a tool call as a part; arguments in JSON text are given their structure back."""
    part: Part = {"type": "tool_call", "name": name if isinstance(name, str) else ""}
    if isinstance(identity, str):
        part["id"] = identity
    if arguments is not None and arguments != "":
        part["arguments"] = _parsed(arguments) if isinstance(arguments, str) else plain(arguments)
    return part


def response_part(identity: object, content: object) -> Part:
    """Return what a tool answered as a part."""
    part: Part = {"type": "tool_call_response"}
    if isinstance(identity, str):
        part["id"] = identity
    # A list of blocks may hold images; anything else is the tool's own.
    is_blocks = isinstance(content, list) and bool(content) and isinstance(field(content[0], "type"), str)
    part["response"] = read_parts(content) if is_blocks else plain(content)
    return part


def reasoning_part(text: object) -> Part | None:
    """Return the model's reasoning as a part, where it is readable."""
    return {"type": "reasoning", "content": text} if isinstance(text, str) and text else None


def media_part(source: object, modality: str | None = None, mime_type: object = None) -> Part:
    """Return a file as a part: an address as it is, data as media type and size."""
    kind = mime_type if isinstance(mime_type, str) else None
    if isinstance(source, bytes | bytearray):
        return _blob(kind, modality, len(source))
    if not isinstance(source, str):
        return _with_kind({"type": "file", "file_id": ""}, kind, modality)
    found = media(source)
    if found is not None:
        return _blob(found[0], modality, found[1])
    if "://" in source[:32]:
        return _with_kind({"type": "uri", "uri": source}, kind, modality)
    return _blob(kind, modality, len(source) * 3 // 4)  # base64 without a word of what it is


def _part(block: Any) -> Part:
    if isinstance(block, str):
        return text_part(block)
    kind = field(block, "type")
    if kind in ("text", "input_text", "output_text", "summary_text"):
        text = field(block, "text")
        return text_part(text if isinstance(text, str) else "")
    if kind == "refusal":
        return text_part(str(field(block, "refusal") or ""))
    if kind in ("thinking", "reasoning_text"):
        text = field(block, "thinking") if kind == "thinking" else field(block, "text")
        return {"type": "reasoning", "content": text if isinstance(text, str) else ""}
    if kind == "redacted_thinking":
        return {"type": "reasoning", "content": "[redacted by the provider]"}
    if kind == "tool_use":
        return call_part(field(block, "id"), field(block, "name"), field(block, "input"))
    if kind == "tool_result":
        return response_part(field(block, "tool_use_id"), field(block, "content"))
    if kind in ("image_url", "video_url", "audio_url", "input_image"):
        return _linked(block, str(kind))
    if kind == "input_audio":
        audio = field(block, "input_audio")
        encoding = field(audio, "format")
        return _blob(f"audio/{encoding}" if isinstance(encoding, str) else None, "audio", _size(field(audio, "data")))
    if kind in ("file", "input_file"):
        return _file(field(block, "file") or block)
    if kind in ("image", "document") and field(block, "source") is not None:
        return _sourced(field(block, "source"), str(kind))
    if kind is None and isinstance(field(block, "text"), str):
        return text_part(field(block, "text"))
    return _other(block, kind)


def _linked(block: Any, kind: str) -> Part:
    modality = "image" if kind == "input_image" else kind.removesuffix("_url")
    link = field(block, "image_url" if kind == "input_image" else kind)
    identity = field(block, "file_id")
    if link is None and isinstance(identity, str):
        return {"type": "file", "modality": modality, "file_id": identity}
    return media_part(link if isinstance(link, str) else field(link, "url"), modality, field(link, "format"))


def _file(file: Any) -> Part:
    identity, data, link = field(file, "file_id"), field(file, "file_data"), field(file, "file_url")
    name = field(file, "filename")
    part = (
        {"type": "file", "modality": "document", "file_id": identity}
        if isinstance(identity, str)
        else media_part(data if data is not None else link, None, field(file, "format"))
    )
    return {**part, "name": name} if isinstance(name, str) else part


def _sourced(source: Any, kind: str) -> Part:
    modality, mime_type = ("image" if kind == "image" else "document"), field(source, "media_type")
    how = field(source, "type")
    if how == "text":
        return text_part(str(field(source, "data") or ""))
    if how == "content":
        parts = read_parts(field(source, "content"))
        return parts[0] if len(parts) == 1 else {"type": "document", "content": parts}
    if how == "file":
        return {"type": "file", "modality": modality, "file_id": str(field(source, "file_id") or "")}
    if how == "url":
        return media_part(field(source, "url"), modality, mime_type)
    return _blob(mime_type if isinstance(mime_type, str) else None, modality, _size(field(source, "data")))


def _other(block: Any, kind: object) -> Part:
    copied = plain(block)
    if not isinstance(copied, dict):
        return text_part(copied if isinstance(copied, str) else json.dumps(copied))
    name = str(kind) if isinstance(kind, str) else "unknown"
    # Tools the provider runs itself: `web_search_call` of Responses, `server_tool_use` of Anthropic.
    identity = copied.get("tool_use_id") or copied.get("call_id") or copied.get("id")
    known = {"id": identity} if isinstance(identity, str) else {}
    if name.endswith(("_tool_result", "_call_output")):
        return {"type": "server_tool_call_response", **known, "server_tool_call_response": copied}
    if name == "server_tool_use" or name.endswith("_call"):
        tool = copied.get("name")
        called = tool if isinstance(tool, str) else name.removesuffix("_call")
        return {"type": "server_tool_call", **known, "name": called, "server_tool_call": copied}
    return {**copied, "type": name}


def _parsed(text: str) -> Any:
    if len(text) > _MAX_ARGUMENTS:
        return text
    try:
        return plain(json.loads(text))
    except (ValueError, RecursionError):
        return text


def _size(data: object) -> int:
    if isinstance(data, str):
        return len(data) * 3 // 4
    return len(data) if isinstance(data, bytes | bytearray) else 0


def _blob(mime_type: str | None, modality: str | None, size: int) -> Part:
    return _with_kind({"type": "blob", "content": "", "size": size}, mime_type, modality)


def _with_kind(part: Part, mime_type: str | None, modality: str | None) -> Part:
    if mime_type is not None:
        part["mime_type"] = mime_type
    start = (mime_type or "").partition("/")[0]
    part["modality"] = modality or (start if start in _MODALITIES else "document")
    return part
