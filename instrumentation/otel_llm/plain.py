"""Making plain JSON of what anyone may have said: bounded in depth and size, masked, and cut to a length.

Nothing is consumed, and nothing foreign is asked to describe itself: what is no JSON stands as the name of its type,
binary data as its media type and size. What is left out leaves a mark that says how much it was.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Self

from .masks import Masks

_MAX_DEPTH: Final = 24
_MAX_NODES: Final = 10_000
_MAX_KEY: Final = 256
_MAX_INTEGER: Final = 1 << 63  # what a backend can hold, and JSON's readers as well
_LONG_NUMBER: Final = 10**6  # a shorter one identifies nobody
_SHORTEST: Final = 16  # texts are not cut shorter; rather, whole items are left out
_MAGIC: Final = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi0": "application/pdf",
    "UEsDB": "application/zip",
    "T2dnU": "audio/ogg",
    "SUQz": "audio/mpeg",
}
_OWN_KEYS: Final = frozenset(
    (
        "role",
        "parts",
        "type",
        "content",
        "id",
        "name",
        "arguments",
        "response",
        "finish_reason",
        "description",
        "parameters",
    )
)  # of the conventions' structure: not looked at
_MIN_BINARY: Final = 256
_MAX_SEARCHED: Final = 1 << 22

LeftOut = Callable[[int], Any]
"""Makes what stands in a list for so many items that are left out."""


class Cut(str):
    """A text that was cut: its head, and a mark that tells how many characters are left out."""

    __slots__ = ("head", "left")
    head: str
    left: int

    def __new__(cls, head: str, left: int) -> Self:
        text = super().__new__(cls, f"{head}…[+{left} characters]")
        text.head, text.left = head, left
        return text

    def __reduce__(self) -> tuple[type["Cut"], tuple[str, int]]:
        """For `copy.deepcopy`, and `dataclasses.asdict` with it, which hooks use."""
        return Cut, (self.head, self.left)


def plain(value: object, nodes: int = _MAX_NODES) -> Any:
    """Copy a value as plain JSON of at most so many values; texts are taken as they are, but for binary data in them."""
    return _Copying(nodes).copy(value, 0)


def plain_items(items: list[Any]) -> list[Any]:
    """Copy a list as `plain` does, each item with a share of its own, so that a large one does not displace the last."""
    share = max(64, _MAX_NODES // max(1, len(items)))
    return [plain(item, share) for item in items]


def media(text: str) -> tuple[str, int] | None:
    """Tell media type and size in bytes of a text that is binary data, as a data URL or base64 of a well-known kind."""
    if text.startswith("data:"):
        end = text.find(",", 0, _MIN_BINARY)
        if end > 0:
            size = len(text) - end - 1
            header = text[5:end]
            return header.partition(";")[0] or "text/plain", size * 3 // 4 if header.endswith("base64") else size
    elif len(text) >= _MIN_BINARY and text.startswith(tuple(_MAGIC)) and " " not in text[:_MIN_BINARY]:
        return next(kind for start, kind in _MAGIC.items() if text.startswith(start)), len(text) * 3 // 4
    return None


def masked(value: Any, masks: Masks, most: int) -> Any:
    """Mask all texts of a plain value, looking at so many characters altogether; the longest texts are cut first."""
    most_each = max(_SHORTEST, _share([len(text) for text in _texts(value)], most))

    def mask(text: str) -> str:
        head, left = masks.head(text, most_each)
        head = _encodable(head)
        return Cut(head, left) if left else head

    return _masked(value, masks, mask)


def fitted(items: list[Any], most: int, left_out: LeftOut) -> tuple[list[Any], str] | None:
    """Cut a plain list until its JSON text has at most so many characters, and return both; None where nothing fits.

    The longest texts are shortened first. Where even short texts are too many, the first item and the last ones stay.
    """
    text = dumps(items)
    if len(text) <= most:
        return items, text
    short, text = _shortened(items, _SHORTEST)
    if len(text) <= most:
        low, high = _SHORTEST, _share([len(one) for one in _texts(items)], most)
        best = short, text
        while high - low > max(1, low // 32):  # near enough
            middle = (low + high + 1) // 2
            tried = _shortened(items, middle)
            if len(tried[1]) <= most:
                low, best = middle, tried
            else:
                high = middle
        return best
    return _fewer(short, most, left_out)


def dumps(value: Any) -> str:
    """Return the JSON text of a plain value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _fewer(items: list[Any], most: int, left_out: LeftOut) -> tuple[list[Any], str] | None:
    low, high, best = 0, len(items) - 1, None  # how many of the last ones are kept besides the first
    while low < high:
        kept = (low + high) // 2
        tried = [
            items[0],
            *([left_out(len(items) - kept - 1)] if kept < len(items) - 1 else ()),
            *items[len(items) - kept :],
        ]
        text = dumps(tried)
        if len(text) <= most:
            best, low = (tried, text), kept + 1
        else:
            high = kept
    if best is not None:
        return best
    nodes = most // 8
    while nodes >= 8:
        tried = [*([left_out(len(items) - 1)] if len(items) > 1 else ()), plain(items[-1], nodes)]
        text = dumps(tried)
        if len(text) <= most:
            return tried, text
        nodes //= 2
    tried = [left_out(len(items))]
    text = dumps(tried)
    return (tried, text) if len(text) <= most else None


def _shortened(items: list[Any], most: int) -> tuple[list[Any], str]:
    def shorten(text: str) -> str:
        if len(text) <= most:
            return text
        head, left = (text.head, text.left) if isinstance(text, Cut) else (text, 0)
        cut = Cut(head[:most], left + max(0, len(head) - most))
        return cut if len(cut) < len(text) else text

    short = _mapped(items, shorten)
    return short, dumps(short)


def _share(lengths: list[int], most: int) -> int:
    """Return the most each of them may have, so that all together have `most`: what the short ones leave goes to the long ones."""
    lengths.sort()
    for index, length in enumerate(lengths):
        others = len(lengths) - index
        if length * others > most:
            return most // others
        most -= length
    return lengths[-1] if lengths else 0


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value


def _masked(value: Any, masks: Masks, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {
            key if key in _OWN_KEYS else _encodable(masks.apply(key)): _masked_field(key, item, masks, mask)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item, masks, mask) for item in value]
    if isinstance(value, int) and abs(value) >= _LONG_NUMBER:
        text = str(value)
        hidden = masks.apply(text)
        return value if hidden == text else hidden
    return value


def _masked_field(key: str, value: Any, masks: Masks, mask: Callable[[str], str]) -> Any:
    is_bare = isinstance(value, str | int | float) and not isinstance(value, bool)
    return "[masked:secret]" if is_bare and masks.names_secret(key) else _masked(value, masks, mask)


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which no exporter can encode."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


class _Copying:
    """One copy being made, and how many values it may still have."""

    def __init__(self, nodes: int) -> None:
        self._left = nodes

    def copy(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return value if isinstance(value, Cut) else _without_media(str.__str__(value))
        if isinstance(value, int):
            number = int(value)
            if abs(number) < _MAX_INTEGER:
                return number
            return str(number) if number.bit_length() < 1024 else f"[integer of {number.bit_length()} bits]"
        if isinstance(value, float):
            return float(value) if value - value == 0 else repr(float(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return f"[{len(value)} bytes]"
        return self._container(value, depth)

    def _container(self, value: Any, depth: int) -> Any:
        fields = _fields(value)
        if fields is None and not isinstance(value, list | tuple | set | frozenset):
            return f"[{type(value).__module__}.{type(value).__qualname__}]"
        if depth >= _MAX_DEPTH:
            return "…"
        size = max(0, self._left)
        if fields is None:
            copied = []
            # The slice is taken in one step, for another thread may be changing the list.
            for item in list(islice(value, size)):
                if self._left <= 0:
                    break
                copied.append(self.copy(item, depth + 1))
            if len(copied) < len(value):
                copied.append(_left_out(copied, len(value) - len(copied)))
            return copied
        named: dict[str, Any] = {}
        for key, item in list(islice(fields.items(), size)):
            if self._left <= 0:
                break
            named[_key(key)] = self.copy(item, depth + 1)
        if len(named) < len(fields):
            named["…"] = f"[+{len(fields) - len(named)} fields]"
        return named


def _left_out(kept: list[Any], count: int) -> Any:
    mark = f"…[+{count} items]"
    is_part = bool(kept) and isinstance(kept[0], dict) and "type" in kept[0]
    return {"type": "text", "content": mark} if is_part else mark


def _fields(value: Any) -> Any:
    """The fields of a mapping or record of a well-known kind, None for anything else."""
    if isinstance(value, dict | MappingProxyType):
        return value
    kind = type(value)
    if hasattr(kind, "model_fields") and hasattr(kind, "model_dump"):  # Pydantic's, without asking it to validate
        return {**vars(value), **(getattr(value, "model_extra", None) or {})}
    if is_dataclass(kind):
        return getattr(value, "__dict__", None)
    return None


def _key(key: object) -> str:
    if not isinstance(key, str):
        key = str(key) if isinstance(key, int | float | None) else f"[{type(key).__qualname__}]"
    return key if len(key) <= _MAX_KEY else Cut(key[:_MAX_KEY], len(key) - _MAX_KEY)


def _without_media(text: str) -> str:
    found = media(text)
    if found is not None:
        return f"[{found[0]}, {found[1]} bytes]"
    if len(text) <= _MAX_SEARCHED and ";base64," in text:
        return re.sub(r"data:([\w/+.-]{1,100}+)[^,\s]{0,100}?;base64,([\w+/=-]{64,}+)", _named_media, text)
    return text


def _named_media(match: re.Match[str]) -> str:
    return f"[{match[1]}, {len(match[2]) * 3 // 4} bytes]"
