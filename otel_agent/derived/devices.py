"""From what a declaration calls a GPU to the GPU: indices, UUIDs, MIG devices, device nodes, and CUDA's renumbering. Pure.

An index is NVML's, in the order of PCI addresses, and turned into a UUID at once. What cannot be resolved is left out, not guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from otel_agent.sources.containers.identity import GpuClaim
from otel_agent.sources.containers.snapshot import Container
from otel_agent.sources.gpu.snapshot import GpuProcess, GpuReading


@dataclass(frozen=True)
class Part:
    """What a process can be placed on: a GPU, or a MIG device of one (`parent` is then the GPU)."""

    id: str
    index: int | None
    parent: str | None
    name: str | None
    position: int | None  # of a MIG device among those of its GPU
    minor: int | None
    failed: bool
    processes: tuple[GpuProcess, ...] | None


def parts_of(gpus: Iterable[GpuReading], minors: Mapping[str, int]) -> tuple[Part, ...]:
    """Return everything a process can be placed on; a partitioned GPU is its MIG devices, and itself for processes that name none."""
    found: list[Part] = []
    for gpu in gpus:
        identity = gpu.identity
        minor = next((number for address, number in minors.items() if _same_slot(address, identity.pci_bus_id)), None)
        inside = {process.pid for instance in gpu.instances for process in instance.processes or ()}
        own = None if gpu.processes is None else tuple(one for one in gpu.processes if one.pid not in inside)
        found.append(Part(identity.id, identity.index, None, identity.name, None, minor, gpu.failure is not None, own))
        found.extend(
            Part(
                one.uuid,
                identity.index,
                identity.id,
                one.name or identity.name,
                at,
                None,
                found[-1].failed,
                one.processes,
            )
            for at, one in enumerate(gpu.instances)
        )
    return tuple(found)


def _same_slot(address: str, known: str | None) -> bool:
    """The driver writes the PCI domain with four digits or with eight."""
    return known is not None and address.lower().lstrip("0") == known.lower().lstrip("0")


def claimed(container: Container, parts: Sequence[Part]) -> tuple[Part, ...] | None:
    """Return what a container was declared to get, narrowed by what its first process may see; None where that is not known.

    Empty: it was declared to get none.
    """
    claim = _with_environment(container)
    if claim.enabled is None:
        return None
    if not claim.enabled:
        return ()
    if claim.every:
        found = [part for part in parts if part.index is not None]
    elif claim.indices is not None:
        found = [part for part in parts if part.index in claim.indices]
    elif claim.ids:
        found = [part for name in claim.ids for part in named(name, parts)]
    elif claim.minors:
        found = [part for part in parts if part.minor in claim.minors]
    else:
        return None
    visible = _usable(found)
    cuda = container.main.cuda_visible if container.main and container.main.cuda_visible is not None else None
    cuda = container.identity.cuda_visible if cuda is None else cuda
    return visible if cuda is None else _renumbered(cuda, visible)


def _with_environment(container: Container) -> GpuClaim:
    """Return the claim; where the engine's words name no GPU, or only an image's `all`, by what the runtime left in the first process."""
    claim = container.identity.gpu
    told = container.main.nvidia_visible if container.main else None
    vague = claim.weak or (claim.indices is None and not claim.every and not claim.ids and not claim.minors)
    if not claim.enabled or not vague or not told or told == "all" or told.startswith("/"):
        return claim
    if told in ("none", "void"):
        return GpuClaim(enabled=False, indices=())
    names = tuple(name.strip() for name in told.split(",") if name.strip())
    if all(name.isdecimal() for name in names):
        return GpuClaim(enabled=True, indices=tuple(int(name) for name in names))
    return GpuClaim(enabled=True, ids=names)


def named(name: str, parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the GPU or MIG device of a name: an index, a UUID or its unambiguous beginning, or `<gpu>:<mig>`."""
    if name.isdecimal():
        return tuple(part for part in parts if part.index == int(name))
    gpu, colon, instance = name.partition(":")
    if colon and gpu.isdecimal() and instance.isdecimal():
        return tuple(part for part in parts if part.index == int(gpu) and part.position == int(instance))
    if gpu := name.removeprefix("MIG-") if name.startswith("MIG-GPU-") else "":
        name = gpu.partition("/")[0]  # the old way to name a MIG device: by its GPU, and numbers that nobody else uses
        return tuple(part for part in parts if part.parent == name)
    if not name.startswith(("GPU-", "MIG-")):
        return ()
    fits = [part for part in parts if part.id.startswith(name)]
    exact = [part for part in fits if part.id == name]
    found = exact or (fits if len(fits) == 1 else [])
    return tuple(part for one in found for part in parts if part is one or part.parent == one.id)


def _usable(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return each once, in the order of indices, and of a partitioned GPU its MIG devices alone."""
    chosen = list({part.id: part for part in parts}.values())
    split = {part.parent for part in chosen if part.parent}
    kept = [part for part in chosen if part.id not in split]
    return tuple(sorted(kept, key=lambda part: (part.index is None, part.index or 0, part.position or 0)))


def _renumbered(cuda: str, visible: Sequence[Part]) -> tuple[Part, ...]:
    """Apply CUDA_VISIBLE_DEVICES: numbers count inside the visible set, and what follows the first invalid one is not seen.

    Numbers among unlike GPUs may count the fastest first, which nobody tells: then all stay.
    """
    names = [name.strip() for name in cuda.split(",")]
    if len({part.name for part in visible}) > 1 and any(name.isdecimal() for name in names):
        return tuple(visible)
    found: list[Part] = []
    for name in names:
        if name.isdecimal() and int(name) < len(visible):
            found.append(visible[int(name)])
        elif name.startswith(("GPU-", "MIG-")) and (fits := [part for part in visible if part.id.startswith(name)]):
            found.append(fits[0])
        else:
            break
    return tuple({part.id: part for part in found}.values())
