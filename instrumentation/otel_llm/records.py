"""What one call to a model is known by: plain records that a library's module fills and an `Invocation` writes out.

None means unknown, and unknown things are not recorded. No telemetry is made here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | bool | int | float | Sequence[str]
"""What an attribute may hold."""


@dataclass(slots=True)
class Content:
    """What was said, in the structure of the GenAI conventions' JSON schemas; filled only where content is captured."""

    system_instructions: list[dict[str, Any]] | None = None  # parts
    input_messages: list[dict[str, Any]] | None = None  # {"role", "parts"}
    output_messages: list[dict[str, Any]] | None = None  # {"role", "parts", "finish_reason"}
    tool_definitions: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class Request:
    """What is known when the call starts; only parameters the caller gave."""

    operation: str
    model: str | None
    provider: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    parameters: dict[str, Value] = field(default_factory=dict)  # span attributes by name
    is_stream: bool = False
    is_self_hosted: bool = False  # by the library's own name for the provider; an address may tell it besides
    content: Content | None = None


@dataclass(slots=True)
class Usage:
    """Token counts of one call; reported by the server, unless it says `is_estimated`: then counted by the client."""

    input_tokens: int | None = None  # cached ones included
    output_tokens: int | None = None  # reasoning included
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    by_modality: dict[str, int] = field(default_factory=dict)  # "audio.input_tokens" and the like: parts of the above
    is_estimated: bool = False


@dataclass(slots=True)
class Cost:
    """Money for one call, in US dollars, and who computed it: `litellm` (its price list) or `configured`."""

    usd: float
    source: str


@dataclass(slots=True)
class EngineTimes:
    """What the engine says of its own times for this request, by its own clock; seconds."""

    queue_s: float | None = None
    first_token_s: float | None = None  # from the request's arrival at the engine
    generation_s: float | None = None  # from the first token to the last


@dataclass(slots=True)
class Reply:
    """What the server answered, or the part of it that arrived."""

    id: str | None = None
    model: str | None = None
    provider: str | None = None  # where only the reply tells
    finish_reasons: tuple[str, ...] = ()
    usage: Usage | None = None
    response_length: int | None = None  # characters
    tool_calls: int | None = None
    error: str | None = None  # the server's word for a failure that raises nothing into the caller
    cost: Cost | None = None
    engine: EngineTimes | None = None
    attributes: dict[str, Value] = field(default_factory=dict)  # span attributes by name, of this library alone
    content: Content | None = None


@dataclass(slots=True)
class Streamed:
    """What a streamed reply has besides: how it ended, and its times."""

    end: str
    first_chunk_s: float | None = None  # from the start of the call
    intervals_s: Sequence[float] = ()  # from one chunk to the next
    ended: tuple[float, int] | None = None  # perf_counter() and time_ns() of the end, where it is told later
