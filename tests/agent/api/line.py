"""The whole line on free ports: workers over canned readings → OTLP exporter → receiver → store → history → API on a real server."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_agent.api import create_app
from otel_agent.errors import Unavailable
from otel_agent.history.sql import SqlHistory
from otel_agent.receiver.http_app import http_app
from otel_agent.schedule import Worker
from otel_agent.serve import Listener
from otel_agent.settings import Settings
from otel_agent.sources.containers.identity import GpuClaim, Identity
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot, Link, Usage
from otel_agent.sources.gpu.snapshot import GpuIdentity, GpuProcess, GpuReading, GpuSnapshot
from otel_agent.sources.host.snapshot import Cpu, Filesystem, HostSnapshot, Interface, Memory, Network
from otel_agent.store.store import open_store
from otel_agent.telemetry.exporters import metric_exporter
from otel_agent.telemetry.instruments import Latest
from otel_agent.telemetry.providers import Telemetry, stamps

TOKEN = "a-token-for-tests-only"
HOST = "node-7"
UUIDS = ("GPU-11111111-aaaa-bbbb-cccc-000000000000", "GPU-22222222-aaaa-bbbb-cccc-000000000000")
NETWORK_BYTES_PER_S = 100_000


def read_host():
    """A machine with known numbers, of which only the traffic moves."""
    received = int(time.time() * NETWORK_BYTES_PER_S) % 10**12
    return HostSnapshot(
        time_s=time.time(),
        hostname=HOST,
        load=(0.5, 1.25, 2.0),
        cpu=Cpu(utilization={"user": 0.2, "system": 0.05, "idle": 0.7, "iowait": 0.05}),
        memory=Memory(total=16_000, used=4_000, free=8_000, buffers=1_000, cached=3_000),
        filesystems=(Filesystem("/dev/vda", "/", "ext4", size=1_000, used=300, free=600),),
        network=Network((Interface("eth0", received, 1, 0, 0, received // 2, 1, 0, 0),)),
    )


def read_gpus():
    """Two GPUs: one that tells everything, and one that tells nothing but who it is."""
    told = GpuReading(
        GpuIdentity(0, UUIDS[0], "NVIDIA H200"),
        utilization=0.5,
        memory_used_bytes=30_000,
        memory_total_bytes=120_000,
        temperature_celsius=61.0,
        memory_temperature_celsius=80.0,
        power_watts=412.5,
        clock_graphics_hz=1.98e9,
        clock_memory_hz=3.2e9,
        processes=(GpuProcess(4242, "vllm", 29_000), GpuProcess(17, "python3", 500)),
    )
    return GpuSnapshot(time.time(), "580.1", (told, GpuReading(GpuIdentity(1, UUIDS[1], "NVIDIA H200"))))


def read_containers():
    """A container that uses a GPU, one that is paused, and one that has ended."""
    vllm = Container(
        Identity(
            "a" * 64,
            "vllm",
            "vllm/vllm-openai:v0.11.0",
            "running",
            1_700_000_000,
            restart_count=2,
            gpu=GpuClaim(True, ids=(UUIDS[1],)),
        ),
        Usage(
            memory_usage_bytes=900,
            memory_working_set_bytes=700,
            memory_limit_bytes=1_000,
            network={"eth0": Link(50, 60), "eth1": Link(5, 6)},
        ),
        cpu_usage_cpus=1.5,
    )
    paused = Container(
        Identity("b" * 64, "paused", "busybox:1", "paused", 1_700_000_000, restart_count=0, gpu=GpuClaim(False))
    )
    ended = Container(Identity("c" * 64, "ended", "busybox:1", "exited"))
    return ContainersSnapshot(time.time(), (vllm, paused, ended))


def unavailable(reason, remedy):
    raise Unavailable(reason, remedy)


def worker(name, read, rows, *, opened=None):
    """A worker over a canned reading, and the points that the exporter takes from it."""
    latest = Latest()
    opening = opened or (lambda: read)
    return Worker(name, opening, rows, interval_s=0.2, deadline_s=5, on_publish=latest.publish), latest


@dataclass
class Line:
    """A running line and ways to ask it."""

    base: str
    otlp: str
    app: object
    workers: dict
    settings: Settings

    def client(self, **options):
        return httpx.Client(base_url=self.base, timeout=10, **options)

    def get(self, path, **options):
        """Ask with the token."""
        headers = {"authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
        with self.client() as client:
            return client.get(path, headers=headers, **options)

    def tracer(self, service="app"):
        provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{self.otlp}/v1/traces")))
        return provider

    def log_exporter(self):
        return OTLPLogExporter(f"{self.otlp}/v1/logs")


def start(ending: ExitStack, folder: Path, workers, *, stored=True, **options) -> Line:
    """Start a line; with `stored` off, an API without a past."""
    settings = replace(Settings(), data_dir=folder, interval_s=1.0, export_interval_ms=200.0, **options)
    history = news = otlp = None
    if stored:
        store = open_store(folder, retention_days=7, request_days=30, max_bytes=10**9)
        ending.callback(store.close)
        history, news = SqlHistory(store), store.subscribe
        ending.callback(history.close)
        receiver = Listener(http_app(store), "127.0.0.1", 0, "OTEL_LLM_OTLP_HTTP_PORT")
        receiver.start()
        ending.callback(receiver.stop)
        otlp = f"http://127.0.0.1:{receiver.port}"
    running = {name: made for name, (made, _) in workers.items()}
    app = create_app(settings=settings, token=TOKEN, workers=running, history=history, news=news)
    api = Listener(app, "127.0.0.1", 0, "OTEL_LLM_PORT")
    api.start()
    ending.callback(api.stop)
    for one in running.values():
        one.start()
        ending.callback(one.stop)
    if stored:
        health = partial(lambda: [one.health() for one in running.values()])
        telemetry = Telemetry(
            workers,
            health,
            metric_exporter("http/protobuf", otlp, lambda: stamps(workers)),
            200,
            Resource({"host.name": HOST, "service.name": "otel-agent"}),
        )
        telemetry.start()
        ending.callback(telemetry.shutdown, 3)
    return Line(f"http://127.0.0.1:{api.port}", otlp, app, running, settings)
