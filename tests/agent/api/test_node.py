"""The open routes: the last reading, in JSON and in Prometheus' format."""

import re
from contextlib import ExitStack
from dataclasses import replace

import pytest
from agent.api.line import HOST, UUIDS, read_gpus, start, worker
from waiting import until

from otel_agent.sources.gpu.metrics import METRICS as GPU_METRICS
from otel_agent.sources.gpu.snapshot import GpuSnapshot
from otel_agent.sources.host.metrics import METRICS as HOST_METRICS

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_metrics_are_the_numbers_of_the_last_reading(line):
    body = line.get("/metrics").json()

    assert TIME.fullmatch(body.pop("timestamp"))
    assert body == {
        "cpu": 25.0,
        "ram": 25.0,
        "gpu": 50.0,
        "temperature": 61.0,
        "disk": {"used": 300, "free": 600, "total": 1000, "percent": 33.333},
    }


def test_a_node_without_gpu_and_sensors_says_null_and_not_zero(bare):
    body = bare.get("/metrics").json()

    assert (body["gpu"], body["temperature"]) == (None, None)
    assert bare.get("/gpu").json() == {
        "timestamp": None,
        "gpus": [],
        "source": {
            "name": "gpu",
            "state": "unavailable",
            "reason": "no NVIDIA driver",
            "remedy": "install it",
            "age_s": None,
            "duration_s": None,
            "points": None,
            "failures": 1,
        },
    }


def test_gpu_tells_every_fact_and_null_for_the_rest(line):
    told, silent = line.get("/gpu").json()["gpus"]

    assert TIME.fullmatch(told.pop("timestamp"))
    assert told == {
        "gpu_id": 0,
        "gpu_uuid": UUIDS[0],
        "gpu_name": "NVIDIA H200",
        "status": "ok",
        "instances": [],
        "utilization_percent": 50.0,
        "memory_used_bytes": 30_000,
        "memory_total_bytes": 120_000,
        "temperature_celsius": 61.0,
        "power_watts": 412.5,
        "clock_graphics_mhz": 1980.0,
        "clock_memory_mhz": 3200.0,
        "processes": [
            {"pid": 4242, "name": "vllm", "memory_used_bytes": 29_000},
            {"pid": 17, "name": "python3", "memory_used_bytes": 500},
        ],
    }
    known = {"gpu_id": 1, "gpu_uuid": UUIDS[1], "gpu_name": "NVIDIA H200", "status": "ok", "instances": []}
    assert silent == {"timestamp": silent["timestamp"], **known, **{name: None for name in told if name not in known}}


def test_health_is_ok_where_sources_are_merely_unavailable(bare):
    body = bare.get("/health").json()

    assert (body["status"], body["gpu"], body["store"]) == ("ok", None, "none")
    assert {name: source["state"] for name, source in body["sources"].items()} == {
        "host": "ok",
        "gpu": "unavailable",
        "containers": "unavailable",
    }
    assert body["sources"]["containers"]["remedy"] == "start Docker"


def test_health_gives_a_verdict_on_the_gpus(line):
    body = line.get("/health").json()

    assert (body["status"], body["store"]) == ("ok", "ok")
    assert body["gpu"] == {"ok": True, "reasons": [], "memory_limit_percent": 95.0, "temperature_limit_celsius": 85.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"memory_used_bytes": 114_000}, "GPU 0: memory 95.0 %, limit 95 %"),
        ({"temperature_celsius": 85.0}, "GPU 0: 85 °C, limit 85 °C"),
    ],
)
def test_a_gpu_at_its_limit_degrades_health_which_still_answers_200(tmp_path, change, reason):
    def read():
        snapshot = read_gpus()
        return GpuSnapshot(snapshot.time_s, snapshot.driver_version, (replace(snapshot.gpus[0], **change),))

    with ExitStack() as ending:
        running = start(ending, tmp_path, {"gpu": worker("gpu", read, GPU_METRICS)}, stored=False)
        until(lambda: running.get("/ready").status_code == 200)
        answer = running.get("/health")

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["gpu"]["reasons"]) == ("degraded", [reason])


def test_not_ready_before_the_first_reading(tmp_path):
    never = Exception("the daemon is silent")

    def opened():
        raise never

    with ExitStack() as ending:
        running = start(ending, tmp_path, {"host": worker("host", None, HOST_METRICS, opened=opened)}, stored=False)
        answer = running.get("/ready")
        health = until(
            lambda: (body := running.get("/health").json())["sources"]["host"]["state"] == "failing" and body
        )

    assert (answer.status_code, answer.json()) == (503, {"ready": False, "sources": {"host": False}})
    assert health["status"] == "degraded"
    assert "Traceback" not in str(health)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;q=0", "application/json"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("text/plain;q=nonsense", "application/json"),
    ],
)
def test_the_format_of_metrics_follows_the_accept_header(line, accept, media):
    answer = line.get("/metrics", headers={"accept": accept})

    assert (answer.headers["content-type"], answer.headers["vary"]) == (media, "Accept")


def test_the_text_format_holds_the_published_points_under_their_prometheus_names(line):
    lines = line.get("/metrics", headers={"accept": "text/plain"}).text.splitlines()

    assert 'system_cpu_utilization_ratio{cpu_mode="user"} 0.2' in lines
    assert f'hw_gpu_memory_usage_bytes{{hw_id="{UUIDS[0]}"}} 30000' in lines
    assert not any(f'hw_gpu_memory_usage_bytes{{hw_id="{UUIDS[1]}"' in text for text in lines)
    assert "# TYPE system_network_io_bytes_total counter" in lines
    assert f'container_memory_working_set_bytes{{container_id="{"a" * 64}",container_name="vllm"}} 700' in lines
    types = [text.split()[2] for text in lines if text.startswith("# TYPE")]
    assert types == sorted(set(types))


def test_openmetrics_ends_with_eof_and_names_counters_without_their_suffix(line):
    text = line.get("/metrics", headers={"accept": "application/openmetrics-text"}).text

    assert text.endswith("# EOF\n")
    assert (
        "# TYPE system_network_io_bytes counter\n# UNIT system_network_io_bytes bytes\nsystem_network_io_bytes_total{"
        in text
    )


def test_the_reading_and_the_store_tell_the_same_gpus(line):
    """Every field of the record is rebuilt from the store alone."""

    def without_time(records):
        return [{name: value for name, value in record.items() if name != "timestamp"} for record in records]

    assert without_time(line.get("/api/v1/gpus").json()) == without_time(line.get("/gpu").json()["gpus"])


def test_the_host_is_named_by_its_resource(line):
    assert line.get("/api/v1/system").json()["hostname"] == HOST
