"""Reading chat calls and their replies into the core's records; no telemetry, nothing consumed or changed.

What is read is what the caller gave and what the server said. LiteLLM fills gaps with values of its own, and those are
left out: token counts of zero where a reply had none, tokenizer estimates, the reply of a mock or of its cache, the
finish reason "stop" of a stream that never told one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm import semconv
from otel_llm.invocation import Invocation
from otel_llm.litellm.content.capture import capture_chunks
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import cost, engine
from otel_llm.litellm.read.fields import Fields, content_length, field, fields_of, hidden_params, text
from otel_llm.litellm.read.names import Names, well_known
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.litellm.read.usage import combine, is_reported, read_estimate
from otel_llm.records import Reply, Request, Usage


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
    length = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else getattr(message, "content", None)
        length += content_length(content)
    return length


def read_reply(response: object, asked: Asked) -> Reply:
    """Read a complete reply; what is not a chat reply gives an empty record."""
    own = fields_of(response)
    choices = own.get("choices")
    if not isinstance(choices, list):
        return Reply()
    hidden = hidden_params(response)
    litellm_s = text(hidden.get("custom_llm_provider"))
    provider = well_known(litellm_s) if litellm_s is not None else None
    reasons: list[str] = []
    length = calls = 0
    for choice in choices:
        chosen = fields_of(choice)
        reason = chosen.get("finish_reason")
        if isinstance(reason, str):
            reasons.append(reason)
        message = chosen.get("message")
        if message is not None:
            said = fields_of(message)
            length += content_length(said.get("content"))
            tools = said.get("tool_calls")
            if isinstance(tools, list):
                calls += len(tools)
    usage = None
    if asked.is_server and not hidden.get("cache_hit"):
        if is_reported(hidden):
            usage = combine((own.get("usage"),), provider, length > 0 or calls > 0)
        if usage is None and asked.settings.estimate_usage:
            usage = read_estimate(own.get("usage"))
    reply = Reply(text(own.get("id")), text(hidden.get("provider_response_model")) or text(own.get("model")), provider)
    reply.finish_reasons = tuple(reasons)
    reply.usage = usage
    reply.response_length = length
    reply.tool_calls = calls
    reply.cost = cost.read_cost(usage, asked, litellm_s, hidden.get("response_cost"))
    reply.engine = engine.engine_times(own.get("metrics"))
    reply.attributes = _attributes(own, hidden)
    return reply


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
    usages: list[object] = []
    calls: set[tuple[object, object]] = set()
    length = 0
    for chunk in chunks:
        own = fields_of(chunk)
        for choice in own.get("choices") or ():
            chosen = fields_of(choice)
            reason = chosen.get("finish_reason")
            if isinstance(reason, str):
                index = chosen.get("index")
                reasons[index if isinstance(index, int) else 0] = reason
            said = fields_of(chosen.get("delta"))
            content = said.get("content")
            if isinstance(content, str):
                length += len(content)
            tools = said.get("tool_calls")
            if tools:
                calls.update((chosen.get("index"), field(tool, "index")) for tool in tools)
        usage = own.get("usage")
        if usage is not None:
            usages.append(usage)
    attributes: dict[str, Any] = {}
    identity, model = None, None
    if chunks:
        first = fields_of(chunks[0])
        identity = text(first.get("id"))
        model = text(hidden_params(chunks[0]).get("provider_response_model")) or text(first.get("model"))
        attributes = _attributes(first, {})
    provider = well_known(provider) if provider else None
    return Reply(
        id=identity,
        model=model,
        provider=provider,
        finish_reasons=tuple(reasons[index] for index in sorted(reasons)),
        usage=combine(usages, provider, length > 0 or bool(calls)) if is_server and usages else None,
        response_length=length,
        tool_calls=len(calls),
        attributes=attributes,
    )


class Arrived:
    """What has arrived of a chat stream so far; holds the parts of LiteLLM's stream object, never the object itself."""

    __slots__ = ("_asked", "_chunks", "_hidden", "_invocation", "_is_server", "_last", "_model", "_provider")

    def __init__(self, stream: Any, asked: Asked, invocation: Invocation | None = None) -> None:
        self._asked, self._invocation = asked, invocation
        self._chunks: Sequence[object] = stream.chunks  # the very list that LiteLLM appends to
        self._hidden = hidden_params(stream)
        self._model, self._provider = text(getattr(stream, "model", None)), text(stream.custom_llm_provider)
        is_made_up = getattr(stream, "is_mock", False) or self._provider == "cached_response"
        self._is_server = asked.is_server and not is_made_up
        self._last: object = None

    def keep(self, chunk: object) -> None:
        """Keep the chunk handed out last: with it LiteLLM notes its own count of tokens and the cost, at the end."""
        self._last = chunk

    def read(self) -> Reply:
        """Read all that is known by now."""
        reply = read_chunks(self._chunks, self._provider, self._is_server)
        capture_chunks(reply, self._chunks, self._asked.request)
        if self._invocation is not None:
            reply.engine = engine.heard(self._invocation)
        reply.attributes.update(_attributes(None, self._hidden))
        if not self._is_server:
            return reply
        if reply.usage is not None:
            computed = cost.of_stream(self._last)
            if computed is None:
                computed = cost.of_part(reply.usage, self._provider, self._model)
            reply.cost = cost.read_cost(reply.usage, self._asked, self._provider, computed)
        elif self._asked.settings.estimate_usage:
            reply.usage = self._estimate()
        return reply

    def _estimate(self) -> Usage | None:
        hidden = hidden_params(self._last).get("usage")
        return read_estimate(field(self._last, "usage") if hidden is None else hidden)


def _attributes(reply: Fields | None, hidden: Mapping[str, object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if reply is not None:
        tier, fingerprint = reply.get("service_tier"), reply.get("system_fingerprint")
        if tier and isinstance(tier, str):
            found[semconv.OPENAI_RESPONSE_SERVICE_TIER] = tier
        if fingerprint and isinstance(fingerprint, str):
            found[semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = fingerprint
    took = hidden.get("litellm_overhead_time_ms")
    overhead = engine.seconds(took) if took is not None else None
    if overhead is not None:
        found[semconv.LITELLM_OVERHEAD] = overhead
    return found
