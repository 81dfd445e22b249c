"""Which span is a call of a model, and which of its attributes get columns of their own.

Newest name first: what older versions of the conventions, and vLLM's own spans, call the same thing comes after it. All other attributes
stay in the span's JSON, where `history` finds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_llm import semconv

# gen_ai.operation.name of calls that a model answers; tools, agents and retrieval have spans of their own around or below them.
INFERENCE = frozenset(
    (
        semconv.OPERATION_CHAT,
        semconv.OPERATION_TEXT_COMPLETION,
        semconv.OPERATION_GENERATE_CONTENT,
        semconv.OPERATION_EMBEDDINGS,
        semconv.OPERATION_RERANK,
        semconv.OPERATION_CLASSIFY,
        semconv.OPERATION_SCORE,
        semconv.OPERATION_POOLING,
        semconv.OPERATION_TRANSCRIPTION,
        "completion",
    )
)
# vLLM's span names no operation; these say that it is a call all the same.
UNNAMED = frozenset(("gen_ai.request.id", "gen_ai.usage.completion_tokens", "gen_ai.usage.prompt_tokens"))

PROVIDER = (semconv.PROVIDER_NAME, "gen_ai.system")
MODEL = (semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL)
REQUEST_ID = (semconv.RESPONSE_ID, "gen_ai.request.id", semconv.REQUEST_ID)
INPUT_TOKENS = (semconv.USAGE_INPUT_TOKENS, "gen_ai.usage.prompt_tokens")
OUTPUT_TOKENS = (semconv.USAGE_OUTPUT_TOKENS, "gen_ai.usage.completion_tokens")
CACHED_TOKENS = (semconv.USAGE_CACHE_READ_INPUT_TOKENS,)
FIRST_CHUNK_S = (semconv.RESPONSE_TIME_TO_FIRST_CHUNK, "gen_ai.latency.time_to_first_token")
QUEUE_S = (semconv.ENGINE_QUEUE_TIME, "gen_ai.latency.time_in_queue")
ENGINE_FIRST_TOKEN_S = (semconv.ENGINE_TIME_TO_FIRST_TOKEN,)  # queue and prefill
PREFILL_S = (semconv.ENGINE_PREFILL_TIME, "gen_ai.latency.time_in_model_prefill")
DECODE_S = (semconv.ENGINE_GENERATION_TIME, "gen_ai.latency.time_in_model_decode")
COST_USD = (semconv.COST, "gen_ai.usage.cost")  # the latter is OpenLIT's; dollars both


@dataclass(frozen=True, slots=True)
class Call:
    """What a span says about a call of a model; None is unknown."""

    request: int | None = None
    op: str | None = None
    provider: str | None = None
    model: str | None = None
    request_id: str | None = None
    in_tok: int | None = None
    out_tok: int | None = None
    cached_tok: int | None = None
    ttft_ns: int | None = None
    queue_ns: int | None = None
    prefill_ns: int | None = None
    decode_ns: int | None = None
    cost_usd: float | None = None
    finish: str | None = None


NOTHING = Call()


def call_of(attributes: Mapping[str, Any]) -> Call:
    """Return what the attributes of a span say about a call of a model; values of the wrong type are unknown."""
    op = text(attributes, (semconv.OPERATION_NAME,))
    is_request = op in INFERENCE if op is not None else not UNNAMED.isdisjoint(attributes)
    if semconv.BATCH_SIZE in attributes:  # requests are the spans below it
        is_request = False
    if not is_request and op is None:
        return NOTHING
    reasons = attributes.get(semconv.RESPONSE_FINISH_REASONS)
    return Call(
        request=1 if is_request else None,
        op=op,
        provider=text(attributes, PROVIDER),
        model=text(attributes, MODEL),
        request_id=text(attributes, REQUEST_ID),
        in_tok=whole(attributes, INPUT_TOKENS),
        out_tok=whole(attributes, OUTPUT_TOKENS),
        cached_tok=whole(attributes, CACHED_TOKENS),
        ttft_ns=_first_token_ns(attributes),
        queue_ns=_nanoseconds(attributes, QUEUE_S),
        prefill_ns=_prefill_ns(attributes),
        decode_ns=_nanoseconds(attributes, DECODE_S),
        cost_usd=number(attributes, COST_USD),
        finish=",".join(map(str, reasons)) if isinstance(reasons, list) and reasons else None,
    )


def text(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Return the first of these attributes that is a text with something in it."""
    for name in names:
        value = attributes.get(name)
        if value and isinstance(value, str):
            return value
    return None


def whole(attributes: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the first of these attributes that is a whole number."""
    for name in names:
        value = attributes.get(name)
        if type(value) is int:  # not a bool
            return value
    return None


def number(attributes: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """Return the first of these attributes that is a number."""
    for name in names:
        value = attributes.get(name)
        if type(value) is float or type(value) is int:
            return value
    return None


def _nanoseconds(attributes: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    seconds = number(attributes, names)
    return None if seconds is None or not abs(seconds) < 9e9 else round(seconds * 1e9)


def _first_token_ns(attributes: Mapping[str, Any]) -> int | None:
    first_ns = _nanoseconds(attributes, FIRST_CHUNK_S)
    if (
        first_ns is None and semconv.REQUEST_ID in attributes
    ):  # an engine's own span: nobody nearer to the caller has spoken
        return _nanoseconds(attributes, ENGINE_FIRST_TOKEN_S)
    return first_ns


def _prefill_ns(attributes: Mapping[str, Any]) -> int | None:
    prefill_ns = _nanoseconds(attributes, PREFILL_S)
    if prefill_ns is not None:
        return prefill_ns
    queue_ns, first_token_ns = _nanoseconds(attributes, QUEUE_S), _nanoseconds(attributes, ENGINE_FIRST_TOKEN_S)
    return None if queue_ns is None or first_token_ns is None else max(0, first_token_ns - queue_ns)
