"""The row that declares a metric, the rules a set of rows must keep, and the event: something that happened once.

Instruments, the reference page, the dashboard check and the API derive from these rows; nothing else names a metric.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Final, Generic, Literal, TypeVar, cast

S = TypeVar("S")
Attributes = Mapping[str, str | int | bool]
Point = tuple[float | None, Attributes]
Kind = Literal["gauge", "counter", "updowncounter"]

Severity = Literal["debug", "info", "warn", "error", "fatal"]

_ATTRIBUTES: Final = itemgetter(1)  # of a point

PREFIX = "otel_llm."  # what semantic conventions have no name for stands under this prefix
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\Z")
UNIT = re.compile(r"(|1|s|By|By/s|J|W|Cel|Hz|rpm|V|\{[a-z_]+\})\Z")


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


def values(
    row: Metric[S], snapshot: S, before: Sequence[tuple[float, Attributes]] = ()
) -> list[tuple[float, Attributes]]:
    """Return the points of one row that have a value; raises ValueError where a point carries an undeclared attribute.

    `before` are the row's points of the reading before: where all have the same attributes, those were looked at then.
    """
    found = [point for point in row.points(snapshot) if point[0] is not None]
    if list(map(_ATTRIBUTES, found)) == list(map(_ATTRIBUTES, before)):
        return cast("list[tuple[float, Attributes]]", found)
    declared = frozenset(row.attributes)
    used = chain.from_iterable(map(_ATTRIBUTES, found))  # all of them at once: a row may have thousands of points
    if declared.issuperset(used):
        return cast("list[tuple[float, Attributes]]", found)
    templates = tuple(name.partition("<")[0] for name in row.attributes if "<" in name)
    for _, attributes in found:
        undeclared = {name for name in attributes.keys() - declared if not templates or not name.startswith(templates)}
        if undeclared:
            raise ValueError(f"{row.name}: undeclared attributes {sorted(undeclared)}")
    return cast("list[tuple[float, Attributes]]", found)
