"""Where the metrics go: the process's own meter provider, or a private one made of the OTEL_* variables where it has none.

The private one is never set as the process's, so that an application that sets its own later finds the place free. Only
this file imports the SDK, when it is needed; what is recorded is left to the others.
"""

import atexit
import logging
import multiprocessing
import multiprocessing.util
import os
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.metrics import MeterProvider, get_meter_provider

_LOG = logging.getLogger(__name__)
INTERVAL_MS: Final = 10_000.0  # the state of an engine changes in seconds; OTEL_METRIC_EXPORT_INTERVAL says otherwise
FLUSH_MS: Final = 3_000.0  # how long the end of the process may wait for the last export
_NAMED_BY_NOBODY: Final = "unknown_service"
_GRPC_PORT: Final = 4317

_lock = threading.Lock()
_private: dict[int, MeterProvider] = {}  # by process id: a thread that exports does not live on in a fork


class Unavailable(Exception):
    """Metrics cannot be sent from here; the message says why, and what to do."""


def meter_provider(environ: Mapping[str, str] = os.environ) -> MeterProvider:
    """Return the process's meter provider, else the private one, made at the first call; raises Unavailable."""
    if _is_on(environ, "OTEL_SDK_DISABLED"):
        raise Unavailable("OTEL_SDK_DISABLED is set")
    found: MeterProvider = get_meter_provider()
    if type(found).__name__ != "_ProxyMeterProvider":  # the API's stand-in until one is set
        return found
    with _lock:
        private = _private.get(os.getpid())
        if private is None:
            private = _private[os.getpid()] = _make(environ)
        return private


def _make(environ: Mapping[str, str]) -> MeterProvider:
    exporter_name = environ.get("OTEL_METRICS_EXPORTER", "").strip().lower()
    endpoint = _either(environ, "ENDPOINT")
    if exporter_name == "none":
        raise Unavailable("OTEL_METRICS_EXPORTER is none")
    if exporter_name not in ("", "otlp"):
        raise Unavailable(
            f"OTEL_METRICS_EXPORTER={exporter_name}: only otlp is made here; start vLLM under `opentelemetry-instrument --` for others"
        )
    if not endpoint and not exporter_name:
        raise Unavailable("nothing is configured; set OTEL_EXPORTER_OTLP_ENDPOINT to where metrics are to be sent")
    try:
        provider: MeterProvider = _open(_protocol(environ, endpoint), environ)
    except ImportError as error:
        raise Unavailable(f"{error}; run `pip install opentelemetry-sdk opentelemetry-exporter-otlp`") from error
    _at_exit(provider)
    return provider


def _open(protocol: str, environ: Mapping[str, str]) -> Any:
    from opentelemetry.sdk.metrics import MeterProvider as RealMeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    exporter: Any
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        exporter = Grpc()
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

        exporter = Http()
    resource = Resource.create({})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith(_NAMED_BY_NOBODY):
        resource = resource.merge(Resource({SERVICE_NAME: "vllm"}))
    # With an interval of its own the reader does not look at the variable, and without one it takes a minute.
    interval_ms = None if environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() else INTERVAL_MS
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=interval_ms)
    return RealMeterProvider([reader], resource=resource, shutdown_on_exit=False)


def _protocol(environ: Mapping[str, str], endpoint: str) -> str:
    """Return the protocol asked for; where nobody says, gRPC for the port that is gRPC's by convention, else HTTP."""
    said = _either(environ, "PROTOCOL").lower()
    if said in ("grpc", "http/protobuf"):
        return said
    if said:
        _LOG.warning("otel_llm: OTEL_EXPORTER_OTLP_PROTOCOL=%s is not known here; using http/protobuf", said)
        return "http/protobuf"
    try:
        port = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").port
    except ValueError:
        port = None
    return "grpc" if port == _GRPC_PORT else "http/protobuf"


def _at_exit(provider: Any) -> None:
    def stop() -> None:
        try:
            provider.shutdown(timeout_millis=FLUSH_MS)
        except Exception as error:
            _LOG.warning("otel_llm: the last metrics of vLLM could not be sent: %s", error)

    if multiprocessing.parent_process() is None:
        atexit.register(stop)
    else:
        # An API server of several: such a process ends without atexit. vLLM kills it at once unless `--shutdown-timeout` gives
        # it time, and then what came since the last export is lost.
        multiprocessing.util.Finalize(None, stop, exitpriority=1)


def _either(environ: Mapping[str, str], what: str) -> str:
    """Return the variable for metrics, else the one for all signals."""
    names = (f"OTEL_EXPORTER_OTLP_METRICS_{what}", f"OTEL_EXPORTER_OTLP_{what}")
    return next((text for name in names if (text := environ.get(name, "").strip())), "")


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() == "true"
