"""The API of GPUs in depth: partitions and failures, from the store and from the last reading."""

import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
from agent.api.line import UUIDS, read_gpus, start, worker
from waiting import until

from otel_agent.sources.gpu.metrics import METRICS
from otel_agent.sources.gpu.snapshot import GpuInstance, GpuProcess, GpuReading, GpuSnapshot

PART = GpuInstance(
    "MIG-1",
    UUIDS[1],
    "NVIDIA H200 MIG 1g.18gb",
    gpu_instance=2,
    compute_instance=0,
    memory_used_bytes=10,
    memory_total_bytes=100,
)


def read(change=None):
    """Two GPUs: one with processes, one partitioned."""
    told, silent = read_gpus().gpus
    told = replace(
        told,
        processes=(
            GpuProcess(17, "python3", 500, 0.0),
            GpuProcess(4242, "vllm", 29_000, 0.75, "ab" * 32),
            GpuProcess(9, None, None, 0.5),
        ),
        **(change or {}),
    )
    return GpuSnapshot(time.time(), "590.1", (told, replace(silent, instances=(PART,))))


@pytest.fixture
def line(tmp_path):
    with ExitStack() as ending:
        yield start(ending, tmp_path, {"gpu": worker("gpu", read, METRICS)})


def test_a_mig_device_stands_below_its_gpu_and_is_no_gpu_of_its_own(line):
    from_store = until(lambda: line.get("/api/v1/gpus").json())
    from_reading = line.get("/gpu").json()["gpus"]

    part = {
        "gpu_uuid": "MIG-1",
        "gpu_name": "NVIDIA H200 MIG 1g.18gb",
        "gpu_instance_id": 2,
        "compute_instance_id": 0,
        "memory_used_bytes": 10,
        "memory_total_bytes": 100,
    }
    for cards in (from_store, from_reading):
        assert [(card["gpu_uuid"], card["instances"]) for card in cards] == [(UUIDS[0], []), (UUIDS[1], [part])]


def test_a_gpu_that_failed_says_so_and_degrades_health(tmp_path):
    def failing():
        return replace(read(), gpus=(GpuReading(read().gpus[0].identity, failure="GPU is lost"), read().gpus[1]))

    with ExitStack() as ending:
        line = start(ending, tmp_path, {"gpu": worker("gpu", failing, METRICS)}, stored=False)
        until(lambda: line.get("/gpu").json()["gpus"])
        card = line.get("/gpu").json()["gpus"][0]
        health = line.get("/health").json()

    assert (card["gpu_uuid"], card["status"], card["memory_used_bytes"]) == (UUIDS[0], "failed", None)
    assert (health["status"], health["gpu"]["reasons"]) == ("degraded", ["GPU 0: failed"])


def test_a_gpu_due_for_exchange_degrades_health(tmp_path):
    with ExitStack() as ending:
        reading = partial(read, {"row_remap_failed": True})
        line = start(ending, tmp_path, {"gpu": worker("gpu", reading, METRICS)}, stored=False)
        until(lambda: line.get("/gpu").json()["gpus"])
        assert line.get("/health").json()["gpu"]["reasons"] == ["GPU 0: predicted_failure"]
