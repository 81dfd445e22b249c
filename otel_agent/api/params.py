"""Query parameters as declarations: what a route may be asked, and the one message that says what was wrong with a question.

A name with a dot is an attribute to filter by, where the route takes them: attribute names of OpenTelemetry have one, parameters have none.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from otel_agent.api.refusal import bad

LONGEST = 2_000  # characters of one value
MOST = 32  # parameters of one question
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)\Z")
EPOCH_MAX_S = 1e11  # above that somebody sent milliseconds


@dataclass(frozen=True)
class Param:
    """One parameter: `parse` takes the text and the present time, and raises ValueError in words; `default` is text as well."""

    name: str
    parse: Callable[[str, float], Any]
    help: str
    default: str | None = None
    required: bool = False


@dataclass(frozen=True)
class Asked:
    """A question, understood: values by parameter name (None where left out), attribute filters, and when it was asked."""

    values: Mapping[str, Any]
    where: Mapping[str, str] = field(default_factory=dict)
    now_s: float = 0.0

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def understand(
    params: Iterable[Param], query: Iterable[tuple[str, str]], now_s: float, *, attributes: bool = False
) -> Asked:
    """Return the values of a query; raises Refusal (400) for what is unknown, given twice, missing or malformed."""
    known = {param.name: param for param in params}
    given: dict[str, str] = {}
    for position, (name, text) in enumerate(query):
        if position >= MOST:
            raise bad(f"more than {MOST} parameters")
        if name in given:
            raise bad(f"{_short(name)}: given twice")
        if len(text) > LONGEST:
            raise bad(f"{_short(name)}: longer than {LONGEST} characters")
        if name not in known and not (attributes and "." in name):
            raise bad(f"{_short(name)}: unknown parameter", _advice(name, known, attributes))
        given[name] = text
    values: dict[str, Any] = {}
    for param in known.values():
        chosen = given.get(param.name) or param.default
        if not chosen and param.required:
            raise bad(f"{param.name}: is required", param.help)
        try:
            values[param.name] = param.parse(chosen, now_s) if chosen else None
        except ValueError as error:
            raise bad(f"{param.name}: {_short(chosen or '')!r} {error}", param.help) from None
    return Asked(values, {name: text for name, text in given.items() if name not in known}, now_s)


def _advice(name: str, known: Mapping[str, Param], attributes: bool) -> str:
    near = difflib.get_close_matches(name, known, 1)
    offer = (
        f"did you mean {near[0]}?"
        if near
        else f"this route knows {', '.join(known)}"
        if known
        else "this route takes none"
    )
    return offer + (", and attribute names such as cpu.mode" if attributes and not near else "")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def moment(text: str, now_s: float) -> float:
    """Parse a time into seconds since the epoch: `now`, `15m` (ago), seconds since the epoch, or RFC 3339."""
    if text == "now":
        return now_s
    if ago := DURATION.match(text.removeprefix("-")):
        return now_s - float(ago[1]) * SECONDS[ago[2]]
    try:
        seconds = float(text)
    except ValueError:
        return _rfc3339(text)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("is no time")
    if seconds > EPOCH_MAX_S:
        raise ValueError("is too large: times are seconds since the epoch, not milliseconds")
    return seconds


def _rfc3339(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("is no time: use 15m (ago), seconds since the epoch, or 2026-01-31T12:00:00Z") from None


def duration(low_s: float, high_s: float) -> Callable[[str, float], float]:
    """Return a parser of durations such as `5s`, `1m` or plain seconds, between these bounds."""

    def parse(text: str, _: float) -> float:
        found = DURATION.match(text)
        try:
            seconds = float(found[1]) * SECONDS[found[2]] if found else float(text)
        except ValueError:
            raise ValueError("is no duration: use 5s, 1m or 1h") from None
        if not low_s <= seconds <= high_s:
            raise ValueError(f"must lie between {low_s:g} and {high_s:g} seconds")
        return seconds

    return parse


def whole(low: int, high: int) -> Callable[[str, float], int]:
    """Return a parser of whole numbers between these bounds."""

    def parse(text: str, _: float) -> int:
        try:
            value = int(text) if text.isascii() else None
        except ValueError:
            value = None
        if value is None:
            raise ValueError("is no whole number")
        if not low <= value <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return value

    return parse


def share(text: str, _: float) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is no number") from None
    if not 0 <= value <= 1:
        raise ValueError("must lie between 0 and 1")
    return value


def yes_or_no(text: str, _: float) -> bool:
    """Parse true or false."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def words(text: str, _: float) -> str:
    """Take any text as it is."""
    return text


def hex_id(digits: int) -> Callable[[str, float], str]:
    """Return a parser of trace or span ids of that many hexadecimal digits, not all zero."""
    pattern = re.compile(rf"[0-9a-fA-F]{{{digits}}}\Z")

    def parse(text: str, _: float) -> str:
        if not pattern.match(text) or not text.strip("0"):
            raise ValueError(f"must have {digits} hexadecimal digits, not all zero")
        return text.lower()

    return parse
