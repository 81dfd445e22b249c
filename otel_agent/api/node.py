"""The open routes: this node now, from the very points that were published last. Nothing is read for a request, nothing needs a store."""

import threading
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from otel_agent import __version__
from otel_agent.api import fields, shapes
from otel_agent.api.answer import as_json
from otel_agent.api.prometheus import OPENMETRICS, TEXT, render, wanted_format
from otel_agent.api.view import View
from otel_agent.history.model import HistoryError

STORE_CHECK_S = 5.0  # the open routes must not become a way to keep the store busy


class Node:
    """Answers about this node; the only state is when the store was last asked how it fares."""

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self._view, self._clock = view, clock
        self._checking = threading.Lock()
        self._store, self._checked_s = "none" if view.history is None else "ok", float("-inf")
        settings = view.settings
        self._limits = shapes.GpuLimits(settings.gpu_memory_max, settings.gpu_temperature_max)

    def health(self, _: Request) -> Response:
        """Answer /health: 200 while the agent answers at all; `status` in the body says how it fares."""
        cards = shapes.gpus(fields.last_reading(self._view.workers.get("gpu")))
        sources = [worker.health() for worker in self._view.workers.values()]
        return as_json(
            shapes.health(__version__, sources, cards, self._limits, self._store_state(), self._view.clock())
        )

    async def ready(self, _: Request) -> Response:
        """Answer /ready: 200 while at least one source has a current reading, else 503 and why."""
        current = {name: worker.latest() is not None for name, worker in self._view.workers.items()}
        return as_json({"ready": any(current.values()), "sources": current}, 200 if any(current.values()) else 503)

    async def metrics(self, request: Request) -> Response:
        """Answer /metrics: JSON, or the Prometheus text format when Accept names it."""
        form = wanted_format(request.headers.get("accept", ""))
        workers = self._view.workers
        if form is None:
            host, gpu = fields.last_reading(workers.get("host")), fields.last_reading(workers.get("gpu"))
            response = as_json(shapes.node(host, gpu, self._view.clock()))
        else:
            readings = [
                (row, list(published.points.get(row.name, ())))
                for worker in workers.values()
                if (published := worker.latest())
                for row in worker.metrics
            ]
            response = Response(
                render(readings, form), headers={"content-type": TEXT if form == "text" else OPENMETRICS}
            )
        response.headers["vary"] = "Accept"
        return response

    async def gpu(self, _: Request) -> Response:
        """Answer /gpu: GPUMetrics of every GPU, and why there are none."""
        worker = self._view.workers.get("gpu")
        cards = shapes.gpus(fields.last_reading(worker))
        source = shapes.source(worker.health()) if worker else None
        return as_json(
            {"timestamp": max((card["timestamp"] for card in cards), default=None), "gpus": cards, "source": source}
        )

    def _store_state(self) -> str:
        history = self._view.history
        if (
            history is None
            or self._clock() - self._checked_s < STORE_CHECK_S
            or not self._checking.acquire(blocking=False)
        ):
            return self._store
        try:
            self._store = "failing" if history.stats().failure else "ok"
        except HistoryError:
            self._store = "failing"
        finally:
            self._checked_s = self._clock()
            self._checking.release()
        return self._store
