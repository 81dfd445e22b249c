"""Reading chat calls and their replies into the core's records; no telemetry, no LiteLLM import, nothing consumed or changed.

What is read is what the caller gave and what the server said. LiteLLM fills gaps with values of its own, and those are
left out: token counts of zero where a reply had none, tokenizer estimates, the reply of a mock or of its cache, the
finish reason "stop" of a stream that never told one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm import semconv
from otel_llm.records import Reply, Request

from .entry import Asked
from .fields import content_length, field, hidden_params, text
from .names import Names, well_known
from .request import read_request as read_common
from .usage import is_reported, read_usage


def read_request(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a chat call from its arguments by name."""
    request = read_common(semconv.OPERATION_CHAT, arguments, names)
    length = prompt_length(arguments.get("messages"))
    if length is not None:
        request.parameters[semconv.PROMPT_LENGTH] = length
    return request


def prompt_length(messages: object) -> int | None:
    """Characters of text in the messages; None where they are not a list, which is not iterated lest it be consumed."""
    if not isinstance(messages, list | tuple):
        return None
    return sum(
        content_length(m.get("content") if isinstance(m, dict) else getattr(m, "content", None)) for m in messages
    )


def read_reply(response: object, asked: Asked) -> Reply:
    """Read a complete reply; what is not a chat reply gives an empty record."""
    choices = getattr(response, "choices", None)
    if not isinstance(choices, list):
        return Reply()
    hidden = hidden_params(response)
    provider = _provider(hidden)
    reasons: list[str] = []
    length = 0
    for choice in choices:
        reason = getattr(choice, "finish_reason", None)
        if isinstance(reason, str):
            reasons.append(reason)
        length += content_length(getattr(getattr(choice, "message", None), "content", None))
    return Reply(
        id=text(getattr(response, "id", None)),
        model=text(hidden.get("provider_response_model")) or text(getattr(response, "model", None)),
        provider=provider,
        finish_reasons=tuple(reasons),
        usage=read_usage((response,), provider, length > 0) if asked.is_server and is_reported(hidden) else None,
        response_length=length,
    )


def read_error(error: BaseException) -> Reply:
    """Read what an exception tells of the reply: LiteLLM's own carry the provider that was asked."""
    provider = text(getattr(error, "llm_provider", None))
    return Reply(provider=well_known(provider) if provider is not None else None)


def read_chunks(chunks: Sequence[object], provider: str | None, is_server: bool) -> Reply:
    """Read what arrived of a stream.

    `chunks` is LiteLLM's own list of what the server sent: usage chunks are in it also when they are kept from the
    caller, and the estimate LiteLLM hands out in place of a missing one is not. `is_server` is false for a mock or a
    cached stream, whose usage no server reported.
    """
    reasons: dict[int, str] = {}
    length = 0
    for chunk in chunks:
        for choice in field(chunk, "choices") or ():
            reason = field(choice, "finish_reason")
            if isinstance(reason, str):
                reasons[field(choice, "index") or 0] = reason
            content = field(field(choice, "delta"), "content")
            if isinstance(content, str):
                length += len(content)
    identity, model = None, None
    if chunks:
        identity = text(field(chunks[0], "id"))
        model = text(hidden_params(chunks[0]).get("provider_response_model")) or text(field(chunks[0], "model"))
    provider = well_known(provider) if provider else None
    return Reply(
        id=identity,
        model=model,
        provider=provider,
        finish_reasons=tuple(reasons[index] for index in sorted(reasons)),
        usage=read_usage(chunks, provider, length > 0) if is_server else None,
        response_length=length,
    )


def _provider(hidden: Mapping[str, Any]) -> str | None:
    provider = text(hidden.get("custom_llm_provider"))
    return well_known(provider) if provider is not None else None
