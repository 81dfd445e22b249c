"""The meter provider of the agent: resource, reader, exporter and one meter per source, and their end in bounded time."""

import inspect
import logging
import math
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, ObservableGauge, ObservableUpDownCounter
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from otel_agent import __version__
from otel_agent.catalogue import NOTHING, Columns, Metric, values
from otel_agent.schedule import SourceHealth, Worker
from otel_agent.telemetry import own
from otel_agent.telemetry.forgetting import Forgetting
from otel_agent.telemetry.instruments import Latest, Points, Stamp, bind
from otel_llm.host_identity import machine_id, read_place

SCOPE = "otel_agent.sources."
OWN_SCOPE = "otel_agent"
FIRST_S = 2.0  # how long an export waits for the first readings, and again for the second

logger = logging.getLogger(__name__)


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
    if host_id := read_place().host_id if host_root == Path("/") else machine_id(host_root):
        found["host.id"] = host_id
        found["service.instance.id"] = str(uuid.uuid5(uuid.UUID(host_id), "otel-agent"))
    return Resource.create().merge(Resource(found)).merge(OTELResourceDetector().detect())


def host_name(host_root: Path) -> str:
    """Return the host's own name, also from inside a container that has the host's root mounted."""
    if host_root != Path("/"):
        try:
            return (host_root / "etc" / "hostname").read_text().strip() or socket.gethostname()
        except OSError:
            return socket.gethostname()
    return socket.gethostname()


class Telemetry:
    """The running export of metrics: made with everything bound, begun by `start`, ended by `shutdown`.

    One thread of ours collects and exports; the SDK's own would wait for a whole interval before the first time.
    """

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
        # Collects when it is asked, hence the interval.
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf, **_without_limit())
        self._provider = MeterProvider(metric_readers=[reader], resource=about, shutdown_on_exit=False)
        for name, (worker, latest) in workers.items():
            meter = self._provider.get_meter(SCOPE + name, __version__)
            bind(meter, worker.metrics, latest.points, begin=partial(latest.hold, worker))
        for rows, read in ((own.METRICS, health), *counted):
            bind(self._provider.get_meter(OWN_SCOPE, __version__), rows, partial(_points, rows, read))
        self._forgetting = Forgetting(self._provider, reader, self._alive)
        self._workers, self._interval_s = workers, interval_ms / 1e3
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def start(self) -> None:
        """Begin to export: the first readings and the second, which bring rates, as soon as they are there, then at the interval."""
        self._thread.start()

    def shutdown(self, timeout_s: float) -> bool:
        """Export once more, close every series and end; returns False where that took longer than `timeout_s` and was left behind."""
        self._ending.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        for readings in (1, 2):
            self._wait_for_readings(readings)
            self._export()
        while not self._ending.wait(self._interval_s):
            self._export()
        self._export()
        self._provider.shutdown()

    def _wait_for_readings(self, count: int) -> None:
        give_up = time.monotonic() + min(FIRST_S, self._interval_s)
        while time.monotonic() < give_up and not self._ending.wait(0.02):
            if all(
                latest.readings >= count or worker.health().state not in ("starting", "ok")
                for worker, latest in self._workers.values()
            ):
                return

    def _export(self) -> None:
        try:
            self._provider.force_flush()
        except Exception:  # an export that fails says so itself; whatever else comes must not end the exporting
            logger.exception("telemetry: this export failed; the next one is tried as usual")
        self._forgetting.prune()

    def _alive(self, scope: str, name: str) -> Columns[float]:
        held = self._workers.get(scope.removeprefix(SCOPE))
        return held[1].points().get(name, NOTHING) if held else NOTHING


def _without_limit() -> dict[str, Any]:
    """From 1.45.2 on the SDK makes one series of all that come after 2,000 of an instrument; here each is something of its own."""
    if "cardinality_limits" not in inspect.signature(PeriodicExportingMetricReader).parameters:
        return {}
    kinds = (ObservableCounter, ObservableGauge, ObservableUpDownCounter)
    return {"cardinality_limits": dict.fromkeys(kinds, sys.maxsize)}


def _points(rows: Sequence[Metric[Any]], read: Callable[[], Any]) -> Points:
    snapshot = read()
    return {row.name: values(row, snapshot) for row in rows}


def stamps(workers: Mapping[str, tuple[Worker, Latest]]) -> dict[str, Stamp]:
    """Return the times of the readings that are being exported, by scope."""
    found = ((SCOPE + name, latest.stamp()) for name, (_, latest) in workers.items())
    return {scope: stamp for scope, stamp in found if stamp is not None}
