"""Points that wait in memory to be written in one sorted batch; live charts read them here meanwhile.

Written one by one as they come, points would cost almost three times the CPU, since each lands on another page of the clustered table.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Number: TypeAlias = tuple[int, int, float | None]  # series, milliseconds, value; None ends the series
# series, milliseconds, count (None ends the series), sum, min, max, buckets
Distribution: TypeAlias = tuple[int, int, int | None, float | None, float | None, float | None, bytes | None]
Exemplar: TypeAlias = tuple[int, int, bytes, bytes, float]  # series, milliseconds, trace id, span id, value


class PointBuffer:
    """Filled and emptied by the writing thread, read by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: defaultdict[int, list[Number]] = defaultdict(list)
        self._distributions: defaultdict[int, list[Distribution]] = defaultdict(list)
        self._exemplars: list[Exemplar] = []
        self._owners: dict[int, str] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(
        self,
        numbers: Iterable[Number],
        distributions: Iterable[Distribution],
        exemplars: Iterable[Exemplar],
        owners: dict[int, str],
    ) -> None:
        """Add the points of one message; `owners` names the service of each of their series."""
        with self._lock:
            for number in numbers:
                self._numbers[number[0]].append(number)
                self._size += 1
            for distribution in distributions:
                self._distributions[distribution[0]].append(distribution)
                self._size += 1
            self._exemplars.extend(exemplars)
            self._owners.update(owners)

    def sorted(self) -> tuple[list[tuple[str, list[Number]]], list[tuple[str, list[Distribution]]], list[Exemplar]]:
        """Return everything in the order of the tables' keys, series by series with the service of each; nothing is taken away."""
        with self._lock:
            numbers = [
                (self._owners[series], sorted(rows, key=_time)) for series, rows in sorted(self._numbers.items())
            ]
            distributions = [
                (self._owners[series], sorted(rows, key=_time)) for series, rows in sorted(self._distributions.items())
            ]
            return numbers, distributions, sorted(self._exemplars)

    def clear(self) -> int:
        """Take everything away, after it was written or given up; returns how many points that were."""
        with self._lock:
            size, self._size = self._size, 0
            for part in (self._numbers, self._distributions, self._exemplars, self._owners):
                part.clear()
        return size

    def newest(self) -> dict[int, tuple[int, float | None]]:
        """Return the newest waiting point of every series, as milliseconds and value or count."""
        with self._lock:
            found: dict[int, tuple[int, float | None]] = {}
            for numbers in self._numbers.values():
                series, ms, value, *_ = max(numbers, key=_time)
                found[series] = ms, value
            for distributions in self._distributions.values():
                series, ms, value, *_ = max(distributions, key=_time)
                found[series] = ms, value
            return found

    def numbers(self, series: int) -> Sequence[Number]:
        """Return the waiting points of a series of numbers."""
        with self._lock:
            return tuple(self._numbers.get(series, ()))

    def distributions(self, series: int) -> Sequence[Distribution]:
        """Return the waiting points of a series of histograms or summaries."""
        with self._lock:
            return tuple(self._distributions.get(series, ()))


def _time(row: Number | Distribution) -> int:
    return row[1]
