"""Every query of the boards, run against the real Prometheus and Loki that the real agent and the real instrumentation feed."""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from e2e.board_queries import BOARDS, answers_of, ask_all, board_queries, fetch, find_traces, on_axis, query_of
from e2e.emit import Application, application
from e2e.programs import program
from e2e.stack import exemplars, logql, promql
from e2e.telling_server import serve_telling
from processes import agent
from waiting import until

from compose.native.stack import Stack
from dashboards.queries import PanelQuery, choices, substitute
from otel_agent.catalogue import Metric, values
from otel_agent.derived import DERIVED
from otel_agent.errors import Unavailable
from otel_agent.settings import Settings
from otel_agent.sources import SOURCES, Others
from otel_agent.sources.containers import metrics as container_rows
from otel_agent.sources.containers.identity import GpuClaim, Identity
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot, Link, Traffic, Usage
from otel_agent.sources.gpu import metrics as gpu_rows
from otel_agent.sources.gpu.snapshot import Counts, GpuIdentity, GpuProcess, GpuReading, GpuSnapshot, Spread
from otel_agent.telemetry.instruments import Points, bind
from otel_agent.telemetry.naming import prometheus_name

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
NODE = "a-node-that-was-made-up"
APP = "an-application-of-the-boards"
PRICES = {"plain": {"input": 0.1, "output": 0.4}}  # US dollars per million tokens
A_CALL_COSTS = (11 * 0.1 + 7 * 0.4) / 1e6  # by the tokens that the server reports


def not_here() -> dict[str, str]:
    """The series that this machine cannot give, each with the reason: by asking the sources themselves."""
    absent: dict[str, str] = {}
    here: set[str] = set()
    for source in (*SOURCES, *DERIVED):
        rows = {prometheus_name(row): row for row in source.metrics}
        try:
            read = source.open(Settings(), Others(lambda _: None))
            read()
            time.sleep(0.5)  # what is measured between two readings needs some time between them
            snapshot = read()
        except Unavailable as error:
            for name in rows:
                absent.setdefault(name, error.reason)
            continue
        for name, row in rows.items():
            if values(row, snapshot):
                here.add(name)
            else:
                absent.setdefault(name, f"no {row.name} on this machine")
    return {name: reason for name, reason in absent.items() if name not in here}


def test_the_node_board_shows_this_machine(stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = not_here()
    asked: list[PanelQuery] = []
    left_out: dict[str, dict[str, None]] = {}  # panels by reason, each once and in order
    for query in board_queries("node"):
        if reasons := [reason for name, reason in absent.items() if name in query.series]:
            left_out.setdefault(reasons[-1], {})[query.panel] = None
        else:
            asked.append(query)

    def work_the_disk() -> None:
        with (tmp_path / "written").open("wb") as file:
            file.write(b"x" * 65536)
            os.fsync(file.fileno())

    to = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.ports.url("otlp_http"),
        "OTEL_METRIC_EXPORT_INTERVAL": 1000,
        "METRICS_INTERVAL_LIVE": 1,
    }
    with agent("run", **to, OTEL_LLM_DATA_DIR=tmp_path):
        empty = ask_all(stack, asked, "node", {"host": socket.gethostname()}, work_the_disk)

    with capsys.disabled():
        print(f"\n{len(asked)} queries of the node board asked; of these panels, some or all left out:")
        for reason, panels in left_out.items():
            print(f"    {reason}: {', '.join(panels)}")
    assert empty == []
    assert len(asked) > 30


def a_gpu(index: int) -> GpuReading:
    return GpuReading(
        identity=GpuIdentity(index, f"GPU-{index}", "NVIDIA H200", f"00000000:0{index}:00.0"),
        utilization=0.9,
        memory_controller_utilization=0.4,
        encoder_utilization=0.0,
        decoder_utilization=0.0,
        memory_used_bytes=120_000_000_000,
        memory_total_bytes=150_754_820_096,
        temperature_celsius=61,
        memory_temperature_celsius=70,
        power_watts=627.0,
        power_limit_watts=700.0,
        energy_joules=time.time(),
        clock_graphics_hz=1_980_000_000,
        clock_memory_hz=3_201_000_000,
        clock_graphics_max_hz=1_980_000_000,
        clock_memory_max_hz=3_201_000_000,
        ecc_corrected=1,
        ecc_uncorrected=0,
        pcie_replays=0,
        row_remap_pending=False,
        row_remap_failed=False,
        throttle={"sw_power_cap": True, "hw_slowdown": False},
        throttle_time_s={"sw_power_cap": time.time() / 10},
        performance_level=0,
        mig_enabled=False,
        persistence_enabled=True,
        pcie_bytes=dict.fromkeys(("transmit", "receive"), int(time.time())),
        nvlink_bytes=dict.fromkeys(("transmit", "receive"), int(time.time())),
        activity={"sm": 0.8, "tensor": 0.5, "dram": 0.6},
        throughput={"pcie.transmit": 1e9, "pcie.receive": 1e9, "nvlink.transmit": 1e10, "nvlink.receive": 1e10},
        spreads={"power": Spread(500.0, 600.0, 690.0)},
        processes=(GpuProcess(7, "vllm", 80_000_000_000, 0.5), GpuProcess(8, "vllm", 30_000_000_000, 0.4)),
    )


def some_gpus() -> GpuSnapshot:
    """Two GPUs of which one meets an error a second."""
    met = {a_gpu(0).identity.id: Counts({"xid": int(time.time())}, {31: int(time.time())})}
    return GpuSnapshot(time.time(), "590.48.01", (a_gpu(0), a_gpu(1)), counts=met)


def a_container(name: str, index: int) -> Container:
    """One of two containers that share GPU 0."""
    return Container(
        Identity(
            str(index) * 64,
            name,
            "vllm/vllm-openai:v0.33.0",
            "running",
            1.7e9,
            time.time() - 60,
            1,
            pid=index,
            gpu=GpuClaim(True, indices=(0,)),
            health="healthy",
        ),
        Usage(
            cpu_s=time.time(),
            cpu_user_s=time.time(),
            cpu_system_s=1.0,
            memory_usage_bytes=2_000_000,
            memory_working_set_bytes=1_000_000,
            memory_limit_bytes=4_000_000,
            cpu_throttled_s=time.time(),
            stalled_s={("cpu", "some"): time.time()},
            network={"eth0": Link(1, 1)},
            disk={"sda": Traffic(1, 1)},
        ),
        cpu_usage_cpus=1.0,
        uptime_s=60.0,
    )


def observe(node: Application, source: str, rows: tuple[Metric[Any], ...], read: Callable[[], object]) -> None:
    def latest() -> Points:
        snapshot = read()
        return {row.name: values(row, snapshot) for row in rows}

    bind(node.meters.get_meter(source), rows, latest)


def test_what_has_no_answer_is_told(stack: Stack) -> None:
    """The twin that must fail: a board that finds nothing is not called complete."""
    [uptime] = [query for query in board_queries("node") if query.panel == "Uptime"]

    assert ask_all(stack, [uptime], "node", {"host": "nobody"}, deadline_s=1) == [
        "otel-llm: node / Uptime / A: no answer"
    ]
    not_a_number = replace(uptime, text="vector(0) / 0")
    assert ask_all(stack, [not_a_number], "node", {}, deadline_s=1) == ["otel-llm: node / Uptime / A: no answer"]
    assert not on_axis(replace(uptime, high=1.0), 1.2)
    assert not on_axis(replace(uptime, low=0.0), -0.1)


@pytest.fixture
def made_up_node(stack: Stack) -> Iterator[Application]:
    """A node of two GPUs and two containers on one of them, of which only the readings are made up."""
    with application(stack.ports.url("otlp_http"), {"service.name": "otel-agent", "host.name": NODE}) as node:
        observe(node, "gpu", gpu_rows.METRICS, some_gpus)
        observe(
            node,
            "containers",
            container_rows.METRICS,
            lambda: ContainersSnapshot(time.time(), (a_container("a", 1), a_container("b", 2))),
        )
        yield node


def test_the_node_board_shows_gpus_and_containers_of_a_node_that_has_them(
    stack: Stack, made_up_node: Application
) -> None:
    every: tuple[Metric[Any], ...] = (*gpu_rows.METRICS, *container_rows.METRICS)
    rows = {prometheus_name(row) for row in every}
    asked = [query for query in board_queries("node") if query.series & rows and "hw_type!~" not in query.text]

    assert ask_all(stack, asked, "node", {"host": NODE}, made_up_node.flush) == []
    assert len(asked) > 30

    chosen = choices(BOARDS["node"]) | {"host": NODE}
    [busy] = [query for query in asked if query.panel == "GPU busy"]
    shares = {labels["otel_llm_gpu_index"]: value for labels, value in promql(stack, substitute(busy.text, chosen))}
    assert shares == {"0": 0.9, "1": 0.9}
    [state] = [query for query in asked if query.panel == "Containers by state"]
    shown = {
        labels["otel_llm_container_state"]: value for labels, value in promql(stack, substitute(state.text, chosen))
    }
    assert shown == {"running": 2, **dict.fromkeys(("paused", "restarting", "created", "stopped", "dead"), 0)}


@pytest.fixture
def asking(stack: Stack) -> Iterator[None]:
    """An application under `opentelemetry-instrument` that asks an OpenAI-style server, over and over."""
    telemetry = {
        "OTEL_SERVICE_NAME": APP,
        "OTEL_RESOURCE_ATTRIBUTES": f"host.name={NODE}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.ports.url("otlp_grpc"),
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OTEL_LLM_PRICES": json.dumps(PRICES),
    }
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    with (
        serve_telling() as server,
        program(sys.executable, launcher, sys.executable, str(HERE / "asking_app.py"), server.url, **telemetry),
    ):
        yield


@pytest.mark.usefixtures("asking")
def test_the_board_of_requests_shows_calls_tokens_failures_and_leads_to_traces(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = choices(BOARDS["llm"]) | {"service": APP}
    asked = board_queries("llm")
    answers = partial(answers_of, stack, "llm", chosen)

    assert ask_all(stack, asked, "llm", chosen) == []

    shares = {"plain": 0.0, "error500": 1.0}
    until(
        lambda: {labels["gen_ai_request_model"]: value for labels, value in answers("Failed share by model")} == shares,
        f"{shares}",
    )
    assert {labels["error_type"] for labels, _ in answers("Failures by type")} == {"InternalServerError"}

    def tokens_are_what_the_server_reports() -> bool:
        told = {
            (labels["gen_ai_request_model"], labels["gen_ai_token_type"]): value
            for labels, value in answers("Tokens per request")
        }
        return told == pytest.approx({("plain", "input"): 11.0, ("plain", "output"): 7.0})

    until(tokens_are_what_the_server_reports, "11 tokens in and 7 out of each call")

    [logs] = board_queries("llm", "loki")
    lines = until(lambda: logql(stack, substitute(logs.text, chosen)), "the log lines of the application")
    assert "asking" in {line for _, line in lines}

    dots = [query for query in asked if query.exemplars and query.panel == "Duration"]
    found = [exemplar for query in dots for exemplar in exemplars(stack, substitute(query.text, chosen))]
    assert found
    assert all(len(exemplar["labels"]["trace_id"]) == 32 for exemplar in found)

    for panel, low, high in (
        ("Queue in the engine by model, p95", 0.02, 0.04),
        ("First token of the engine by model, p95", 0.04, 0.08),
        ("Generation in the engine by model, p95", 0.08, 0.16),
    ):  # the buckets of what the server tells
        [(labels, value)] = answers(panel)
        assert labels == {"gen_ai_request_model": "plain"}
        assert low < value <= high, panel

    # One evaluation for both: the same calls are in both rates.
    cost, tokens = (query_of("llm", panel, chosen) for panel in ("Cost an hour by model", "Tokens out by model"))
    [(labels, of_a_token)] = promql(stack, f"({cost}) / ({tokens})")
    assert labels == {"gen_ai_request_model": "plain"}
    assert of_a_token * 7 == pytest.approx(3600 * A_CALL_COSTS)

    find_traces(stack, "llm", chosen, capsys)


@pytest.mark.usefixtures("asking")
def test_the_board_of_the_router_shows_requests_detours_and_limits_and_leads_to_traces(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = choices(BOARDS["router"]) | {"service": APP}
    answers = partial(answers_of, stack, "router", chosen)

    assert ask_all(stack, board_queries("router"), "router", chosen) == []

    def of(label: str, panel: str) -> dict[str, float]:
        return {labels[f"otel_llm_router_{label}"]: value for labels, value in answers(panel)}

    shares = {"pair": 0.0, "broken": 0.0, "lost": 1.0}
    until(lambda: of("model_group", "Failed share by model group") == shares, f"{shares}")
    assert {
        (labels["otel_llm_router_model_group"], labels["otel_llm_router_fallback_model_group"])
        for labels, _ in answers("Fallbacks")
    } == {("broken", "pair")}
    until(lambda: "failing" in of("deployment_id", "Cooldowns by deployment"), "a cooldown of what fails")
    assert "sound" not in of("deployment_id", "Cooldowns by deployment")
    assert of("deployment_id", "Requests left by deployment")["sound"] == 59
    assert of("deployment_id", "Tokens left by deployment")["sound"] == 149984

    [exemplar, *_] = [
        exemplar
        for query in board_queries("router")
        if query.exemplars
        for exemplar in exemplars(stack, substitute(query.text, chosen))
    ]
    assert len(exemplar["labels"]["trace_id"]) == 32

    find_traces(stack, "router", chosen, capsys)


@pytest.mark.parametrize("board", sorted(BOARDS))
def test_grafana_takes_the_board_and_answers_each_of_its_queries(board: str) -> None:
    """The queries go the way that Grafana's own panels go; what they answer depends on what that Grafana is fed with."""
    grafana = os.environ.get("GRAFANA_URL", "").rstrip("/")
    if not grafana:
        pytest.skip("GRAFANA_URL names no Grafana (http://user:password@host:port)")
    built = BOARDS[board]
    stored = fetch(f"{grafana}/api/dashboards/db", {"dashboard": built | {"id": None}, "overwrite": True})
    assert stored["status"] == "success"
    chosen = choices(built)
    wrong = []
    for panel in built["panels"]:
        for target in panel.get("targets", ()):
            filled = json.loads(substitute(json.dumps(target), chosen)) | {"intervalMs": 10_000, "maxDataPoints": 200}
            try:
                answer = fetch(f"{grafana}/api/ds/query", {"queries": [filled], "from": "now-30m", "to": "now"})
            except urllib.error.HTTPError as error:
                wrong.append(f"{panel['title']}: {error.read().decode()[:300]}")
                continue
            wrong += [
                f"{panel['title']}: {result['error']}" for result in answer["results"].values() if "error" in result
            ]
    assert wrong == []
