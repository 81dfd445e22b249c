"""Who uses which GPU, through the whole line: sources, placement, OTLP, store, API."""

import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from agent.api.line import start, unavailable, worker
from agent.derived.machines import (
    GB,
    UUIDS,
    container,
    containers,
    device_request,
    gpus,
    hex_id,
    process,
    processes,
    using,
)
from waiting import until

from otel_agent.derived import metrics as placement_metrics
from otel_agent.derived.read import open_placement
from otel_agent.sources import Others
from otel_agent.sources.containers import metrics as container_metrics
from otel_agent.sources.gpu import metrics as gpu_metrics
from otel_agent.sources.processes import metrics as process_metrics

SERVE = "vllm serve Qwen/Qwen3-8B"


def read_gpus():
    """Two GPUs, the first shared, with a process outside of containers on the second."""
    on = {0: using(501, memory=60 * GB) + using(502, memory=5 * GB), 1: using(900)}
    return gpus(on, count=2, at_s=time.time())


def read_containers():
    labels = (("com.docker.compose.service", "chat"),)
    chat = container("chat", device_request("0"), command=SERVE, labels=labels, health="healthy")
    embed = container("embed", device_request(count=-1), command="text-embeddings-router --model-id BAAI/bge-m3")
    ended = container("ended", state="exited", exit_code=137, oom_killed=True)
    ended = replace(ended, usage=None, identity=replace(ended.identity, pid=None, started_s=None))
    return replace(containers(chat, embed, ended), time_s=time.time())


def read_processes():
    of_host = process(900, name="python3", command=("python3", "train.py"))
    return replace(processes(process(501, "chat"), process(502, "embed"), of_host), time_s=time.time())


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    workers = {}
    others = Others(lambda name: workers[name][0] if name in workers else None)
    workers |= {
        "gpu": worker("gpu", read_gpus, gpu_metrics.METRICS),
        "containers": worker("containers", read_containers, container_metrics.METRICS),
        "processes": worker("processes", read_processes, process_metrics.METRICS),
        "placement": worker(
            "placement", None, placement_metrics.METRICS, opened=lambda: open_placement(others, idle_s=600)
        ),
    }
    with ExitStack() as ending:
        running = start(ending, tmp_path_factory.mktemp("store"), workers)
        until(lambda: any(gpu["users"] for gpu in running.get("/api/v1/topology").json()["gpus"]), "a placement")
        yield running


def test_the_topology_names_users_processes_models_and_evidence(line):
    body = line.get("/api/v1/topology").json()
    first, second = body["gpus"]
    chat, embed, ended = body["containers"]

    assert (body["observed"], body["mismatches"], set(body["sources"])) == (
        True,
        [],
        {"gpu", "containers", "processes", "placement"},
    )
    assert (first["gpu_uuid"], first["gpu_id"], first["gpu_name"]) == (UUIDS[0], 0, "NVIDIA H200")
    assert [(one["container_name"], one["model"], one["evidence"]) for one in first["users"]] == [
        ("chat", "Qwen/Qwen3-8B", "both"),
        ("embed", "BAAI/bge-m3", "both"),
    ]
    assert [(one["container_name"], one["program"], one["evidence"]) for one in second["users"]] == [
        ("embed", None, "declared"),
        (None, "python3", "observed"),
    ]
    assert chat == {
        "container_id": hex_id("chat"),
        "container_name": "chat",
        "state": "running",
        "health": "healthy",
        "exit_code": None,
        "oom_killed": None,
        "labels": {"com.docker.compose.service": "chat"},
        "model": "Qwen/Qwen3-8B",
        "gpu_uuids": [UUIDS[0]],
        "gpu_indices": [0],
        "evidence": {UUIDS[0]: "both"},
    }
    assert embed["evidence"] == {UUIDS[0]: "both", UUIDS[1]: "declared"}
    assert (ended["state"], ended["exit_code"], ended["oom_killed"], ended["gpu_indices"]) == ("stopped", 137, True, [])


def test_the_processes_of_gpus_name_container_and_model(line):
    found = line.get("/api/v1/gpus/processes").json()

    told = ("gpu_id", "pid", "container_name", "model", "memory_used_bytes")
    assert [tuple(one[name] for name in told) for one in found] == [
        (0, 501, "chat", "Qwen/Qwen3-8B", 60 * GB),
        (0, 502, "embed", "BAAI/bge-m3", 5 * GB),
        (1, 900, None, None, GB),
    ]


def test_the_indices_of_a_container_are_those_it_is_seen_on(line):
    """`embed` was given all and uses the first."""
    told = {one["container_name"]: one["gpu_indices"] for one in line.get("/api/v1/containers").json()}
    assert told == {"chat": [0], "embed": [0], "ended": []}


def test_docker_that_cannot_be_reached_is_a_state_with_a_remedy(tmp_path):
    said = ("no Docker socket at /var/run/docker.sock", "start Docker or set DOCKER_HOST")
    workers = {
        "containers": worker("containers", None, container_metrics.METRICS, opened=lambda: unavailable(*said)),
        "gpu": worker("gpu", read_gpus, gpu_metrics.METRICS),
    }
    with ExitStack() as ending:
        running = start(ending, tmp_path, workers)
        body = until(lambda: (found := running.get("/api/v1/topology").json())["gpus"] and found)
        assert running.get("/api/v1/containers").json() == []
    assert body["sources"]["containers"] == {"state": "unavailable", "reason": said[0], "remedy": said[1]}
    assert (body["containers"], body["observed"]) == ([], None)
