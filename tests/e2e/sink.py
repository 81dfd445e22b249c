"""A backend that keeps whatever OTLP it is sent, over gRPC and over HTTP: what stands for a store in tests of the Collector."""

import gzip
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SERVICES: dict[str, tuple[str, Any, Any]] = {
    "traces": (
        "opentelemetry.proto.collector.trace.v1.TraceService",
        trace.ExportTraceServiceRequest,
        trace.ExportTraceServiceResponse,
    ),
    "metrics": (
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        metrics.ExportMetricsServiceRequest,
        metrics.ExportMetricsServiceResponse,
    ),
    "logs": (
        "opentelemetry.proto.collector.logs.v1.LogsService",
        logs.ExportLogsServiceRequest,
        logs.ExportLogsServiceResponse,
    ),
}


class Sink:
    """Listens from `with` to its end; `requests` holds what came by signal, `headers` what came with it over HTTP."""

    def __init__(self, grpc_port: int = 0, http_port: int = 0) -> None:
        self.requests: dict[str, list[Any]] = {signal: [] for signal in SERVICES}
        self.headers: list[Mapping[str, str]] = []
        self._grpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        for signal, (name, request, response) in SERVICES.items():
            method = grpc.unary_unary_rpc_method_handler(
                self._keep(signal, response), request.FromString, response.SerializeToString
            )
            self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": method}),))
        self.grpc_port: int = self._grpc.add_insecure_port(f"127.0.0.1:{grpc_port}")
        self._http = ThreadingHTTPServer(("127.0.0.1", http_port), self._handler())
        self.http_port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._grpc.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._grpc.stop(0.5).wait(5)
        self._http.shutdown()
        self._thread.join(5)
        self._http.server_close()

    def spans(self) -> list[Span]:
        """Return every span that came."""
        return [
            span
            for request in list(self.requests["traces"])
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def _keep(self, signal: str, response: Any) -> Any:
        def export(request: Any, _: grpc.ServicerContext) -> Any:
            self.requests[signal].append(request)
            return response()

        return export

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                signal = self.path.rsplit("/", 1)[-1]
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                _, request, response = SERVICES[signal]
                sink.headers.append(dict(self.headers))
                sink.requests[signal].append(request.FromString(body))
                answer = response().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing: what came is in the sink."""

        return Handler


def plain(attributes: Any) -> dict[str, Any]:
    """Return OTLP attributes as a dictionary of plain values."""
    return {pair.key: _plain(pair.value) for pair in attributes}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        pairs: list[KeyValue] = list(value.kvlist_value.values)
        return plain(pairs)
    return getattr(value, kind) if kind else None
