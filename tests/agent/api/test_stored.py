"""What is answered from the store: the records with exactly their fields, charts, requests, traces and logs."""

import logging
import math
import time

import pytest
from agent.api.line import HOST, NETWORK_BYTES_PER_S, TOKEN
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind, Status, StatusCode
from waiting import until

from otel_agent.api.answer import encode
from otel_agent.api.routes import ROUTES

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "hosted_vllm",
    "gen_ai.request.model": "llama",
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 64,
    "gen_ai.response.model": "llama-3.3",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.response.time_to_first_chunk": 0.25,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.cache_read.input_tokens": 25,
}
RECORD_FIELDS = {
    *(
        "request_id",
        "timestamp",
        "model_name",
        "model_version",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_length",
    ),
    *(
        "response_length",
        "response_time_ms",
        "queue_time_ms",
        "processing_time_ms",
        "tokens_per_second",
        "temperature",
        "max_tokens",
    ),
    *("success", "error_message", "metadata"),
}


@pytest.fixture(scope="module")
def calls(line):
    """Two calls in the store: one that tells everything about itself, and one that failed and tells nothing. Their trace ids by name."""
    provider = line.tracer("support-bot")
    tracer = provider.get_tracer("tests")
    logs = LoggerProvider(resource=Resource({"service.name": "support-bot"}), shutdown_on_exit=False)
    logs.add_log_record_processor(SimpleLogRecordProcessor(line.log_exporter()))
    logger = logging.Logger("app", logging.DEBUG)  # noqa: LOG001 - one of our own, so that no other test hears it
    logger.addHandler(LoggingHandler(logger_provider=logs))
    began = time.time_ns() - 10 * 10**9
    with tracer.start_as_current_span("POST /answer", start_time=began - 10**6, kind=SpanKind.SERVER) as outer:
        whole = tracer.start_span("chat llama", start_time=began, kind=SpanKind.CLIENT, attributes=CALL)
        whole.end(began + 2 * 10**9)
        logger.warning("four documents found")
    failed = tracer.start_span(
        "chat other",
        start_time=began + 10**9,
        kind=SpanKind.CLIENT,
        attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "other", "error.type": "TimeoutError"},
    )
    failed.set_status(Status(StatusCode.ERROR, "no answer in 5 s"))
    failed.end(began + 6 * 10**9)
    until(lambda: len(line.get("/api/v1/requests").json()["requests"]) == 2)
    until(lambda: line.get("/api/v1/logs").json()["logs"])
    provider.shutdown()
    logs.shutdown()
    return {name: f"{span.get_span_context().trace_id:032x}" for name, span in (("whole", outer), ("failed", failed))}


def test_system_metrics_have_exactly_their_fields(line):
    body = line.get("/api/v1/system").json()
    rate = body["network_rx_bytes"]

    assert {**body, "timestamp": None, "network_rx_bytes": None, "network_tx_bytes": None} == {
        "timestamp": None,
        "hostname": HOST,
        "cpu_usage_percent": 25.0,
        "memory_used_bytes": 4_000,
        "memory_total_bytes": 16_000,
        "disk_used_bytes": 300,
        "disk_total_bytes": 1_000,
        "network_rx_bytes": None,
        "network_tx_bytes": None,
        "load_1m": 0.5,
        "load_5m": 1.25,
        "load_15m": 2.0,
    }
    assert rate == pytest.approx(NETWORK_BYTES_PER_S, rel=0.1)
    assert body["network_tx_bytes"] == pytest.approx(rate / 2, rel=0.1)


def test_container_metrics_have_exactly_their_fields(line):
    ended, paused, vllm = ({**record, "timestamp": None} for record in line.get("/api/v1/containers").json())

    assert vllm == {
        "timestamp": None,
        "container_id": "a" * 64,
        "container_name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "status": "running",
        "cpu_usage_percent": 150.0,
        "memory_used_bytes": 700,
        "memory_limit_bytes": 1_000,
        "network_rx_bytes": 55,
        "network_tx_bytes": 66,
        "restart_count": 2,
        "created_at": "2023-11-14T22:13:20.000Z",
        "gpu_enabled": True,
        "gpu_indices": [1],
    }
    assert (paused["status"], paused["cpu_usage_percent"], paused["gpu_enabled"], paused["gpu_indices"]) == (
        "running",
        None,
        False,
        [],
    )
    unknown = {name: value for name, value in ended.items() if value is None and name != "timestamp"}
    assert (ended["status"], set(unknown)) == (
        "stopped",
        set(vllm) - {"timestamp", "container_id", "container_name", "image", "status"},
    )


def test_the_state_of_all_gpus_leaves_unknown_what_a_silent_one_hides(line):
    body = line.get("/api/metrics/gpu").json()
    first, second = body.pop("gpus")

    assert {**body, "timestamp": None} == {
        "timestamp": None,
        "temperature": 61.0,
        "memory_percent": None,
        "utilization": 50.0,
        "power_watts": None,
    }
    assert (first["memory_percent"], first["utilization"], first["power_watts"]) == (25.0, 50.0, 412.5)
    assert (second["temperature"], second["memory_percent"]) == (None, None)


def test_system_history_is_the_record_in_columns(line):
    body = until(
        lambda: (
            (found := line.get("/api/v1/system/history?since=30s&step=2s").json())["cpu_usage_percent"].count(25.0) > 1
            and found
        )
    )
    length = len(body["time_s"])

    assert (body["hostname"], body["step_s"]) == (HOST, 2.0)
    assert set(body) - {"time_s", "step_s"} == set(line.get("/api/v1/system").json()) - {"timestamp"}
    assert {len(column) for column in body.values() if isinstance(column, list)} == {length}
    assert set(body["cpu_usage_percent"]) == {None, 25.0}  # nothing before the agent began, and no zero for it


def test_gpu_history_has_a_line_for_every_gpu_that_told_something(line):
    body = line.get("/api/v1/gpus/history?since=30s&step=2s").json()

    assert [(gpu["gpu_id"], gpu["gpu_name"]) for gpu in body] == [(0, "NVIDIA H200")]
    assert {value for value in body[0]["utilization_percent"] if value is not None} == {50.0}


def test_series_are_filtered_by_attributes(line):
    body = line.get(
        "/api/v1/series", params={"metric": "system.cpu.utilization", "cpu.mode": "user", "since": "20s", "step": "5s"}
    ).json()

    assert [(one["name"], one["unit"], one["kind"], one["attributes"]) for one in body["series"]] == [
        ("system.cpu.utilization", "1", "gauge", {"cpu.mode": "user"})
    ]
    assert body["series"][0]["values"][-1] == 0.2
    assert line.get("/api/v1/series?metric=no.such.metric").json()["series"] == []


def test_metrics_are_listed_with_kind_and_unit(line):
    listed = {metric["name"]: metric for metric in line.get("/api/v1/metrics").json()}

    assert listed["hw.gpu.memory.limit"] == {
        "name": "hw.gpu.memory.limit",
        "unit": "By",
        "kind": "updowncounter",
        "series": 1,
    }


def test_an_inference_record_holds_what_the_span_told(line, calls):
    body = line.get("/api/v1/requests?failed=false").json()
    (record,) = body["requests"]

    assert (body["shown"], body["limit"], body["complete"]) == (1, 100, True)
    assert set(record) >= RECORD_FIELDS
    told = {
        "request_id": "chatcmpl-1",
        "trace_id": calls["whole"],
        "service": "support-bot",
        "operation": "chat",
        "provider": "hosted_vllm",
        "model_name": "llama-3.3",
        "request_model": "llama",
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "cached_tokens": 25,
        "cache_hit_percent": 25.0,
        "response_time_ms": 2000.0,
        "time_to_first_chunk_ms": 250.0,
        "tokens_per_second": 25.0,
        "temperature": 0.2,
        "max_tokens": 64,
        "success": True,
        "finish_reasons": ["stop"],
    }
    assert {name: record[name] for name in told} == told
    assert line.get("/api/v1/requests/chatcmpl-1").json() == record


@pytest.mark.usefixtures("calls")
def test_a_failed_call_without_usage_has_null_and_no_zero(line):
    (record,) = line.get("/api/v1/requests?failed=true").json()["requests"]

    assert (record["success"], record["error_type"], record["error_message"]) == (
        False,
        "TimeoutError",
        "no answer in 5 s",
    )
    numbers = (
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "time_to_first_chunk_ms",
        "tokens_per_second",
        "cost_usd",
        "cached_tokens",
        "queue_time_ms",
    )
    assert {name: record[name] for name in numbers} == dict.fromkeys(numbers)


def test_requests_are_the_newest_first_and_say_when_there_are_more(line, calls):
    body = line.get("/api/v1/requests?limit=1").json()

    assert [record["trace_id"] for record in body["requests"]] == [calls["failed"]]
    assert body["complete"] is False
    assert line.get("/api/v1/requests?model=llama-3.3").json()["shown"] == 1
    assert line.get("/api/v1/requests?until=1h").json()["requests"] == []


def test_a_trace_is_told_with_offsets_from_its_start(line, calls):
    body = line.get(f"/api/v1/traces/{calls['whole'].upper()}").json()
    outer, inner = body["spans"]

    assert (body["trace_id"], body["services"], body["errors"]) == (calls["whole"], ["support-bot"], 0)
    assert (outer["name"], outer["parent_id"], outer["offset_ns"], outer["kind"]) == ("POST /answer", None, 0, "server")
    assert (inner["name"], inner["parent_id"], inner["offset_ns"], inner["duration_ns"]) == (
        "chat llama",
        outer["span_id"],
        10**6,
        2 * 10**9,
    )
    assert inner["attributes"]["gen_ai.usage.input_tokens"] == 100
    assert body["start_ns"] == outer["start_ns"]


def test_logs_are_found_by_trace_text_and_severity(line, calls):
    def bodies(query):
        return [log["body"] for log in line.get(f"/api/v1/logs?{query}").json()["logs"]]

    assert bodies(f"trace_id={calls['whole']}") == ["four documents found"]
    assert bodies(f"trace_id={calls['failed']}") == []
    assert bodies("text=DOCUMENTS&min_severity=warn") == ["four documents found"]
    assert bodies("min_severity=error") == []


@pytest.mark.usefixtures("calls")
def test_the_store_tells_what_it_holds(line):
    body = line.get("/api/v1/store").json()

    assert (
        body["requests"],
        body["signals"]["traces"]["rows"],
        body["signals"]["logs"]["rows"],
        body["dropped"],
        body["failure"],
    ) == (2, 3, 1, {}, None)


def test_what_json_has_no_number_for_is_null():
    told = {"a": [math.nan, 1.5, {"b": math.inf}], "c": "\ud800"}

    assert encode(told) == b'{"a":[null,1.5,{"b":null}],"c":"?"}'


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/v1/series", "metric: is required"),
        ("/api/v1/series?metrc=x", "metrc: unknown parameter"),
        ("/api/v1/series?metric=a.b&metric=c.d", "metric: given twice"),
        (
            "/api/v1/series?metric=a.b&since=yesterday",
            "since: 'yesterday' is no time: use 15m (ago), seconds since the epoch, or 2026-01-31T12:00:00Z",
        ),
        (
            "/api/v1/series?metric=a.b&since=1795260366873",
            "since: '1795260366873' is too large: times are seconds since the epoch, not milliseconds",
        ),
        ("/api/v1/series?metric=a.b&since=nan", "since: 'nan' is no time"),
        ("/api/v1/series?metric=a.b&since=-5", "since: '-5' is no time"),
        ("/api/v1/series?metric=a.b&since=now&until=1h", "since: must lie before until"),
        ("/api/v1/series?metric=a.b&since=30d&step=1s", "step: 1 s makes more than 11000 points"),
        ("/api/v1/series?metric=a.b&step=0", "step: '0' must lie between 1 and 604800 seconds"),
        ("/api/v1/series?metric=a.b&step=often", "step: 'often' is no duration: use 5s, 1m or 1h"),
        ("/api/v1/series?metric=a.b&quantile=95", "quantile: '95' must lie between 0 and 1"),
        ("/api/v1/system?cpu.mode=idle", "cpu.mode: unknown parameter"),
        ("/api/v1/requests?limit=0", "limit: '0' must lie between 1 and 1000"),
        ("/api/v1/requests?limit=many", "limit: 'many' is no whole number"),
        ("/api/v1/requests?limit=1.5", "limit: '1.5' is no whole number"),
        ("/api/v1/requests?failed=maybe", "failed: 'maybe' must be true or false"),
        ("/api/v1/requests?model=" + "x" * 2001, "model: longer than 2000 characters"),
        ("/api/v1/requests?" + "&".join(f"p{n}.x=1" for n in range(40)), "p0.x: unknown parameter"),
        ("/api/v1/traces/xyz", "trace_id: 'xyz' must have 32 hexadecimal digits, not all zero"),
        ("/api/v1/traces/" + "0" * 32, f"trace_id: '{'0' * 32}' must have 32 hexadecimal digits, not all zero"),
        (
            "/api/v1/logs?min_severity=loud",
            "min_severity: 'loud' must be one of trace, debug, info, warn, warning, error, fatal, critical, or 1 to 24",
        ),
    ],
)
def test_a_question_that_makes_no_sense_gets_one_clear_message(line, path, error):
    answer = line.get(path)

    assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize("path", ["/api/v1/requests/nobody", "/api/v1/traces/" + "ab" * 16])
def test_what_is_not_stored_is_not_found(line, path):
    answer = line.get(path)

    assert answer.status_code == 404
    assert "stored" in answer.json()["error"]


@pytest.mark.parametrize(
    "since", ["15m", "-15m", "2000-01-01T00:00:00Z", "2000-01-01T00:00:00+02:00", "2000-01-01", "0", "1.7e9"]
)
def test_a_time_can_be_told_in_several_forms(line, since):
    assert line.get("/api/v1/metrics", params={"since": since}).status_code == 200


def test_without_a_store_the_api_names_the_option(bare):
    for route in ROUTES:
        path = route.path.replace("{trace_id}", "ab" * 16).replace("{request_id}", "x")
        if path == "/api/v1/sources":
            continue
        answer = bare.get(path, params={"metric": "a.b"} if path.endswith("series") else None)

        assert (path, answer.status_code) == (path, 503)
        assert "otel-agent up" in answer.json()["remedy"]


def test_the_sources_are_told_without_a_store(bare):
    assert [(one["name"], one["state"]) for one in bare.get("/api/v1/sources").json()] == [
        ("host", "ok"),
        ("gpu", "unavailable"),
        ("containers", "unavailable"),
    ]


def test_every_route_is_listed_and_answers(line, calls):
    """The listing is what the reference page is printed from."""
    listed = line.get("/api/v1/").json()["routes"]

    assert [route["path"] for route in listed if not route["token"]] == ["/health", "/ready", "/metrics", "/gpu"]
    for route in listed:
        path = route["path"].replace("{trace_id}", calls["whole"]).replace("{request_id}", "chatcmpl-1")
        needed = {one["name"]: "system.cpu.utilization" for one in route["parameters"] if one["required"]}
        with line.client() as client:
            answer = client.head(path, params=needed, headers={"authorization": f"Bearer {TOKEN}"})
        assert (path, answer.status_code) == (path, 200)
