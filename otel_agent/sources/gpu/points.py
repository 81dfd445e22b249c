"""How rows of GPUs become points: one series a GPU, several, or one for each part of a partitioned GPU.

Attributes are made once for each series and shared by all readings; nobody may change them. There are hundreds of points to a GPU, and which
they are seldom changes: a reading puts its values beside the attributes of the one before, without a step of the interpreter for each.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import is_
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from otel_agent.catalogue import NOTHING, Attributes, Columns
from otel_agent.sources.gpu.snapshot import GpuInstance, GpuReading, GpuSnapshot

K = TypeVar("K")
V = TypeVar("V")
Value = float | None
Rows = Callable[[GpuSnapshot], Columns[Value]]
REMEMBERED = 16_384  # series of one row: more than there are at once, of those that come and go
_NONE: Mapping[Any, Any] = MappingProxyType({})


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


class Kept(Generic[K, V]):
    """What is made of something, and made anew only when that is another."""

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._last: tuple[K, V] | None = None

    def of(self, what: K) -> V:
        """Return what was made of it."""
        last = self._last
        if last is None or last[0] != what:
            last = self._last = what, self._make(what)
        return last[1]


class Series(Generic[K]):
    """The series of one row, by GPU and by what tells those of one GPU apart; `more` are the attributes beside the GPU's id."""

    def __init__(self, more: Callable[[K], Iterable[tuple[str, str]]], *, typed: bool = False) -> None:
        one = Made[tuple[str, K], Attributes](lambda series: attributes(series[0], typed, *more(series[1])))
        self._attributes = Kept[tuple[Sequence[str], Sequence[tuple[K, ...]]], tuple[Attributes, ...]](
            lambda which: tuple(one[gpu, key] for gpu, keys in zip(*which, strict=True) for key in keys)
        )
        self._last: tuple[Sequence[str], Sequence[Mapping[K, Value]], Columns[Value]] = (), (), NOTHING

    def columns(self, gpus: Sequence[str], told: Sequence[Mapping[K, Value]]) -> Columns[Value]:
        """Return the points of all GPUs, of each those that it tells.

        They are those of before where all mappings are the same objects: what hardly moves is asked once a minute.
        """
        before_gpus, before, columns = self._last
        if before_gpus != gpus or not all(map(is_, before, told)):
            values = list(chain.from_iterable([one.values() for one in told]))
            columns = Columns(values, self._attributes.of((gpus, [*map(tuple, told)])))
            self._last = gpus, told, columns
        return columns


def named(key: str, *, typed: bool = False) -> Series[str]:
    """Return the series of a row where one attribute tells them apart."""
    return Series(lambda name: ((key, name),), typed=typed)


def attributes(gpu: str, typed: bool = False, *more: tuple[str, str]) -> Attributes:
    """Return the attributes of one series; `typed` says that the convention asks for the type of hardware, too."""
    return {"hw.id": gpu} | ({"hw.type": "gpu"} if typed else {}) | dict(more)


def described(gpu: str, told: Mapping[str, str | int | None]) -> Mapping[str, str | int]:
    """Return the attributes of an info series, or of one that lives as long as a process: what is known of them."""
    return {"hw.id": gpu} | {key: value for key, value in told.items() if value is not None}


def one(value: Callable[[GpuReading], Value], *, typed: bool = False) -> Rows:
    """Make the points of a row that has one series a GPU."""
    known = Kept[tuple[str, ...], tuple[Attributes, ...]](lambda ids: tuple(attributes(gpu, typed) for gpu in ids))
    return lambda snapshot: Columns([value(gpu) for gpu in snapshot.gpus], known.of(snapshot.ids))


def mapped(known: Series[K], values: Callable[[GpuReading], Mapping[K, Value] | None]) -> Rows:
    """Make the points of a row that has a series for each entry of a mapping, none where there is no mapping."""
    return lambda snapshot: known.columns(snapshot.ids, [values(gpu) or _NONE for gpu in snapshot.gpus])


def flags(key: str, values: Callable[[GpuReading], Mapping[str, bool | None] | None]) -> Rows:
    """Make the points of what is on (1) or off (0), none where it is not known."""
    numbers = Made[tuple[tuple[str, bool | None], ...], Mapping[str, Value]](
        lambda told: {name: None if on is None else int(on) for name, on in told}
    )
    return mapped(named(key), lambda gpu: numbers[tuple((values(gpu) or _NONE).items())])


def states(key: str, known: Iterable[str], state: Callable[[GpuReading], str | None], *, typed: bool = False) -> Rows:
    """Make the points of a state: 1 for the one that holds, 0 for the others, none where it is not known."""
    names = tuple(known)
    flagged = Made[str | None, Mapping[str, Value]](
        lambda holds: _NONE if holds is None else {name: int(name == holds) for name in names}
    )
    return mapped(named(key, typed=typed), lambda gpu: flagged[state(gpu)])


def with_parts(value: Callable[[GpuReading | GpuInstance], Value]) -> Rows:
    """Make the points of a row that has one series a GPU, and one for each of its instances."""
    known = Kept[tuple[str, ...], tuple[Attributes, ...]](lambda ids: tuple(map(attributes, ids)))
    return lambda snapshot: Columns(
        [value(device) for device in snapshot.devices.values()], known.of(tuple(snapshot.devices))
    )


def mapped_with_parts(
    keys: tuple[str, ...], values: Callable[[GpuReading | GpuInstance], Mapping[str, float] | None]
) -> Rows:
    """Make the points of a mapping that GPUs and their instances have; a name with dots gives one value for each of several keys."""
    known = Series[str](lambda name: zip(keys, (name,) if len(keys) == 1 else name.split("."), strict=True))
    return lambda snapshot: known.columns(
        tuple(snapshot.devices), [values(device) or _NONE for device in snapshot.devices.values()]
    )
