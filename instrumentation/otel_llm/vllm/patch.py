"""Putting wrappers on the parts of vLLM as they are imported, and taking them off again.

vLLM's own `__init__` imports nothing until it is asked, and a process may use the offline API, the engine or the server:
each part waits for the module that defines what it wraps, and stands alone. Where this vLLM differs from those known, the
parts that do not find their place are left out, and the fault is reported.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Final

import wrapt

from otel_llm import fault, leftovers
from otel_llm.invocation import Telemetry
from otel_llm.semconv import StreamEnd
from otel_llm.wrapping import Wrappers

from . import aborts, engine, enqueued, offline, server
from .open_request import OpenRequest
from .wrappers import WRAPPERS, State

Part = tuple[str, str, Callable[[ModuleType, Telemetry, Wrappers], None]]
"""The module to wait for, the place in words, and what puts the wrappers on it."""

PARTS: Final[tuple[Part, ...]] = (*offline.PARTS, *engine.PARTS, *aborts.PARTS, *server.PARTS)
_hooked: Final[set[str]] = set()  # a hook cannot be taken back; one for each module is enough


def apply(telemetry: Telemetry) -> None:
    """Wrap what is imported already, the rest as it comes, and record with `telemetry` from now on."""
    State.active = telemetry
    for name in dict.fromkeys(module for module, _, _ in PARTS):
        if name not in _hooked:
            _hooked.add(name)
            wrapt.register_post_import_hook(_imported, name)
        elif (module := sys.modules.get(name)) is not None:
            _imported(module)


def remove() -> None:
    """Take the wrappers off; a wrapper that somebody else wrapped stays and is idle."""
    State.active = None
    try:
        enqueued.forget()
        leftovers.end_all(StreamEnd.UNINSTRUMENTED, OpenRequest)
    finally:
        WRAPPERS.take_off()


def _imported(module: ModuleType) -> None:
    telemetry = State.active
    if telemetry is None:
        return
    for name, place, put in PARTS:
        if name == module.__name__:
            try:
                put(module, telemetry, WRAPPERS)
            except Exception as own:
                fault.report(f"wrapping vLLM: {place}", own)
