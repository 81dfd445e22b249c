"""Rows of the span and log tables to the records of `model`; pure."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Row

from otel_agent.history.model import Attributes, LogRow, RequestRow, SpanEvent, SpanLink, SpanRow
from otel_agent.store import genai
from otel_llm import semconv

KINDS: tuple[Literal["unspecified", "internal", "server", "client", "producer", "consumer"], ...] = (
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
)
STATUSES: tuple[Literal["unset", "ok", "error"], ...] = ("unset", "ok", "error")

# Fields of a request that have no column: the attributes that tell them, newest name first.
TEXTS = {
    "request_model": (semconv.REQUEST_MODEL,),
    "response_model": (semconv.RESPONSE_MODEL,),
    "server_address": (semconv.SERVER_ADDRESS,),
    "prompt_template_name": (semconv.PROMPT_NAME,),
    "prompt_template_version": (semconv.PROMPT_VERSION,),
    "conversation_id": (semconv.CONVERSATION_ID,),
    "user_id": (semconv.USER_ID, "enduser.id"),
    "api_key_id": (semconv.KEY_ALIAS,),
    "team_id": (semconv.TEAM,),
}
WHOLES = {
    "server_port": (semconv.SERVER_PORT,),
    "cache_write_tokens": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, "gen_ai.usage.cache_creation.input_tokens"),
    "reasoning_tokens": (semconv.USAGE_REASONING_OUTPUT_TOKENS,),
    "prompt_length": (semconv.PROMPT_LENGTH,),
    "response_length": (semconv.RESPONSE_LENGTH,),
    "max_tokens": (semconv.REQUEST_MAX_TOKENS,),
    "seed": (semconv.REQUEST_SEED,),
}
NUMBERS = {
    "temperature": (semconv.REQUEST_TEMPERATURE,),
    "top_k": (semconv.REQUEST_TOP_K,),
    "top_p": (semconv.REQUEST_TOP_P,),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY,),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY,),
    "repetition_penalty": (semconv.REQUEST_REPETITION_PENALTY,),
}


def request_row(row: Row[Any]) -> RequestRow:
    """Return a request from its span, its resource beside it."""
    attributes = json.loads(row.attrs)
    stops = attributes.get(semconv.REQUEST_STOP_SEQUENCES)
    streamed = attributes.get(semconv.REQUEST_STREAM)
    failed = row.status == 2 or row.error_type is not None
    found: dict[str, Any] = {}
    found.update((name, genai.text(attributes, names)) for name, names in TEXTS.items())
    found.update((name, genai.whole(attributes, names)) for name, names in WHOLES.items())
    found.update((name, genai.number(attributes, names)) for name, names in NUMBERS.items())
    return RequestRow(
        request_id=row.request_id or row.span_id.hex(),
        trace_id=row.trace_id.hex(),
        span_id=row.span_id.hex(),
        start_ns=row.start_ns,
        duration_ns=row.dur_ns,
        service=row.service,
        name=row.name,
        operation=row.op,
        provider=row.provider,
        model_name=row.model,
        success=not failed,
        error_type=row.error_type,
        error_message=(row.status_message or _exception_message(row.events)) if failed else None,
        finish_reasons=tuple(row.finish.split(",")) if row.finish else (),
        streamed=streamed if isinstance(streamed, bool) else None,
        prompt_tokens=row.in_tok,
        completion_tokens=row.out_tok,
        cached_tokens=row.cached_tok,
        time_to_first_chunk_s=_seconds(row.ttft_ns),
        queue_s=_seconds(row.queue_ns),
        prefill_s=_seconds(row.prefill_ns),
        decode_s=_seconds(row.decode_ns),
        stop_sequences=tuple(map(str, stops)) if isinstance(stops, list) else None,
        cost_usd=row.cost_usd,
        attributes=attributes,
        resource=_resource(row.resource),
        **found,
    )


def span_row(row: Row[Any]) -> SpanRow:
    """Return a span, its resource and scope beside it."""
    return SpanRow(
        trace_id=row.trace_id.hex(),
        span_id=row.span_id.hex(),
        parent_id=None if row.parent_id is None else row.parent_id.hex(),
        name=row.name,
        kind=KINDS[row.kind] if 0 <= row.kind < len(KINDS) else "unspecified",
        service=row.service,
        scope=row.scope or "",
        start_ns=row.start_ns,
        duration_ns=row.dur_ns,
        status=STATUSES[row.status] if 0 <= row.status < len(STATUSES) else "unset",
        status_message=row.status_message or "",
        attributes=json.loads(row.attrs),
        events=tuple(SpanEvent(*event) for event in _list(row.events)),
        links=tuple(SpanLink(*link) for link in _list(row.links)),
        resource=_resource(row.resource),
    )


def log_row(row: Row[Any]) -> LogRow:
    """Return a log record, its resource and scope beside it."""
    return LogRow(
        time_ns=row.ts_ns,
        severity=row.severity,
        severity_text=row.severity_text,
        service=row.service,
        scope=row.scope or "",
        event_name=row.event_name,
        body=json.loads(row.body) if row.structured else row.body,
        trace_id=None if row.trace_id is None else row.trace_id.hex(),
        span_id=None if row.span_id is None else row.span_id.hex(),
        attributes=json.loads(row.attrs),
        resource=_resource(row.resource),
    )


def _exception_message(events: str | None) -> str | None:
    """Return the message of the last exception among a span's events."""
    for _, name, attributes in reversed(_list(events)):
        if name == "exception":
            return genai.text(attributes, ("exception.message", "exception.type"))
    return None


def _resource(text: str | None) -> Attributes:
    return json.loads(text) if text else {}


def _list(text: str | None) -> Sequence[Any]:
    return json.loads(text) if text else ()


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
