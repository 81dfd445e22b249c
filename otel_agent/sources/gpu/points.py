"""How rows of GPUs become points: one series a GPU, several, or one for each part of a partitioned GPU.

Attributes are made once for each series and shared by all readings, and so are the points of what is only on or off; nobody may change them.
There are hundreds of points to a GPU: values meet their attributes in `zip`, without a step of the interpreter for each.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from otel_agent.catalogue import Attributes, Point
from otel_agent.sources.gpu.snapshot import GpuInstance, GpuReading, GpuSnapshot

K = TypeVar("K")
V = TypeVar("V")
Rows = Callable[[GpuSnapshot], Iterable[Point]]
REMEMBERED = 1024  # GPUs, MIG devices or processes of one GPU: more than there are at once, of those that come and go


class Made(dict[K, V], Generic[K, V]):
    """What is made when it is first asked for, and kept; all of it is forgotten when it has become too much."""

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= REMEMBERED:
            self.clear()
        made = self[key] = self._make(key)
        return made


Keys = tuple[K, ...]  # what tells the series of one GPU apart, all of them together: they seldom change


class Series(Generic[K]):
    """The series of one row, by GPU and by what tells those of one GPU apart; `more` are the attributes beside the GPU's id."""

    def __init__(self, more: Callable[[K], Iterable[tuple[str, str]]], *, typed: bool = False) -> None:
        self._attributes = Made[str, Made[Keys[K], tuple[Attributes, ...]]](
            lambda gpu: Made(lambda keys: tuple(attributes(gpu, typed, *more(key)) for key in keys))
        )
        self._last: dict[str, tuple[Mapping[K, float | None], tuple[Point, ...]]] = {}

    def points(self, gpu: str, told: Mapping[K, float | None]) -> Iterable[Point]:
        """Return the points of one GPU; the same as before for the same mapping, since what hardly moves is asked once a minute."""
        before = self._last.get(gpu)
        if before is None or before[0] is not told:
            if len(self._last) >= REMEMBERED:
                self._last.clear()
            before = told, tuple(zip(told.values(), self._attributes[gpu][tuple(told)], strict=True))
            self._last[gpu] = before
        return before[1]


def named(key: str, *, typed: bool = False) -> Series[str]:
    """Return the series of a row where one attribute tells them apart."""
    return Series(lambda name: ((key, name),), typed=typed)


def attributes(gpu: str, typed: bool = False, *more: tuple[str, str]) -> Attributes:
    """Return the attributes of one series; `typed` says that the convention asks for the type of hardware, too."""
    return {"hw.id": gpu} | ({"hw.type": "gpu"} if typed else {}) | dict(more)


def described(gpu: str, told: Mapping[str, str | int | None]) -> Mapping[str, str | int]:
    """Return the attributes of an info series, or of one that lives as long as a process: what is known of them."""
    return {"hw.id": gpu} | {key: value for key, value in told.items() if value is not None}


def one(value: Callable[[GpuReading], float | None], *, typed: bool = False) -> Rows:
    """Make the points of a row that has one series a GPU."""
    known = Made[str, Attributes](lambda gpu: attributes(gpu, typed))
    return lambda snapshot: [(value(gpu), known[gpu.identity.id]) for gpu in snapshot.gpus]


def mapped(known: Series[K], values: Callable[[GpuReading], Mapping[K, float | None] | None]) -> Rows:
    """Make the points of a row that has a series for each entry of a mapping, none where there is no mapping."""

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        found: list[Point] = []
        for gpu in snapshot.gpus:
            told = values(gpu)
            if told:
                found += known.points(gpu.identity.id, told)
        return found

    return points


def flags(key: str, values: Callable[[GpuReading], Mapping[str, bool | None] | None]) -> Rows:
    """Make the points of what is on (1) or off (0), none where it is not known."""
    known = Made[str, Made[Keys[tuple[str, bool | None]], tuple[Point, ...]]](
        lambda gpu: Made(lambda told: tuple(_flag(gpu, key, *flag) for flag in told))
    )

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        found: list[Point] = []
        for gpu in snapshot.gpus:
            told = values(gpu)
            if told:
                found += known[gpu.identity.id][tuple(told.items())]
        return found

    return points


def _flag(gpu: str, key: str, name: str, on: bool | None) -> Point:
    return None if on is None else int(on), attributes(gpu, False, (key, name))


def states(key: str, known: Iterable[str], state: Callable[[GpuReading], str | None], *, typed: bool = False) -> Rows:
    """Make the points of a state: 1 for the one that holds, 0 for the others, none where it is not known."""
    names = tuple(known)
    made = Made[str, Made[str, tuple[Point, ...]]](
        lambda gpu: Made(
            lambda holds: tuple((int(name == holds), attributes(gpu, typed, (key, name))) for name in names)
        )
    )

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        found: list[Point] = []
        for gpu in snapshot.gpus:
            holds = state(gpu)
            if holds is not None:
                found += made[gpu.identity.id][holds]
        return found

    return points


def with_parts(whole: Callable[[GpuReading], float | None], part: Callable[[GpuInstance], float | None]) -> Rows:
    """Make the points of a row that has one series a GPU, and one for each of its instances."""
    known = Made[str, Attributes](attributes)

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        found: list[Point] = []
        for gpu in snapshot.gpus:
            found.append((whole(gpu), known[gpu.identity.id]))
            if gpu.instances:
                found += [(part(instance), known[instance.uuid]) for instance in gpu.instances]
        return found

    return points


def mapped_with_parts(
    keys: tuple[str, ...], values: Callable[[GpuReading | GpuInstance], Mapping[str, float] | None]
) -> Rows:
    """Make the points of a mapping that GPUs and their instances have; a name with dots gives one value for each of several keys."""
    known = Series[str](lambda name: zip(keys, (name,) if len(keys) == 1 else name.split("."), strict=True))

    def points(snapshot: GpuSnapshot) -> Iterable[Point]:
        found: list[Point] = []
        for gpu in snapshot.gpus:
            found += known.points(gpu.identity.id, values(gpu) or {})
            for part in gpu.instances:
                found += known.points(part.uuid, values(part) or {})
        return found

    return points
