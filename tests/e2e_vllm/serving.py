"""`vllm serve` as users start it, for the length of a `with` block, alone or watched: instrumented, its OTLP going to a sink."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from e2e.sink import Sink
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from processes import ENVIRONMENT
from waiting import until

from tests.e2e_vllm.model import MAX_TOKENS, NAME

START_S = 420.0  # 36 s on two idle cores
STOP_S = 30.0
ANSWER_S = 60.0
ALIASES = ("plain",)  # what the proxy of tests/e2e/proxy_process.py asks for
# No look at a model hub, one GB for the KV cache, no statistics sent to anyone.
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
# bfloat16 is an illegal instruction on some CPUs; the share also bounds a machine's memory, and its default refuses to start.
FRUGAL: dict[str, object] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": MAX_TOKENS,
    "gpu_memory_utilization": 0.3,
}


@dataclass(frozen=True)
class Server:
    """A server that answers at `base`, and what it printed."""

    base: str
    log: Path

    def ask(self, path: str, /, *, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        """POST to one of its routes."""
        return httpx.post(f"{self.base}{path}", json={"model": NAME, **body}, headers=headers, timeout=ANSWER_S)

    @contextmanager
    def stream(
        self, path: str, /, *, headers: Mapping[str, str] | None = None, **body: Any
    ) -> Iterator[httpx.Response]:
        """POST and have the answer as it comes; the block's end leaves it where it is, as an impatient client does."""
        asked = {"model": NAME, "stream": True, **body}
        with httpx.stream("POST", f"{self.base}{path}", json=asked, headers=headers, timeout=ANSWER_S) as answer:
            yield answer

    def page(self) -> str:
        """Return its own `/metrics` page as it is now."""
        with urllib.request.urlopen(f"{self.base}/metrics", timeout=10) as answer:
            return str(answer.read().decode())


@dataclass(frozen=True)
class Served(Server):
    """The same, watched: what it sent by OTLP is in `sink`, whichever way it sent it."""

    sink: Sink

    def spans(self, trace_id: str | None = None) -> list[Span]:
        """Return the spans that came so far, of one trace or of all."""
        return [span for span in self.sink.spans() if trace_id in (None, span.trace_id.hex())]

    def metrics(self) -> dict[str, Metric]:
        """Return each metric as it came last; its points count from the server's start."""
        return {
            metric.name: metric
            for request in list(self.sink.requests["metrics"])
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a `/metrics` page says, by name and labels."""
    found = {}
    for line in page.splitlines():
        if line and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            found[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))] = float(value)
    return found


@contextmanager
def serve(
    folder: Path,
    model: Path,
    arguments: Sequence[str] = (),
    *,
    names: Sequence[str] = (NAME,),
    instrumented: bool = False,
    **environ: str,
) -> Iterator[Server]:
    """Run `vllm serve` on a free port, below `opentelemetry-instrument --` where it is to be instrumented."""
    programs = Path(sys.executable).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    base, log = f"http://127.0.0.1:{port}", folder / "vllm.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *((programs / "opentelemetry-instrument", "--") if instrumented else ()),
                *(programs / "vllm", "serve", model, "--host", "127.0.0.1", "--port", port),
                *("--served-model-name", *names),
                *_flags(FRUGAL),
                *arguments,
            ],
            cwd=folder,
            env={**ENVIRONMENT, **QUIET, "PYTHONUNBUFFERED": "1", **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the engine is a process of its own: they end as one group
        )

    def is_ready() -> bool:
        assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text()[-4000:]}"
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    try:
        until(is_ready, f"the server, which says in {log}", START_S)
        yield Server(base, log)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what has not ended by now, and the engine of a server that died
        process.wait()


@contextmanager
def serve_watched(
    folder: Path, model: Path, arguments: Sequence[str] = (), *, own_tracing: bool, **environ: str
) -> Iterator[Served]:
    """Run an instrumented server that sends all its telemetry to a sink, every half a second."""
    with Sink() as sink:
        endpoint = f"http://127.0.0.1:{sink.http_port}"
        tracing = ("--otlp-traces-endpoint", f"{endpoint}/v1/traces") if own_tracing else ()
        telemetry = {
            "OTEL_SERVICE_NAME": "vllm",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",  # the only name that vLLM's own tracing looks at
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        with serve(
            folder,
            model,
            ("--enable-per-request-metrics", *tracing, *arguments),
            names=(NAME, *ALIASES),
            instrumented=True,
            **{**telemetry, **environ},
        ) as server:
            yield Served(server.base, server.log, sink)


def _flags(settings: dict[str, object]) -> Iterator[str]:
    for name, value in settings.items():
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield str(value)
