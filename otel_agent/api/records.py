"""The JSON of requests, traces and logs: pure functions from the rows of history, under the rules that `shapes` states."""

from collections.abc import Sequence

from otel_agent.api.shapes import Json, percent, time
from otel_agent.history.model import LogRow, RequestRow, SpanRow

# Declared fields of the InferenceRecord that have no source yet: evaluators, engines and gateways bring them.
NOT_MEASURED = (
    "peak_memory_bytes",
    "energy_joules",
    "rate_limit_remaining",
    "quota_remaining",
    "content_safety",
    "toxicity",
    "language",
    "sentiment",
    "topic",
    "quality",
)


def request(row: RequestRow) -> Json:
    """Return an InferenceRecord, and what leads from it to its trace. Fields that nothing measures yet are null."""
    prefill, decode = row.prefill_s, row.decode_s
    return {
        "request_id": row.request_id,
        "timestamp": time(row.start_ns / 1e9),
        "model_name": row.model_name,
        "model_version": row.model_version,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "total_tokens": row.total_tokens,
        "prompt_length": row.prompt_length,
        "response_length": row.response_length,
        "response_time_ms": round(row.duration_ns / 1e6, 3),
        "queue_time_ms": _ms(row.queue_s),
        "processing_time_ms": None if prefill is None or decode is None else _ms(prefill + decode),
        "tokens_per_second": None if row.tokens_per_second is None else round(row.tokens_per_second, 3),
        "temperature": row.temperature,
        "max_tokens": row.max_tokens,
        "success": row.success,
        "error_message": row.error_message,
        "metadata": dict(row.attributes),
        "top_k": row.top_k,
        "top_p": row.top_p,
        "repetition_penalty": row.repetition_penalty,
        "frequency_penalty": row.frequency_penalty,
        "presence_penalty": row.presence_penalty,
        "seed": row.seed,
        "stop_sequences": None if row.stop_sequences is None else list(row.stop_sequences),
        "prompt_template_name": row.prompt_template_name,
        "prompt_template_version": row.prompt_template_version,
        "conversation_id": row.conversation_id,
        "cached_tokens": row.cached_tokens,
        "cache_write_tokens": row.cache_write_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "cache_hit_percent": percent(row.cached_tokens, row.prompt_tokens),
        "time_to_first_chunk_ms": _ms(row.time_to_first_chunk_s),
        "inter_token_latency_ms": _ms(row.inter_token_s),
        "batch_size": row.batch_size,
        "cost_usd": row.cost_usd,
        "user_id": row.user_id,
        "api_key_id": row.api_key_id,
        "team_id": row.team_id,
        **dict.fromkeys(NOT_MEASURED),
        "trace_id": row.trace_id,
        "span_id": row.span_id,
        "service": row.service,
        "operation": row.operation,
        "provider": row.provider,
        "request_model": row.request_model,
        "error_type": row.error_type,
        "finish_reasons": list(row.finish_reasons),
        "streamed": row.streamed,
        "server_address": row.server_address,
        "server_port": row.server_port,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def span(row: SpanRow) -> Json:
    """Return one span; `start_ns` is a string, since JavaScript's numbers do not hold it, `offset` and `duration` follow in nanoseconds."""
    return {
        "trace_id": row.trace_id,
        "span_id": row.span_id,
        "parent_id": row.parent_id,
        "name": row.name,
        "kind": row.kind,
        "service": row.service,
        "scope": row.scope,
        "start_ns": str(row.start_ns),
        "duration_ns": row.duration_ns,
        "status": row.status,
        "status_message": row.status_message or None,
        "attributes": dict(row.attributes),
        "events": [
            {"time_ns": str(event.time_ns), "name": event.name, "attributes": dict(event.attributes)}
            for event in row.events
        ],
        "links": [
            {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": dict(link.attributes)}
            for link in row.links
        ],
        "resource": dict(row.resource),
    }


def trace(trace_id: str, rows: Sequence[SpanRow]) -> Json:
    """Return a trace: its bounds, and its spans by their start with the offset of each from the first."""
    first = min(row.start_ns for row in rows)
    last = max(row.start_ns + row.duration_ns for row in rows)
    return {
        "trace_id": trace_id,
        "timestamp": time(first / 1e9),
        "start_ns": str(first),
        "duration_ns": last - first,
        "services": sorted({row.service for row in rows if row.service}),
        "errors": sum(row.status == "error" for row in rows),
        "spans": [{**span(row), "offset_ns": row.start_ns - first} for row in rows],
    }


def log(row: LogRow) -> Json:
    """Return one log record."""
    return {
        "timestamp": time(row.time_ns / 1e9),
        "time_ns": str(row.time_ns),
        "severity": row.severity,
        "severity_text": row.severity_text,
        "service": row.service,
        "scope": row.scope,
        "event_name": row.event_name,
        "body": row.body,
        "trace_id": row.trace_id,
        "span_id": row.span_id,
        "attributes": dict(row.attributes),
        "resource": dict(row.resource),
    }
