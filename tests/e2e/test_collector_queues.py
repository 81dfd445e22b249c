"""What the Collector acknowledged is kept, whatever stops behind it; what it cannot keep it refuses."""

import json
from pathlib import Path

import pytest
from e2e.collecting import APP, backend, post
from e2e.emit import application
from e2e.sink import Sink
from e2e.stack import collector_metric, lone_collector, started
from waiting import until

from compose.native.ports import free

pytestmark = pytest.mark.e2e


def test_what_was_acknowledged_outlives_a_killed_collector_while_no_backend_answers(tmp_path: Path) -> None:
    """At least once: nothing is lost, and a batch that was under way may come twice."""
    ports, backends = free(), free()
    environment = {
        "TEMPO_OTLP": f"http://127.0.0.1:{backends.otlp_grpc}",
        "PROMETHEUS_URL": f"http://127.0.0.1:{backends.otlp_http}",
        "LOKI_URL": f"http://127.0.0.1:{backends.otlp_http}",
    }
    process = lone_collector(tmp_path, ports, environment)
    sent: set[str] = set()
    with started(process):
        with application(ports.url("otlp_http"), APP) as app:
            counter = app.meters.get_meter("e2e").create_counter("e2e.orders")
            for number in range(50):
                with app.tracers.get_tracer("e2e").start_as_current_span("checkout") as span:
                    app.log(f"order {number}")
                counter.add(1)
                sent.add(f"{span.get_span_context().span_id:016x}")
                if number % 10 == 9:
                    app.flush()
            process.kill()  # right after the last acknowledgement
        process.start()
        process.wait_ready()
        with Sink(backends.otlp_grpc, backends.otlp_http) as sink:
            until(lambda: {span.span_id.hex() for span in sink.spans()} == sent, "every span")
            until(lambda: _bodies(sink) == {f"order {number}" for number in range(50)}, "every log line")
            until(lambda: 50 in _sums(sink), "the last state of the counter")
            until(lambda: collector_metric(ports, "otelcol_exporter_queue_size") == 0, "empty queues")


def _bodies(sink: Sink) -> set[str]:
    return {
        record.body.string_value
        for request in list(sink.requests["logs"])
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    }


def _sums(sink: Sink) -> set[int]:
    return {
        point.as_int
        for request in list(sink.requests["metrics"])
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.sum.data_points
    }


def test_one_backend_that_is_down_holds_up_no_other(tmp_path: Path) -> None:
    ports, nobody = free(), free()
    with Sink() as sink:
        environment = backend(sink) | {"LOKI_URL": f"http://127.0.0.1:{nobody.otlp_http}"}
        with started(lone_collector(tmp_path, ports, environment)), application(ports.url("otlp_http"), APP) as app:
            for _ in range(5):
                app.meters.get_meter("e2e").create_counter("e2e.orders").add(1)
                with app.tracers.get_tracer("e2e").start_as_current_span("checkout"):
                    app.log("paid")
                app.flush()
            until(lambda: len(sink.spans()) == 5 and sink.requests["metrics"], "traces and metrics", deadline_s=5)
            assert collector_metric(ports, "otelcol_exporter_queue_size", exporter="otlp_http/loki") > 0
            assert not sink.requests["logs"]


def test_a_full_queue_refuses_the_newest_and_tells_the_sender(tmp_path: Path) -> None:
    ports, nobody = free(), free()
    environment = {"TEMPO_OTLP": nobody.url("otlp_grpc"), "COLLECTOR_QUEUE_BYTES": "300000"}
    name = "x" * 100_000
    span = {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "1",
        "name": name,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
    }
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    with started(lone_collector(tmp_path, ports, environment)):
        url = f"{ports.url('otlp_http')}/v1/traces"
        answers = [post(url, body, {"Content-Type": "application/json"}) for _ in range(5)]
        assert answers == [200, 200, 503, 503, 503], "503 is an answer that senders try again after"
        assert collector_metric(ports, "otelcol_exporter_enqueue_failed_spans", exporter="otlp_grpc/tempo") == 3
        assert collector_metric(ports, "otelcol_receiver_refused_spans", receiver="otlp") == 3
