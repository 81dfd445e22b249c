"""The ports of the native stack: which there are, what moves each, and whether they are free."""

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields

LOOPBACK = "127.0.0.1"


class StackError(Exception):
    """The stack cannot start or go on; the message says why and what to do."""


def _port(setting: str, default: int, what: str) -> int:
    number: int = field(default=default, metadata={"setting": setting, "what": what})
    return number


@dataclass(frozen=True)
class Ports:
    """Every TCP port that the stack listens on, all of them on loopback."""

    otlp_grpc: int = _port("STACK_OTLP_GRPC_PORT", 4317, "OTLP over gRPC, Collector")
    otlp_http: int = _port("STACK_OTLP_HTTP_PORT", 4318, "OTLP over HTTP, Collector")
    collector_metrics: int = _port("STACK_COLLECTOR_METRICS_PORT", 25888, "the Collector's own metrics")
    collector_health: int = _port("STACK_COLLECTOR_HEALTH_PORT", 25133, "the Collector's health check")
    prometheus: int = _port("STACK_PROMETHEUS_PORT", 23001, "Prometheus")
    loki: int = _port("STACK_LOKI_PORT", 23002, "Loki")
    loki_grpc: int = _port("STACK_LOKI_GRPC_PORT", 25002, "Loki's gRPC to itself")
    tempo: int = _port("STACK_TEMPO_PORT", 23003, "Tempo")
    tempo_grpc: int = _port("STACK_TEMPO_GRPC_PORT", 25003, "Tempo's gRPC to itself")
    tempo_otlp: int = _port("STACK_TEMPO_OTLP_PORT", 25317, "OTLP into Tempo")
    alertmanager: int = _port("STACK_ALERTMANAGER_PORT", 23004, "Alertmanager")
    agent: int = _port("STACK_AGENT_PORT", 23080, "the agent's API and page")
    store_grpc: int = _port("STACK_STORE_GRPC_PORT", 24317, "OTLP over gRPC into the embedded store")
    store_http: int = _port("STACK_STORE_HTTP_PORT", 24318, "OTLP over HTTP into the embedded store")

    def url(self, name: str) -> str:
        """Return the URL of the named port."""
        return f"http://{LOOPBACK}:{getattr(self, name)}"


def load(environ: Mapping[str, str] = os.environ) -> Ports:
    """Read the ports from their settings; raises StackError with every problem."""
    chosen: dict[str, int] = {}
    wrong: list[str] = []
    for row in fields(Ports):
        text = environ.get(row.metadata["setting"], "").strip()
        if not text:
            continue
        if text.isdecimal() and 0 < int(text) < 65536:
            chosen[row.name] = int(text)
        else:
            wrong.append(f"{row.metadata['setting']}={text!r} is no port")
    ports = Ports(**chosen)
    numbers = [getattr(ports, row.name) for row in fields(Ports)]
    wrong += [
        f"port {number} is given to two services" for number in sorted({n for n in numbers if numbers.count(n) > 1})
    ]
    if wrong:
        raise StackError("\n".join(wrong))
    return ports


def free() -> Ports:
    """Return ports that nobody listened on a moment ago; for tests."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in fields(Ports)]
        for bound in sockets:
            bound.bind((LOOPBACK, 0))
        return Ports(**{row.name: bound.getsockname()[1] for row, bound in zip(fields(Ports), sockets, strict=True)})


def check_free(ports: Ports, names: frozenset[str]) -> None:
    """Raise StackError naming each of these ports that is taken, with the setting that moves it."""
    taken: list[str] = []
    for row in fields(Ports):
        number = getattr(ports, row.name)
        if row.name in names and _is_taken(number):
            taken.append(f"port {number} ({row.metadata['what']}) is taken: set {row.metadata['setting']} to another")
    if taken:
        raise StackError("\n".join(taken))


def _is_taken(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((LOOPBACK, number))
        except OSError:
            return True
    return False
