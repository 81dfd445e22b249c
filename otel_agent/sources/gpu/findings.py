"""What a reading says about how well the GPUs of this machine can be read, and what to do about it; for `otel-agent doctor`. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from otel_agent.sources.gpu.snapshot import GpuReading, GpuSnapshot


class Finding(NamedTuple):
    """One thing about the GPUs: how it stands, in words, and the remedy."""

    verdict: Literal["ok", "note", "problem"]
    said: str
    remedy: str = ""


def findings(snapshot: GpuSnapshot) -> Iterator[Finding]:
    """Yield everything worth a word, the whole first."""
    yield _driver(snapshot)
    for gpu in snapshot.gpus:
        yield from _health(gpu)
    answering = [gpu for gpu in snapshot.gpus if gpu.failure is None]
    if not answering:
        return
    yield from _permission(answering)
    yield from _persistence(answering)
    yield from _processes(answering)
    yield from _depth(answering)
    if snapshot.events_watched is False:
        yield Finding("note", "the driver reports no events: XIDs are seen in the kernel log alone", "dmesg | grep Xid")


def _driver(snapshot: GpuSnapshot) -> Finding:
    names = Counter(gpu.identity.name or "GPU" for gpu in snapshot.gpus)
    devices = ", ".join(f"{count} x {name}" for name, count in names.items())
    versions = [
        f"driver {snapshot.driver_version or 'unknown'}",
        *([f"CUDA {snapshot.cuda_version}"] if snapshot.cuda_version else []),
    ]
    if snapshot.failure is not None:
        return Finding("problem", snapshot.failure, "see 'nvidia-smi' and 'dmesg | grep NVRM'")
    return Finding("ok", f"{devices}; {', '.join(versions)}")


def _name(gpu: GpuReading) -> str:
    return f"GPU {gpu.identity.index if gpu.identity.index is not None else gpu.identity.id}"


def _health(gpu: GpuReading) -> Iterator[Finding]:
    if gpu.stuck:
        yield Finding("problem", f"{_name(gpu)}: {gpu.failure}", "the driver hangs on this GPU: drain the host, reboot")
    elif gpu.failure is not None:
        yield Finding("problem", f"{_name(gpu)}: {gpu.failure}", "see 'nvidia-smi' and 'dmesg | grep -i xid'")
    if gpu.row_remap_failed:
        yield Finding("problem", f"{_name(gpu)}: a row of memory could not be replaced", "have the board exchanged")
    elif gpu.row_remap_pending or gpu.retired_pending:
        yield Finding(
            "problem", f"{_name(gpu)}: faulty memory waits for a reset", "stop what uses it: nvidia-smi --gpu-reset"
        )
    if gpu.recovery_action not in (None, "none"):
        yield Finding(
            "problem",
            f"{_name(gpu)}: the driver asks for {str(gpu.recovery_action).replace('_', ' ')}",
            "stop what uses it, and do so",
        )


def _permission(gpus: list[GpuReading]) -> Iterator[Finding]:
    refused = sorted({question for gpu in gpus for question in gpu.refused})
    if refused:
        yield Finding(
            "problem",
            f"this user may not ask for: {', '.join(refused)}",
            "run the agent as root, or let it use /dev/nvidia-caps and set NVreg_RestrictProfilingToAdminUsers=0",
        )


def _persistence(gpus: list[GpuReading]) -> Iterator[Finding]:
    off = [_name(gpu) for gpu in gpus if gpu.persistence_enabled is False]
    if off:
        yield Finding(
            "note",
            f"persistence mode is off: {', '.join(off)}; each first client waits for the GPU to start, and counters begin anew",
            "enable nvidia-persistenced, or 'nvidia-smi -pm 1'",
        )


def _processes(gpus: list[GpuReading]) -> Iterator[Finding]:
    listed = [process for gpu in gpus for process in gpu.processes or ()]
    if all(gpu.processes is None for gpu in gpus):
        yield Finding("note", "the driver does not list processes", "")
        return
    hidden = [process for process in listed if process.name is None]
    if hidden:
        yield Finding(
            "problem" if len(hidden) == len(listed) else "note",
            f"{len(hidden)} of {len(listed)} processes on the GPUs cannot be seen from here: the driver numbers them as the host does",
            "run the agent's container with pid: host, or mount the host's / and set OTEL_LLM_HOST_ROOT",
        )


def _depth(gpus: list[GpuReading]) -> Iterator[Finding]:
    without = [gpu for gpu in gpus if "nvmlGpmSampleGet" in " ".join(gpu.unsupported) or gpu.activity is None]
    whole = [_name(gpu) for gpu in without if not gpu.mig_enabled]
    if whole:
        yield Finding(
            "note",
            f"no performance monitor (GPM): {', '.join(whole)}; activity of the chip's parts is told by Hopper and later",
        )
    parts = [_name(gpu) for gpu in gpus if gpu.mig_enabled]
    if parts:
        count = sum(len(gpu.instances) for gpu in gpus)
        yield Finding("ok", f"partitioned: {', '.join(parts)}, {count} MIG devices")
