"""The instruments of one meter: those that read the engines when metrics are collected, and those of finished requests.

A process has one set of them a meter provider, however many engines it makes and drops: of an engine that is gone the totals
stay, which the last export of a process needs, and its state is told no more. Who makes engines, and what happens to errors in
a step, is left to `logger.py`.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from otel_llm import fault
from otel_llm.metrics import counter
from otel_llm.records import Value

from . import metrics
from .engine import Engine
from .metrics import EngineMetric
from .requests import Requests

SCOPE: Final = "otel_llm.vllm.stats"
_KINDS: Final = {"updowncounter": "up_down_counter"}

_lock = threading.RLock()
_opened: WeakKeyDictionary[MeterProvider, "Instruments"] = WeakKeyDictionary()


def instruments(provider: MeterProvider, version: str, *, proposed_names: bool) -> "Instruments":
    """Return the instruments of a meter provider, made at the first call."""
    with _lock:
        found = _opened.get(provider)
        if found is None:
            found = Instruments(provider.get_meter(SCOPE, version), proposed_names=proposed_names)
            _opened[provider] = found
        return found


class Instruments:
    """What records and what is observed; thread-safe."""

    def __init__(self, meter: Meter, *, proposed_names: bool) -> None:
        """Make all instruments of a meter."""
        self.requests = Requests(meter, proposed_names=proposed_names)
        self.rejected = counter(meter, metrics.REQUESTS_REJECTED)
        self._lock = threading.Lock()
        self._engines: dict[frozenset[tuple[str, Value]], tuple[Engine, ReferenceType[object]]] = {}
        for row in (*metrics.STATE, *(metrics.PROPOSED if proposed_names else ())):
            _create(meter, row)(row.name, callbacks=[partial(self._observe, row)], unit=row.unit, description=row.help)

    def add(self, engine: Engine, owner: object) -> None:
        """Read an engine from now on, in place of one with the same attributes; it is gone when its owner is."""
        with self._lock:
            self._engines[_key(engine.attributes)] = engine, ref(owner)

    def remove(self, engine: Engine) -> None:
        """Read an engine no more."""
        with self._lock:
            if self._engines.get(_key(engine.attributes), (None,))[0] is engine:
                del self._engines[_key(engine.attributes)]

    def _observe(self, row: EngineMetric, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            engines = list(self._engines.values())
        found = []
        for engine, owner in engines:
            # What the scheduler says goes to any one of several API servers: only totals add up over all of them.
            if row.kind != "counter" and (not engine.is_first_server or owner() is None):
                continue
            try:
                found += [
                    Observation(value, {**engine.attributes, **attributes})
                    for value, attributes in row.points(engine)
                    if value is not None
                ]
            except Exception as own:
                fault.report(f"reading {row.name} of a vLLM engine", own)
        return found


def _create(meter: Meter, row: EngineMetric) -> Callable[..., object]:
    kind = _KINDS.get(row.kind, row.kind)
    create: Callable[..., object] = getattr(meter, f"create_observable_{kind}")
    return create


def _key(attributes: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
    return frozenset(attributes.items())
