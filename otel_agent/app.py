"""The composition root: settings in, a running agent out, and its end in bounded time."""

import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from opentelemetry.sdk.metrics.export import MetricExporter

from otel_agent.catalogue import Event, Metric
from otel_agent.derived import DERIVED
from otel_agent.schedule import Published, SourceHealth, Worker
from otel_agent.settings import Settings
from otel_agent.sources import SOURCES, Others, Source
from otel_agent.telemetry import events
from otel_agent.telemetry.exporters import metric_exporter
from otel_agent.telemetry.instruments import Latest, wanted
from otel_agent.telemetry.providers import Telemetry, resource, stamps

LAST_EXPORT_S, LAST_EVENTS_S = 3.0, 1.0  # of the five seconds in which a stop must be over
LOOPBACK = "127.0.0.1"

logger = logging.getLogger(__name__)
Workers = Mapping[str, tuple[Worker, Latest]]


@dataclass(frozen=True)
class Running:
    """What a started agent listens on; `page` carries the token."""

    page: str | None
    grpc_port: int | None
    http_port: int | None
    otlp: str


def build_workers(settings: Settings, happened: Callable[[str, Iterable[Event]], None] = lambda *_: None) -> Workers:
    """Return one worker per source that is switched on, not yet started; `happened` takes the events of a source."""
    workers: dict[str, tuple[Worker, Latest]] = {}
    for source in (*SOURCES, *DERIVED):
        if source.name not in settings.sources:
            continue
        latest = Latest()
        worker = Worker(
            source.name,
            partial(source.open, settings, Others(lambda name: workers[name][0] if name in workers else None)),
            wanted(source.metrics, settings.metrics_off),
            interval_s=settings.interval_s,
            deadline_s=settings.deadline_s,
            start_of=source.start,
            on_publish=partial(_publish, source, latest, happened),
        )
        workers[source.name] = (worker, latest)
    return workers


def _publish(
    source: Source, latest: Latest, happened: Callable[[str, Iterable[Event]], None], published: Published
) -> None:
    latest.publish(published)
    happened(source.name, source.events(published.snapshot))


def health(workers: Workers) -> list[SourceHealth]:
    """Return how every source fares."""
    return [worker.health() for worker, _ in workers.values()]


def access_token(settings: Settings) -> str:
    """Return the token of the page: the one that was set, or one made once and kept in the data folder, readable by its owner alone."""
    if given := settings.token or settings.token_from_file:
        return given
    file = settings.data_dir / "token"
    try:
        kept = file.read_text().strip()
        if kept:
            return kept
        file.unlink()
    except OSError:
        pass  # none yet, or a folder that cannot be read: then it lives as long as this process
    made = secrets.token_urlsafe(24)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(made + "\n")
    except OSError as error:
        logger.warning(
            "the token of the page cannot be kept in %s (%s): it changes at the next start",
            settings.data_dir,
            error.strerror,
        )
    return made


def run(
    settings: Settings, wait: Callable[[], object], *, local: bool, started: Callable[[Running], None] = lambda _: None
) -> None:
    """Run the agent until `wait` returns; with `local`, receiver, store and console too. Raises Unavailable where it cannot start.

    Without `local` the API and the page stand as well, but nothing is stored here, and what needs a store says so.
    """
    with ExitStack() as ending:
        about = resource(settings.host_root)
        log = events.EventLog(about)
        workers = build_workers(settings, log.take)
        history = news = grpc_port = http_port = None
        counted: list[tuple[Sequence[Metric[Any]], Callable[[], Any]]] = [(events.METRICS, log.counts)]
        if local:
            store, history, news = _open_store(settings, ending)
            grpc_port, http_port, receiver = _receive(settings, store, ending)
            counted.append(receiver)
        page = _serve_api(settings, workers, history, news, ending)
        exporter = _exporter(settings, workers, grpc_port, http_port)
        log.start(_log_exporter(settings, grpc_port, http_port))
        ending.callback(_last_events, log)
        interval_ms = settings.export_interval_ms or (5_000 if local else 10_000)
        for worker, _ in workers.values():
            worker.start()
            ending.callback(worker.stop)
        telemetry = Telemetry(workers, lambda: health(workers), exporter, interval_ms, about, counted)
        telemetry.start()
        ending.callback(_last_export, telemetry)
        started(Running(page, grpc_port, http_port, str(getattr(exporter, "_endpoint", ""))))
        wait()


def _exporter(settings: Settings, workers: Workers, grpc_port: int | None, http_port: int | None) -> MetricExporter:
    """Return what sends: where the standard variables say, and to the own receiver where they say nothing and there is one."""
    protocol = settings.metrics_protocol or settings.protocol
    told = settings.endpoint or settings.metrics_endpoint
    own = None if told else _own_receiver(settings, protocol, grpc_port, http_port)
    return metric_exporter(protocol, own, lambda: stamps(workers))


def _log_exporter(settings: Settings, grpc_port: int | None, http_port: int | None) -> Any:
    """The same for events."""
    protocol = settings.logs_protocol or settings.protocol
    told = settings.endpoint or settings.logs_endpoint
    return events.log_exporter(protocol, None if told else _own_receiver(settings, protocol, grpc_port, http_port))


def _own_receiver(settings: Settings, protocol: str, grpc_port: int | None, http_port: int | None) -> str | None:
    port = grpc_port if protocol == "grpc" else http_port
    return None if port is None else f"http://{_reachable(settings.listen)}:{port}"


def _last_export(telemetry: Telemetry) -> None:
    if not telemetry.shutdown(LAST_EXPORT_S):
        logger.warning("the last export was not taken within %g s and is lost", LAST_EXPORT_S)


def _last_events(log: events.EventLog) -> None:
    if not log.shutdown(LAST_EVENTS_S):
        logger.warning("the last events were not taken within %g s and are lost", LAST_EVENTS_S)


def _open_store(settings: Settings, ending: ExitStack) -> tuple[Any, Any, Any]:
    from otel_agent.history.sql import SqlHistory
    from otel_agent.store.store import open_store

    store = open_store(
        settings.data_dir,
        retention_days=settings.retention_days,
        request_days=settings.request_days,
        max_bytes=settings.store_max_bytes,
    )
    ending.callback(store.close)
    history = SqlHistory(store)
    ending.callback(history.close)
    return store, history, store.subscribe


def _receive(
    settings: Settings, store: Any, ending: ExitStack
) -> tuple[int, int, tuple[Sequence[Metric[Any]], Callable[[], Any]]]:
    from otel_agent.receiver.grpc_server import start_grpc
    from otel_agent.receiver.http_app import http_app
    from otel_agent.receiver.intake import Counts
    from otel_agent.receiver.metrics import METRICS, ReceiverSnapshot
    from otel_agent.serve import Listener, bind

    counts = Counts()

    def read() -> ReceiverSnapshot:
        state = store.state()
        return ReceiverSnapshot(
            counts.requests(), counts.bytes(), state.queue_bytes, state.queue_limit_bytes, state.lag_s
        )

    # gRPC would write its own words to stderr.
    bind(settings.listen, settings.grpc_port, "OTEL_LLM_OTLP_GRPC_PORT").close()
    grpc = start_grpc(settings.listen, settings.grpc_port, store, counts)
    ending.callback(grpc.stop, 0.5)
    app = http_app(store, counts, allowed_hosts=settings.allowed_hosts)
    http = Listener(app, settings.listen, settings.http_port, "OTEL_LLM_OTLP_HTTP_PORT")
    http.start()
    ending.callback(http.stop)
    return grpc.port, http.port, (METRICS, read)


def _serve_api(settings: Settings, workers: Workers, history: Any, news: Any, ending: ExitStack) -> str | None:
    try:
        from otel_agent.api import create_app
        from otel_agent.serve import Listener
    except ModuleNotFoundError as error:
        logger.warning("no API and no page: %s is not installed (pip install 'otel-llm[local]')", error.name)
        return None
    token = access_token(settings)
    app = create_app(
        settings=settings,
        token=token,
        workers={name: worker for name, (worker, _) in workers.items()},
        history=history,
        news=news,
    )
    api = Listener(app, settings.listen, settings.port, "OTEL_LLM_PORT")
    api.start()
    ending.callback(api.stop)
    return f"http://{_reachable(settings.listen)}:{api.port}/?token={quote(token, safe='')}"


def _reachable(listen: str) -> str:
    """Return the address under which this machine reaches itself."""
    if listen in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return LOOPBACK
    return f"[{listen}]" if ":" in listen else listen
