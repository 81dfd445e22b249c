"""Everything that can be set, one row each, and the loader that reports every problem at once.

What OpenTelemetry already names (`OTEL_*`) is read by the SDK itself; the few of those that we must know as well are rows here too.
"""

import difflib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otel_agent.errors import SettingsError
from otel_llm.settings import SETTINGS as APPLICATION_SETTINGS

OWN = "OTEL_LLM_"
KNOWN_SOURCES = ("host", "gpu", "containers", "processes", "placement")
Parse = Callable[[str], Any]


def _number(low: float, high: float) -> Parse:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(f"must lie between {low:g} and {high:g}")
        return value

    return parse


def _whole(low: int, high: int) -> Parse:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return value

    return parse


def _choice(*allowed: str) -> Parse:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return parse


def _names(*allowed: str) -> Parse:
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(part.strip() for part in text.split(",") if part.strip())
        if allowed and (unknown := [name for name in chosen if name not in allowed]):
            raise ValueError(f"{', '.join(unknown)} unknown; choose from {', '.join(allowed)}")
        return chosen

    return parse


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("1", "true", "0", "false"):
        raise ValueError("must be 1 or 0")
    return text.lower() in ("1", "true")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL like http://127.0.0.1:4318")
    parts.port  # noqa: B018 - raises ValueError where the port is no port
    return text.rstrip("/")


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _existing(text: str) -> Path:
    path = _folder(text)
    if not path.is_dir():
        raise ValueError("is no folder")
    return path


def _secret_file(text: str) -> str:
    try:
        secret = Path(text).expanduser().read_text().strip()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if not secret:
        raise ValueError("is empty")
    return secret


def _token(text: str) -> str:
    if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must have 16 or more printable characters without blanks")
    return text


def default_data_dir() -> Path:
    """Return the folder of the embedded store: `$XDG_DATA_HOME/otel-llm`, or the same below the home folder."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share") / "otel-llm"


def _row(env: str, default: Any, parse: Parse, help: str, *, secret: bool = False, shown: str = "") -> Any:
    metadata = {"env": env, "parse": parse, "help": help, "secret": secret, "shown": shown}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What this run was told; made by `load`, never changed."""

    sources: tuple[str, ...] = _row(
        "OTEL_LLM_SOURCES",
        KNOWN_SOURCES,
        _names(*KNOWN_SOURCES),
        "Sources to read, separated by commas.",
        shown=",".join(KNOWN_SOURCES),
    )
    metrics_off: tuple[str, ...] = _row(
        "OTEL_LLM_METRICS_OFF",
        (),
        _names(),
        "Metrics not to send, by name; a trailing * matches any rest.",
        shown="none",
    )
    interval_s: float = _row(
        "METRICS_INTERVAL_LIVE", 5.0, _number(1, 3600), "Seconds between two readings of a source."
    )
    deadline_s: float = _row(
        "OTEL_LLM_SOURCE_DEADLINE", 4.0, _number(0.1, 600), "Seconds after which a reading counts as stuck."
    )
    host_root: Path = _row(
        "OTEL_LLM_HOST_ROOT",
        Path("/"),
        _existing,
        "Where the host's root is mounted when the agent runs in a container.",
    )
    container_labels: tuple[str, ...] = _row(
        "OTEL_LLM_CONTAINER_LABELS",
        ("com.docker.compose.project", "com.docker.compose.service"),
        _names(),
        "Labels of containers to publish, by name; * stands for any text.",
        shown="com.docker.compose.project,com.docker.compose.service",
    )
    container_log_tail: int = _row(
        "OTEL_LLM_CONTAINER_LOG_TAIL",
        20,
        _whole(0, 200),
        "Last lines of a container's log on the event of an exit that nobody ordered, secrets masked; 0 for none.",
    )
    container_stats: str = _row(
        "OTEL_LLM_CONTAINER_STATS",
        "auto",
        _choice("auto", "off"),
        "auto: the engine's own statistics where a container's cgroup files cannot be seen; off: never.",
    )
    processes_top: int = _row(
        "OTEL_LLM_PROCESSES_TOP",
        10,
        _whole(0, 200),
        "Processes with series of their own: so many of those that use most CPU, and of those with most memory; all on a GPU besides.",
    )
    gpu_idle_s: float = _row(
        "OTEL_LLM_GPU_IDLE",
        600.0,
        _number(1, 86400),
        "Seconds without a process on any of its GPUs after which a container with declared GPUs counts as idle.",
    )
    gpu_process: bool = _row(
        "OTEL_LLM_GPU_PROCESS",
        False,
        _yes_or_no,
        "1: read GPUs in a process of its own, so that a crash of the driver's library does not end the agent; 0: in the agent's.",
        shown="0",
    )
    listen: str = _row("OTEL_LLM_LISTEN", "127.0.0.1", str, "Address that API, console and receiver listen on.")
    port: int = _row("OTEL_LLM_PORT", 23080, _whole(0, 65535), "Port of the API and the console.")
    grpc_port: int = _row("OTEL_LLM_OTLP_GRPC_PORT", 4317, _whole(0, 65535), "Port of the embedded OTLP/gRPC receiver.")
    http_port: int = _row("OTEL_LLM_OTLP_HTTP_PORT", 4318, _whole(0, 65535), "Port of the embedded OTLP/HTTP receiver.")
    data_dir: Path = _row(
        "OTEL_LLM_DATA_DIR", default_data_dir, _folder, "Folder of the embedded store.", shown="~/.local/share/otel-llm"
    )
    token: str | None = _row(
        "OTEL_LLM_TOKEN",
        None,
        _token,
        "Token for the page and /api/; made and kept in the data folder where none is given.",
        secret=True,
        shown="generated",
    )
    token_from_file: str | None = _row(
        "OTEL_LLM_TOKEN_FILE", None, _secret_file, "File that holds the token.", secret=True, shown="none"
    )
    allowed_hosts: tuple[str, ...] = _row(
        "OTEL_LLM_ALLOWED_HOSTS", (), _names(), "Further host names under which the page may be opened.", shown="none"
    )
    retention_days: float = _row(
        "METRICS_RETENTION_DAYS",
        7.0,
        _number(0.01, 3650),
        "Days that metrics, logs and traces stay in the embedded store.",
    )
    request_days: float = _row(
        "OTEL_LLM_REQUEST_RETENTION_DAYS",
        30.0,
        _number(0.01, 3650),
        "Days that LLM requests stay in the embedded store.",
    )
    store_max_bytes: int = _row(
        "OTEL_LLM_STORE_MAX_BYTES",
        2_000_000_000,
        _whole(10_000_000, 10**13),
        "Size at which the embedded store drops its oldest rows.",
    )
    gpu_memory_max: float = _row(
        "OTEL_LLM_GPU_MEMORY_MAX",
        0.95,
        _number(0.01, 1),
        "Share of GPU memory in use from which /health speaks of a warning.",
    )
    gpu_temperature_max: float = _row(
        "OTEL_LLM_GPU_TEMPERATURE_MAX",
        85.0,
        _number(1, 200),
        "GPU temperature in degrees Celsius from which /health speaks of a warning.",
    )
    endpoint: str | None = _row(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        _url,
        "Where OTLP goes; in `up`, what the agent sends goes there instead of to its own receiver.",
        shown="http://localhost:4318, or :4317 for gRPC",
    )
    metrics_endpoint: str | None = _row(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        None,
        _url,
        "The same for metrics alone, with the path where HTTP is spoken.",
        shown="none",
    )
    protocol: str = _row(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", _choice("grpc", "http/protobuf"), "Protocol of OTLP."
    )
    metrics_protocol: str | None = _row(
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        None,
        _choice("grpc", "http/protobuf"),
        "The same for metrics alone.",
        shown="none",
    )
    logs_endpoint: str | None = _row(
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        None,
        _url,
        "The same for events alone, with the path where HTTP is spoken.",
        shown="none",
    )
    logs_protocol: str | None = _row(
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        None,
        _choice("grpc", "http/protobuf"),
        "The same for events alone.",
        shown="none",
    )
    export_interval_ms: float | None = _row(
        "OTEL_METRIC_EXPORT_INTERVAL",
        None,
        _number(100, 3_600_000),
        "Milliseconds between two exports of metrics.",
        shown="10000 in run, 5000 in up",
    )


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment; raises SettingsError with every problem, each naming its variable.

    A variable under `OTEL_LLM_` that no row knows is a problem too, since it is most likely misspelt.
    """
    found: dict[str, Any] = {}
    wrong: list[str] = []
    rows = {row.metadata["env"]: row for row in fields(Settings)}
    for env, row in rows.items():
        text = environ.get(env, "").strip()
        if not text:
            continue  # OpenTelemetry's rule for all of its variables: empty means unset
        try:
            found[row.name] = row.metadata["parse"](text)
        except ValueError as error:
            shown = "its value" if row.metadata["secret"] else repr(text)
            reason = (
                str(error)
                if str(error).startswith(("must", "is ", "cannot")) or " unknown;" in str(error)
                else "is no number"
            )
            wrong.append(f"{env}: {shown} {reason}")
    for env in environ:
        if env.startswith(OWN) and env not in rows and env not in APPLICATION:
            near = difflib.get_close_matches(env, rows, 1)
            wrong.append(f"{env}: unknown setting" + (f"; did you mean {near[0]}?" if near else ""))
    settings = Settings(**found)
    wrong.extend(_together(settings))
    if wrong:
        raise SettingsError(tuple(wrong))
    return settings


# Read by the instrumentation inside applications; a shared environment may carry them.
APPLICATION = frozenset(row.variable for row in APPLICATION_SETTINGS)


def _together(settings: Settings) -> list[str]:
    """Return the problems that only two settings together have."""
    wrong = []
    if settings.token and settings.token_from_file:
        wrong.append("OTEL_LLM_TOKEN: set together with OTEL_LLM_TOKEN_FILE; keep one")
    ports = [port for port in (settings.port, settings.grpc_port, settings.http_port) if port]
    if len(set(ports)) != len(ports):
        wrong.append("OTEL_LLM_PORT: the ports of API, OTLP/gRPC and OTLP/HTTP must differ")
    try:
        socket.getaddrinfo(settings.listen, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        wrong.append(f"OTEL_LLM_LISTEN: {settings.listen!r} must be an IP address like 127.0.0.1")
    return wrong
