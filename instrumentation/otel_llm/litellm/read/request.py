"""What every call to LiteLLM has in common: model, provider, address and parameters, read from its arguments by name."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from otel_llm import semconv
from otel_llm.litellm.read.names import SELF_HOSTED, Names, well_known
from otel_llm.records import Request, Value


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


PARAMETERS: Final[Mapping[str, tuple[str, Callable[[object], Value | None]]]] = {
    # LiteLLM's argument: the span attribute, and how to read the one as the other (None: leave it out).
    "temperature": (semconv.REQUEST_TEMPERATURE, _double),
    "top_p": (semconv.REQUEST_TOP_P, _double),
    "top_k": (semconv.REQUEST_TOP_K, _integer),
    "max_tokens": (semconv.REQUEST_MAX_TOKENS, _integer),
    "max_completion_tokens": (semconv.REQUEST_MAX_TOKENS, _integer),
    "max_output_tokens": (semconv.REQUEST_MAX_TOKENS, _integer),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, _double),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, _double),
    "repetition_penalty": (semconv.REQUEST_REPETITION_PENALTY, _double),
    "stop": (semconv.REQUEST_STOP_SEQUENCES, _texts),
    "stop_sequences": (semconv.REQUEST_STOP_SEQUENCES, _texts),
    "seed": (semconv.REQUEST_SEED, _integer),
    "n": (semconv.REQUEST_CHOICE_COUNT, _several),
    "stream": (semconv.REQUEST_STREAM, _true),
    "reasoning_effort": (semconv.REQUEST_REASONING_LEVEL, _text),
    "response_format": (semconv.OUTPUT_TYPE, _output_type),
}


def is_mock(arguments: Mapping[str, object]) -> bool:
    """Whether LiteLLM is told to make up the reply instead of asking a server."""
    return arguments.get("mock_response") is not None or arguments.get("mock_tool_calls") is not None


def read_request(operation: str, arguments: Mapping[str, object], names: Names) -> Request:
    """Read what all operations have; an operation's own reader adds to it."""
    given, provider, model = arguments.get("model"), arguments.get("custom_llm_provider"), None
    provider = provider if isinstance(provider, str) and provider else None
    if isinstance(given, str) and given:
        provider, model = names.split(given, provider)
    base = arguments.get("api_base") or arguments.get("base_url")
    address, port = host(base) if isinstance(base, str) else (None, None)
    parameters: dict[str, Value] = {}
    for name, argument in arguments.items():
        if argument is not None and (row := PARAMETERS.get(name)) is not None:
            value = row[1](argument)
            if value is not None:
                parameters[row[0]] = value
    return Request(
        operation,
        model,
        well_known(provider) if provider is not None else None,
        address,
        port,
        parameters,
        is_stream=arguments.get("stream") is True,
        is_self_hosted=provider in SELF_HOSTED,
    )


@lru_cache(maxsize=256)
def host(url: str) -> tuple[str | None, int | None]:
    """Tell host and port of a URL; None and None where it is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # not a URL; the call itself will say so
        return None, None
