"""The line, end to end: the agent and a LiteLLM application through the real Collector into the real Prometheus and Loki, and the trace store."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from e2e.stack import exemplars, logql, promql, run_stack
from processes import ENVIRONMENT, agent
from waiting import until

from compose.native.ports import free

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """The stack, and behind its Collector the agent with the embedded store: (stack, agent)."""
    folder = tmp_path_factory.mktemp("line")
    ports = free()
    with (
        run_stack(folder, ports=ports) as stack,
        agent(
            "up",
            OTEL_LLM_OTLP_GRPC_PORT=ports.store_grpc,
            OTEL_LLM_OTLP_HTTP_PORT=ports.store_http,
            OTEL_EXPORTER_OTLP_ENDPOINT=ports.url("otlp_http"),
            OTEL_METRIC_EXPORT_INTERVAL=1000,
            METRICS_INTERVAL_LIVE=1,
            OTEL_LLM_DATA_DIR=folder / "agent",
        ) as running,
    ):
        yield stack, running


def metric(stack, query):
    """The one series of a query: its value, once it is there."""
    [(_, value)] = until(lambda: promql(stack, query), query)
    return value


def test_memory_and_disk_are_what_a_direct_reading_says(line):
    stack, _ = line
    used = metric(stack, 'system_memory_limit_bytes{service_name="otel-agent"}')
    disk = metric(stack, 'system_filesystem_limit_bytes{service_name="otel-agent", system_filesystem_mountpoint="/"}')
    available = metric(stack, 'system_memory_linux_available_bytes{service_name="otel-agent"}')

    assert used == psutil.virtual_memory().total
    assert disk == pytest.approx(shutil.disk_usage("/").total, rel=0.001)
    assert available == pytest.approx(psutil.virtual_memory().available, rel=0.1)


def test_cpu_time_counts_as_the_kernel_does(line):
    stack, _ = line
    direct = psutil.cpu_times()
    idle = metric(stack, 'system_cpu_time_seconds_total{service_name="otel-agent", cpu_mode="idle"}')
    busy = metric(stack, 'system_cpu_time_seconds_total{service_name="otel-agent", cpu_mode="user"}')

    assert idle == pytest.approx(direct.idle, rel=0.05)
    assert busy == pytest.approx(direct.user, rel=0.05)


def test_the_names_on_the_agents_own_page_are_those_in_prometheus(line):
    """The translation of names and units that the reference, the boards and /metrics use is the one that Prometheus makes."""
    stack, running = line
    page = running.get("/metrics", {"Accept": "text/plain"})[1]
    expected = {text.split()[2] for text in page.splitlines() if text.startswith("# TYPE")}

    def missing():
        return expected - {labels["__name__"] for labels, _ in promql(stack, '{service_name="otel-agent"}')}

    assert len(expected) > 30
    until(lambda: not missing(), f"{len(expected)} metrics of the agent")


def test_series_carry_the_host_they_come_from(line):
    stack, _ = line
    [(labels, _)] = until(lambda: promql(stack, "system_cpu_logical_count"), "the count of CPUs")

    assert labels["host_name"] == os.uname().nodename
    assert labels["service_name"] == "otel-agent"


@pytest.fixture(scope="module")
def application(line):
    """A program that asks an LLM under `opentelemetry-instrument`; returns its trace id."""
    stack, _ = line
    server = subprocess.Popen(
        [sys.executable, str(HERE.parent / "instrumentation" / "openai_server.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        base = server.stdout.readline().strip()
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "opentelemetry-instrument"),
                sys.executable,
                str(HERE / "litellm_app.py"),
                base,
            ],
            env={
                **ENVIRONMENT,
                "OTEL_SERVICE_NAME": "app",
                "OTEL_EXPORTER_OTLP_ENDPOINT": stack.ports.url("otlp_grpc"),
                "OTEL_EXPORTER_OTLP_INSECURE": "true",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)
        server.stdout.close()
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def spans_of(running, trace_id):
    """The spans of a trace as the trace store tells them over HTTP."""
    status, answer = running.get(f"/api/v1/traces/{trace_id}")
    return answer["spans"] if status == 200 else []


def test_one_request_is_one_trace_with_the_http_call_below_each_llm_call(line, application):
    _, running = line
    spans = until(lambda: len(found := spans_of(running, application)) >= 9 and found, "nine spans of the trace")

    by_id = {span["span_id"]: span for span in spans}
    chats = [span for span in spans if span["name"] == "chat tiny"]
    [root] = [span for span in spans if span["name"] == "answer"]
    calls = [span for span in spans if span["name"].startswith("POST")]
    assert len(chats) == 4
    assert {span["parent_id"] for span in chats} == {root["span_id"]}
    assert len(calls) == 4
    assert {by_id[span["parent_id"]]["name"] for span in calls} == {"chat tiny"}
    assert len({span["parent_id"] for span in calls}) == 4
    for chat in chats:
        assert chat["attributes"]["gen_ai.usage.input_tokens"] > 0
        assert chat["attributes"]["gen_ai.usage.output_tokens"] > 0


def test_an_exemplar_leads_from_the_latency_histogram_to_the_trace(line, application):
    stack, running = line
    found = until(lambda: exemplars(stack, "gen_ai_client_operation_duration_seconds_bucket"), "an exemplar")
    spans = until(lambda: spans_of(running, application), "the trace")

    chats = {span["span_id"] for span in spans if span["name"] == "chat tiny"}
    assert {exemplar["labels"]["trace_id"] for exemplar in found} == {application}
    assert {exemplar["labels"]["span_id"] for exemplar in found} <= chats


def test_tokens_are_counted_once(line, application):
    stack, running = line
    spans = until(lambda: len(found := spans_of(running, application)) >= 9 and found, "the trace")
    expected = sum(
        span["attributes"].get("gen_ai.usage.input_tokens", 0) for span in spans if span["name"] == "chat tiny"
    )

    counted = until(
        lambda: promql(stack, 'sum(gen_ai_client_token_usage_sum{gen_ai_token_type="input"})'), "the token histogram"
    )
    assert counted[0][1] == expected


def test_a_log_line_is_found_by_the_trace_id(line, application):
    stack, _ = line
    [(_, text)] = until(
        lambda: logql(stack, f'{{service_name="app"}} | trace_id="{application}" |= "asking"'), "the log line"
    )

    assert text == "asking openai/tiny"


def test_requests_are_listed_by_the_api(line, application):
    _, running = line
    status, answer = running.get("/api/v1/requests?limit=10")

    assert status == 200
    assert len([row for row in answer["requests"] if row["trace_id"] == application]) == 4


def test_a_series_of_an_agent_that_stops_ends_at_once(line, tmp_path):
    """Prometheus answers an OTLP series for five minutes more unless it is closed."""
    stack, _ = line
    name = "short-lived-agent"
    query = f'system_uptime_seconds{{service_name="{name}"}}'
    with agent(
        "run",
        OTEL_SERVICE_NAME=name,
        OTEL_EXPORTER_OTLP_ENDPOINT=stack.ports.url("otlp_http"),
        OTEL_METRIC_EXPORT_INTERVAL=1000,
        OTEL_LLM_DATA_DIR=tmp_path,
    ) as running:
        until(lambda: promql(stack, query), query)
        assert running.stop(signal.SIGTERM)[0] == 0
    until(lambda: promql(stack, query) == [], "the end of the series", deadline_s=10)


def test_the_page_and_prometheus_show_the_same_number(line):
    stack, running = line
    status, answer = running.get("/api/v1/system")
    limit = metric(stack, 'system_memory_limit_bytes{service_name="otel-agent"}')

    assert status == 200
    assert answer["memory_total_bytes"] == limit
