"""The agent as a process: how it starts, refuses, goes on beside a hung source, and stops."""

import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from processes import ENVIRONMENT, agent, backend


def command(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "otel_agent", *words],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_wrong_settings_are_all_named_and_nothing_starts():
    done = command("run", OTEL_LLM_PORT="http", OTEL_LLM_PROT="1", METRICS_INTERVAL_LIVE="soon")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "otel-agent cannot start with these settings:",
        "  METRICS_INTERVAL_LIVE: 'soon' is no number",
        "  OTEL_LLM_PORT: 'http' is no number",
        "  OTEL_LLM_PROT: unknown setting; did you mean OTEL_LLM_PORT?",
    ]


@pytest.mark.parametrize("variable", ["OTEL_LLM_PORT", "OTEL_LLM_OTLP_GRPC_PORT", "OTEL_LLM_OTLP_HTTP_PORT"])
def test_a_taken_port_names_the_setting_that_moves_it(variable, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = {"OTEL_LLM_PORT": "0", "OTEL_LLM_OTLP_GRPC_PORT": "0", "OTEL_LLM_OTLP_HTTP_PORT": "0"}
        done = command("up", **{**free, variable: str(port)}, OTEL_LLM_DATA_DIR=str(tmp_path))

    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_written_is_named_with_its_setting(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = command(
        "up",
        OTEL_LLM_PORT="0",
        OTEL_LLM_OTLP_GRPC_PORT="0",
        OTEL_LLM_OTLP_HTTP_PORT="0",
        OTEL_LLM_DATA_DIR=str(tmp_path / "file" / "below"),
    )

    assert done.returncode == 1
    assert "OTEL_LLM_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_and_makes_a_last_export(number, tmp_path):
    with (
        backend() as sink,
        agent(
            "run",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_METRIC_EXPORT_INTERVAL=3_600_000,
            OTEL_LLM_DATA_DIR=tmp_path,
        ) as running,
    ):
        running.until(lambda: running.source("host") == "ok")
        status, took_s = running.stop(number)
        *values, closing = sink.metrics()

    assert (status, took_s < 5) == (0, True)
    assert [flags(request) for request in values] == [{0}] * len(values)
    assert flags(closing) == {1}
    assert "Traceback" not in running.output


def test_signals_that_come_together_make_one_stop(tmp_path):
    with (
        backend() as sink,
        agent("run", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_LLM_DATA_DIR=tmp_path) as running,
    ):
        running.until(lambda: running.source("host") == "ok")
        for _ in range(50):
            running.process.send_signal(signal.SIGTERM)
            running.process.send_signal(signal.SIGINT)
        status, took_s = running.stop(signal.SIGTERM)

    assert (status, took_s < 5) == (0, True)


def test_the_endpoint_for_metrics_wins_as_the_specification_says(tmp_path):
    with backend() as general, backend() as metrics:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": general.endpoint,
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{metrics.endpoint}/custom",
        }
        with agent("run", **settings, OTEL_METRIC_EXPORT_INTERVAL=200, OTEL_LLM_DATA_DIR=tmp_path) as running:
            running.until(lambda: metrics.sent)

    assert general.sent == []
    assert {path for path, _ in metrics.sent} == {"/custom"}


def test_up_stops_as_quickly_with_a_page_open_and_keeps_what_it_got(tmp_path):
    with agent("up", OTEL_LLM_DATA_DIR=tmp_path, OTEL_METRIC_EXPORT_INTERVAL=500) as running:
        running.until(lambda: running.source("host") == "ok")
        port, token = running.page()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/api/live", headers={"Authorization": f"Bearer {token}"})
        stream = connection.getresponse()
        assert stream.readline() == b"retry: 2000\n"
        status, took_s = running.stop(signal.SIGTERM)
        connection.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as kept:
        [(points,)] = kept.execute("SELECT count(*) FROM point")

    assert (status, took_s < 5) == (0, True)
    assert "Traceback" not in running.output
    assert points > 0


def flags(request):
    return {
        point.flags
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    }


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_stop_takes_less_than_five_seconds_while_no_backend_answers(protocol, tmp_path):
    with backend() as sink:
        sink.silent.set()
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_METRIC_EXPORT_INTERVAL": 500,
        }
        with agent("run", **settings, OTEL_LLM_DATA_DIR=tmp_path) as running:
            running.until(lambda: running.source("host") == "ok")
            status, took_s = running.stop(signal.SIGTERM)

    assert (status, took_s < 5) == (0, True)
    assert "Traceback" not in running.output


@pytest.fixture
def hung_host(tmp_path):
    """A host root whose /proc/stat is a FIFO that nobody writes to: opening it never returns."""
    proc = tmp_path / "root" / "proc"
    proc.mkdir(parents=True)
    os.mkfifo(proc / "stat")
    return tmp_path / "root"


def test_a_hung_source_is_shown_as_stuck_and_a_stop_still_takes_less_than_five_seconds(hung_host, tmp_path):
    with (
        backend() as sink,
        agent(
            "run",
            OTEL_LLM_HOST_ROOT=hung_host,
            OTEL_LLM_SOURCE_DEADLINE=0.5,
            METRICS_INTERVAL_LIVE=1,
            OTEL_METRIC_EXPORT_INTERVAL=500,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_LLM_DATA_DIR=tmp_path,
        ) as running,
    ):
        running.until(lambda: running.source("host") == "stuck")
        running.until(lambda: "host: stuck: a reading has not come back" in running.output)
        status, took_s = running.stop(signal.SIGTERM)

    assert (status, took_s < 5) == (0, True)
    assert running.output.count("host: stuck") == 1
    assert sink.sent


def test_the_token_is_kept_readable_by_its_owner_alone(tmp_path):
    folder = tmp_path / "data"
    with (
        backend() as sink,
        agent("run", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_LLM_DATA_DIR=folder) as running,
    ):
        _, token = running.page()
        running.stop(signal.SIGTERM)

    assert (folder / "token").read_text().strip() == token
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_once_prints_this_machine():
    done = command("once")

    assert done.returncode == 0
    assert "system.memory.usage" in done.stdout
    assert done.stderr == ""


def test_doctor_says_what_is_missing_and_how_to_get_it():
    done = command(
        "doctor",
        OTEL_LLM_SOURCES="host,gpu",
        OTEL_LLM_PORT="0",
        OTEL_LLM_OTLP_GRPC_PORT="0",
        OTEL_LLM_OTLP_HTTP_PORT="0",
    )

    assert "ok      host: " in done.stdout
    assert done.returncode == (1 if "PROBLEM " in done.stdout else 0)
    assert "Traceback" not in done.stderr
