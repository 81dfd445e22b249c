"""The joins of docs/containers.md, asked of the real Prometheus, over a GPU that two containers share."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent.derived.machines import GB, UUIDS, container, containers, device_request, gpus, process, processes, using
from e2e.emit import Application, application
from e2e.stack import promql
from e2e.test_dashboards import observe
from waiting import until

from compose.native.stack import Stack
from otel_agent.derived import metrics as placement_rows
from otel_agent.derived.placement import place
from otel_agent.derived.read import PlacementSnapshot
from otel_agent.sources.containers import metrics as container_rows
from otel_agent.sources.containers.snapshot import ContainersSnapshot
from otel_agent.sources.gpu import metrics as gpu_rows
from otel_agent.sources.gpu.snapshot import GpuSnapshot

pytestmark = pytest.mark.e2e

DOC = Path(__file__).resolve().parents[2] / "docs" / "containers.md"
NODE = "a-node-that-shares-a-gpu"
CHAT, EMBED = "Qwen/Qwen3-8B", "BAAI/bge-m3"


def read_gpus() -> GpuSnapshot:
    """Two GPUs; the first is shared by `chat`, which has both, and `embed`."""
    on = {0: using(501, memory=90 * GB) + using(502, memory=10 * GB), 1: using(503, memory=60 * GB)}
    found = gpus(on, count=2, at_s=time.time())
    told = {"power_watts": 600.0, "memory_total_bytes": 150 * GB}
    return replace(found, gpus=tuple(replace(gpu, **told) for gpu in found.gpus))


def read_containers() -> ContainersSnapshot:
    chat = container("chat", device_request("0", "1"), command=f"vllm serve {CHAT}")
    embed = container("embed", device_request("0"), command=f"text-embeddings-router --model-id {EMBED}")
    web = replace(container("web"), cpu_usage_cpus=0.1)
    return containers(replace(chat, cpu_usage_cpus=2.5), replace(embed, cpu_usage_cpus=0.5), web)


def read_placement() -> PlacementSnapshot:
    seen = processes(process(501, "chat"), process(502, "embed"), process(503, "chat"))
    return PlacementSnapshot(place(read_gpus(), read_containers(), seen))


@pytest.fixture(scope="module")
def node(stack: Stack) -> Iterator[Application]:
    with application(stack.ports.url("otlp_http"), {"service.name": "otel-agent", "host.name": NODE}) as running:
        observe(running, "gpu", gpu_rows.METRICS, read_gpus)
        observe(running, "containers", container_rows.METRICS, read_containers)
        observe(running, "placement", placement_rows.METRICS, read_placement)
        yield running


def queries() -> list[str]:
    return [" ".join(found.split()) for found in re.findall(r"```promql\n(.*?)```", DOC.read_text(), re.DOTALL)]


def asked(stack: Stack, node: Application, number: int, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the answer to one query of the page, of this node alone, by some of its labels."""
    query = re.sub(r"(otel_llm_placement(?:_process)?\{)", rf'\1host_name="{NODE}", ', queries()[number])
    query = query.replace("(container_cpu_usage)", f'(container_cpu_usage{{host_name="{NODE}"}})')

    def answer() -> dict[tuple[str, ...], float]:
        node.flush()
        return {tuple(about.get(label, "") for label in labels): value for about, value in promql(stack, query)}

    return until(answer, query)


def test_every_query_of_the_page_is_asked_here() -> None:
    assert len(queries()) == 5


def test_which_containers_and_models_are_on_which_gpu(stack: Stack, node: Application) -> None:
    found = asked(stack, node, 0, "hw_id", "container_name", "otel_llm_model_name", "otel_llm_placement_evidence")
    assert found == {
        (UUIDS[0], "chat", CHAT, "both"): 1,
        (UUIDS[0], "embed", EMBED, "both"): 1,
        (UUIDS[1], "chat", CHAT, "both"): 1,
    }


def test_power_by_model(stack: Stack, node: Application) -> None:
    assert asked(stack, node, 1, "otel_llm_model_name") == {(CHAT,): 1200, (EMBED,): 600}


def test_memory_by_container_on_a_shared_gpu(stack: Stack, node: Application) -> None:
    found = asked(stack, node, 2, "container_name", "otel_llm_model_name")
    assert found == {("chat", CHAT): 150 * GB, ("embed", EMBED): 10 * GB}


def test_the_share_of_each_container_of_a_shared_gpu(stack: Stack, node: Application) -> None:
    found = asked(stack, node, 3, "hw_id", "container_name")
    assert found == pytest.approx({(UUIDS[0], "chat"): 0.6, (UUIDS[0], "embed"): 1 / 15, (UUIDS[1], "chat"): 0.4})


def test_cpu_of_the_containers_on_gpus(stack: Stack, node: Application) -> None:
    assert asked(stack, node, 4, "container_name") == {("chat",): 2.5, ("embed",): 0.5}
