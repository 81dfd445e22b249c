"""The native stack for tests: on free ports, in a temporary folder, with ways to ask its servers and to wait for an answer.

`run_stack` is the door; fixtures stand in conftest.py.
"""

import contextlib
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from compose.native import build, services
from compose.native.ports import Ports, free
from compose.native.process import Process
from compose.native.stack import Plan, Stack, running

T = TypeVar("T")
DEADLINE_S = 30.0


@contextlib.contextmanager
def run_stack(data: Path, **changes: Any) -> Iterator[Stack]:
    """Run the whole stack for the length of a `with` block; `changes` are fields of Plan.

    Without `tempo_bin` and `store` the Collector sends traces to port `store_grpc` of the plan, where a test may listen.
    """
    with running(replace(Plan(ports=free(), data=data), **changes)) as stack:
        yield stack


def lone_collector(data: Path, ports: Ports, environment: Mapping[str, str], overlays: Sequence[str] = ()) -> Process:
    """Return a Collector, not yet started, without the stores: `environment` names the backends that stand for them."""
    binary = build.ensure(["otelcol-llm"])["otelcol-llm"]
    return Process(services.collector(ports, binary, data, overlays, environment), data / "logs" / "collector.log")


@contextlib.contextmanager
def started(process: Process) -> Iterator[Process]:
    """Run one process for the length of a `with` block."""
    try:
        process.start()
        process.wait_ready()
        yield process
    finally:
        process.stop()


def get_json(url: str, **parameters: str) -> Any:
    """Return the JSON answer of an HTTP server."""
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    with urllib.request.urlopen(url + query, timeout=10) as answer:
        return json.load(answer)


def promql(stack: Stack, query: str) -> list[tuple[dict[str, str], float]]:
    """Return what Prometheus answers to an instant query: labels and value of each series."""
    answer = get_json(f"{stack.ports.url('prometheus')}/api/v1/query", query=query)
    return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]


def logql(stack: Stack, query: str, since_s: float = 3600.0) -> list[tuple[dict[str, str], str]]:
    """Return the log lines that Loki answers to a query: labels (structured metadata among them) and line of each."""
    now = time.time()
    answer = get_json(
        f"{stack.ports.url('loki')}/loki/api/v1/query_range",
        query=query,
        start=f"{(now - since_s) * 1e9:.0f}",
        end=f"{(now + 60) * 1e9:.0f}",
        limit="1000",
    )
    return [(row["stream"], line[1]) for row in answer["data"]["result"] for line in row["values"]]


def exemplars(stack: Stack, query: str, since_s: float = 3600.0) -> list[dict[str, Any]]:
    """Return the exemplars that Prometheus holds for a query, each with its labels and value."""
    now = time.time()
    answer = get_json(
        f"{stack.ports.url('prometheus')}/api/v1/query_exemplars",
        query=query,
        start=f"{now - since_s:.3f}",
        end=f"{now + 60:.3f}",
    )
    return [exemplar for row in answer["data"] for exemplar in row["exemplars"]]


def collector_metric(ports: Ports, name: str, **labels: str) -> float:
    """Return the sum of one of the Collector's own metrics over the series that have these labels; 0 where there is none."""
    with urllib.request.urlopen(f"{ports.url('collector_metrics')}/metrics", timeout=10) as answer:
        lines: Sequence[str] = answer.read().decode().splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith((f"{name}{{", f"{name} ")) and all(pair in line for pair in wanted)
    )
