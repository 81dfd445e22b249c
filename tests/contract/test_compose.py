"""What the compose files promise: pinned, on loopback, hardened, and the same configuration that the native stack runs."""

import json
import os
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.native import build, ports, services

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
OVERLAYS = ["gpu", "docker-socket"]
CONFIG: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = CONFIG["services"]
SERVERS = {"collector", "prometheus", "loki", "tempo", "alertmanager", "grafana", "agent"}
PUBLISHED = {  # container's port by the host's default
    ("collector", 4317): 4317,
    ("collector", 4318): 4318,
    ("collector", 25133): 13133,
    ("grafana", 23000): 3000,
    ("prometheus", 23001): 9090,
    ("loki", 23002): 3100,
    ("tempo", 23003): 3200,
    ("alertmanager", 23004): 9093,
    ("agent", 23080): 23080,
}


def test_the_servers_are_those_of_the_pipeline() -> None:
    assert set(SERVICES) == {*SERVERS, "volumes"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_whole_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_the_native_stack_runs_the_versions_of_the_images() -> None:
    tags = {name: service["image"].rsplit(":", 1)[1].removeprefix("v") for name, service in SERVICES.items()}
    native = {program.name: build.version(program) for program in build.PROGRAMS}
    assert tags["collector"] == native["otelcol-llm"]
    assert tags["loki"] == native["loki"]
    assert tags["alertmanager"] == native["alertmanager"]
    major, minor, patch = tags["prometheus"].split(".")
    assert f"0.{int(major)}{int(minor):02d}.{patch}" == native["prometheus"], (
        "Prometheus 3.15.0 is module version 0.315.0"
    )


def test_every_port_is_published_on_loopback_where_the_table_says_and_moved_by_a_setting() -> None:
    found = {}
    for name, service in SERVICES.items():
        for published in service.get("ports", []):
            match = re.fullmatch(r"127\.0\.0\.1:\$\{(STACK_[A-Z_]+_PORT):-(\d+)\}:(\d+)", published)
            assert match, f"{name}: {published}"
            found[name, int(match[2])] = int(match[3])
    assert found == PUBLISHED


def test_a_setting_moves_the_same_port_in_containers_and_natively() -> None:
    native = {row.metadata["setting"]: row.default for row in fields(ports.Ports)}
    text = (COMPOSE / "compose.yaml").read_text()
    containers = {setting: int(default) for setting, default in re.findall(r"\$\{(STACK_[A-Z_]+_PORT):-(\d+)\}", text)}
    both = native.keys() & containers.keys()
    assert len(both) >= 6
    assert {setting: native[setting] for setting in both} == {setting: containers[setting] for setting in both}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["mem_limit"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert not service.get("privileged")
    if name == "volumes":
        assert service["cap_add"] == ["CHOWN"], "it gives each volume to its user and ends"
        assert service["network_mode"] == "none"
    else:
        assert not service["user"].startswith("0")
        assert "cap_add" not in service


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_every_server_says_whether_it_is_well(name: str) -> None:
    if name == "collector":
        assert "healthcheck" not in SERVICES[name], (
            "its image has nothing to ask with: its health port is published instead"
        )
    else:
        assert SERVICES[name]["healthcheck"]["test"][0].startswith("CMD")


def test_the_docker_socket_is_an_overlay_and_nothing_else_mounts_it() -> None:
    assert "docker.sock" not in json.dumps(CONFIG)
    assert "docker.sock" in (COMPOSE / "docker-socket.yaml").read_text()


def test_nothing_is_secret_in_the_files_and_grafana_lets_nobody_in_without_a_password() -> None:
    grafana = SERVICES["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_admin_password"
    assert not [key for key in grafana if "PASSWORD" in key and not key.endswith("__FILE")]
    assert (COMPOSE / ".gitignore").read_text().splitlines()[-1] == "secrets/"


def test_containers_and_native_stack_start_the_same_configuration() -> None:
    native = {
        service.name: " ".join(service.command)
        for service in (
            services.prometheus(ports.Ports(), Path("prometheus"), Path("/data"), tempo=True),
            services.loki(ports.Ports(), Path("loki"), Path("/data")),
            services.tempo(ports.Ports(), Path("tempo"), Path("/data")),
            services.alertmanager(ports.Ports(), Path("alertmanager"), Path("/data")),
            services.collector(ports.Ports(), Path("otelcol-llm"), Path("/data"), [], {}),
        )
    }
    assert set(services.PROMETHEUS_FLAGS) <= set(SERVICES["prometheus"]["command"])
    assert all(flag in native["prometheus"] for flag in services.PROMETHEUS_FLAGS)
    prometheus = services.prometheus(ports.Ports(), Path("prometheus"), Path("/data"), tempo=True)
    linked = {f"{link.relative_to('/data/prometheus/config')}": target for link, target in prometheus.links.items()}
    mounts = (mount.split(":") for mount in SERVICES["prometheus"]["volumes"] if mount.endswith(":ro"))
    mounted = {inside.removeprefix("/etc/prometheus/"): (COMPOSE / outside).resolve() for outside, inside, _ in mounts}
    assert mounted.pop("targets") == COMPOSE / "prometheus" / "targets", "the native stack writes its own"
    assert linked == mounted
    for name in ("loki", "tempo", "alertmanager"):
        assert str(COMPOSE / name / f"{name}.yaml") in native[name]
        assert [
            mount for mount in SERVICES[name]["volumes"] if f"./{name}/{name}.yaml" in mount and mount.endswith(":ro")
        ]
    assert str(ROOT / "collector-config" / "collector.yaml") in native["collector"]
    assert "../collector-config:/etc/otelcol:ro" in SERVICES["collector"]["volumes"]


def test_native_variables_are_those_the_containers_set() -> None:
    """A variable set on one side only would leave the other with a default that is wrong there."""
    for name, native in (
        ("loki", services.loki(ports.Ports(), Path("loki"), Path("/data"))),
        ("tempo", services.tempo(ports.Ports(), Path("tempo"), Path("/data"))),
        ("collector", services.collector(ports.Ports(), Path("otelcol"), Path("/data"), [], {})),
    ):
        read = set(re.findall(r"\$\{(?:env:)?([A-Z_]+)", _config_text(name)))
        internal = {
            "LOKI_GRPC_PORT",
            "TEMPO_GRPC_PORT",
            "COLLECTOR_METRICS_PORT",
        }  # a container has its ports to itself
        tuning = {"COLLECTOR_MEMORY_MIB", "COLLECTOR_DETECTORS", "COLLECTOR_QUEUE_BYTES", "COLLECTOR_KEEP_VLLM_NAMES"}
        assert read - set(native.environment) - tuning == set()
        assert read - set(SERVICES[name]["environment"]) - internal - tuning == set()


def _config_text(name: str) -> str:
    return (
        ROOT / "collector-config" / "collector.yaml" if name == "collector" else COMPOSE / name / f"{name}.yaml"
    ).read_text()


def test_metrics_logs_and_traces_are_kept_for_thirty_days() -> None:
    prometheus = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yaml").read_text())
    loki = yaml.safe_load((COMPOSE / "loki" / "loki.yaml").read_text())
    tempo = yaml.safe_load((COMPOSE / "tempo" / "tempo.yaml").read_text())
    assert prometheus["storage"]["tsdb"]["retention"]["time"] == "30d"
    assert loki["limits_config"]["retention_period"] == "30d"
    assert loki["compactor"]["retention_enabled"] is True, "without it the period is a wish"
    assert tempo["backend_scheduler"]["provider"]["compaction"]["compaction"]["block_retention"] == "720h"
    assert tempo["backend_worker"]["compaction"]["block_retention"] == "720h"


def test_what_is_scraped_has_its_targets_in_both_worlds() -> None:
    prometheus = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yaml").read_text())
    wanted = {job["file_sd_configs"][0]["files"][0] for job in prometheus["scrape_configs"]}
    committed = {f"targets/{file.name}" for file in (COMPOSE / "prometheus" / "targets").iterdir()}
    native = services.prometheus(ports.Ports(), Path("prometheus"), Path("/data"), tempo=True)
    written = {str(path.relative_to("/data/prometheus/config")) for path in native.files}
    assert wanted == committed == written
    hosts = {
        target.split(":")[0]
        for file in (COMPOSE / "prometheus" / "targets").iterdir()
        for target in json.loads(file.read_text())[0]["targets"]
    }
    assert hosts <= set(SERVICES)


def test_grafana_leads_from_metric_to_trace_to_log_and_back() -> None:
    provisioned = yaml.safe_load((COMPOSE / "grafana" / "provisioning" / "datasources" / "stores.yaml").read_text())[
        "datasources"
    ]
    sources = {source["uid"]: source["jsonData"] for source in provisioned}
    assert set(sources) == {"prometheus", "tempo", "loki", "alertmanager"}
    assert [destination["datasourceUid"] for destination in sources["prometheus"]["exemplarTraceIdDestinations"]] == [
        "tempo"
    ]
    assert sources["tempo"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert (
        sources["tempo"]["tracesToLogsV2"]["query"]
        == '{service_name="$${__span.tags["service.name"]}"} | trace_id="$${__span.traceId}"'
    )
    assert sources["tempo"]["tracesToMetrics"]["datasourceUid"] == "prometheus"
    assert [field["datasourceUid"] for field in sources["loki"]["derivedFields"]] == ["tempo"]
    urls = {source["uid"]: source["url"] for source in provisioned}
    for uid, url in urls.items():
        (port,) = [inside for (name, _), inside in PUBLISHED.items() if name == uid]
        assert url == f"http://{uid}:{port}"


def test_every_alert_is_tested() -> None:
    rules = yaml.safe_load((COMPOSE / "prometheus" / "rules" / "pipeline.yaml").read_text())
    tests = yaml.safe_load((COMPOSE / "prometheus" / "tests" / "pipeline.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts, "each is seen to fire"
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts - {"Watchdog"}, "and to be silent"


def _promtool() -> Path:
    found = build.find("promtool")
    if found is None:
        pytest.skip("promtool is not built: make e2e, or python -m compose.native.build prometheus")
    return found


def _check(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_and_the_rules_fire_where_they_should() -> None:
    promtool = _promtool()
    _check(promtool, "check", "config", COMPOSE / "prometheus" / "prometheus.yaml")
    for rules in [*(COMPOSE / "prometheus" / "rules").glob("*.yaml"), *(ROOT / "dashboards" / "rules").glob("*.yaml")]:
        _check(promtool, "check", "rules", "--lint=all", "--lint-fatal", rules)
    for tests in (COMPOSE / "prometheus" / "tests").glob("*.yaml"):
        _check(promtool, "test", "rules", tests)


def test_loki_accepts_its_configuration(tmp_path: Path) -> None:
    loki = build.find("loki")
    if loki is None:
        pytest.skip("Loki is not built: make e2e, or python -m compose.native.build loki")
    _check(
        loki,
        f"-config.file={COMPOSE / 'loki' / 'loki.yaml'}",
        "-config.expand-env=true",
        "-verify-config",
        LOKI_DATA=str(tmp_path),
    )


@pytest.mark.parametrize(
    "overlays", [[], *([name] for name in OVERLAYS), OVERLAYS], ids=lambda names: "+".join(names) or "alone"
)
def test_docker_compose_accepts_every_overlay(overlays: list[str], tmp_path: Path) -> None:
    plugin = build.find("docker-compose")
    if plugin is None:
        pytest.skip("Docker Compose is not built: python -m compose.native.build docker-compose")
    files = [part for name in ("compose", *overlays) for part in ("-f", str(COMPOSE / f"{name}.yaml"))]
    _check(plugin, *files, "config", "--quiet", DOCKER_GID="999", STACK_SECRETS=str(tmp_path))
