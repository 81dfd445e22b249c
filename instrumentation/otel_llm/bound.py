"""Points of series that recur, counted where the SDK counts them, without having the series described anew each time.

The API takes the attributes with every point, and the SDK cleans, copies, sorts and hashes them before it counts, which takes
several times as long as to count (`benchmarks/litellm_overhead.py`, by hand and ours). So the first point of a series goes through the API; then the
aggregations that it went to are looked up, and what follows is handed to them. What the SDK decides point by point is asked of
it point by point: whether the meter is enabled, which readers there are, whether a point may be an exemplar.

These structures are the SDK's own and change with it: from 1.45.2 on, aggregations of delta temporality last for one export only.
Hence only with the versions in `TESTED`, and only with aggregations that stay. Everything else goes through the API, always.
"""

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any, Final

from opentelemetry.context import Context, get_current, set_value

from . import fault
from .records import Value
from .versions import version_of

TESTED: Final = frozenset(("1.45.0", "1.45.1", "1.45.2"))
_MOST_SERIES: Final = 2000
_PLAIN: Final = frozenset((str, int))  # of these the SDK tells apart the same values as a dict does
# An empty context would mean the current one, and that may have a span, which an exemplar would lead to.
_NO_SPAN: Final = set_value("otel_llm.no_span", True, Context())

Point = Mapping[str, Value]


class Bound:
    """A histogram or a counter that knows its way to the series it has met. Thread-safe."""

    __slots__ = ("_api", "_instrument", "_met")

    def __init__(self, instrument: Any, api: Callable[[float, Point, Context | None], None]) -> None:
        """`api` is the instrument's own `record` or `add`."""
        self._instrument, self._api = instrument, api
        self._met: dict[tuple[Value, ...], _Series | None] = {}  # by names and values

    def record(self, amount: float, point: Point, context: Context | None = None) -> None:
        """Record into a histogram, or add to a counter; an attribute's values are of one type, text or integer."""
        key = (*point, *point.values())
        try:
            series = self._met[key]
        except KeyError:
            self._api(amount, point, context)
            self._meet(key, point)
            return
        if series is None:
            self._api(amount, point, context)
        elif not series.count(amount, context):
            self._met.pop(key, None)  # readers came or went: it is looked up again after this point
            self._api(amount, point, context)

    add = record

    def record_all(self, amounts: Sequence[float], point: Point) -> None:
        """Record several points of one series outside of any span, which costs less; no amount is negative."""
        series = self._met.get((*point, *point.values()))
        if series is not None and series.count_all(amounts):
            return
        for amount in amounts:
            self.record(amount, point, _NO_SPAN)

    @fault.guarded("looking a series up in the SDK")
    def _meet(self, key: tuple[Value, ...], point: Point) -> None:
        # Until there is a provider, the API has a stand-in of its own here, and the series is not met yet.
        instrument = getattr(self._instrument, "_real_instrument", self._instrument)
        if instrument is not None and len(self._met) < _MOST_SERIES:
            self._met[key] = None
            self._met[key] = _look_up(instrument, dict(point))


class _Measured:
    """What an aggregation reads of the SDK's `Measurement`, which cleans its attributes whenever one is made."""

    __slots__ = ("attributes", "context", "time_unix_nano", "value")

    def __init__(self, value: float, time_unix_nano: int, attributes: Point, context: Context) -> None:
        self.value = value
        self.time_unix_nano = time_unix_nano
        self.attributes = attributes
        self.context = context


class _Series:
    """One set of attributes of one instrument, and its aggregation in every view of every reader."""

    __slots__ = ("_aggregations", "_consumer", "_instrument", "_may_be_exemplar", "_point", "_readers")

    def __init__(self, instrument: Any, readers: Any, aggregations: Sequence[Any], point: Point) -> None:
        self._instrument = instrument
        self._consumer = instrument._measurement_consumer  # noqa: SLF001
        self._readers = readers
        self._may_be_exemplar = self._consumer._sdk_config.exemplar_filter.should_sample  # noqa: SLF001
        self._aggregations = aggregations
        self._point = point

    def count(self, amount: float, context: Context | None) -> bool:
        """Count a point, or return False where the SDK has to see it: readers are others, or the amount or the meter is off."""
        if (
            self._consumer._reader_storages is not self._readers  # noqa: SLF001
            or not 0 <= amount < math.inf
            or not self._instrument._is_enabled()  # noqa: SLF001
        ):
            return False
        now, context = time_ns(), context or get_current()
        measured = _Measured(amount, now, self._point, context)
        may_be_exemplar = self._may_be_exemplar(amount, now, self._point, context)
        for aggregation in self._aggregations:
            aggregation.aggregate(measured, may_be_exemplar)
        return True

    def count_all(self, amounts: Sequence[float]) -> bool:
        """Count points outside of any span, or return False where each has to be seen: exemplars may be wanted even of these."""
        if self._consumer._reader_storages is not self._readers or not self._instrument._is_enabled():  # noqa: SLF001
            return False
        now = time_ns()
        if amounts and self._may_be_exemplar(amounts[0], now, self._point, _NO_SPAN):
            return False
        measured = _Measured(0.0, now, self._point, _NO_SPAN)
        for aggregation in self._aggregations:
            for measured.value in amounts:
                aggregation.aggregate(measured, False)
        return True


@functools.cache
def _is_tested() -> bool:
    return version_of("opentelemetry-sdk") in TESTED


def _look_up(instrument: Any, point: dict[str, Value]) -> _Series | None:
    """Return where the points of a series go, None where that cannot be relied on."""
    if not type(instrument).__module__.startswith("opentelemetry.sdk.metrics.") or not _is_tested():
        return None
    if not all(type(value) in _PLAIN for value in point.values()):
        return None
    readers = instrument._measurement_consumer._reader_storages  # noqa: SLF001
    aggregations = []
    for storage in readers.values():
        for match in storage._instrument_view_instrument_matches[instrument]:  # noqa: SLF001
            if getattr(match, "_reset_on_collect", False):
                return None
            kept = match._view._attribute_keys  # noqa: SLF001
            seen = point if kept is None else {name: value for name, value in point.items() if name in kept}
            key = sys.modules[type(match).__module__]._hash_attributes(seen)  # noqa: SLF001
            aggregation = match._attributes_aggregation.get(key)  # noqa: SLF001
            if aggregation is None:  # beyond the SDK's limit of series, which has one for all the others
                return None
            aggregations.append(aggregation)
    return _Series(instrument, readers, aggregations, point)
