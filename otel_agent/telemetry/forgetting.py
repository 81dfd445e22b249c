"""Lets the SDK forget series that are over: it keeps every set of attributes that an instrument has ever seen.

Containers and processes come and go for months; without this, memory and the time of a collection would grow with all that
ever were. The SDK has no way to say so, hence its own structures are pruned, between two collections, in the thread that
collects. Where a version of the SDK is built otherwise, nothing is pruned, and that is logged once.
"""

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader

from otel_agent.catalogue import Columns

SLACK = 64  # series that may be over before it is worth looking

logger = logging.getLogger(__name__)


class Forgetting:
    """Prunes the series of one reader; `alive` tells the points that an instrument of a scope had in the last collection."""

    def __init__(
        self,
        provider: MeterProvider,
        reader: MetricReader,
        alive: Callable[[str, str], Columns[float]],
    ) -> None:
        self._provider, self._reader, self._alive = provider, reader, alive
        self._works = True

    def prune(self) -> int:
        """Forget what is over, where it has become more than what is alive; returns how many series that were."""
        if not self._works:
            return 0
        try:
            return self._prune()
        except (AttributeError, ImportError, KeyError, TypeError) as error:
            self._works = False
            logger.warning("this SDK cannot be made to forget series that are over (%r): memory grows with them", error)
            return 0

    def _prune(self) -> int:
        from opentelemetry.sdk.metrics._internal import _view_instrument_match as module

        hashed: Callable[[Any], Any] = module._hash_attributes  # noqa: SLF001
        storage: Any = self._provider._measurement_consumer._reader_storages[self._reader]  # noqa: SLF001
        forgotten = 0
        for instrument, matches in list(storage._instrument_view_instrument_matches.items()):  # noqa: SLF001
            alive = self._alive(instrument.instrumentation_scope.name, instrument.name)
            for match in matches:
                kept: dict[Any, Any] = match._attributes_aggregation  # noqa: SLF001
                if len(kept) <= 2 * len(alive) + SLACK:
                    continue
                keys = {hashed(dict(attributes)) for _, attributes in alive}
                over = [key for key in kept if key not in keys]
                for key in over:
                    del kept[key]
                forgotten += len(over)
        return forgotten
