"""Which GPU serves which process, container and model: observed, declared or both, and never guessed."""

from typing import Any

import pytest
from agent.derived.machines import (
    UUIDS,
    container,
    containers,
    device_request,
    gpus,
    hex_id,
    mig,
    process,
    processes,
    using,
)

from otel_agent.catalogue import problems, values
from otel_agent.derived.metrics import METRICS
from otel_agent.derived.model import declared_model
from otel_agent.derived.placement import Places, place
from otel_agent.derived.read import PlacementSnapshot
from otel_agent.sources.containers.identity import GpuClaim
from otel_agent.sources.containers.snapshot import MainProcess

SERVE = "vllm serve Qwen/Qwen3-8B --port 8000"


def table(places: Places) -> list[tuple[str | int | None, str | None, str, str | None]]:
    """Return (GPU, container or program, evidence, model) of every placement."""
    return [
        (
            one.part.index if one.part.parent is None else one.part.id,
            one.container.identity.name if one.container else one.program,
            one.evidence,
            one.model,
        )
        for one in places.placements
    ]


def declared(host: dict[str, Any], **how: Any) -> list[int | str | None]:
    """Return the GPUs of a container that was given some and uses none."""
    found = place(gpus(instances=how.pop("instances", None)), containers(container("vllm", host, **how)), processes())
    return [one.part.index if one.part.parent is None else one.part.id for one in found.placements]


def test_the_rows_are_sound() -> None:
    assert problems(METRICS) == []


def test_a_worker_is_placed_by_its_cgroup_and_agrees_with_the_declaration() -> None:
    places = place(
        gpus({3: using(501), 5: using(502)}),
        containers(container("vllm", device_request("3"), command=SERVE), container("web")),
        processes(process(501, "vllm"), process(502, "vllm")),
    )
    assert table(places) == [(3, "vllm", "both", "Qwen/Qwen3-8B"), (5, "vllm", "observed", "Qwen/Qwen3-8B")]
    assert places.observed


@pytest.mark.parametrize("proof", ["mount", "pid"])
def test_without_an_id_in_the_cgroup_the_namespaces_of_the_first_process_tell(proof: str) -> None:
    """Agent and container in cgroup namespaces of their own: the path is `/`."""
    shared = {f"{proof}_namespace": f"{proof}:[42]"}
    main = MainProcess(**{"mount_namespace": "mnt:[7]", "pid_namespace": "pid:[8]"} | shared)
    places = place(gpus({0: using(501)}), containers(container("vllm", main=main)), processes(process(501, **shared)))
    assert table(places) == [(0, "vllm", "observed", None)]


@pytest.mark.parametrize(
    "namespace", [{"pid_namespace": "pid:[4026531836]"}, {"pid_namespace": "pid:[9]"}, {"mount_namespace": None}]
)
def test_a_namespace_that_is_the_hosts_or_of_two_containers_proves_nothing(namespace: dict[str, Any]) -> None:
    """`--pid=host`, and `--pid=container:other`."""
    mains = [MainProcess(f"mnt:[{number}]", namespace.get("pid_namespace")) for number in (1, 2)]
    running = containers(container("one", main=mains[0]), container("two", main=mains[1]))
    hosts = containers(container("one", main=mains[0]))
    known = hosts if namespace.get("pid_namespace") == "pid:[4026531836]" else running
    places = place(gpus({0: using(501)}), known, processes(process(501, name="python", **namespace)))
    assert table(places) == [(0, "python", "observed", None)]


def test_a_pid_that_was_given_again_is_whose_it_is_now() -> None:
    """Nothing is remembered by pid: what counts is the process that bears it."""
    running = containers(container("one"), container("two"))
    for owner in ("one", "two"):
        places = place(gpus({0: using(501)}), running, processes(process(501, owner)))
        assert table(places) == [(0, owner, "observed", None)]


def test_a_gpu_shared_by_two_containers_has_both() -> None:
    places = place(
        gpus({0: using(501, 502)}),
        containers(
            container("chat", device_request("0"), command=SERVE),
            container("embed", device_request("0"), command="text-embeddings-router --model-id BAAI/bge-m3"),
        ),
        processes(process(501, "chat"), process(502, "embed")),
    )
    assert table(places) == [(0, "chat", "both", "Qwen/Qwen3-8B"), (0, "embed", "both", "BAAI/bge-m3")]


def test_a_program_outside_of_containers_is_named_with_the_model_of_the_command_that_started_it() -> None:
    worker = process(501, command=("VLLM::Worker",), parents=(("VLLM::EngineCore",), tuple(SERVE.split())))
    places = place(gpus({0: using(501)}), None, processes(worker))
    assert table(places) == [(0, "VLLM::Worker", "observed", "Qwen/Qwen3-8B")]


def test_the_server_of_mps_is_nobodys_and_its_clients_are_their_containers() -> None:
    server = process(400, name="nvidia-cuda-mps")
    places = place(gpus({0: using(400, 501)}), containers(container("vllm")), processes(server, process(501, "vllm")))
    assert table(places) == [(0, "vllm", "observed", None)]
    assert [one.serves_others for one in places.processes] == [True, False]


def test_a_process_on_a_mig_device_is_placed_there_and_not_on_the_whole_gpu() -> None:
    parts = {0: (mig(0, 0, using(501)), mig(0, 1))}
    places = place(
        gpus({0: using(501)}, instances=parts),
        containers(container("vllm", device_request("0:0")), container("spare", device_request(parts[0][1].uuid))),
        processes(process(501, "vllm")),
    )
    assert table(places) == [(parts[0][0].uuid, "vllm", "both", None), (parts[0][1].uuid, "spare", "declared", None)]


@pytest.mark.parametrize(
    ("host_view", "told", "why"),
    [
        (False, True, "the agent is not in the host's pid namespace, in which the driver counts"),
        (None, True, "the agent is not in the host's pid namespace, in which the driver counts"),
        (True, False, "the driver does not tell which processes use the GPUs"),
    ],
)
def test_where_pids_are_not_the_hosts_only_declarations_are_told_and_it_says_so(
    host_view: bool | None, told: bool, why: str
) -> None:
    """A pid of another namespace may be anybody's here, even when one of that number exists."""
    places = place(
        gpus({0: using(501)}, told=told),
        containers(container("vllm", device_request("1"))),
        processes(process(501, "vllm"), host_view=host_view),
    )
    assert (table(places), places.observed, places.why) == ([(1, "vllm", "declared", None)], False, why)
    points = {row.name: values(row, PlacementSnapshot(places)) for row in METRICS}
    assert points["otel_llm.placement.observed"] == [(0, {})]
    assert points["otel_llm.placement.process"] == []


def test_a_source_that_is_missing_takes_away_what_only_it_could_tell() -> None:
    assert place(None, None, None).why == "no GPU is read"
    places = place(gpus({0: using(501)}), None, None)
    assert (table(places), places.why) == ([], "processes are not read")


DECLARED: dict[str, tuple[dict[str, Any], dict[str, Any], list[int]]] = {
    "--gpus all": (device_request(count=-1), {}, list(range(8))),
    "--gpus 2 takes the first two": (device_request(count=2), {}, [0, 1]),
    "--gpus device=1,3": (device_request("1", "3"), {}, [1, 3]),
    "a list of UUIDs": (device_request(UUIDS[6], UUIDS[2]), {}, [2, 6]),
    "the beginning of a UUID": (device_request("GPU-5"), {}, [5]),
    "the beginning of several UUIDs": (device_request("GPU-"), {}, []),
    "a UUID that is not here": (device_request("GPU-ffffffff-0000-0000-0000-000000000000"), {}, []),
    "an index that is not here": (device_request("9"), {}, []),
    "CDI by index": (device_request("nvidia.com/gpu=4", driver="cdi"), {}, [4]),
    "CDI by UUID": (device_request(f"nvidia.com/gpu={UUIDS[4]}", driver="cdi"), {}, [4]),
    "CDI all": (device_request("nvidia.com/gpu=all", driver="cdi"), {}, list(range(8))),
    "compose deploy.resources": (device_request("7", driver="nvidia"), {}, [7]),
    "CUDA_VISIBLE_DEVICES counts inside the visible set": (
        device_request("4", "5", "6"),
        {"main": MainProcess(cuda_visible="2,0")},
        [4, 6],
    ),
    "what follows an invalid number is not seen": (
        device_request("4", "5", "6"),
        {"main": MainProcess(cuda_visible="1,9,0")},
        [5],
    ),
    "CUDA_VISIBLE_DEVICES empty": (device_request("4"), {"main": MainProcess(cuda_visible="")}, []),
    "CUDA_VISIBLE_DEVICES by UUID": (
        device_request(count=-1),
        {"main": MainProcess(cuda_visible=f"{UUIDS[3]},GPU-1")},
        [1, 3],
    ),
    "CUDA_VISIBLE_DEVICES as declared, where the process cannot be read": (
        device_request("4", "5"),
        {"cuda_visible": "1"},
        [5],
    ),
    "an image's all is narrowed by what the runtime left": (
        {"Runtime": "nvidia"},
        {"environ": ["NVIDIA_VISIBLE_DEVICES=all"], "main": MainProcess(nvidia_visible="2,3")},
        [2, 3],
    ),
    "an image's all means nothing without the runtime": ({}, {"environ": ["NVIDIA_VISIBLE_DEVICES=all"]}, []),
    "void": ({"Runtime": "nvidia"}, {"environ": ["NVIDIA_VISIBLE_DEVICES=void"]}, []),
    "privileged": ({"Privileged": True}, {}, []),
}


@pytest.mark.parametrize("case", DECLARED)
def test_what_was_declared_is_turned_into_gpus(case: str) -> None:
    host, how, expected = DECLARED[case]
    assert declared(host, **how) == expected


def test_numbers_among_unlike_gpus_are_not_guessed() -> None:
    """CUDA may count the fastest first; the declared set is told whole."""
    unlike = gpus(count=2, names=("NVIDIA L40S", "NVIDIA H200"))
    running = containers(container("vllm", device_request(count=-1), main=MainProcess(cuda_visible="0")))
    assert [one.part.index for one in place(unlike, running, processes()).placements] == [0, 1]


def test_a_device_node_is_found_by_its_minor_number_which_is_no_index() -> None:
    nodes = {"Devices": [{"PathOnHost": "/dev/nvidia0"}, {"PathOnHost": "/dev/nvidiactl"}]}
    minors = {"00000000:05:00.0": 0, "00000000:01:00.0": 4}
    places = place(gpus(), containers(container("vllm", nodes)), processes(gpu_minors=minors))
    assert table(places) == [(4, "vllm", "declared", None)]


@pytest.mark.parametrize("name", ["0", "all", UUIDS[0], f"MIG-{UUIDS[0]}/1/0"])
def test_a_partitioned_gpu_is_its_mig_devices(name: str) -> None:
    parts = {0: (mig(0, 0), mig(0, 1))}
    found = declared(
        {}, claim=GpuClaim(True, ids=(name,)) if name != "all" else GpuClaim(True, every=True), instances=parts
    )
    assert found[:2] == [part.uuid for part in parts[0]]
    assert found[2:] == (list(range(1, 8)) if name == "all" else [])


def test_the_points_of_a_placement() -> None:
    places = place(
        gpus({3: using(501)}),
        containers(container("vllm", device_request("3"), command=SERVE)),
        processes(process(501, "vllm")),
    )
    whose = {
        "hw.id": UUIDS[3],
        "otel_llm.gpu.index": 3,
        "container.id": hex_id("vllm"),
        "container.name": "vllm",
        "otel_llm.model.name": "Qwen/Qwen3-8B",
    }
    assert {row.name: values(row, PlacementSnapshot(places)) for row in METRICS} == {
        "otel_llm.placement": [(1, {**whose, "otel_llm.placement.evidence": "both"})],
        "otel_llm.placement.process": [(1, {**whose, "process.pid": 501, "otel_llm.process.name": "VLLM::Worker"})],
        "otel_llm.placement.mismatch": [],
        "otel_llm.placement.observed": [(1, {})],
    }


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2", "Qwen/Qwen3-8B"),
        ("/usr/bin/python3 /usr/local/bin/vllm serve Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("vllm serve --port 8000 --model=Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("vllm serve /models/q --served-model-name chat chat-latest", "chat"),
        ("python3 -m vllm.entrypoints.openai.api_server --model m/n", "m/n"),
        ("python3 -m sglang.launch_server --model-path m/n --tp 2", "m/n"),
        ("text-generation-launcher --model-id m/n", "m/n"),
        ("trtllm-serve m/n --port 1", "m/n"),
        ("trtllm-serve serve m/n", "m/n"),
        ("lmdeploy serve api_server m/n", "m/n"),
        ("llama-server -m /models/m.gguf", "/models/m.gguf"),
        ("llama-server -hf m/n:Q4 --alias chat", "chat"),
        ("python3 -m http.server", None),
        ("vllm serve", None),
        ("vllm serve --port 8000", None),
        ("vllm --version", None),
        ("ollama serve", None),
        ("", None),
    ],
)
def test_the_model_of_a_command_line(line: str, model: str | None) -> None:
    assert declared_model(line.split()) == model


@pytest.mark.parametrize(
    ("script", "model"),
    [("exec vllm serve 'm/n' --port 1", "m/n"), ("vllm serve $MODEL", None), ("vllm serve 'unclosed", None)],
)
def test_the_model_inside_a_shell(script: str, model: str | None) -> None:
    assert declared_model(["/bin/sh", "-ec", script]) == model
    assert declared_model(["bash", "-c", f'bash -c "{script}"']) == model


def test_a_label_wins_over_the_command_line() -> None:
    places = place(
        gpus(), containers(container("vllm", device_request("0"), command=SERVE, model_label="chat")), processes()
    )
    assert table(places) == [(0, "vllm", "declared", "chat")]
