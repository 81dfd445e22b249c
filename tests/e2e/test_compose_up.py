"""compose.yaml on a real Docker Engine: hardened containers that find each other, and an agent that reads the machine from inside one.

Images come from no registry: each is made around the server that was built here, under the name that compose.yaml pins. Tempo and
Grafana cannot be built here; the last test runs them too, where a registry can be reached.
"""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
import yaml
from e2e.emit import application
from e2e.engine import NoEngineError, RealEngine, run_engine
from e2e.stack import get_json
from waiting import until

from compose.native import build
from compose.native.ports import Ports, free

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
SERVICES = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
STARTED = ("agent", "alertmanager", "collector", "loki", "prometheus")
BUSYBOX = ("sh", "chown", "wget")


@dataclass(frozen=True)
class Project:
    """A running compose project: its ports on this machine, and how to ask about its containers."""

    ports: Ports
    command: tuple[str, ...]
    environment: Mapping[str, str]
    engine: RealEngine

    def run(self, *arguments: str) -> str:
        """Run one command of Docker Compose on the project and return what it printed; fails with it where it failed."""
        done = subprocess.run(
            [*self.command, *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine says of a service's container."""
        (found,) = self.engine.client.containers.list(
            all=True, filters={"label": f"com.docker.compose.service={service}"}
        )
        attributes: dict[str, Any] = self.engine.client.api.inspect_container(found.id)
        return attributes


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    """An engine that sees a shared root, as systemd makes it and as mounting `/` into a container takes, whatever is the case here."""
    folder = tmp_path_factory.mktemp("engine")
    wrapper = folder / "bin" / "dockerd"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec unshare --mount --propagation shared {shutil.which("dockerd")} "$@"\n')
    wrapper.chmod(0o755)
    try:
        with pytest.MonkeyPatch.context() as patch:
            if shutil.which("dockerd"):
                patch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
            with run_engine(folder) as running:
                yield running
    except NoEngineError as error:
        pytest.skip(f"compose.yaml is not started here: {error}")


@pytest.fixture(scope="module")
def project(engine: RealEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    binaries = build.ensure([*build.SERVERS, "docker-compose"])
    _make_images(engine.client, binaries)
    folder, ports = tmp_path_factory.mktemp("project"), free()
    overlay = folder / "test.yaml"
    overlay.write_text(json.dumps(_overlay()))
    (folder / "grafana_admin_password").write_text("not used")
    command = (str(binaries["docker-compose"]), "-f", str(COMPOSE / "compose.yaml"), "-f", str(overlay))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "STACK_SECRETS": str(folder),
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        **engine.host,
        **{f"STACK_{name.upper()}_PORT": str(getattr(ports, name)) for name in vars(ports)},
    }
    running = Project(ports, command, environment, engine)
    try:
        running.run("up", "--detach", "--wait", "--wait-timeout", "120", *STARTED)
        yield running
    finally:
        running.run("down", "--volumes", "--timeout", "15")


def _make_images(client: docker.DockerClient, binaries: Mapping[str, Path]) -> None:
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    shell = {f"bin/{name}": "busybox" for name in BUSYBOX}
    for service, entrypoint, files, links in (
        ("collector", "/otelcol-contrib", {"otelcol-contrib": binaries["otelcol-llm"]}, {}),
        (
            "prometheus",
            "/bin/prometheus",
            {"bin/prometheus": binaries["prometheus"], "bin/promtool": binaries["promtool"], "bin/busybox": busybox},
            shell,
        ),
        ("loki", "/usr/bin/loki", {"usr/bin/loki": binaries["loki"]}, {}),
        (
            "alertmanager",
            "/bin/alertmanager",
            {"bin/alertmanager": binaries["alertmanager"], "bin/busybox": busybox},
            shell,
        ),
        # This machine's Python and this checkout are mounted into it.
        ("agent", "/unused", {}, {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}),
    ):
        name, tag = SERVICES[service]["image"].rsplit(":", 1)
        archive = _archive(files, links)
        client.api.import_image_from_data(
            archive, repository=name, tag=tag, changes=[f'ENTRYPOINT ["{entrypoint}"]', "ENV PATH=/bin:/usr/bin"]
        )


def _archive(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        # Folders are named, as the engine makes those that are not for itself alone; "." is the root.
        parents = {str(parent) for name in (*files, *links) for parent in Path(name).parents}
        for name in sorted({".", "etc", "tmp"} | parents):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for name, path in files.items():
            tar.add(path, name)
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return buffer.getvalue()


def _overlay() -> dict[str, Any]:
    python = Path(sys.executable)
    seen = sorted({"/usr", str(ROOT), str(Path(sys.base_prefix).resolve()), str(python.parent.parent)})
    agent = {
        "entrypoint": [str(python), "-m", "otel_agent"],
        "environment": {"PATH": f"{python.parent}:/usr/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        "volumes": [f"{path}:{path}:ro" for path in seen],
    }
    return {
        "services": {
            name: {"pull_policy": "never", **(agent if name == "agent" else {})} for name in (*STARTED, "volumes")
        }
    }


def test_every_container_is_healthy_and_hardened_and_on_loopback(project: Project) -> None:
    for service in STARTED:
        container = project.container(service)
        host = container["HostConfig"]
        state = container["State"]
        assert state["Running"], service
        assert state.get("Health", {}).get("Status", "healthy") == "healthy", service
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        # The engine itself adds label=disable to what shares the host's processes.
        assert set(host["SecurityOpt"]) - {"label=disable"} == {"no-new-privileges:true"}, service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] == 512, service
        assert container["Config"]["User"].split(":")[0] not in ("", "0"), service
        published = [
            binding for bindings in container["NetworkSettings"]["Ports"].values() for binding in bindings or []
        ]
        assert published
        assert {binding["HostIp"] for binding in published} == {"127.0.0.1"}, service
    assert project.container("volumes")["State"]["ExitCode"] == 0


def test_what_is_sent_to_the_published_port_is_found_in_prometheus_and_loki(project: Project) -> None:
    with application(project.ports.url("otlp_http"), {"service.name": "shop"}) as app:
        app.meters.get_meter("e2e").create_counter("e2e.orders").add(3)
        app.log("paid by card")
        app.flush()
    assert until(lambda: _ask(project, "e2e_orders_total"), "the counter")[0]["value"][1] == "3"
    url = f"{project.ports.url('loki')}/loki/api/v1/query_range"
    found = until(lambda: get_json(url, query='{service_name="shop"}')["data"]["result"], "the log line")
    assert [line for stream in found for _, line in stream["values"]] == ["paid by card"]


def test_the_agent_reads_the_machine_from_inside_its_container(project: Project) -> None:
    memory = until(lambda: _ask(project, 'system_memory_limit_bytes{service_name="otel-agent"}'), "host metrics")
    assert [int(row["value"][1]) for row in memory] == [psutil.virtual_memory().total]
    assert [row["metric"]["host_name"] for row in memory] == [socket.gethostname()]
    devices = {
        row["metric"]["network_interface_name"]
        for row in until(lambda: _ask(project, "system_network_io_bytes_total"), "network metrics")
    }
    container_only = {"eth0"} - set(psutil.net_io_counters(pernic=True))
    assert not devices & container_only, "the host's network, not the container's"
    assert devices & set(psutil.net_io_counters(pernic=True))
    health = get_json(f"http://127.0.0.1:{project.ports.agent}/health")
    states = {name: source["state"] for name, source in health["sources"].items()}
    assert (health["status"], states["host"]) == ("ok", "ok")
    assert states["containers"] in ("ok", "unavailable"), (
        "without the Docker socket it may know less, and fails at nothing"
    )


def test_prometheus_scrapes_the_containers_by_name(project: Project) -> None:
    def up() -> dict[str, str]:
        return {row["metric"]["instance"]: row["value"][1] for row in _ask(project, "up")}

    wanted = {
        "alertmanager:9093": "1",
        "collector:8888": "1",
        "loki:3100": "1",
        "prometheus:9090": "1",
        "tempo:3200": "0",
    }
    assert until(lambda: found if (found := up()) == wanted else None, "a scrape of every server", 60)


def test_telemetry_outlives_the_containers(project: Project) -> None:
    """Stopped and started again, with the volumes that `docker compose` keeps."""
    assert until(lambda: _ask(project, "e2e_orders_total"), "the counter")
    project.run("restart", "--timeout", "15", "prometheus")
    assert until(lambda: _ask_or_none(project, "last_over_time(e2e_orders_total[1h])"), "the counter again")


def _ask(project: Project, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = get_json(f"{project.ports.url('prometheus')}/api/v1/query", query=query)["data"][
        "result"
    ]
    return rows


def _ask_or_none(project: Project, query: str) -> list[dict[str, Any]] | None:
    try:
        return _ask(project, query)
    except OSError:
        return None  # not up again yet


def test_the_whole_stack_from_published_images() -> None:
    if os.environ.get("COMPOSE_E2E") != "published":
        pytest.skip(
            "Tempo and Grafana cannot be built here; COMPOSE_E2E=published runs compose/up with the images of a registry"
        )
    subprocess.run([COMPOSE / "up"], check=True, timeout=900)
    try:
        password = (COMPOSE / "secrets" / "grafana_admin_password").read_text()
        for uid in ("prometheus", "loki", "tempo"):
            url = f"http://admin:{password}@127.0.0.1:23000/api/datasources/uid/{uid}/health"
            done = subprocess.run(
                ["curl", "--fail", "--silent", url], capture_output=True, text=True, timeout=30, check=True
            )
            assert json.loads(done.stdout)["status"] == "OK", uid
    finally:
        subprocess.run(["docker", "compose", "-p", "otel-llm", "down", "--volumes"], check=True, timeout=120)
