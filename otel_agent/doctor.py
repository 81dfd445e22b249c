"""`otel-agent doctor`: what works here, what does not and why, with the remedy; the exit status says whether anything needs a hand."""

import errno
import importlib.util
import os
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from otel_agent.app import Workers
from otel_agent.checks import serving
from otel_agent.checks.finding import Finding, Verdict
from otel_agent.errors import Unavailable
from otel_agent.once import read_twice
from otel_agent.schedule import Published
from otel_agent.serve import bind
from otel_agent.settings import Settings
from otel_agent.sources.gpu.findings import findings as gpu_findings

CONNECT_S = 2.0


def main(settings: Settings, environ: Mapping[str, str] = os.environ) -> int:
    """Print every finding; returns 1 where there is a problem."""
    workers, readings = read_twice(settings)
    findings = [
        *_sources(environ, workers, readings),
        *_containers(readings.get("containers")),
        *_placement(readings.get("placement")),
        *serving.findings(settings.host_root),
        *_host_root(settings),
        *_endpoint(settings),
        *_ports(settings),
        *_data_dir(settings),
        *_extras(),
    ]
    marks = {"ok": "ok      ", "note": "-       ", "problem": "PROBLEM "}
    for finding in findings:
        print(f"{marks[finding.verdict]}{finding.subject}: {finding.said}")
        if finding.remedy and finding.verdict != "ok":
            print(f"        -> {finding.remedy}")
    bad = sum(finding.verdict == "problem" for finding in findings)
    print(f"\n{bad} problem{'' if bad == 1 else 's'}, {len(findings)} things looked at")
    return 1 if bad else 0


def _sources(
    environ: Mapping[str, str], workers: Workers, readings: Mapping[str, Published | None]
) -> Iterator[Finding]:
    """A source that is not there is a problem only where it was asked for by name."""
    asked = bool(environ.get("OTEL_LLM_SOURCES", "").strip())
    for name, reading in readings.items():
        health = workers[name][0].health()
        if reading is not None:
            points = sum(map(len, reading.points.values()))
            yield Finding(name, "ok", f"{points} points in {reading.duration_s * 1e3:.1f} ms")
            if name == "gpu":
                yield from (Finding(name, *found) for found in gpu_findings(reading.snapshot))
        elif health.state == "unavailable":
            yield Finding(name, "problem" if asked or name == "host" else "note", health.reason, health.remedy)
        else:
            yield Finding(
                name,
                "problem",
                f"{health.state}: {health.reason or 'no reading inside the deadline'}",
                health.remedy or "see OTEL_LLM_SOURCE_DEADLINE",
            )


def _containers(reading: Published | None) -> Iterator[Finding]:
    """Where the numbers of running containers come from, and what is missing."""
    if reading is None:
        return
    found = reading.snapshot
    running = [one for one in found.containers if one.identity.pid is not None]
    count = {
        origin: sum(one.usage is not None and one.usage.origin == origin for one in running)
        for origin in ("cgroup", "stats")
    }
    said = f"{len(running)} running: {count['cgroup']} by cgroup files ({found.layout})"
    if not found.unseen:
        yield Finding("container numbers", "ok", said)
    else:
        remedy = (
            "run the agent on the host; in a container, with pid: host and the host's / mounted (OTEL_LLM_HOST_ROOT)"
        )
        said += f", {count['stats']} by the engine's own statistics, which are dear"
        none = len(running) - sum(count.values())
        verdict: Verdict = "problem" if none else "note"
        yield Finding("container numbers", verdict, f"{said}, {none} not at all", remedy)
    if not found.events:
        yield Finding(
            "container events",
            "note",
            "the engine's stream of events is not open: changes are seen at the next reading",
            "a proxy before the socket must let GET /events through, and not buffer it",
        )


def _placement(reading: Published | None) -> Iterator[Finding]:
    """Whether processes on GPUs can be told whose they are."""
    if reading is None:
        return
    places, misfits = reading.snapshot.places, reading.snapshot.mismatches
    if not places.observed:
        yield Finding(
            "placement",
            "note",
            f"only declarations are told: {places.why}",
            "run the agent's container with pid: host, and leave gpu and processes in OTEL_LLM_SOURCES",
        )
    for one in misfits:
        yield Finding("placement", "note", one.said)


def _host_root(settings: Settings) -> Iterator[Finding]:
    """In a container: whether what the host shows is the host's."""
    contained = os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")  # noqa: PTH110
    root = str(settings.host_root)
    if root == "/":
        if contained:
            yield Finding(
                "host root",
                "note",
                "this is a container, and numbers are read from its own files",
                "mount the host's / read-only at /host and set OTEL_LLM_HOST_ROOT=/host",
            )
        return
    for path in ("proc/1/net/dev", "proc/1/mounts", "sys/fs/cgroup", "etc/machine-id"):
        if not os.access(settings.host_root / path, os.R_OK):
            yield Finding(
                "host root",
                "problem",
                f"{root}/{path} cannot be read",
                "mount the host's / with its submounts (rslave, read-only)",
            )
    if contained and not _shares_pid_namespace():
        yield Finding(
            "host root", "problem", "the host's process numbers cannot be seen", "run the container with pid: host"
        )


def _shares_pid_namespace() -> bool:
    try:
        with open("/proc/2/comm") as file:  # noqa: PTH123 - the kernel thread that starts kernel threads exists on the host alone
            return file.read().strip() == "kthreadd"
    except OSError:
        return False


def _endpoint(settings: Settings) -> Iterator[Finding]:
    grpc = (settings.metrics_protocol or settings.protocol) == "grpc"
    told = settings.metrics_endpoint or settings.endpoint
    url = urlsplit(told or f"http://127.0.0.1:{4317 if grpc else 4318}")
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), CONNECT_S).close()
    except OSError as error:
        verdict: Verdict = "problem" if told else "note"
        yield Finding(
            "OTLP",
            verdict,
            f"nothing answers at {url.geturl()}: {error.strerror or error}",
            "start a Collector there, set OTEL_EXPORTER_OTLP_ENDPOINT, or use `otel-agent up`",
        )
    else:
        yield Finding("OTLP", "ok", f"{url.geturl()} accepts connections")


def _ports(settings: Settings) -> Iterator[Finding]:
    for what, port, setting in (
        ("API and console", settings.port, "OTEL_LLM_PORT"),
        ("OTLP/gRPC receiver", settings.grpc_port, "OTEL_LLM_OTLP_GRPC_PORT"),
        ("OTLP/HTTP receiver", settings.http_port, "OTEL_LLM_OTLP_HTTP_PORT"),
    ):
        try:
            bind(settings.listen, port, setting).close()
        except Unavailable as error:
            busy = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            yield Finding(
                what,
                "note" if busy else "problem",
                error.reason + (" (an agent that runs already?)" if busy else ""),
                error.remedy,
            )
        else:
            yield Finding(what, "ok", f"port {port} on {settings.listen} is free")


def _data_dir(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding(
            "data folder", "problem", f"{folder} cannot be written", "set OTEL_LLM_DATA_DIR to a folder that can"
        )
    else:
        yield Finding("data folder", "ok", f"{folder} can be written")


def _extras() -> Iterator[Finding]:
    for extra, modules in (
        ("local", ("starlette", "uvicorn", "sqlalchemy", "grpc")),
        ("auto", ("opentelemetry.distro",)),
    ):
        missing = [module for module in modules if not _installed(module)]
        if missing:
            yield Finding(
                f"extra [{extra}]", "note", f"{', '.join(missing)} not installed", f"pip install 'otel-llm[{extra}]'"
            )
        else:
            yield Finding(f"extra [{extra}]", "ok", "installed")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
