"""Looking at LiteLLM's objects, which may be of any version and hold anything: a look costs little and never raises."""

from collections.abc import Mapping
from typing import Any, Protocol, cast


def field(thing: Any, name: str) -> Any:
    """Return a field of an object or of a mapping, None where it has none; plain `getattr` costs microseconds where it misses."""
    if isinstance(thing, dict):
        return thing.get(name)
    try:
        fields = thing.__dict__
        if name in fields:
            return fields[name]
        extra = thing.__pydantic_extra__
        return extra.get(name) if extra else None
    except AttributeError:  # not Pydantic's
        return getattr(thing, name, None)


class _Attributes:
    """The attributes of an object that is neither a mapping nor Pydantic's, looked up as in a mapping."""

    __slots__ = ("_thing",)

    def __init__(self, thing: object) -> None:
        self._thing = thing

    def get(self, name: str) -> Any:
        return getattr(self._thing, name, None)


class Fields(Protocol):
    """What fields are looked up in."""

    def get(self, name: str, /) -> Any: ...


def fields_of(thing: Any) -> Fields:
    """Return the fields of an object or of a mapping by name, for several looks at the same thing: cheaper than `field` each."""
    if type(thing) is dict:
        return cast("Fields", thing)
    try:
        own: dict[str, Any] = thing.__dict__
        extra: dict[str, Any] | None = thing.__pydantic_extra__
    except AttributeError:  # not Pydantic's
        return cast("Fields", thing) if isinstance(thing, dict) else _Attributes(thing)
    if not extra:
        return own
    return {**extra, **own} if own else extra  # all of a streamed choice is in the latter


def hidden_params(reply: object) -> Mapping[str, object]:
    """Return what LiteLLM notes about a reply beside it, by name; empty where it notes nothing."""
    try:
        hidden = reply.__pydantic_private__["_hidden_params"]  # type: ignore[attr-defined]  # ten times as fast
    except (AttributeError, KeyError, TypeError):
        hidden = getattr(reply, "_hidden_params", None)
    return hidden if isinstance(hidden, Mapping) else {}


def text(value: object) -> str | None:
    """Return a string that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def whole(value: object) -> int | None:
    """Return a count: an integer not below zero, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def content_length(content: object) -> int:
    """Characters of text in the content of one message: a string, or a list of parts."""
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list | tuple):
        return 0
    texts = (part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content)
    return sum(len(text) for text in texts if isinstance(text, str))
