"""Settings: what is accepted, and that every problem is named at once."""

from pathlib import Path

import pytest

from otel_agent.errors import SettingsError
from otel_agent.settings import load


def test_nothing_set_gives_the_defaults():
    settings = load({"HOME": "/home/someone"})

    assert (settings.sources, settings.interval_s, settings.port, settings.listen) == (
        ("host", "gpu", "containers", "processes", "placement"),
        5.0,
        23080,
        "127.0.0.1",
    )


def test_an_empty_variable_counts_as_unset():
    assert load({"OTEL_LLM_PORT": "", "METRICS_INTERVAL_LIVE": "  "}) == load({})


def test_every_problem_is_reported_and_names_its_variable():
    environ = {
        "OTEL_LLM_PORT": "http",
        "METRICS_INTERVAL_LIVE": "0",
        "OTEL_LLM_SOURCES": "host,tpu",
        "OTEL_LLM_HOST_ROOT": "/no/such/folder",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
        "OTEL_LLM_PROT": "1",
        "OTEL_LLM_LISTEN": "localhost",
    }
    with pytest.raises(SettingsError) as caught:
        load(environ)

    assert sorted(caught.value.problems) == [
        "METRICS_INTERVAL_LIVE: '0' must lie between 1 and 3600",
        "OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' must be a URL like http://127.0.0.1:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' must be one of grpc, http/protobuf",
        "OTEL_LLM_HOST_ROOT: '/no/such/folder' is no folder",
        "OTEL_LLM_LISTEN: 'localhost' must be an IP address like 127.0.0.1",
        "OTEL_LLM_PORT: 'http' is no number",
        "OTEL_LLM_PROT: unknown setting; did you mean OTEL_LLM_PORT?",
        "OTEL_LLM_SOURCES: 'host,tpu' tpu unknown; choose from host, gpu, containers, processes, placement",
    ]


def test_a_secret_is_never_repeated():
    with pytest.raises(SettingsError) as caught:
        load({"OTEL_LLM_TOKEN": "hunter2 hunter2"})

    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("OTEL_LLM_TOKEN: its value must have 16")


def test_a_token_comes_from_a_file(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("sixteen-or-more-characters\n")

    assert load({"OTEL_LLM_TOKEN_FILE": str(file)}).token_from_file == "sixteen-or-more-characters"


def test_two_tokens_are_one_too_many(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("sixteen-or-more-characters")
    with pytest.raises(SettingsError, match="keep one"):
        load({"OTEL_LLM_TOKEN_FILE": str(file), "OTEL_LLM_TOKEN": "sixteen-or-more-characters"})


def test_a_url_with_an_impossible_port_is_refused():
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        load({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:99999"})


def test_equal_ports_are_refused():
    with pytest.raises(SettingsError, match="must differ"):
        load({"OTEL_LLM_OTLP_GRPC_PORT": "4318"})
