"""The Collector and the stores behind it, for real: what an SDK sends is found where it belongs, and the servers are well."""

import re
from pathlib import Path

import pytest
from e2e.collecting import APP, post
from e2e.emit import application
from e2e.sink import Sink
from e2e.stack import exemplars, get_json, logql, promql
from waiting import until

from compose.native.stack import Stack

pytestmark = pytest.mark.e2e


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
    assert post(f"{stack.ports.url('otlp_http')}/v1/traces", body, {"Content-Type": content_type}) == status
    assert stack.processes["collector"].running
