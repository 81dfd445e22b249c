"""Bodies of requests, understood: what generation and pooling need of them, checked the way vLLM checks it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.requests import Request

from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.refusal import Refused, invalid, missing
from otel_agent.simulate.text import count_tokens, render_chat, tokenize

MOST_CHOICES = 128
MOST_PROMPTS = 1024
LARGEST_BODY = 16 << 20
TRACE_HEADERS = ("traceparent", "tracestate")
# What the stand-in is asked to do wrong, in a header or, where a gateway lets no header through, in a field of the body.
ERROR_HEADER, ERROR_FIELD = "x-simulate-error", "simulate_error"
_ERROR = re.compile(r"(?P<status>[45]\d\d)|500@(?P<after>[1-9]\d*)|(?P<dead>dead)")

Body = Mapping[str, Any]
Prompt = tuple[int, ...]


@dataclass(frozen=True)
class WantedError:
    """An error on demand: an answer with that status, a failure after so many tokens, or the death of the engine."""

    status: int | None = None
    after: int | None = None


@dataclass(frozen=True)
class Sampling:
    """What a request says about how it is to be answered; `limit` is None where it leaves the end to the model's length."""

    limit: int | None
    n: int
    temperature: float
    top_p: float
    seed: int | None
    least: int
    endless: bool
    stops: tuple[str, ...]
    keep_stop: bool
    stream: bool
    usage: bool
    usage_always: bool
    token_ids: bool


async def read_body(request: Request) -> Body:
    """Return the JSON object of a request; raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise Refused(message, type="Bad Request")
    try:
        body = json.loads(await _read(request))
    except ValueError as error:
        raise Refused(
            f"1 validation error:\n  {{'type': 'json_invalid', 'msg': 'JSON decode error', 'ctx': {{'error': '{error}'}}}}",
            param="body",
            type="Bad Request",
        ) from None
    if not isinstance(body, dict):
        raise Refused("1 validation error:\n  {'type': 'model_attributes_type'}", param="body", type="Bad Request")
    return body


async def _read(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        if (size := size + len(part)) > LARGEST_BODY:
            raise Refused(f"The body has more than {LARGEST_BODY} bytes.", 413)
    return b"".join(parts)


def check_model(body: Body, options: EngineOptions) -> None:
    """Raise Refused where another model is asked for."""
    if (model := body.get("model")) not in (None, "", options.model):
        raise Refused(f"The model `{model}` does not exist. Valid aliases: {options.model}.", 404, "model")


def request_id(request: Request) -> str:
    """Return what follows the prefix in a reply's id: what the client said, or something new."""
    return request.headers.get("x-request-id") or uuid4().hex[:16]


def trace_headers(request: Request) -> dict[str, str]:
    """Return the trace context that came along: of all its headers vLLM takes these two."""
    return {name: value for name in TRACE_HEADERS if (value := request.headers.get(name))}


def wanted_error(request: Request, body: Body) -> WantedError | None:
    """Return the error that was asked for; raises Refused where the words are not understood."""
    text = request.headers.get(ERROR_HEADER) or body.get(ERROR_FIELD)
    if text is None:
        return None
    if not (found := _ERROR.fullmatch(str(text))):
        raise invalid(ERROR_FIELD, "use a status from 400 to 599, 500@ and a number of tokens, or dead", text)
    after = found["after"]
    return WantedError(int(found["status"]) if found["status"] else None, int(after) if after else None)


def read_sampling(body: Body, options: EngineOptions, default_limit: int | None) -> Sampling:
    """Return how a request is to be answered; raises Refused."""
    limit = _whole(body, "max_completion_tokens", None) or _whole(body, "max_tokens", default_limit)
    name = "max_completion_tokens" if body.get("max_completion_tokens") else "max_tokens"
    if limit is not None and limit < 1:
        raise invalid(name, f"{name} must be at least 1, got {limit}.", limit)
    if limit is not None and limit > options.max_model_len:
        message = f"{name}={limit} cannot be greater than max_model_len={options.max_model_len}. Please request fewer output tokens."
        raise invalid(name, message, limit)
    n = _whole(body, "n", 1) or 1
    if not 1 <= n <= MOST_CHOICES:
        raise invalid("n", f"n must be between 1 and {MOST_CHOICES}, got {n}.", n)
    temperature, top_p = _number(body, "temperature", 1.0), _number(body, "top_p", 1.0)
    if temperature < 0:
        raise invalid("temperature", f"temperature must be non-negative, got {temperature}.", temperature)
    if not 0 < top_p <= 1:
        raise invalid("top_p", f"top_p must be in (0, 1], got {top_p}.", top_p)
    stops = body.get("stop") or []
    if isinstance(stops, str):
        stops = [stops]
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise invalid("stop", "stop is a text or a list of texts")
    streaming = body.get("stream_options")
    asked = streaming if isinstance(streaming, Mapping) else {}
    if asked and not body.get("stream"):
        raise invalid("stream_options", "Stream options can only be defined when `stream=True`.")
    return Sampling(
        limit=limit,
        n=n,
        temperature=temperature,
        top_p=top_p,
        seed=_whole(body, "seed", None),
        least=_whole(body, "min_tokens", 0) or 0,
        endless=bool(body.get("ignore_eos")),
        stops=tuple(stops),
        keep_stop=bool(body.get("include_stop_str_in_output")),
        stream=bool(body.get("stream")),
        usage=bool(asked.get("include_usage")),
        usage_always=bool(asked.get("include_usage") and asked.get("continuous_usage_stats")),
        token_ids=bool(body.get("return_token_ids")),
    )


def read_prompts(body: Body, field: str, options: EngineOptions) -> list[Prompt]:
    """Return the prompts of a field: a text, a list of texts, a list of tokens, or a list of such lists; raises Refused."""
    given = body.get(field)
    if isinstance(given, str) or (isinstance(given, list) and given and all(_is_token(one) for one in given)):
        given = [given]
    if not isinstance(given, list):
        raise missing(field)
    if len(given) > MOST_PROMPTS:
        raise invalid(field, f"at most {MOST_PROMPTS} prompts", len(given))
    return [_prompt(one, field, options) for one in given]


def read_messages(body: Body, options: EngineOptions) -> Prompt:
    """Return the prompt that the messages of a chat make; raises Refused."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        raise missing("messages")
    if not messages:
        raise Refused("Cannot apply chat template to an empty conversation. Provide at least one message.")
    return _prompt(render_chat(messages), "messages", options)


def _prompt(given: Any, field: str, options: EngineOptions) -> Prompt:
    if isinstance(given, str):
        count = count_tokens(given)
    elif isinstance(given, list) and all(_is_token(one) for one in given):
        count = len(given)
    else:
        raise invalid(field, "a prompt is a text or a list of tokens")
    if not count:
        raise invalid(field, "Either prompt or prompt_embeds must be provided and non-empty.")
    if count >= options.max_model_len:
        raise invalid(
            "input_tokens",
            f"This model's maximum context length is {options.max_model_len} tokens. However, your prompt contains {count} "
            "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt.",
            count,
        )
    return tuple(tokenize(given) if isinstance(given, str) else given)


def _is_token(one: Any) -> bool:
    return isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 1 << 63


def _whole(body: Body, name: str, default: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(name, f"{name} must be a whole number", value)
    return value


def _number(body: Body, name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise invalid(name, f"{name} must be a number", value)
    return float(value)
