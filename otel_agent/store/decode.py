"""Parsed OTLP spans and log records to the rows that the store keeps.

This loop is where the CPU time of ingestion goes. What cannot be kept (an id of the wrong length, a time far ahead) is counted by reason.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_agent.store.genai import call_of, text
from otel_agent.store.identities import Identities
from otel_agent.store.values import EMPTY, attributes_of, encode, signed, value_of
from otel_llm import semconv

AHEAD_NS = 86_400 * 10**9  # rows further ahead of our clock than a day would never be cleaned up
BAD_ID = "id is not valid"
AHEAD = "time lies more than a day ahead"
NO_IDS = (b"", bytes(8), bytes(16))

SPAN_COLUMNS = (
    "trace_id,span_id,parent_id,resource_id,scope_id,name,kind,start_ns,dur_ns,status,status_message,request,op,provider,model,request_id,"
    "in_tok,out_tok,cached_tok,ttft_ns,queue_ns,prefill_ns,decode_ns,cost_usd,cost_src,finish,error_type,attrs,events,links"
)
LOG_COLUMNS = "ts_ns,severity,severity_text,resource_id,scope_id,event_name,body,structured,trace_id,span_id,attrs"
INSERT_SPAN = f"INSERT OR IGNORE INTO span ({SPAN_COLUMNS}) VALUES ({','.join('?' * (SPAN_COLUMNS.count(',') + 1))})"
INSERT_LOG = f"INSERT INTO log ({LOG_COLUMNS}) VALUES ({','.join('?' * (LOG_COLUMNS.count(',') + 1))})"


@dataclass
class Rows:
    """Rows of one message, by their class and service, and how many were left out, by reason."""

    kept: dict[tuple[str, str], list[tuple[Any, ...]]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, service: str, row: tuple[Any, ...]) -> None:
        """Keep a row."""
        self.kept.setdefault((kind, service), []).append(row)


def spans(message: ExportTraceServiceRequest, identities: Identities, now_ns: int) -> Rows:
    """Return the rows of all spans of a message."""
    rows = Rows()
    for of_resource in message.resource_spans:
        origin = identities.origin(of_resource.resource)
        for of_scope in of_resource.scope_spans:
            scope = identities.scope(of_scope.scope)
            for span in of_scope.spans:
                if (
                    len(span.trace_id) != 16
                    or len(span.span_id) != 8
                    or span.trace_id in NO_IDS
                    or span.span_id in NO_IDS
                ):
                    rows.refused[BAD_ID] += 1
                elif span.start_time_unix_nano > now_ns + AHEAD_NS:
                    rows.refused[AHEAD] += 1
                else:
                    row = _span(span, origin.id, scope)
                    rows.add("requests" if row[11] else "traces", origin.service, row)
    return rows


def logs(message: ExportLogsServiceRequest, identities: Identities, now_ns: int) -> Rows:
    """Return the rows of all log records of a message; a record without a time gets that of its arrival."""
    rows = Rows()
    for of_resource in message.resource_logs:
        origin = identities.origin(of_resource.resource)
        for of_scope in of_resource.scope_logs:
            scope = identities.scope(of_scope.scope)
            for record in of_scope.log_records:
                if record.time_unix_nano > now_ns + AHEAD_NS:
                    rows.refused[AHEAD] += 1
                else:
                    rows.add("logs", origin.service, _log(record, origin.id, scope, now_ns))
    return rows


def _span(span: Span, resource: int, scope: int) -> tuple[Any, ...]:
    attributes = attributes_of(span.attributes)
    call = call_of(attributes)
    start = signed(span.start_time_unix_nano)
    parent = span.parent_span_id
    return (
        span.trace_id,
        span.span_id,
        parent if len(parent) == 8 and parent not in NO_IDS else None,
        resource,
        scope,
        span.name,
        span.kind,
        start,
        max(0, signed(span.end_time_unix_nano) - start),
        span.status.code,
        span.status.message or None,
        call.request,
        call.op,
        call.provider,
        call.model,
        call.request_id,
        call.in_tok,
        call.out_tok,
        call.cached_tok,
        call.ttft_ns,
        call.queue_ns,
        call.prefill_ns,
        call.decode_ns,
        call.cost_usd,
        None if call.cost_usd is None else "reported",
        call.finish,
        text(attributes, (semconv.ERROR_TYPE,)),
        encode(attributes) if attributes else EMPTY,
        encode([[signed(e.time_unix_nano), e.name, attributes_of(e.attributes)] for e in span.events])
        if span.events
        else None,
        encode([[e.trace_id.hex(), e.span_id.hex(), attributes_of(e.attributes)] for e in span.links])
        if span.links
        else None,
    )


def _log(record: LogRecord, resource: int, scope: int, now_ns: int) -> tuple[Any, ...]:
    body = value_of(record.body)
    structured = not isinstance(body, str) and body is not None
    attributes = attributes_of(record.attributes)
    return (
        signed(record.time_unix_nano or min(record.observed_time_unix_nano, now_ns) or now_ns),
        record.severity_number or None,
        record.severity_text or None,
        resource,
        scope,
        record.event_name or None,
        encode(body) if structured else body,
        1 if structured else None,
        record.trace_id if len(record.trace_id) == 16 and record.trace_id not in NO_IDS else None,
        record.span_id if len(record.span_id) == 8 and record.span_id not in NO_IDS else None,
        encode(attributes) if attributes else EMPTY,
    )
