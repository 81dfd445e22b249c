"""What both doors do alike: bytes to messages, a sink's refusals to OTLP's, and the counts of both.

Refusals follow the OTLP specification, "OTLP/gRPC response" and "OTLP/HTTP response".
"""

import json
import threading
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_agent.store.sink import Message, Signal

MAX_BYTES = 16 * 1024 * 1024  # of one request, as sent and after inflating
COMMIT_S = 10.0  # longest wait for the sink, as long as exporters wait for us
RETRY_S = 1  # when to come back after a full queue
ACCEPTED = "accepted"

REQUESTS: Mapping[Signal, type[Message]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
Response = ExportTraceServiceResponse | ExportMetricsServiceResponse | ExportLogsServiceResponse


class Refused(Exception):
    """A request that is not taken: `code` is google.rpc.Code's, `reason` is what it is counted under, `retry_s` when to come back."""

    def __init__(self, code: "code_pb2.Code.ValueType", reason: str, message: str, retry_s: int | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.retry_s = code, reason, message, retry_s


class Counts:
    """How many requests came, by (signal, what became of them), and how many bytes were accepted, by signal; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[str] = Counter()

    def accepted(self, signal: Signal, size: int) -> None:
        """Count a request that was taken."""
        with self._lock:
            self._requests[signal, ACCEPTED] += 1
            self._bytes[signal] += size

    def refused(self, signal: Signal, reason: str) -> None:
        """Count a request that was not taken."""
        with self._lock:
            self._requests[signal, reason] += 1

    def requests(self) -> dict[tuple[str, str], int]:
        """Return the requests by (signal, "accepted" or the reason of the refusal)."""
        with self._lock:
            return dict(self._requests)

    def bytes(self) -> dict[str, int]:
        """Return the accepted bytes by signal, as sent and inflated."""
        with self._lock:
            return dict(self._bytes)


def from_protobuf(signal: Signal, body: bytes) -> Message:
    """Return the message in these bytes; raises Refused where they are none."""
    message = REQUESTS[signal]()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise Refused(
            code_pb2.INVALID_ARGUMENT, "malformed", f"the body is no OTLP message of {signal}: {error}"
        ) from error
    return message


def from_json(signal: Signal, body: bytes) -> Message:
    """Return the message in this OTLP JSON, whose ids are hexadecimal (not base64 as in protobuf's own JSON)."""
    message = REQUESTS[signal]()
    try:
        document = json.loads(body)
        if not isinstance(document, dict):
            raise TypeError("it is no object")
        _ids_to_base64(document)
        json_format.ParseDict(document, message, ignore_unknown_fields=True)
    except (ValueError, TypeError, AttributeError, RecursionError, json_format.ParseError) as error:
        raise Refused(
            code_pb2.INVALID_ARGUMENT, "malformed", f"the body is no OTLP JSON of {signal}: {_first_line(error)}"
        ) from error
    return message


def inflate(body: bytes) -> bytes:
    """Return what was gzipped; raises Refused where it is damaged, or larger than a request may be."""
    parts: list[bytes] = []
    room = MAX_BYTES
    while body:  # a gzip file may have several members
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            part = inflater.decompress(body, room + 1)
        except zlib.error as error:
            raise Refused(code_pb2.INVALID_ARGUMENT, "malformed", f"the body is not gzip: {error}") from error
        room -= len(part)
        if room < 0:
            raise too_large()
        if not inflater.eof:
            raise Refused(code_pb2.INVALID_ARGUMENT, "malformed", "the gzipped body breaks off")
        parts.append(part)
        body = inflater.unused_data
    return b"".join(parts)


def too_large() -> Refused:
    """Return the refusal of a request that is larger than MAX_BYTES."""
    return Refused(
        code_pb2.RESOURCE_EXHAUSTED,
        "too large",
        f"a request may have {MAX_BYTES} bytes, also after inflating; send smaller batches",
    )


def response(signal: Signal, left_out: int) -> Response:
    """Return the answer to a request that was taken, telling how many of its rows were left out."""
    told = "some rows had invalid ids or times and were left out" if left_out else ""
    if signal == "traces":
        traces = ExportTraceServiceResponse()
        if left_out:
            traces.partial_success.rejected_spans, traces.partial_success.error_message = left_out, told
        return traces
    if signal == "metrics":
        return ExportMetricsServiceResponse()
    logs = ExportLogsServiceResponse()
    if left_out:
        logs.partial_success.rejected_log_records, logs.partial_success.error_message = left_out, told
    return logs


def _ids_to_base64(value: Any) -> None:
    """Turn ids from hexadecimal to base64, in place. Attributes are lists of key and value, so none of them can be taken for an id."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
                value[name] = b64encode(bytes.fromhex(part)).decode("ascii")
            else:
                _ids_to_base64(part)
    elif isinstance(value, list):
        for part in value:
            _ids_to_base64(part)


def _first_line(error: BaseException) -> str:
    return (str(error) or repr(error)).splitlines()[0][:200]
