"""The Collector and the stores behind it, for real: what an SDK sends is found where it belongs, whatever stops in between."""

import json
import os
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from e2e.emit import application
from e2e.sink import Sink, plain
from e2e.stack import collector_metric, exemplars, get_json, logql, lone_collector, promql, started
from waiting import until

from compose.native import services
from compose.native.ports import Ports, free
from compose.native.stack import Stack

pytestmark = pytest.mark.e2e
APP = {
    "service.name": "shop",
    "service.namespace": "e2e",
    "service.instance.id": "shop-1",
    "host.name": "told-by-the-sdk",
    "team.cost_center": "42",
}
SECRET = "canary-7f3a"


def backend(sink: Sink) -> dict[str, str]:
    """The environment that makes one sink stand for Prometheus, Tempo and Loki."""
    http = f"http://127.0.0.1:{sink.http_port}"
    return {
        "TEMPO_OTLP": f"http://127.0.0.1:{sink.grpc_port}",
        "PROMETHEUS_URL": http,
        "LOKI_URL": http,
        "BACKEND_OTLP_ENDPOINT": "",
        "BACKEND_OTLP_HEADERS": "",
    }


def test_metrics_traces_and_logs_are_found_in_their_stores_and_lead_to_each_other(stack: Stack, traces: Sink) -> None:
    with application(stack.ports.url("otlp_http"), APP, grpc_endpoint=stack.ports.url("otlp_grpc")) as app:
        meter = app.meters.get_meter("e2e")
        with app.tracers.get_tracer("e2e").start_as_current_span("checkout") as span:
            meter.create_counter("e2e.orders", unit="{order}").add(3, {"shelf": "a"})
            meter.create_histogram("e2e.checkout.duration", unit="s").record(0.7)
            app.log("paid by card", {"order.id": "17"})
        meter.create_gauge("e2e.memory.usage", unit="By").set(4096)
        meter.create_gauge("e2e.share", unit="1").set(0.5)
        app.flush()
    trace_id = f"{span.get_span_context().trace_id:032x}"

    identity = {
        "job": "e2e/shop",
        "instance": "shop-1",
        "service_name": "shop",
        "service_namespace": "e2e",
        "service_instance_id": "shop-1",
        "host_name": "told-by-the-sdk",
    }
    orders = until(lambda: promql(stack, "e2e_orders_total"), "the counter")
    assert orders == [({"__name__": "e2e_orders_total", "shelf": "a", **identity}, 3.0)]
    assert promql(stack, "e2e_memory_usage_bytes") == [({"__name__": "e2e_memory_usage_bytes", **identity}, 4096.0)]
    assert promql(stack, "e2e_share_ratio") == [({"__name__": "e2e_share_ratio", **identity}, 0.5)]
    assert promql(stack, "e2e_checkout_duration_seconds_sum") == [
        ({"__name__": "e2e_checkout_duration_seconds_sum", **identity}, 0.7)
    ]
    target = promql(stack, 'target_info{job="e2e/shop"}')
    assert [labels["team_cost_center"] for labels, _ in target] == ["42"]
    assert [labels["os_type"] for labels, _ in target] == ["linux"], "what the SDK left out is filled in"

    found = until(lambda: exemplars(stack, "e2e_checkout_duration_seconds_bucket"), "the exemplar")
    assert [(exemplar["labels"]["trace_id"], float(exemplar["value"])) for exemplar in found] == [(trace_id, 0.7)]

    lines = until(lambda: logql(stack, f'{{service_name="shop"}} | trace_id="{trace_id}"'), "the log line")
    assert [line for _, line in lines] == ["paid by card"]
    assert lines[0][0]["order_id"] == "17"
    labels = get_json(f"{stack.ports.url('loki')}/loki/api/v1/series", **{"match[]": '{service_name="shop"}'})["data"]
    assert labels == [{"service_name": "shop", "service_namespace": "e2e", "host_name": "told-by-the-sdk"}], (
        "few labels make few streams"
    )

    arrived = until(lambda: [s for s in traces.spans() if s.trace_id.hex() == trace_id], "the span")
    assert [span.name for span in arrived] == ["checkout"]


def test_every_server_of_the_stack_is_scraped_and_says_it_is_well(stack: Stack) -> None:
    jobs = set(stack.processes)
    up = until(lambda: found if set(found := _up(stack)) == jobs else None, "a scrape of every server")
    assert up == dict.fromkeys(jobs, 1.0)
    managers = get_json(f"{stack.ports.url('prometheus')}/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    assert [manager["url"] for manager in managers] == [f"{stack.ports.url('alertmanager')}/api/v2/alerts"]
    rules = get_json(f"{stack.ports.url('prometheus')}/api/v1/rules")["data"]["groups"]
    assert {Path(group["file"]).parent.name for group in rules} == {"rules", "recording"}
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
    flags = get_json(f"{stack.ports.url('prometheus')}/api/v1/status/runtimeinfo")["data"]
    assert flags["storageRetention"] == "30d"


def _up(stack: Stack) -> dict[str, float]:
    return {labels["job"]: value for labels, value in promql(stack, "up") if value}


def test_servers_start_without_a_warning_that_nobody_can_explain(stack: Stack) -> None:
    explained = {
        # Asked of itself before its one ingester had joined, or before its own gRPC listened.
        "loki": [
            "error getting ingester clients",
            'caller=gennumber_loader.go:136 msg="error loading cache generation numbers"',
        ],
        "collector": [],
        "prometheus": [],
        "alertmanager": [],
        # It finds its own parts, which is what one binary is for, asks itself for work when there is none yet, and finds empty
        # folders where blocks and segments will stand.
        "tempo": [
            "no jobs found",
            "/tempopb.BackendScheduler/Next",
            "address is empty in single binary mode",
            "unowned file entry ignored during wal replay",
            "failed to find segment for index",
        ],
    }
    said = {
        name: [
            line
            for line in process.log.read_text().splitlines()
            if re.search(r"\t(warn|error)\t|level=(warn|error)|deprecat", line, re.IGNORECASE)
            and not any(known in line for known in explained[name])
        ]
        for name, process in stack.processes.items()
    }
    assert said == {name: [] for name in stack.processes}


def test_the_stack_listens_on_loopback_alone(stack: Stack) -> None:
    pids = {process.pid for process in stack.processes.values()}
    inodes = {
        match[1]
        for pid in pids
        for descriptor in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink())))
    }
    listening = {
        fields[1].split(":")[0]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and fields[9] in inodes
    }
    assert listening == {"0100007F"}


CONTENT = {
    "gen_ai.input.messages": SECRET,
    "gen_ai.output.messages": f"first line\n{SECRET}",
    "gen_ai.system_instructions": SECRET,
    "gen_ai.tool.call.arguments": SECRET,
    "gen_ai.prompt.0.content": SECRET,
    "llm.input_messages.0.message.content": SECRET,
    "input.value": SECRET,
    "traceloop.entity.output": SECRET,
}


def _send_content(ports: Ports) -> None:
    with application(ports.url("otlp_http"), APP) as app:
        with app.tracers.get_tracer("e2e").start_as_current_span("chat") as span:
            span.set_attributes({**CONTENT, "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7})
            span.add_event("gen_ai.content.prompt", {"gen_ai.prompt": SECRET})
            app.log({"content": SECRET, "role": "user"}, event_name="gen_ai.user.message")
            app.log(SECRET, {"event.name": "gen_ai.choice"})
            app.log("plain words", CONTENT)
        app.flush()


def test_prompts_and_answers_reach_no_backend_and_no_disk(tmp_path: Path) -> None:
    with Sink() as sink:
        ports = free()
        process = lone_collector(tmp_path, ports, backend(sink))
        with started(process):
            _send_content(ports)
            (span,) = until(sink.spans, "the span")
            until(lambda: sink.requests["logs"], "the logs")
    assert not [
        request
        for signal in ("traces", "logs")
        for request in sink.requests[signal]
        if SECRET.encode() in request.SerializeToString()
    ]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    kept = plain(span.attributes)
    assert kept.pop("gen_ai.request.model") == "m"
    assert kept.pop("gen_ai.usage.input_tokens") == 7
    assert set(kept) == set(CONTENT)
    assert {mark.replace("\n", "") for mark in kept.values()} <= {"****", "********"}, (
        "a mark says that there was something"
    )
    bodies = [
        record.body.string_value
        for request in sink.requests["logs"]
        for r in request.resource_logs
        for s in r.scope_logs
        for record in s.log_records
    ]
    assert sorted(bodies) == ["****", "****", "plain words"]


def test_the_content_overlay_lets_prompts_and_answers_through(tmp_path: Path) -> None:
    with Sink() as sink:
        ports = free()
        with started(lone_collector(tmp_path, ports, backend(sink), ["content"])):
            _send_content(ports)
            (span,) = until(sink.spans, "the span")
            (logs,) = until(lambda: sink.requests["logs"], "the logs")
    assert plain(span.attributes) == {**CONTENT, "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7}
    assert logs.SerializeToString().count(SECRET.encode()) == 2 + len(CONTENT)


def test_one_overlay_and_two_variables_send_everything_to_a_further_backend_too(tmp_path: Path) -> None:
    with Sink() as stores, Sink() as further:
        ports = free()
        environment = backend(stores) | {
            "BACKEND_OTLP_ENDPOINT": f"http://127.0.0.1:{further.http_port}/api/otlp",
            "BACKEND_OTLP_HEADERS": '{"Authorization": "Basic c2VjcmV0", "X-Tenant": "blue"}',
        }
        with (
            started(lone_collector(tmp_path, ports, environment, ["backend"])),
            application(ports.url("otlp_http"), APP) as app,
        ):
            app.meters.get_meter("e2e").create_counter("e2e.orders").add(1)
            with app.tracers.get_tracer("e2e").start_as_current_span("checkout"):
                app.log("paid")
            app.flush()
            for sink in (stores, further):
                until(lambda sink=sink: all(sink.requests.values()), "all three signals")
    assert {(headers["Authorization"], headers["X-Tenant"]) for headers in further.headers} == {
        ("Basic c2VjcmV0", "blue")
    }
    assert not [headers for headers in stores.headers if "Authorization" in headers]
    assert {signal: [r.SerializeToString() for r in stores.requests[signal]] for signal in stores.requests} == {
        signal: [r.SerializeToString() for r in further.requests[signal]] for signal in further.requests
    }


@pytest.mark.parametrize("overlay", ["store", "store-without-tempo"])
def test_the_embedded_store_gets_everything_beside_the_stores_or_in_place_of_tempo(
    tmp_path: Path, overlay: str
) -> None:
    with Sink() as stores, Sink() as embedded:
        ports = free()
        environment = backend(stores) | {"STORE_OTLP": f"http://127.0.0.1:{embedded.grpc_port}"}
        with (
            started(lone_collector(tmp_path, ports, environment, [overlay])),
            application(ports.url("otlp_http"), APP) as app,
        ):
            app.meters.get_meter("e2e").create_counter("e2e.orders").add(1)
            with app.tracers.get_tracer("e2e").start_as_current_span("checkout"):
                app.log("paid")
            app.flush()
            until(lambda: all(embedded.requests.values()), "all three signals in the embedded store")
            until(lambda: stores.requests["metrics"] and stores.requests["logs"], "what the other stores get")
            if overlay == "store":
                until(lambda: stores.requests["traces"], "traces in Tempo")
    assert bool(stores.requests["traces"]) == (overlay == "store")


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
        answers = [_post(url, body, {"Content-Type": "application/json"}) for _ in range(5)]
        assert answers == [200, 200, 503, 503, 503], "503 is an answer that senders try again after"
        assert collector_metric(ports, "otelcol_exporter_enqueue_failed_spans", exporter="otlp_grpc/tempo") == 3
        assert collector_metric(ports, "otelcol_receiver_refused_spans", receiver="otlp") == 3


def test_the_auth_overlay_takes_telemetry_from_those_alone_who_bear_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cr3t-s3cr3t-s3cr3t")
    with Sink() as sink:
        ports = free()
        with started(lone_collector(tmp_path, ports, backend(sink) | {"COLLECTOR_TOKEN_FILE": str(token)}, ["auth"])):
            assert _post(f"{ports.url('otlp_http')}/v1/traces", b"{}", {"Content-Type": "application/json"}) == 401
            with application(
                ports.url("otlp_http"), APP, headers={"authorization": f"Bearer {token.read_text()}"}
            ) as app:
                with app.tracers.get_tracer("e2e").start_as_current_span("checkout"):
                    pass
                app.flush()
                until(sink.spans, "the span")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(b"\x00garbage", "application/x-protobuf", 400, id="garbage"),
        pytest.param(b'{"resourceSpans": [', "application/json", 400, id="truncated"),
        pytest.param(b"{}", "text/plain", 415, id="what a foreign page may post without asking"),
        pytest.param(b" " * (17 * 2**20), "application/json", 400, id="too large"),
    ],
)
def test_bad_input_gets_a_status_and_harms_nobody(stack: Stack, body: bytes, content_type: str, status: int) -> None:
    assert _post(f"{stack.ports.url('otlp_http')}/v1/traces", body, {"Content-Type": content_type}) == status
    assert stack.processes["collector"].running


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_scrape_overlay_reads_engines_where_no_agent_runs(tmp_path: Path) -> None:
    contrib = os.environ.get("OTELCOL_CONTRIB_BIN", "")
    if not shutil.which(contrib):
        pytest.skip(
            "the lean Collector has no Prometheus receiver; set OTELCOL_CONTRIB_BIN to a contrib Collector to run this"
        )
    with Sink() as sink:
        ports = free()
        environment = backend(sink) | {"ENGINES": json.dumps([f"127.0.0.1:{ports.collector_metrics}"])}
        service = services.collector(ports, Path(contrib), tmp_path, ["scrape-engines"], environment)
        process = lone_collector(tmp_path, ports, environment)
        process.service = service
        with started(process):
            names = until(lambda: _names(sink), "scraped metrics")
    assert "up" in names


def _names(sink: Sink) -> set[Any]:
    return {
        m.name
        for request in list(sink.requests["metrics"])
        for r in request.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    }
