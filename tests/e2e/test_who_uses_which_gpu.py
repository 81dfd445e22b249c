"""The agent as a user runs it, a real Docker Engine, and a stand-in for the driver that names the containers' real processes."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.engine import IMAGE, NoEngineError, RealEngine, run_engine
from processes import Agent, agent
from waiting import until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures" / "nvml"))
from machine import H100, library

pytestmark = pytest.mark.e2e

GPU = "GPU-10000000-0100-4e0b-9c7e-0f0e0d0c0b00"  # of the profile
GB = 10**9
GIVEN = {"/dev/null": {"bind": f"/var/run/nvidia-container-devices/{GPU}", "mode": "ro"}}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    try:
        with run_engine(tmp_path_factory.mktemp("engine")) as running:
            yield running
    except NoEngineError as error:
        pytest.skip(f"no Docker Engine: {error}")


class Node:
    """Two containers on one GPU, an agent beside them, and the script that says who is on the GPU."""

    def __init__(self, engine: RealEngine, folder: Path) -> None:
        self.script = folder / "script"
        run = engine.client.containers.run
        chat = run(
            IMAGE, ["sleep", "3600"], name="chat", detach=True, volumes=GIVEN, labels={"otel-llm.model": "m/chat"}
        )
        web = run(IMAGE, ["sleep", "3600"], name="web", detach=True)
        self.containers = (chat, web)
        self.pids = {}
        for container in self.containers:
            container.reload()
            self.pids[container.name] = container.attrs["State"]["Pid"]
        self.on_gpu()

    def on_gpu(self, *pids: int) -> None:
        """Let these processes be on the GPU, five gigabytes each."""
        listed = ",".join(f"{pid}:{5 * GB}" for pid in pids)
        lines = [line for line in H100.splitlines() if not line.startswith(("gpu.0.processes", "gpu.0.process_util"))]
        # As the driver's own state changes: in one step.
        fresh = self.script.with_suffix(".new")
        fresh.write_text("\n".join([f"gpu.0.processes.compute={listed}", *lines]) + "\n")
        fresh.replace(self.script)

    def remove(self) -> None:
        for container in self.containers:
            with contextlib.suppress(Exception):  # the test may have removed it
                container.remove(force=True)


@pytest.fixture
def node(engine: RealEngine, tmp_path: Path) -> Iterator[Node]:
    made = Node(engine, tmp_path)
    yield made
    made.remove()


@pytest.fixture
def running(engine: RealEngine, node: Node, tmp_path: Path) -> Iterator[Agent]:
    with agent(
        "up",
        **engine.host,
        LD_LIBRARY_PATH=library().parent,
        FAKE_NVML_SCRIPT=node.script,
        METRICS_INTERVAL_LIVE=1,
        OTEL_METRIC_EXPORT_INTERVAL=500,
        OTEL_LLM_DATA_DIR=tmp_path / "data",
    ) as started:
        yield started


def users(running: Agent) -> dict[str, Any]:
    gpus = running.get("/api/v1/topology")[1]["gpus"]
    return {one["container_name"]: (one["evidence"], one["model"]) for gpu in gpus for one in gpu["users"]}


def test_declared_then_observed_then_shared_then_ended(node: Node, running: Agent) -> None:
    until(lambda: users(running) == {"chat": ("declared", "m/chat")}, "what was declared")

    node.on_gpu(node.pids["chat"], node.pids["web"])
    until(
        lambda: users(running) == {"chat": ("both", "m/chat"), "web": ("observed", None)},
        f"both containers, not {users(running)}",
    )
    found = until(lambda: running.get("/api/v1/gpus/processes")[1])
    told = ("gpu_id", "gpu_uuid", "pid", "container_name", "model", "memory_used_bytes")
    assert [tuple(one[name] for name in told) for one in sorted(found, key=lambda one: one["container_name"])] == [
        (0, GPU, node.pids["chat"], "chat", "m/chat", 5 * GB),
        (0, GPU, node.pids["web"], "web", None, 5 * GB),
    ]
    indices = {one["container_name"]: one["gpu_indices"] for one in running.get("/api/v1/containers")[1]}
    assert indices == {"chat": [0], "web": [0]}

    def kinds() -> set[tuple[str, str | None]]:
        # Under cgroup v1 it is also told, rightly, that nobody let `chat` at the devices it was given.
        misfits = running.get("/api/v1/topology")[1]["mismatches"]
        return {(one["kind"], one["container_name"]) for one in misfits if one["kind"] != "lost_gpus"}

    until(lambda: kinds() == {("undeclared", "web"), ("shared", None)}, "what does not fit", 40)
    node.containers[1].kill()
    until(lambda: ("ended_process", None) in kinds(), "memory of a process that has ended", 40)
    said = [one["body"] for one in running.get("/api/v1/logs?since=5m&limit=200")[1]["logs"]]
    assert "container web uses GPU 0, which it was not given" in said
    assert f"process {node.pids['web']} has ended and still holds memory of GPU 0" in said
