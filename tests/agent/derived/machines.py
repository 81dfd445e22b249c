"""Snapshots of a machine with eight GPUs, made of the sources' own records."""

from collections.abc import Sequence
from typing import Any

from otel_agent.sources.containers.identity import GpuClaim, Identity, gpu_claim
from otel_agent.sources.containers.snapshot import Container, ContainersSnapshot, MainProcess, Usage
from otel_agent.sources.gpu.snapshot import GpuIdentity, GpuInstance, GpuProcess, GpuReading, GpuSnapshot
from otel_agent.sources.processes.snapshot import Process, ProcessesSnapshot

NOW = 1_795_259_600.0
UUIDS = tuple(f"GPU-{index}0000000-7b2d-4c3e-9a57-0c1d2e3f4a5b" for index in range(8))
GB = 10**9


def hex_id(name: str) -> str:
    return name.encode().hex().ljust(64, "0")[:64]


def using(*pids: int, memory: int | None = GB, container: str | None = None) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(pid, None, memory, container_id=container) for pid in pids)


def gpus(
    processes: dict[int, tuple[GpuProcess, ...]] | None = None,
    *,
    count: int = 8,
    at_s: float = NOW,
    instances: dict[int, tuple[GpuInstance, ...]] | None = None,
    failed: Sequence[int] = (),
    names: Sequence[str] = ("NVIDIA H200",) * 8,
    told: bool = True,
) -> GpuSnapshot:
    """GPUs by index; `told` off is a driver that does not list processes."""
    return GpuSnapshot(
        at_s,
        "590.48.01",
        tuple(
            GpuReading(
                GpuIdentity(index, UUIDS[index], names[index], f"0000:{index + 1:02x}:00.0"),
                failure="GPU is lost" if index in failed else None,
                processes=(processes or {}).get(index, ()) if told and index not in failed else None,
                instances=(instances or {}).get(index, ()),
            )
            for index in range(count)
        ),
    )


def mig(gpu: int, position: int, processes: tuple[GpuProcess, ...] = ()) -> GpuInstance:
    return GpuInstance(f"MIG-{gpu}{position}000000-aaaa-bbbb-cccc-000000000000", UUIDS[gpu], processes=processes)


def container(
    name: str,
    host: dict[str, Any] | None = None,
    *,
    claim: GpuClaim | None = None,
    environ: Sequence[str] = (),
    command: str = "",
    main: MainProcess | None = None,
    started_s: float = NOW - 5000,
    state: str = "running",
    **told: Any,
) -> Container:
    """A running container; `host` is the HostConfig of its inspection."""
    claim = claim or gpu_claim({"Runtime": "runc", **(host or {})}, {"Env": list(environ)})
    usage = told.pop("usage", Usage(devices_denied=None))
    identity = Identity(
        hex_id(name),
        name,
        "vllm/vllm-openai:v0.32.0",
        state,
        started_s=started_s,
        pid=1000,
        gpu=claim,
        command=tuple(command.split()),
        **told,
    )
    return Container(identity, usage, main=main or MainProcess(f"mnt:[{name}]", f"pid:[{name}]"))


def containers(*several: Container) -> ContainersSnapshot:
    return ContainersSnapshot(NOW, several)


def process(pid: int, of: str | None = None, **told: Any) -> Process:
    facts: dict[str, Any] = {
        "started_s": NOW - 100,
        "name": "VLLM::Worker",
        "state": "S",
        "parent": 1,
        "user_s": 1.0,
        "system_s": 1.0,
        "memory_bytes": 1,
        "virtual_bytes": 1,
        "threads": 1,
        "container_id": hex_id(of) if of else None,
    }
    return Process(pid=pid, **facts | told)


def processes(
    *several: Process, asked: Sequence[int] = (), host_view: bool | None = True, **told: Any
) -> ProcessesSnapshot:
    pids = frozenset([*(one.pid for one in several), *asked])
    return ProcessesSnapshot(NOW, NOW - 10_000, {one.pid: one for one in several}, pids, host_view, **told)


def device_request(*ids: str, count: int = 0, driver: str = "") -> dict[str, Any]:
    capability = "" if driver == "cdi" else "gpu"
    return {
        "DeviceRequests": [{"Driver": driver, "Count": count, "DeviceIDs": list(ids), "Capabilities": [[capability]]}]
    }
