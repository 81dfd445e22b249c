"""Prices of a user's own for models: a table by model pattern, in US dollars per million tokens, applied to counted tokens.

Models that nobody configured are not priced here; what a library's own price list says is read by that library's module.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from .records import Usage

_LOG = logging.getLogger(__name__)
_PER: Final = 1_000_000
_MAX_FILE_BYTES: Final = 1_048_576
_MOST_DOLLARS: Final = 10**9  # for a million tokens; more than this is no price
_WILDCARDS: Final = "*?["


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; None where nothing was said."""

    input: float | None = None
    output: float | None = None
    cache_read: float | None = None  # as `input` where nothing was said
    cache_write: float | None = None  # as `input` where nothing was said


_KINDS: Final = tuple(one.name for one in fields(Price))


class Prices:
    """Prices by pattern of `provider/model` or of the bare model name; the most specific pattern that fits counts."""

    def __init__(self, rows: Mapping[str, Price] | None = None) -> None:
        # A name without wildcards before any pattern, then by what a pattern spells out; a tie goes to the one written first.
        self._rows = sorted((rows or {}).items(), key=lambda row: (_is_pattern(row[0]), -_spelled_out(row[0])))
        self.find = lru_cache(maxsize=1024)(self._find)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def _find(self, provider: str | None, model: str) -> Price | None:
        """Return the price of a model, None where no pattern fits."""
        names = (model,) if provider is None else (f"{provider}/{model}", model)
        for pattern, price in self._rows:
            if any(name == pattern or fnmatchcase(name, pattern) for name in names):
                return price
        return None


def cost_of(usage: Usage, price: Price, *, has_output: bool = True) -> float | None:
    """Return US dollars for tokens a server reported; None where a count or a price is missing.

    `has_output` is false for operations whose output is not counted in tokens, embeddings for one.
    """
    if usage.is_estimated or usage.input_tokens is None or price.input is None:
        return None
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    plain = usage.input_tokens - read - written
    if plain < 0:  # cached tokens are part of the input; a server that counts otherwise cannot be priced
        return None
    cost = (
        plain * price.input
        + read * (price.input if price.cache_read is None else price.cache_read)
        + written * (price.input if price.cache_write is None else price.cache_write)
    )
    if has_output and price.output is not None:
        if usage.output_tokens is None:
            return None
        cost += usage.output_tokens * price.output
    elif has_output and usage.output_tokens:
        return None
    return cost / _PER


def read_prices(text: str | None) -> Prices:
    """Read OTEL_LLM_PRICES, JSON or the path of a JSON file; rows that cannot be used are left out and named in one warning."""
    if not text:
        return Prices()
    rows: dict[str, Price] = {}
    faults: list[str] = []
    try:
        document = _document(text)
    except (OSError, ValueError, RecursionError) as error:
        faults.append(str(error))
    else:
        for pattern, row in document.items():
            try:
                rows[pattern] = _price(row)
            except ValueError as error:
                faults.append(f"{pattern!r} {error}")
    if faults:
        _LOG.warning("OTEL_LLM_PRICES: %s; these prices are not used", "; ".join(faults))
    return Prices(rows)


def _document(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith(("{", "[")):
        with Path(text).expanduser().open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"{text} is larger than {_MAX_FILE_BYTES} bytes")
        text = data.decode()
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object of prices by model pattern")  # noqa: TRY004 - what is wrong is the text
    return document


def _price(row: object) -> Price:
    if not isinstance(row, dict) or not row:
        raise ValueError("has no prices")
    unknown = sorted(set(row) - set(_KINDS))
    if unknown:
        raise ValueError(f"has {', '.join(map(repr, unknown))}, which is none of {', '.join(_KINDS)}")
    for kind, value in row.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST_DOLLARS:
            raise ValueError(f"has {value!r} for {kind!r}, which is not a price")
    if "input" not in row:
        raise ValueError("has no price for 'input'")
    return Price(**{kind: float(value) for kind, value in row.items()})


def _is_pattern(name: str) -> bool:
    return any(one in name for one in _WILDCARDS)


def _spelled_out(pattern: str) -> int:
    return sum(one not in _WILDCARDS for one in pattern)
