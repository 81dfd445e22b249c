"""Which GPUs a container was declared to get: Docker's and Podman's ways of saying so, after their API documents."""

from typing import Any

import pytest

from otel_agent.sources.containers.identity import GpuClaim, Identity, from_inspect, gpu_claim

NONE = GpuClaim(enabled=False, indices=())
UUID = "GPU-8f3c5a1e-7b2d-4c3e-9a57-0c1d2e3f4a5b"


def request(driver: str = "", count: int = 0, ids: list[str] | None = None, capability: str = "gpu") -> dict[str, Any]:
    return {"Driver": driver, "Count": count, "DeviceIDs": ids, "Capabilities": [[capability]], "Options": {}}


def runtime(visible: str | None, name: str = "nvidia") -> tuple[dict[str, Any], dict[str, Any]]:
    return {"Runtime": name}, {
        "Env": ["PATH=/bin", *([f"NVIDIA_VISIBLE_DEVICES={visible}"] if visible is not None else [])]
    }


CASES = {
    "--gpus all": ({"DeviceRequests": [request(count=-1)]}, {}, GpuClaim(enabled=True, every=True)),
    "--gpus 2 takes the first two": (
        {"DeviceRequests": [request(count=2)]},
        {},
        GpuClaim(enabled=True, indices=(0, 1)),
    ),
    "--gpus device=1,3": ({"DeviceRequests": [request(ids=["1", "3"])]}, {}, GpuClaim(enabled=True, indices=(1, 3))),
    "--gpus device=GPU-...": ({"DeviceRequests": [request(ids=[UUID])]}, {}, GpuClaim(enabled=True, ids=(UUID,))),
    "compose deploy.resources": (
        {"DeviceRequests": [request("nvidia", ids=["0"])]},
        {},
        GpuClaim(enabled=True, indices=(0,)),
    ),
    "CDI by index": (
        {"DeviceRequests": [request("cdi", ids=["nvidia.com/gpu=0", "nvidia.com/gpu=2"], capability="")]},
        {},
        GpuClaim(enabled=True, indices=(0, 2)),
    ),
    "CDI all": (
        {"DeviceRequests": [request("cdi", ids=["nvidia.com/gpu=all"], capability="")]},
        {},
        GpuClaim(enabled=True, every=True),
    ),
    "CDI of MIG": (
        {"DeviceRequests": [request("cdi", ids=["nvidia.com/gpu=0:1"], capability="")]},
        {},
        GpuClaim(enabled=True, ids=("0:1",)),
    ),
    "CDI of something else": ({"DeviceRequests": [request("cdi", ids=["vendor.com/net=0"], capability="")]}, {}, NONE),
    "a request of another capability": ({"DeviceRequests": [request("other", count=1, capability="tpu")]}, {}, NONE),
    "a request wins over the image's environment": (
        {"DeviceRequests": [request(ids=["1"])], "Runtime": "runc"},
        {"Env": ["NVIDIA_VISIBLE_DEVICES=all"]},
        GpuClaim(enabled=True, indices=(1,)),
    ),
    "the image's environment alone means nothing": (*runtime("all", "runc"), NONE),
    "nvidia runtime, all": (*runtime("all"), GpuClaim(enabled=True, every=True, weak=True)),
    "nvidia runtime, list": (*runtime("0,2"), GpuClaim(enabled=True, indices=(0, 2))),
    "nvidia runtime, UUID": (*runtime(UUID), GpuClaim(enabled=True, ids=(UUID,))),
    "nvidia runtime, none": (*runtime("none"), NONE),
    "nvidia runtime, void": (*runtime("void"), NONE),
    "nvidia runtime, not set": (*runtime(None), NONE),
    "device nodes have minor numbers, no index": (
        {
            "Devices": [
                {"PathOnHost": "/dev/nvidia1", "PathInContainer": "/dev/nvidia1"},
                {"PathOnHost": "/dev/nvidiactl"},
            ]
        },
        {},
        GpuClaim(enabled=True, minors=(1,)),
    ),
    "devices as files mounted": (
        {"Runtime": "nvidia", "Binds": [f"/dev/null:/var/run/nvidia-container-devices/{UUID}:ro"]},
        {"Env": ["NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices"]},
        GpuClaim(enabled=True, ids=(UUID,)),
    ),
    "another device": ({"Devices": [{"PathOnHost": "/dev/fuse"}]}, {}, NONE),
    "privileged": ({"Privileged": True}, {}, GpuClaim()),
    "no GPU": ({"Runtime": "runc", "DeviceRequests": None, "Devices": []}, {"Env": None}, NONE),
    "nothing told": ({}, {}, GpuClaim()),
    "junk": ({"DeviceRequests": [7, {"Capabilities": "gpu"}, {"Driver": 1}], "Devices": 3}, {"Env": 9}, NONE),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_declared(case: str) -> None:
    host, config, expected = CASES[case]
    assert gpu_claim(host, config) == expected


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"State": [], "HostConfig": 1, "Config": "x", "Name": 3, "Created": "yesterday", "RestartCount": True},
    ],
)
def test_an_inspection_that_tells_nothing_leaves_what_the_list_told(answer: object) -> None:
    listed = Identity("ab" * 32, "web", "web:1", "exited", created_s=7)
    assert from_inspect(answer, listed) == listed
