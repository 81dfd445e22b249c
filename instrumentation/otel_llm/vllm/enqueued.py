"""Requests that were handed to an engine by `LLM.enqueue` and that nobody has waited for yet.

Kept by engine, without holding it, and no more than a bound of each: an application that never waits costs no more.
"""

import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext

from .outputs import Params

_MAX: Final = 10_000


class Added(NamedTuple):
    """A request as it was added to the engine."""

    started_ns: int
    operation: str
    params: Params
    lora: str | None
    enqueued_by: SpanContext | None = None
    stats: Any = None  # of pooling, where the engine keeps any: the output does not carry them


_lock = threading.Lock()
_waiting: "weakref.WeakKeyDictionary[Any, dict[str, Added]]" = weakref.WeakKeyDictionary()


def keep(engine: Any, requests: Mapping[str, Added]) -> None:
    """Keep requests for the call that will get their outputs; beyond the bound, the oldest are forgotten."""
    with _lock:
        kept = _waiting.setdefault(engine, {})
        kept.update(requests)
        for oldest in list(kept)[: max(0, len(kept) - _MAX)]:
            del kept[oldest]


def take(engine: Any) -> dict[str, Added]:
    """Hand out what was kept, once: whichever call runs the engine next gets the outputs of them all."""
    with _lock:
        return _waiting.pop(engine, {})


def forget() -> None:
    """Forget everything that is kept."""
    with _lock:
        _waiting.clear()
