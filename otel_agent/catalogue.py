"""The row that declares a metric, the rules a set of rows must keep, and the event: something that happened once.

Instruments, the reference page, the dashboard check and the API derive from these rows; nothing else names a metric.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, Literal, TypeVar, cast

S = TypeVar("S")
V = TypeVar("V", bound=float | None)
Attributes = Mapping[str, str | int | bool]
Point = tuple[float | None, Attributes]
Kind = Literal["gauge", "counter", "updowncounter"]

Severity = Literal["debug", "info", "warn", "error", "fatal"]

PREFIX = "otel_llm."  # what semantic conventions have no name for stands under this prefix
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\Z")
UNIT = re.compile(r"(|1|s|By|By/s|J|W|Cel|Hz|rpm|V|\{[a-z_]+\})\Z")


# Not frozen, which would make it several times as dear: there is one for each row and reading.
@dataclass(eq=False, slots=True)
class Columns(Generic[V]):
    """Points side by side, their values and what each is about: of thousands, a new reading changes the values alone.

    To all who read them they are pairs, and equal to the same pairs in a list; nobody may change them.
    """

    values: Sequence[V]
    attributes: tuple[Attributes, ...]

    def __iter__(self) -> Iterator[tuple[V, Attributes]]:
        return zip(self.values, self.attributes, strict=True)

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Columns | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # it is equal to a list, which has none


NOTHING: Columns[Any] = Columns((), ())


@dataclass(frozen=True)
class Metric(Generic[S]):
    """One row of the catalogue: what is measured, and how to take it out of a snapshot.

    `points` yields (value, attributes); a value of None is unknown and gives no point. `unit` is UCUM; an empty unit is for info
    series (value 1, meaning in the attributes). An attribute like `container.label.<key>` stands for any key. `note` says why a name under `otel_llm.` was needed.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    points: Callable[[S], Iterable[Point]]
    attributes: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened at `time_s`, seconds since the epoch, and is sent as a log record.

    `name` says what kind of thing it was and never changes with the case, `said` is a sentence for people.
    """

    name: str
    time_s: float
    severity: Severity
    said: str
    attributes: Attributes


def problems(rows: Iterable[Metric[Any]]) -> list[str]:
    """Return everything that is wrong with the rows of one source, in words; an empty list is a sound declaration."""
    found: list[str] = []
    seen: dict[str, Metric[Any]] = {}
    for row in rows:
        if row.name in seen:
            found.append(f"{row.name}: declared twice")
        seen[row.name] = row
        if not NAME.match(row.name):
            found.append(f"{row.name}: not a dotted lower-case name")
        if not UNIT.match(row.unit):
            found.append(f"{row.name}: {row.unit!r} is not a unit of the catalogue")
        if not row.help.endswith(".") or len(row.help) < 12:
            found.append(f"{row.name}: the help text is no sentence")
        if row.name.startswith(PREFIX) and not row.note:
            found.append(f"{row.name}: a name of our own needs a note that says why")
        if row.kind == "counter" and row.unit == "1":
            found.append(f"{row.name}: a counter of '1' counts nothing; name the thing counted, like {{fault}}")
        if len(set(row.attributes)) != len(row.attributes):
            found.append(f"{row.name}: an attribute is listed twice")
    return found


def values(row: Metric[S], snapshot: S, before: Columns[float] = NOTHING) -> Columns[float]:
    """Return the points of one row that have a value; raises ValueError where a point carries an undeclared attribute.

    `before` are the row's points of the reading before: where all have the same attributes, those were looked at then.
    """
    found = row.points(snapshot)
    if found is before:
        return before
    known = _known(found)
    if known.attributes != before.attributes:
        _check(row, known.attributes)
    return known


def _known(points: Iterable[Point]) -> Columns[float]:
    if isinstance(points, Columns):
        for value in points.values:  # compared by identity, where `in` would ask every number whether it equals None
            if value is None:
                break
        else:
            return points
    known = [point for point in points if point[0] is not None]
    return Columns(cast("list[float]", [value for value, _ in known]), tuple([about for _, about in known]))


def _check(row: Metric[Any], found: Iterable[Attributes]) -> None:
    declared = frozenset(row.attributes)
    if declared.issuperset(chain.from_iterable(found)):  # all of them at once: a row may have thousands of points
        return
    templates = tuple(name.partition("<")[0] for name in row.attributes if "<" in name)
    for attributes in found:
        undeclared = {name for name in attributes.keys() - declared if not templates or not name.startswith(templates)}
        if undeclared:
            raise ValueError(f"{row.name}: undeclared attributes {sorted(undeclared)}")
