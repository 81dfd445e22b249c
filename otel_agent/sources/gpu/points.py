"""How rows of GPUs become points: one series a GPU, several, or one for each part of a partitioned GPU.

Attributes are made once for each series and shared by all readings; nobody may change them.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from otel_agent.catalogue import Point
from otel_agent.sources.gpu.snapshot import GpuInstance, GpuReading, GpuSnapshot

Value = float | bool | None
Rows = Callable[[GpuSnapshot], Iterable[Point]]
REMEMBERED = 16_384  # series of 64 GPUs, and some that came and went


@lru_cache(REMEMBERED)
def attributes(gpu: str, typed: bool = False, *more: tuple[str, str]) -> Mapping[str, str]:
    """Return the attributes of one series; `typed` says that the convention asks for the type of hardware, too."""
    return {"hw.id": gpu} | ({"hw.type": "gpu"} if typed else {}) | dict(more)


def described(gpu: str, told: Mapping[str, str | int | None]) -> Mapping[str, str | int]:
    """Return the attributes of an info series, or of one that lives as long as a process: what is known of them."""
    return {"hw.id": gpu} | {key: value for key, value in told.items() if value is not None}


def one(value: Callable[[GpuReading], float | None], *, typed: bool = False) -> Rows:
    """Make the points of a row that has one series a GPU."""
    return lambda snapshot: [(value(gpu), attributes(gpu.identity.id, typed)) for gpu in snapshot.gpus]


def several(key: str, values: Callable[[GpuReading], Iterable[tuple[str, Value]]], *, typed: bool = False) -> Rows:
    """Make the points of a row that has a series for each value of one attribute."""
    return lambda snapshot: [
        (None if value is None else +value, attributes(gpu.identity.id, typed, (key, name)))  # a flag is 1 or 0
        for gpu in snapshot.gpus
        for name, value in values(gpu)
    ]


def mapped(key: str, values: Callable[[GpuReading], Mapping[str, Value] | None], *, typed: bool = False) -> Rows:
    """Make the points of a row that has a series for each entry of a mapping, none where there is no mapping."""
    return several(key, lambda gpu: (values(gpu) or {}).items(), typed=typed)


def states(key: str, known: Iterable[str], state: Callable[[GpuReading], str | None], *, typed: bool = False) -> Rows:
    """Make the points of a state: 1 for the one that holds, 0 for the others, none where it is not known."""
    names = tuple(known)

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        for gpu in snapshot.gpus:
            holds = state(gpu)
            if holds is not None:
                for name in names:
                    yield int(name == holds), attributes(gpu.identity.id, typed, (key, name))

    return points


def with_parts(whole: Callable[[GpuReading], float | None], part: Callable[[GpuInstance], float | None]) -> Rows:
    """Make the points of a row that has one series a GPU, and one for each of its instances."""

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        for gpu in snapshot.gpus:
            yield whole(gpu), attributes(gpu.identity.id)
            for instance in gpu.instances:
                yield part(instance), attributes(instance.uuid)

    return points


def mapped_with_parts(
    keys: tuple[str, ...], values: Callable[[GpuReading | GpuInstance], Mapping[str, float] | None]
) -> Rows:
    """Make the points of a mapping that GPUs and their instances have; a name with dots gives one value for each of several keys."""

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        for gpu in snapshot.gpus:
            holders: list[tuple[str, GpuReading | GpuInstance]] = [(gpu.identity.id, gpu)]
            holders += [(part.uuid, part) for part in gpu.instances]
            for identity, holder in holders:
                for name, value in (values(holder) or {}).items():
                    names = (name,) if len(keys) == 1 else tuple(name.split("."))
                    yield value, attributes(identity, False, *zip(keys, names, strict=True))

    return points
