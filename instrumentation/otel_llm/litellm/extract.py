"""Reading LiteLLM's calls and replies into the core's records; no telemetry, no LiteLLM import, nothing consumed or changed.

What is read is what the caller gave and what the server said. LiteLLM fills gaps with values of its own, and those are
left out: token counts of zero where a reply had none, tokenizer estimates, the reply of a mock or of its cache, the
finish reason "stop" of a stream that never told one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from otel_llm import semconv
from otel_llm.invocation import Reply, Request, Usage, Value

_WELL_KNOWN_PROVIDERS: Final[Mapping[str, str]] = {
    # LiteLLM's name: the conventions' name. Any other, `hosted_vllm` for one, is passed on as LiteLLM has it.
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}

_COUNTED_BY_LITELLM: Final = frozenset(
    # The servers report no tokens and LiteLLM counts them itself.
    ("a2a", "aleph_alpha", "langflow", "langgraph", "petals", "predibase", "replicate", "sagemaker")
)
_ROUTES_COUNTED_BY_LITELLM: Final = frozenset(("agentcore", "agent_engine", "agents"))  # `bedrock/agentcore/...`
_REASONING_COUNTED_BY_LITELLM: Final = frozenset(("anthropic", "aws.bedrock", "gcp.vertex_ai", "azure.ai.inference"))


def _double(value: object) -> Value | None:
    # A backend keeps one type per attribute, and `temperature=0` must not be of another than `temperature=0.5`.
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _integer(value: object) -> Value | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> Value | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> Value | None:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


def _several(value: object) -> Value | None:
    return _integer(value) if value != 1 else None


def _true(value: object) -> Value | None:
    return True if value is True else None


def _output_type(value: object) -> Value | None:
    if isinstance(value, type):  # a Pydantic model: structured output
        return semconv.OUTPUT_JSON
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind in ("json_object", "json_schema"):
        return semconv.OUTPUT_JSON
    return semconv.OUTPUT_TEXT if kind == "text" else None


_PARAMETERS: Final[Mapping[str, tuple[str, Callable[[object], Value | None]]]] = {
    # LiteLLM's argument: the span attribute, and how to read the one as the other (None: leave it out).
    "temperature": (semconv.REQUEST_TEMPERATURE, _double),
    "top_p": (semconv.REQUEST_TOP_P, _double),
    "top_k": (semconv.REQUEST_TOP_K, _integer),
    "max_tokens": (semconv.REQUEST_MAX_TOKENS, _integer),
    "max_completion_tokens": (semconv.REQUEST_MAX_TOKENS, _integer),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, _double),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, _double),
    "repetition_penalty": (semconv.REQUEST_REPETITION_PENALTY, _double),
    "stop": (semconv.REQUEST_STOP_SEQUENCES, _texts),
    "seed": (semconv.REQUEST_SEED, _integer),
    "n": (semconv.REQUEST_CHOICE_COUNT, _several),
    "stream": (semconv.REQUEST_STREAM, _true),
    "reasoning_effort": (semconv.REQUEST_REASONING_LEVEL, _text),
    "response_format": (semconv.OUTPUT_TYPE, _output_type),
}


class Names:
    """What LiteLLM knows about model names: which prefixes are providers, and whose the models of its price list are."""

    def __init__(self, is_provider: Callable[[str], bool], provider_of_model: Callable[[str], str | None]) -> None:
        self._is_provider = is_provider
        self._provider_of_model = provider_of_model
        self.split = lru_cache(maxsize=1024)(self._split)

    def _split(self, model: str, provider: str | None) -> tuple[str | None, str]:
        """Tell provider (None where the name does not) and bare name of a model."""
        prefix, slash, rest = model.partition("/")
        if slash and rest and (prefix == provider or (provider is None and self._is_provider(prefix))):
            return well_known(prefix), rest
        if provider is None:
            provider = self._provider_of_model(model)
            provider = provider if provider is not None and self._is_provider(provider) else None
        return (well_known(provider) if provider is not None else None), model


def well_known(provider: str) -> str:
    """Return the conventions' name of a provider where there is one, else LiteLLM's own."""
    return _WELL_KNOWN_PROVIDERS.get(provider, provider)


def is_mock(arguments: Mapping[str, object]) -> bool:
    """Whether LiteLLM is told to make up the reply instead of asking a server."""
    return any(arguments.get(name) is not None for name in ("mock_response", "mock_tool_calls"))


def read_request(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a chat call from its arguments by name."""
    given, provider, model = arguments.get("model"), arguments.get("custom_llm_provider"), None
    provider = provider if isinstance(provider, str) and provider else None
    if isinstance(given, str) and given:
        provider, model = names.split(given, provider)
    elif provider is not None:
        provider = well_known(provider)
    base = arguments.get("api_base") or arguments.get("base_url")
    address, port = _host(base) if isinstance(base, str) else (None, None)
    parameters: dict[str, Value] = {}
    for name, argument in arguments.items():
        if argument is not None and (row := _PARAMETERS.get(name)) is not None:
            value = row[1](argument)
            if value is not None:
                parameters[row[0]] = value
    length = _prompt_length(arguments.get("messages"))
    if length is not None:
        parameters[semconv.PROMPT_LENGTH] = length
    return Request(semconv.OPERATION_CHAT, model, provider, address, port, parameters)


@lru_cache(maxsize=256)
def _host(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # not a URL; the call itself will say so
        return None, None


def _prompt_length(messages: object) -> int | None:
    """Characters of text in the messages; None where they are not a list, which is not iterated lest it be consumed."""
    if not isinstance(messages, list | tuple):
        return None
    return sum(
        _content_length(m.get("content") if isinstance(m, dict) else getattr(m, "content", None)) for m in messages
    )


def _content_length(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list | tuple):
        return 0
    texts = (part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content)
    return sum(len(text) for text in texts if isinstance(text, str))


def read_reply(response: object, is_server: bool) -> Reply:
    """Read a complete reply; what is not a chat reply gives an empty record. `is_server` is false for a mock."""
    choices = getattr(response, "choices", None)
    if not isinstance(choices, list):
        return Reply()
    hidden = _hidden(response)
    provider = _provider(hidden)
    reasons: list[str] = []
    length = 0
    for choice in choices:
        reason = getattr(choice, "finish_reason", None)
        if isinstance(reason, str):
            reasons.append(reason)
        length += _content_length(getattr(getattr(choice, "message", None), "content", None))
    return Reply(
        id=_str(getattr(response, "id", None)),
        model=_str(hidden.get("provider_response_model")) or _str(getattr(response, "model", None)),
        provider=provider,
        finish_reasons=tuple(reasons),
        usage=_usage((response,), provider, length > 0) if is_server and _is_reported(hidden) else None,
        response_length=length,
    )


def read_error(error: BaseException) -> Reply:
    """Read what an exception tells of the reply: LiteLLM's own carry the provider that was asked."""
    provider = _str(getattr(error, "llm_provider", None))
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
        for choice in _field(chunk, "choices") or ():
            reason = _field(choice, "finish_reason")
            if isinstance(reason, str):
                reasons[_field(choice, "index") or 0] = reason
            content = _field(_field(choice, "delta"), "content")
            if isinstance(content, str):
                length += len(content)
    identity, model = None, None
    if chunks:
        identity = _str(_field(chunks[0], "id"))
        model = _str(_hidden(chunks[0]).get("provider_response_model")) or _str(_field(chunks[0], "model"))
    provider = well_known(provider) if provider else None
    return Reply(
        id=identity,
        model=model,
        provider=provider,
        finish_reasons=tuple(reasons[index] for index in sorted(reasons)),
        usage=_usage(chunks, provider, length > 0) if is_server else None,
        response_length=length,
    )


def _is_reported(hidden: Mapping[str, object]) -> bool:
    name = hidden.get("litellm_model_name")
    route = name.split("/")[1:2] if isinstance(name, str) else []
    return not hidden.get("cache_hit") and not _ROUTES_COUNTED_BY_LITELLM.intersection(route)


def _usage(replies: Sequence[object], provider: str | None, has_output: bool) -> Usage | None:
    """Take the largest of each count: servers that report as they go report totals so far, or input first and output last."""
    if provider in _COUNTED_BY_LITELLM:
        return None
    found = Usage()
    for reply in replies:
        usage = _field(reply, "usage")
        if usage is None:
            continue
        prompt, completion = (
            getattr(usage, "prompt_tokens_details", None),
            getattr(usage, "completion_tokens_details", None),
        )
        found.input_tokens = _larger(found.input_tokens, getattr(usage, "prompt_tokens", None))
        found.output_tokens = _larger(found.output_tokens, getattr(usage, "completion_tokens", None))
        if prompt is not None:
            found.cache_read_tokens = _larger(found.cache_read_tokens, getattr(prompt, "cached_tokens", None))
            found.cache_write_tokens = _larger(found.cache_write_tokens, getattr(prompt, "cache_write_tokens", None))
        if completion is not None and provider not in _REASONING_COUNTED_BY_LITELLM:
            found.reasoning_tokens = _larger(found.reasoning_tokens, getattr(completion, "reasoning_tokens", None))
    # LiteLLM writes 0 for a count it was not given. No request has an empty prompt, and text is made of tokens.
    if not found.input_tokens:
        found.input_tokens = None
    if not found.output_tokens and (has_output or found.input_tokens is None):
        found.output_tokens = None
    return None if found.input_tokens is None and found.output_tokens is None else found


def _larger(known: int | None, reported: object) -> int | None:
    if not isinstance(reported, int) or isinstance(reported, bool) or reported < 0:
        return known
    return reported if known is None else max(known, reported)


def _field(thing: Any, name: str) -> Any:
    """Return a field of a Pydantic object, None where it has none; plain `getattr` costs microseconds where it is missing."""
    try:
        fields = vars(thing)
        return fields[name] if name in fields else (thing.model_extra or {}).get(name)
    except (TypeError, AttributeError):  # not Pydantic's
        return getattr(thing, name, None)


def _hidden(reply: object) -> Mapping[str, object]:
    hidden = getattr(reply, "_hidden_params", None)
    return hidden if isinstance(hidden, Mapping) else {}


def _provider(hidden: Mapping[str, object]) -> str | None:
    provider = _str(hidden.get("custom_llm_provider"))
    return well_known(provider) if provider is not None else None


def _str(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
