"""OTLP/gRPC: the three Export calls, on raw bytes, answered after the sink has written.

gRPC's synchronous server keeps its threads away from the event loop and the signals of the rest of the process.
"""

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from otel_agent.errors import Unavailable
from otel_agent.receiver.intake import COMMIT_S, MAX_BYTES, RETRY_S, Counts, Refused, from_protobuf, response
from otel_agent.store.sink import NotStored, QueueFull, Signal, Sink

WORKERS = 16  # threads that wait for the sink
PENDING = 64  # calls at a time, waiting for a thread included; more are refused
STREAMS = 32  # calls at a time of one connection

SERVICES: dict[Signal, str] = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcReceiver:
    """A server that is running; `port` is the one it got."""

    def __init__(self, server: grpc.Server, port: int) -> None:
        self._server, self.port = server, port

    def stop(self, grace_s: float = 1.0) -> bool:
        """Take no more calls, and end those at work after `grace_s`; tells whether all is over."""
        return self._server.stop(grace_s).wait(grace_s + 1)


def start_grpc(host: str, port: int, sink: Sink, counts: Counts | None = None) -> GrpcReceiver:
    """Listen for OTLP/gRPC; port 0 takes any free one. Raises Unavailable where the port is taken."""
    counts = counts or Counts()
    server = grpc.server(
        ThreadPoolExecutor(WORKERS, thread_name_prefix="otlp-grpc"),
        maximum_concurrent_rpcs=PENDING,
        options=[
            ("grpc.so_reuseport", 0),  # otherwise a second server would share the port, and each would get half
            ("grpc.max_receive_message_length", MAX_BYTES),
            ("grpc.max_concurrent_streams", STREAMS),
        ],
    )
    server.add_generic_rpc_handlers([_handler(signal, sink, counts) for signal in SERVICES])
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if port:  # asked beforehand, since gRPC tells of a failure in a line of its own on stderr
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        bound = server.add_insecure_port(address)
    except OSError as error:
        raise _cannot_listen(address, os.strerror(error.errno or 0)) from error
    except RuntimeError as error:
        raise _cannot_listen(address, str(error)) from error
    server.start()
    return GrpcReceiver(server, bound)


def _cannot_listen(address: str, reason: str) -> Unavailable:
    return Unavailable(
        f"OTLP/gRPC cannot listen on {address}: {reason}",
        "stop the program that does, or set OTEL_LLM_OTLP_GRPC_PORT to a free port",
    )


def _handler(signal: Signal, sink: Sink, counts: Counts) -> grpc.GenericRpcHandler:
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_export(signal, sink, counts))
    return grpc.method_handlers_generic_handler(SERVICES[signal], {"Export": method})


def _export(signal: Signal, sink: Sink, counts: Counts) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def export(body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            answer = _take(signal, body, sink)
        except Refused as refused:
            counts.refused(signal, refused.reason)
            context.set_trailing_metadata((("grpc-status-details-bin", _status(refused).SerializeToString()),))
            context.abort(CODES[refused.code], refused.message)
        counts.accepted(signal, len(body))
        return answer

    return export


def _take(signal: Signal, body: bytes, sink: Sink) -> bytes:
    message = from_protobuf(signal, body)
    try:
        left_out = sink.submit(signal, message, len(body)).result(COMMIT_S)
    except QueueFull as full:
        raise Refused(code_pb2.RESOURCE_EXHAUSTED, "queue full", f"too much is waiting: {full}", RETRY_S) from full
    except NotStored as error:
        raise Refused(code_pb2.UNAVAILABLE, "not stored", f"it could not be stored: {error}", RETRY_S) from error
    except FutureTimeout as error:
        raise Refused(
            code_pb2.UNAVAILABLE, "not stored", f"it was not stored within {COMMIT_S:.0f} s", RETRY_S
        ) from error
    return response(signal, left_out).SerializeToString()


def _status(refused: Refused) -> status_pb2.Status:
    """Return the refusal with a RetryInfo: without one, exporters must not repeat a call that ended with RESOURCE_EXHAUSTED."""
    status = status_pb2.Status(code=refused.code, message=refused.message)
    if refused.retry_s is not None:
        detail = AnyMessage()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=refused.retry_s)))
        status.details.append(detail)
    return status
