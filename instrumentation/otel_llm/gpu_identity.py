"""The UUIDs of the NVIDIA GPUs that this process can see, from the driver's files and the environment.

NVML is left alone: it is a library with state and threads of its own, and it has no place in somebody else's process. The
answer is all or nothing: where one of the GPUs in question cannot be told from its neighbours, none is named, for a request
that leads to the wrong GPU is worse than one that leads to none. GPUs of other makers are left to others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .host_identity import read_text

GPU_CAP: Final = 64
_PAGE: Final = 4096
_UUID = re.compile(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SLOT = re.compile(r"([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.([0-7])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gpu:
    """What the driver's file says of one GPU; None is unknown."""

    slot: tuple[int, ...]  # on the PCI bus: domain, bus, device, function
    uuid: str | None
    model: str | None
    minor: int | None  # of its device file, /dev/nvidia<minor>
    partitioned: bool  # into MIG instances


class _UncertainError(Exception):
    """Which GPUs are meant cannot be told from here."""


def visible_gpus(environ: Mapping[str, str], contained: bool, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the UUIDs in the order of the PCI bus; empty where there is no GPU, or where it is not certain which."""
    gpus = _driver_gpus(root)
    try:
        if contained:
            # All of the machine's may stand in /proc; the engine gave the device files of some.
            gpus = [gpu for gpu in gpus if gpu.minor is not None and (root / f"dev/nvidia{gpu.minor}").exists()]
            gpus = _granted(gpus, environ.get("NVIDIA_VISIBLE_DEVICES", ""))
        gpus = _chosen(gpus, environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER", ""))
    except _UncertainError:
        return ()
    found = tuple(gpu.uuid for gpu in gpus if gpu.uuid is not None)
    return found if len(found) == len(gpus) else ()


def _driver_gpus(root: Path) -> list[Gpu]:
    driver = root / "proc/driver/nvidia"
    try:
        slots = [(path, found) for path in (driver / "gpus").iterdir() if (found := _SLOT.fullmatch(path.name))]
    except OSError:
        return []
    gpus = []
    for path, found in slots[:GPU_CAP]:
        lines = (line.partition(":") for line in (read_text(path / "information", _PAGE) or "").splitlines())
        told = {key.strip(): value.strip() for key, _, value in lines}
        if told.get("GPU Excluded") == "Yes":
            continue
        uuid, model, minor = told.get("GPU UUID", ""), told.get("Model"), told.get("Device Minor", "")
        gpus.append(
            Gpu(
                slot=tuple(int(part, 16) for part in found.groups()),
                uuid=uuid if _UUID.fullmatch(uuid) else None,  # question marks, until somebody opened the GPU
                model=model if model != "Unknown" else None,
                minor=int(minor) if minor.isdecimal() else None,
                partitioned=any((driver / f"capabilities/gpu{minor}/mig").glob("gi*")),
            )
        )
    return sorted(gpus, key=lambda gpu: gpu.slot)


def _granted(gpus: list[Gpu], asked: str) -> list[Gpu]:
    """Narrow to what NVIDIA_VISIBLE_DEVICES asked the engine for.

    `all`, nothing and `void` (which engines write that grant by other means) narrow nothing. Numbers count the GPUs of the
    machine, of which a container may see a part: they are taken for granted where just as many device files came.
    """
    names = [name.strip().rpartition("=")[2] for name in asked.split(",")]  # nvidia.com/gpu=GPU-...
    if asked == "none":
        return []
    if names in ([""], ["all"], ["void"]):
        return gpus
    if all(name.startswith(("GPU-", "MIG-")) for name in names):
        found = [_by_uuid(gpus, name) for name in names]
        return [gpu for gpu in gpus if gpu in found]
    if len({name.partition(":")[0] for name in names}) == len(gpus):  # 0:1 is the instance 1 of GPU 0
        return gpus
    raise _UncertainError


def _chosen(gpus: list[Gpu], wanted: str | None, order: str) -> list[Gpu]:
    """Narrow to what CUDA_VISIBLE_DEVICES leaves: CUDA takes the list up to the first entry that names no GPU."""
    if wanted is None:
        return gpus
    chosen: list[Gpu] = []
    by_number = False
    names = [name.strip() for name in wanted.split(",")]
    if len(set(names)) < len(names):
        raise _UncertainError  # CUDA takes no list with repeats
    for name in names:
        if name.isdecimal():
            by_number = True
            found = gpus[int(name)] if int(name) < len(gpus) else None
        else:
            found = _by_uuid(gpus, name) if name.startswith(("GPU-", "MIG-")) else None
        if found is None:
            break
        chosen.append(found)
    kept = [gpu for gpu in gpus if gpu in chosen]
    if by_number and kept != gpus and not _counted_along_the_bus(gpus, order):
        raise _UncertainError
    return kept


def _counted_along_the_bus(gpus: Sequence[Gpu], order: str) -> bool:
    """Say whether CUDA's numbers follow the PCI bus: told to, or left without a reason to begin with another.

    By default it begins with the fastest GPU; of equal ones it takes the first, on which vLLM relies as well. Instances
    of partitioned GPUs are counted otherwise.
    """
    if any(gpu.partitioned for gpu in gpus):
        return False
    models = {gpu.model for gpu in gpus}
    return order == "PCI_BUS_ID" or (len(models) == 1 and None not in models)


def _by_uuid(gpus: Sequence[Gpu], name: str) -> Gpu | None:
    """Return the GPU that a UUID, the beginning of one, or the UUID of a MIG instance names; None where there is none."""
    if name.startswith("MIG-") and not name.startswith("MIG-GPU-"):
        if len(gpus) == 1:
            return gpus[0]
        raise _UncertainError  # such a UUID does not tell of which GPU the instance is a part
    wanted = name.removeprefix("MIG-").partition("/")[0]
    if any(gpu.uuid is None for gpu in gpus):
        raise _UncertainError
    found = [gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(wanted)]
    if len(found) > 1:
        raise _UncertainError
    return found[0] if found else None
