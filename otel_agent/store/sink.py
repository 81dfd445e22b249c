"""What a receiver may expect of whatever keeps the telemetry, and how that may refuse."""

from concurrent.futures import Future
from typing import Literal, Protocol, TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Signal = Literal["traces", "metrics", "logs"]
Message: TypeAlias = ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest


class QueueFull(Exception):
    """More is waiting to be written than memory is set aside for; the sender should come back after a moment."""


class NotStored(Exception):
    """What was sent could not be written, and the sender should try again later; the text says why."""


class Sink(Protocol):
    """Takes parsed OTLP; may be called from any thread."""

    def submit(self, signal: Signal, message: Message, size: int) -> "Future[int]":
        """Accept one request of `size` bytes; raises QueueFull or NotStored at once where it cannot.

        The future ends once spans and log records are safely written, for metrics at once, with the number of rows that were left out as
        unusable; or with NotStored.
        """
        ...
