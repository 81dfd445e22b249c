"""The meter provider of the agent: resource, reader, exporter and one meter per source, and their end in bounded time."""

import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from otel_agent import __version__
from otel_agent.catalogue import Metric, values
from otel_agent.schedule import SourceHealth, Worker
from otel_agent.telemetry import own
from otel_agent.telemetry.instruments import Latest, Points, Stamp, bind

SCOPE = "otel_agent.sources."
OWN_SCOPE = "otel_agent"


def resource(host_root: Path) -> Resource:
    """Return who speaks: service, host and operating system; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.

    `host.id` is the machine-id file's, as the conventions ask for on Linux, absent where it cannot be read.
    """
    found = {
        "service.name": "otel-agent",
        "service.version": __version__,
        "service.instance.id": str(uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname())),
        "host.name": host_name(host_root),
        "host.arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os.type": sys.platform,
    }
    if machine_id := _machine_id(host_root):
        found["host.id"] = machine_id
        found["service.instance.id"] = str(uuid.uuid5(uuid.UUID(machine_id), "otel-agent"))
    return Resource.create().merge(Resource(found)).merge(OTELResourceDetector().detect())


def host_name(host_root: Path) -> str:
    """Return the host's own name, also from inside a container that has the host's root mounted."""
    if host_root != Path("/"):
        try:
            return (host_root / "etc" / "hostname").read_text().strip() or socket.gethostname()
        except OSError:
            return socket.gethostname()
    return socket.gethostname()


def _machine_id(host_root: Path) -> str | None:
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        try:
            text = (host_root / name).read_text().strip()
            return uuid.UUID(text).hex
        except (OSError, ValueError):
            continue
    return None


class Telemetry:
    """The running export of metrics: made with everything bound, ended by `shutdown`."""

    def __init__(
        self,
        workers: Mapping[str, tuple[Worker, Latest]],
        health: Callable[[], list[SourceHealth]],
        exporter: MetricExporter,
        interval_ms: float,
        about: Resource,
        counted: Sequence[tuple[Sequence[Metric[Any]], Callable[[], Any]]] = (),
    ) -> None:
        """Bind the sources' rows, the rows of their health, and `counted`: rows over counts that are held in memory anyway."""
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=interval_ms)
        self._provider = MeterProvider(metric_readers=[reader], resource=about, shutdown_on_exit=False)
        for name, (worker, latest) in workers.items():
            meter = self._provider.get_meter(SCOPE + name, __version__)
            bind(meter, worker.metrics, latest.points, begin=partial(latest.hold, worker))
        for rows, read in ((own.METRICS, health), *counted):
            bind(self._provider.get_meter(OWN_SCOPE, __version__), rows, partial(_points, rows, read))

    def shutdown(self, timeout_s: float) -> bool:
        """Export once more, close every series and end; returns False where that took longer than `timeout_s` and was left behind."""
        ending = threading.Thread(
            target=self._provider.shutdown, args=(timeout_s * 1e3,), name="telemetry-shutdown", daemon=True
        )
        ending.start()
        ending.join(timeout_s)
        return not ending.is_alive()


def _points(rows: Sequence[Metric[Any]], read: Callable[[], Any]) -> Points:
    snapshot = read()
    return {
        row.name: [Observation(value, dict(attributes)) for value, attributes in values(row, snapshot)] for row in rows
    }


def stamps(workers: Mapping[str, tuple[Worker, Latest]]) -> dict[str, Stamp]:
    """Return the times of the readings that are being exported, by scope."""
    found = ((SCOPE + name, latest.stamp()) for name, (_, latest) in workers.items())
    return {scope: stamp for scope, stamp in found if stamp is not None}
