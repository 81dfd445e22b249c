"""Where the instrumentation's own faults go: counted, logged once per place, and never into the application.

The one hook can be replaced with `set_on_fault`, so that a test suite can fail on what production only counts.
"""

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

_LOG = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

OnFault = Callable[[str, Exception], None]
"""Takes the place of a fault, in words, and the exception."""


def keep_warnings() -> None:
    """Have warnings of ours heard where a library raises the root logger's level, as the application of vLLM's server does."""
    ours = logging.getLogger("otel_llm")
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.WARNING)


class FaultLog:
    """The default hook: counts every fault, logs the first of each place with its traceback."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the collector, whose finalizers report as well, may run inside it
        self._counts: dict[str, int] = {}

    def __call__(self, place: str, error: Exception) -> None:
        with self._lock:
            count = self._counts[place] = self._counts.get(place, 0) + 1
        if count == 1:
            _LOG.warning(
                "otel_llm: a fault in the instrumentation (%s); the application is not affected, telemetry of such calls "
                "may be incomplete; further faults at this place are only counted",
                place,
                exc_info=error,
            )

    def counts(self) -> dict[str, int]:
        """Faults so far, by place."""
        with self._lock:
            return dict(self._counts)


DEFAULT = FaultLog()
_on_fault: OnFault = DEFAULT


def set_on_fault(hook: OnFault | None) -> OnFault:
    """Install a hook for our own faults (None: the default one) and return the one before."""
    global _on_fault
    before, _on_fault = _on_fault, hook if hook is not None else DEFAULT
    return before


def report(place: str, error: Exception) -> None:
    """Hand a fault of ours to the hook; a hook that raises is silenced, for the application comes first."""
    try:
        _on_fault(place, error)
    except Exception:
        _LOG.debug("otel_llm: the fault hook raised", exc_info=True)


def guarded(place: str, otherwise: Any = None) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Make a function that never raises: a fault in it goes to the hook, and `otherwise` is returned."""

    def decorate(function: Callable[P, R]) -> Callable[P, R | None]:
        @functools.wraps(function)
        def guard(*args: P.args, **kwargs: P.kwargs) -> R | None:
            try:
                return function(*args, **kwargs)
            except Exception as own:
                report(place, own)
                return cast("R | None", otherwise)

        return guard

    return decorate
