"""What can be amiss with the telemetry of a vLLM server or a LiteLLM proxy, as rows: when it holds, the words, the remedy.

A `problem` is what was asked for and cannot work; a `note` what is absent, or left out on purpose. Of the rows of one topic
the first that holds speaks, so that one cause is told once. Pure: how servers are found is left to `servers.py`, going
through the rows to `serving.py`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from otel_agent.checks.finding import Verdict
from otel_agent.checks.packages import SELF
from otel_agent.checks.servers import OURS, Kind, Server
from otel_agent.checks.wire import GRPC, Wire, exporters, is_launched, own_tracing, wire
from otel_llm.litellm import TESTED as TESTED_LITELLM
from otel_llm.vllm import TESTED as TESTED_VLLM

BOTH: Final[tuple[Kind, ...]] = ("vllm", "litellm")
VLLM: Final[tuple[Kind, ...]] = ("vllm",)
LITELLM: Final[tuple[Kind, ...]] = ("litellm",)
INSTRUMENTORS: Final[Mapping[Kind, str]] = {"vllm": "otel_llm_vllm", "litellm": "otel_llm_litellm"}
TESTED: Final[Mapping[Kind, tuple[int, int]]] = {"vllm": TESTED_VLLM, "litellm": TESTED_LITELLM}
# Either makes the span of the request.
HTTP_SERVER: Final = ("opentelemetry_instrumentation_fastapi", "opentelemetry_instrumentation_asgi")
CALLBACK_VARIABLES: Final = ("LITELLM_OTEL_V2", "USE_OTEL_LITELLM_REQUEST_SPAN", "OTEL_EXPORTER", "OTEL_ENDPOINT")
_ALONE: Final = frozenset(
    {"--headless", "--data-parallel-external-lb", "--data-parallel-rank", "--data-parallel-multi-port-external-lb"}
)
_HYBRID: Final = frozenset({"--data-parallel-hybrid-lb", "--data-parallel-start-rank"})
INSTALL: Final = "pip install 'otel-llm[auto]' into the server's environment"


@dataclass(frozen=True)
class Row:
    """One thing that can be amiss; `said` and `remedy` may name the facts of `serving.words`."""

    topic: str
    kinds: tuple[Kind, ...]
    verdict: Verdict
    holds: Callable[[Server], bool]
    said: str
    remedy: str = ""


def _value(server: Server, name: str) -> str:
    return (server.environ or {}).get(name, "").strip()


def _is_on(server: Server, name: str) -> bool:
    return _value(server, name).lower() == "true"


def _lacks(server: Server, *distributions: str) -> bool:
    """Tell whether none of them is installed; where that cannot be told, they are not missed."""
    return server.packages is not None and not any(name in server.packages for name in distributions)


def _leaves_out(server: Server, option: str) -> bool:
    """Tell whether an option is not given; where a configuration file is, which is not read, it is not missed."""
    return option not in server.options and "--config" not in server.options


def _is_asked(server: Server) -> bool:
    """Tell whether telemetry was asked for: an address or an exporter is named, or the launcher was used."""
    named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER")
    return is_launched(server) or any(_value(server, name) not in ("", "none") for name in named)


def sends(server: Server) -> bool:
    """Tell whether anything of ours goes out."""
    if _is_on(server, "OTEL_SDK_DISABLED") or _lacks(server, "otel_llm"):
        return False
    if is_launched(server):
        return not _lacks(server, "opentelemetry_distro")
    return wire(server, "METRICS") is not None and not _is_kept_out(server)


def _is_kept_out(server: Server) -> bool:
    # Set and empty it keeps every plug-in out, and vLLM strips no blanks.
    told = (server.environ or {}).get("VLLM_PLUGINS")
    return told is not None and "otel_llm" not in told.split(",")


def _is_disabled(server: Server) -> bool:
    told = [name.strip() for name in _value(server, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS").split(",")]
    return is_launched(server) and ("*" in told or INSTRUMENTORS[server.kind] in told)


def _names_no_detector(server: Server) -> bool:
    told = [name.strip() for name in _value(server, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS").split(",")]
    return sends(server) and "otel_llm" not in told and "*" not in told


def _names_ours(server: Server) -> bool:
    detectors = _value(server, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS").split(",")
    return "otel_llm" in detectors or any(name.startswith(OURS) for name in server.environ or {})


def _number(server: Server, option: str) -> int | None:
    text = server.options.get(option, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def api_servers(server: Server) -> int:
    """Return how many API servers vLLM starts: as told, else one for each data-parallel rank unless each has a server of its own."""
    told = _number(server, "--api-server-count")
    if told is not None:
        return told
    if not _ALONE.isdisjoint(server.options):
        return 1
    size = "--data-parallel-size" if _HYBRID.isdisjoint(server.options) else "--data-parallel-size-local"
    return _number(server, size) or 1


def _has_no_http_span(server: Server) -> bool:
    return is_launched(server) and _lacks(server, *HTTP_SERVER)


def version(server: Server) -> str | None:
    packages = server.packages or {}
    return next((packages[name] for name in SELF[server.kind] if name in packages), None)


def _is_newer_than_tested(server: Server) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version(server) or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) > TESTED[server.kind]


def _lacks_exporter(server: Server) -> bool:
    out = wire(server, "METRICS") or wire(server, "TRACES")
    name = "grpc" if out is not None and out.protocol == GRPC else "http"
    return out is not None and _lacks(server, f"opentelemetry_exporter_otlp_proto_{name}")


def way(server: Server, holds: Callable[[Wire], bool]) -> Wire | None:
    """Return the first way out of ours of which something holds, metrics before spans."""
    ways = (wire(server, "METRICS"), wire(server, "TRACES")) if sends(server) else ()
    return next((out for out in ways if out is not None and holds(out)), None)


def _own(server: Server, holds: Callable[[Wire], bool]) -> bool:
    out = own_tracing(server)
    return out is not None and holds(out)


def callback_variable(server: Server) -> str | None:
    return next((name for name in CALLBACK_VARIABLES if _value(server, name).lower() not in ("", "false", "0")), None)


ROWS: Final[tuple[Row, ...]] = (
    # Whether anything goes out.
    Row("out", BOTH, "note", lambda s: _is_on(s, "OTEL_SDK_DISABLED"), "sends nothing: OTEL_SDK_DISABLED is true", "unset it"),
    Row("out", VLLM, "note", lambda s: "--headless" in s.options,
        "headless: its engines' statistics are sent by the node that has the API server"),
    Row("out", VLLM, "problem", lambda s: _is_asked(s) and _lacks(s, "otel_llm"),
        "sends no metrics of the engine: otel-llm is not installed where it runs", INSTALL),
    Row("out", LITELLM, "problem", lambda s: is_launched(s) and _lacks(s, "otel_llm"),
        "no span of a call to a model: otel-llm is not installed where it runs", INSTALL),
    Row("out", VLLM, "note", lambda s: not _is_asked(s) and exporters(s, "METRICS") != ("none",),
        "sends no metrics: no address is named", "set OTEL_EXPORTER_OTLP_ENDPOINT, with otel-llm installed beside vLLM"),
    Row("out", VLLM, "problem", _is_kept_out,
        "sends no metrics of the engine: VLLM_PLUGINS leaves otel_llm out", "add otel_llm to VLLM_PLUGINS, or unset it"),
    Row("out", VLLM, "problem", lambda s: _value(s, "VLLM_USE_RUST_FRONTEND").strip("0") != "",
        "sends no metrics of the engine and no spans: vLLM's Rust front end loads no plug-ins", "unset VLLM_USE_RUST_FRONTEND"),
    Row("out", VLLM, "note", lambda s: exporters(s, "METRICS") == ("none",),
        "sends no metrics: OTEL_METRICS_EXPORTER is none", "set it to otlp, or unset it"),
    Row("out", VLLM, "problem", lambda s: not is_launched(s) and exporters(s, "METRICS") != ("otlp",),
        "sends no metrics: OTEL_METRICS_EXPORTER is {metrics_exporter}, and the plug-in by itself exports OTLP alone",
        "set it to otlp, or start vLLM under `opentelemetry-instrument --`"),
    Row("out", VLLM, "problem", lambda s: not is_launched(s) and _lacks(s, "opentelemetry_sdk"),
        "sends no metrics: the SDK is not installed where it runs", "pip install opentelemetry-sdk opentelemetry-exporter-otlp"),
    Row("out", BOTH, "problem", _lacks_exporter,
        "sends nothing: no exporter of OTLP over {protocol} is installed where it runs", "pip install opentelemetry-exporter-otlp"),
    # The launcher.
    Row("launcher", BOTH, "problem", lambda s: is_launched(s) and _lacks(s, "opentelemetry_distro"),
        "opentelemetry-instrument sets nothing up: opentelemetry-distro is not installed where it runs", INSTALL),
    Row("launcher", BOTH, "note", _is_disabled,
        "no spans of requests: OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names {instrumentor}", "take it out there"),
    Row("launcher", VLLM, "note", lambda s: not is_launched(s),
        "no spans of requests: not started under the launcher", "opentelemetry-instrument -- vllm serve ..."),
    Row("launcher", LITELLM, "problem", lambda s: not is_launched(s) and _names_ours(s),
        "no telemetry of this package, whose settings it has: not started under the launcher",
        "opentelemetry-instrument -- litellm --config ..."),
    Row("launcher", LITELLM, "note", lambda s: not is_launched(s),
        "no telemetry of this package: not started under the launcher", "opentelemetry-instrument -- litellm --config ..."),
    Row("http", BOTH, "note", _has_no_http_span,
        "no span of the HTTP request: no instrumentation of FastAPI or ASGI is installed where it runs", INSTALL),
    Row("client http", LITELLM, "note", lambda s: is_launched(s) and _lacks(s, "opentelemetry_instrumentation_aiohttp_client"),
        "no span of LiteLLM's own HTTP requests: the instrumentation of aiohttp's client is not installed where it runs", INSTALL),
    # The wire.
    Row("wire", BOTH, "problem", lambda s: way(s, lambda out: not out.is_known) is not None,
        "sends nothing: OpenTelemetry for Python does not know the protocol {unknown}",
        "set OTEL_EXPORTER_OTLP_PROTOCOL to grpc or http/protobuf"),
    Row("wire", BOTH, "problem", lambda s: way(s, lambda out: out.is_crossed) is not None,
        "speaks {crossed_protocol} to {crossed}, by convention the port of {crossed_other}",
        "set OTEL_EXPORTER_OTLP_PROTOCOL={crossed_other}, or the other port (4317 gRPC, 4318 HTTP)"),
    Row("path", BOTH, "problem", lambda s: way(s, lambda out: out.lacks_path) is not None,
        "{pathless} is the address of one signal and is used as it stands: it lacks its path",
        "end it in /v1/metrics or /v1/traces, or name the address in OTEL_EXPORTER_OTLP_ENDPOINT"),
    Row("own tracing", VLLM, "problem", lambda s: _own(s, lambda out: out.is_crossed),
        "vLLM's own tracing speaks {own_protocol} to {own}, by convention the port of {own_other}",
        "set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL={own_other}, the only variable it reads for this (over HTTP the address ends in /v1/traces), "
        "or the other port"),
    Row("own tracing", VLLM, "problem", lambda s: _own(s, lambda out: out.lacks_path),
        "vLLM's own tracing uses --otlp-traces-endpoint as it stands, and {own} lacks the path", "end it in /v1/traces"),
    # Statistics.
    Row("api servers", VLLM, "note", lambda s: api_servers(s) > 1 and sends(s),
        "{api_servers} API servers: each has a part of the statistics; totals add up over them, gauges come from the first and may lag",
        "--api-server-count 1 where one keeps up"),
    Row("shutdown", VLLM, "note",
        lambda s: api_servers(s) > 1 and sends(s) and (_leaves_out(s, "--shutdown-timeout") or _number(s, "--shutdown-timeout") == 0),
        "the last metrics are lost: vLLM kills its API servers at its end", "--shutdown-timeout 5"),
    Row("log stats", VLLM, "note", lambda s: "--disable-log-stats" in s.options and not _is_kept_out(s) and (sends(s) or "otel_llm" in (s.packages or {})),
        "--disable-log-stats saves vLLM's log lines alone: with a plug-in installed vLLM keeps statistics all the same"),
    Row("reply", VLLM, "note",
        lambda s: "--headless" not in s.options and ("--no-enable-per-request-metrics" in s.options or _leaves_out(s, "--enable-per-request-metrics")),
        "its replies carry no times: spans of LiteLLM's calls lack the engine's share",
        "--enable-per-request-metrics (not together with --disable-log-stats)"),
    # Where it runs, and who calls.
    Row("place", BOTH, "note", _names_no_detector,
        "its telemetry does not lead to its GPUs, container and node", "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=otel_llm"),
    Row("pseudonyms", LITELLM, "note",
        lambda s: is_launched(s) and not (_value(s, "OTEL_LLM_HMAC_KEY") or _value(s, "OTEL_LLM_HMAC_KEY_FILE")),
        "team, key alias and user are left out of its spans", "set OTEL_LLM_HMAC_KEY: they are told as pseudonyms then"),
    Row("callback", LITELLM, "note", lambda s: is_launched(s) and callback_variable(s) is not None,
        "LiteLLM's own OpenTelemetry callback seems to be on as well ({callback} is set): its span of a call is left out where both go to "
        "one place", "leave `otel` out of the callbacks in the proxy's configuration, or leave it so"),
    Row("version", BOTH, "note", _is_newer_than_tested,
        "{version} is newer than the newest one tested, {tested}", "what is not as it was there is left out; a newer otel-llm may know it"),
)  # fmt: skip
