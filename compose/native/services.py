"""What the native stack runs: each server's command, addresses and files, from the configuration that compose.yaml mounts.

Where a server reads environment variables, addresses come by them; Prometheus reads none, and gets the same prometheus.yaml
beside target files of its own.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from compose.native.build import ROOT
from compose.native.ports import LOOPBACK, Ports, StackError
from compose.native.process import Service

COMPOSE = ROOT / "compose"
COLLECTOR_CONFIG = ROOT / "collector-config"
AGENT_COMMAND = (sys.executable, "-m", "otel_agent")
PROMETHEUS_FLAGS = (
    "--web.enable-otlp-receiver",
    "--web.enable-remote-write-receiver",
    "--enable-feature=exemplar-storage",
)


def prometheus(ports: Ports, binary: Path, data: Path, *, tempo: bool) -> Service:
    """Return Prometheus, which scrapes the other servers and takes metrics by OTLP."""
    home = data / "prometheus"
    targets = {
        "prometheus": ports.prometheus,
        "collector": ports.collector_metrics,
        "loki": ports.loki,
        "alertmanager": ports.alertmanager,
    }
    if tempo:
        targets["tempo"] = ports.tempo
    names = ("prometheus", "collector", "loki", "alertmanager", "tempo")
    return Service(
        name="prometheus",
        command=(
            str(binary),
            f"--config.file={home / 'config' / 'prometheus.yaml'}",
            f"--storage.tsdb.path={home / 'tsdb'}",
            f"--web.listen-address={LOOPBACK}:{ports.prometheus}",
            *PROMETHEUS_FLAGS,
        ),
        ready_url=f"{ports.url('prometheus')}/-/ready",
        ports=frozenset({"prometheus"}),
        files={
            home / "config" / "targets" / f"{name}.json": json.dumps(
                [{"targets": [f"{LOOPBACK}:{targets[name]}"]}] if name in targets else []
            )
            for name in names
        },
        links={
            home / "config" / "prometheus.yaml": COMPOSE / "prometheus" / "prometheus.yaml",
            home / "config" / "rules": COMPOSE / "prometheus" / "rules",
            home / "config" / "recording": ROOT / "dashboards" / "rules",
        },
    )


def alertmanager(ports: Ports, binary: Path, data: Path, config: Path | None = None) -> Service:
    """Return Alertmanager, alone: it listens for no cluster."""
    return Service(
        name="alertmanager",
        command=(
            str(binary),
            f"--config.file={config or COMPOSE / 'alertmanager' / 'alertmanager.yaml'}",
            f"--storage.path={data / 'alertmanager'}",
            f"--web.listen-address={LOOPBACK}:{ports.alertmanager}",
            "--cluster.listen-address=",
        ),
        ready_url=f"{ports.url('alertmanager')}/-/ready",
        ports=frozenset({"alertmanager"}),
    )


def loki(ports: Ports, binary: Path, data: Path) -> Service:
    """Return Loki."""
    return Service(
        name="loki",
        command=(str(binary), f"-config.file={COMPOSE / 'loki' / 'loki.yaml'}", "-config.expand-env=true"),
        ready_url=f"{ports.url('loki')}/ready",
        ports=frozenset({"loki", "loki_grpc"}),
        environment={
            "LOKI_HTTP_ADDRESS": LOOPBACK,
            "LOKI_HTTP_PORT": str(ports.loki),
            "LOKI_GRPC_PORT": str(ports.loki_grpc),
            "LOKI_DATA": str(data / "loki"),
        },
        folders=(data / "loki",),
    )


def tempo(ports: Ports, binary: Path, data: Path) -> Service:
    """Return Tempo, from a binary that was not built here."""
    return Service(
        name="tempo",
        command=(str(binary), f"-config.file={COMPOSE / 'tempo' / 'tempo.yaml'}", "-config.expand-env=true"),
        ready_url=f"{ports.url('tempo')}/ready",
        ports=frozenset({"tempo", "tempo_grpc", "tempo_otlp"}),
        environment={
            "TEMPO_HTTP_ADDRESS": LOOPBACK,
            "TEMPO_HTTP_PORT": str(ports.tempo),
            "TEMPO_GRPC_PORT": str(ports.tempo_grpc),
            "TEMPO_OTLP_ADDRESS": LOOPBACK,
            "TEMPO_OTLP_PORT": str(ports.tempo_otlp),
            "TEMPO_DATA": str(data / "tempo"),
            "PROMETHEUS_URL": ports.url("prometheus"),
        },
        folders=(data / "tempo",),
        stop_s=10.0,  # once queried it does not end by itself; what it acknowledged is on disk after two seconds
    )


def agent(ports: Ports, command: Sequence[str], data: Path, *, store: bool) -> Service:
    """Return the agent of this machine; with `store` it is the embedded store behind the Collector too."""
    environment = {
        "OTEL_LLM_PORT": str(ports.agent),
        "OTEL_LLM_DATA_DIR": str(data / "agent"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": ports.url("otlp_http"),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    if store:
        environment |= {
            "OTEL_LLM_OTLP_GRPC_PORT": str(ports.store_grpc),
            "OTEL_LLM_OTLP_HTTP_PORT": str(ports.store_http),
        }
    return Service(
        name="agent",
        command=(*command, "up" if store else "run"),
        ready_url=f"{ports.url('agent')}/health",
        ports=frozenset({"agent", "store_grpc", "store_http"} if store else {"agent"}),
        environment=environment,
        folders=(data / "agent",),
        stop_s=10.0,
    )


def collector(
    ports: Ports, binary: Path, data: Path, overlays: Sequence[str], environment: Mapping[str, str]
) -> Service:
    """Return the Collector with the named overlays; `environment` adds to the addresses set here, or replaces them."""
    configs = [COLLECTOR_CONFIG / "collector.yaml", *(overlay_path(overlay) for overlay in overlays)]
    return Service(
        name="collector",
        command=(str(binary), *(f"--config={path}" for path in configs)),
        ready_url=f"{ports.url('collector_health')}/",
        ports=frozenset({"otlp_grpc", "otlp_http", "collector_metrics", "collector_health"}),
        environment={
            "COLLECTOR_OTLP_GRPC": f"{LOOPBACK}:{ports.otlp_grpc}",
            "COLLECTOR_OTLP_HTTP": f"{LOOPBACK}:{ports.otlp_http}",
            "COLLECTOR_METRICS_HOST": LOOPBACK,
            "COLLECTOR_METRICS_PORT": str(ports.collector_metrics),
            "COLLECTOR_HEALTH": f"{LOOPBACK}:{ports.collector_health}",
            "COLLECTOR_DATA": str(data / "collector"),
            "PROMETHEUS_URL": ports.url("prometheus"),
            "LOKI_URL": ports.url("loki"),
            "TEMPO_OTLP": ports.url("tempo_otlp"),
            "STORE_OTLP": ports.url("store_grpc"),
            **environment,
        },
        folders=(data / "collector",),
    )


def overlay_path(name: str) -> Path:
    """Return the file of an overlay, given by its name in collector-config/overlays or by a path."""
    path = Path(name) if "/" in name else COLLECTOR_CONFIG / "overlays" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (COLLECTOR_CONFIG / "overlays").glob("*.yaml")))
        raise StackError(f"there is no overlay {name}; choose from {known}, or give the path of a file")
    return path
