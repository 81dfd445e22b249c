"""What the Collector's configuration promises, read from the files; the built Collector judges them too where it is there."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.native import build

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "collector-config"
BASE = FOLDER / "collector.yaml"
OVERLAYS = sorted((FOLDER / "overlays").glob("*.yaml"))
CONTRIB_ONLY = {"scrape-engines"}  # needs the Prometheus receiver
SECTIONS = {
    "receivers": "receiver",
    "processors": "processor",
    "exporters": "exporter",
    "connectors": "connector",
    "extensions": "extension",
}
RENAMED = {
    "otlp": "otlp_grpc",  # as an exporter
    "otlphttp": "otlp_http",
    "resourcedetection": "resource_detection",
    "spanmetrics": "span_metrics",
    "filelog": "file_log",
    "hostmetrics": "host_metrics",
    "k8sattributes": "k8s_attributes",
    "loadbalancing": "load_balancing",
    "prometheusremotewrite": "prometheus_remote_write",
    "batch": "sending_queue.batch",
    "logging": "debug",
}
MODULES = {"otlp_grpc": "otlpexporter", "otlp_http": "otlphttpexporter"}


def load(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(path.read_text())
    return parsed


@pytest.fixture(params=[BASE, *OVERLAYS], ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


def test_component_names_are_those_of_today(path: Path) -> None:
    config = load(path)
    used = {(section, name.split("/")[0]) for section in SECTIONS for name in config.get(section, {})}
    assert not {
        (section, name) for section, name in used if name in RENAMED and (section, name) != ("receivers", "otlp")
    }


def test_every_destination_has_a_queue_on_disk_and_never_gives_up(path: Path) -> None:
    base = load(BASE)["exporters"]["otlp_grpc/tempo"]
    assert base["retry_on_failure"]["max_elapsed_time"] == 0
    assert base["sending_queue"]["storage"] == "file_storage/queue"
    assert base["sending_queue"]["sizer"] == "bytes"
    assert base["sending_queue"]["batch"]["max_size"] < 4 * 2**20, "what gRPC servers take by default"
    for name, exporter in load(path).get("exporters", {}).items():
        if name == "otlp_http/prometheus":
            assert exporter["sending_queue"].pop("num_consumers") == 1, "samples of a series in order"
            exporter["sending_queue"]["num_consumers"] = base["sending_queue"]["num_consumers"]
        assert {key: exporter[key] for key in ("retry_on_failure", "sending_queue")} == {
            key: base[key] for key in ("retry_on_failure", "sending_queue")
        }, name


def test_whatever_takes_telemetry_in_limits_memory_first_and_redacts_before_the_queues() -> None:
    pipelines = {
        name: pipeline
        for file in (BASE, *OVERLAYS)
        for name, pipeline in load(file).get("service", {}).get("pipelines", {}).items()
    }
    intake = {
        name: pipeline for name, pipeline in pipelines.items() if pipeline.get("receivers", ["forward"]) != ["forward"]
    }
    assert set(intake) == {"traces", "metrics", "logs", "metrics/engines"}
    for pipeline in intake.values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["exporters"] == ["forward"]
    assert "redaction/content" in intake["traces"]["processors"]
    assert {"redaction/content", "transform/content"} <= set(intake["logs"]["processors"])


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_an_overlay_replaces_no_list_but_those_it_is_for(overlay: Path) -> None:
    """Merging replaces lists: an overlay that names one of the base takes away what it does not repeat."""
    meant = {
        "content": {"processors.redaction/content.blocked_key_patterns", "processors.transform/content.log_statements"},
        "store-without-tempo": {"service.pipelines.traces/tempo.exporters"},
        "auth": {"service.extensions"},
    }
    base = dict(_lists(load(BASE)))
    replaced = {key: value for key, value in _lists(load(overlay)) if key in base}
    assert set(replaced) == meant.get(overlay.stem, set())
    if "service.extensions" in replaced:
        assert set(base["service.extensions"]) <= set(replaced["service.extensions"])


def _lists(node: Any, prefix: str = "") -> list[tuple[str, list[Any]]]:
    if isinstance(node, list):
        return [(prefix, node)]
    if isinstance(node, dict):
        return [
            found for key, value in node.items() for found in _lists(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return []


def test_everything_that_is_used_is_declared_and_in_the_lean_build() -> None:
    modules = {
        re.split(r"[/ ]", line["gomod"])[-2]
        for section in load(FOLDER / "builder.yaml").values()
        if isinstance(section, list)
        for line in section
    }
    for overlay in [None, *OVERLAYS]:
        configs = [load(BASE), *([load(overlay)] if overlay else [])]
        declared = {section: {name for config in configs for name in config.get(section) or {}} for section in SECTIONS}
        pipelines: dict[str, dict[str, Any]] = {}
        for config in configs:
            for name, pipeline in config.get("service", {}).get("pipelines", {}).items():
                pipelines.setdefault(name, {}).update(pipeline)
        for name, pipeline in pipelines.items():
            assert set(pipeline["receivers"]) <= declared["receivers"] | declared["connectors"], name
            assert set(pipeline.get("processors", [])) <= declared["processors"], name
            assert set(pipeline["exporters"]) <= declared["exporters"] | declared["connectors"], name
        if overlay and overlay.stem in CONTRIB_ONLY:
            continue
        wanted = {
            MODULES.get(name.split("/")[0], name.split("/")[0].replace("_", "") + kind)
            for section, kind in SECTIONS.items()
            for name in declared[section]
        }
        known = {
            *modules,
            *(module.removesuffix("extension") + "extension" for module in modules if "storage" in module),
        }
        assert not {module for module in wanted if module not in known}, overlay


def test_every_version_of_the_lean_build_is_the_same() -> None:
    text = (FOLDER / "builder.yaml").read_text()
    version = build.version(build.COLLECTOR)
    assert set(re.findall(r"v(0\.\S+)", text)) == {version}
    assert len(set(re.findall(r"v(1\.\S+)", text))) == 1


def test_every_variable_is_documented_and_listens_on_loopback_by_default() -> None:
    documented = (ROOT / "docs" / "collector.md").read_text()
    found = [
        match
        for file in (BASE, *OVERLAYS)
        for match in re.findall(r"\$\{env:([A-Z_]+)(?::-([^}]*))?\}", file.read_text())
    ]
    assert found
    assert not {name for name, _ in found if f"`{name}`" not in documented}
    for name, default in found:
        assert default == "" or f"`{default}`" in documented, f"{name}'s default {default} is not told"
        if re.search(r"\d+\.\d+\.\d+\.\d+", default):
            assert "127.0.0.1" in default, name


@pytest.mark.parametrize("overlay", [None, *OVERLAYS], ids=lambda path: path.stem if path else "alone")
def test_the_built_collector_accepts_it(overlay: Path | None, tmp_path: Path) -> None:
    if overlay and overlay.stem in CONTRIB_ONLY:
        pytest.skip(
            "only the contrib Collector has the Prometheus receiver; e2e runs it where OTELCOL_CONTRIB_BIN names one"
        )
    binary = build.find("otelcol-llm")
    if binary is None:
        pytest.skip("the Collector is not built: make e2e, or python -m compose.native.build otelcol-llm")
    token = tmp_path / "token"
    token.write_text("token")
    environment = os.environ | {
        "COLLECTOR_DATA": str(tmp_path),
        "BACKEND_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "COLLECTOR_TOKEN_FILE": str(token),
    }
    configs = [f"--config={file}" for file in (BASE, overlay) if file]
    done = subprocess.run(
        [binary, "validate", *configs], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_a_backend_without_an_endpoint_is_named(tmp_path: Path) -> None:
    binary = build.find("otelcol-llm")
    if binary is None:
        pytest.skip("the Collector is not built: make e2e, or python -m compose.native.build otelcol-llm")
    environment = {name: value for name, value in os.environ.items() if name != "BACKEND_OTLP_ENDPOINT"} | {
        "COLLECTOR_DATA": str(tmp_path)
    }
    command = [binary, "validate", f"--config={BASE}", f"--config={FOLDER / 'overlays' / 'backend.yaml'}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "exporters::otlp_http/backend: at least one endpoint must be specified" in done.stderr
