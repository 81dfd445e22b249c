"""One running line for the tests of a file: a node that has everything, and one that has next to nothing."""

from contextlib import ExitStack

import pytest
from agent.api.line import (
    read_containers,
    read_gpus,
    read_host,
    start,
    unavailable,
    worker,
)
from waiting import until

from otel_agent.sources.containers.metrics import METRICS as CONTAINER_METRICS
from otel_agent.sources.gpu.metrics import METRICS as GPU_METRICS
from otel_agent.sources.host.metrics import METRICS as HOST_METRICS


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A node with two GPUs and three containers, and its data in the store."""
    workers = {
        "host": worker("host", read_host, HOST_METRICS),
        "gpu": worker("gpu", read_gpus, GPU_METRICS),
        "containers": worker("containers", read_containers, CONTAINER_METRICS),
    }
    with ExitStack() as ending:
        running = start(ending, tmp_path_factory.mktemp("store"), workers)
        until(lambda: running.get("/api/v1/containers").json())
        until(lambda: (running.get("/api/v1/system").json() or {}).get("network_rx_bytes"))
        yield running


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A node without GPU, Docker or store."""
    workers = {
        "host": worker("host", read_host, HOST_METRICS),
        "gpu": worker("gpu", None, GPU_METRICS, opened=lambda: unavailable("no NVIDIA driver", "install it")),
        "containers": worker(
            "containers", None, CONTAINER_METRICS, opened=lambda: unavailable("no Docker socket", "start Docker")
        ),
    }
    with ExitStack() as ending:
        running = start(ending, tmp_path_factory.mktemp("bare"), workers, stored=False)
        until(lambda: running.get("/ready").status_code == 200)
        yield running
