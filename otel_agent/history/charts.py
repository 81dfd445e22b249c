"""Points to the evenly spaced buckets of a chart; pure.

Points are (milliseconds, value) in order of time; a value of None says that the series ended there. Where data is missing the bucket is
None: a gap is drawn as a gap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[int, float | None]
CountPoint: TypeAlias = tuple[int, Sequence[int] | None]

CARRY_MS = 30_000  # a value holds at least this long where no newer one comes
CARRY_MAX_MS = 300_000  # and at most this long, as in Prometheus
CARRY_INTERVALS = 2.5  # in between it holds this many intervals of its series


@dataclass(frozen=True)
class Grid:
    """`count` buckets of `step_ms` from `since_ms` on; `thinned` where reading keeps only the last point of each."""

    since_ms: int
    step_ms: float
    count: int
    thinned: bool = False

    def hold_ms(self, times: Sequence[int]) -> float:
        """Return how long a value of a series with points at these times holds, where no newer one comes."""
        if self.thinned:
            return max(CARRY_MAX_MS, 2 * self.step_ms)
        gaps = sorted(later - earlier for earlier, later in pairwise(times))
        interval = gaps[len(gaps) // 2] if gaps else 0
        return min(CARRY_MAX_MS, max(CARRY_MS, CARRY_INTERVALS * interval))

    def starts_s(self) -> tuple[float, ...]:
        """Return the starts of the buckets in seconds."""
        return tuple((self.since_ms + i * self.step_ms) / 1000 for i in range(self.count))

    def index(self, ms: float) -> int:
        """Return the bucket of a time; it may lie outside the grid."""
        return math.floor((ms - self.since_ms) / self.step_ms)


def last_values(points: Sequence[Point], grid: Grid) -> tuple[float | None, ...]:
    """Return the value at the end of each bucket."""
    hold = grid.hold_ms([ms for ms, _ in points])
    values: list[float | None] = []
    position, current = 0, None
    for i in range(grid.count):
        end = grid.since_ms + (i + 1) * grid.step_ms
        while position < len(points) and points[position][0] < end:
            current = points[position]
            position += 1
        held = current is not None and current[0] > end - max(hold, grid.step_ms)
        # Behind the last point, the present: a bucket that has not ended shows what is known, one that has not begun nothing.
        values.append(current[1] if held and current is not None else None)
    return tuple(values)


def rates(points: Sequence[Point], grid: Grid, *, delta: bool = False) -> tuple[float | None, ...]:
    """Return the increase per second of a counter in each bucket, averaged over the part of the bucket that was observed.

    A cumulative counter that falls was reset, and began again at zero. Of a delta counter each value is the increase since the point before.
    """
    increase, seconds = [0.0] * grid.count, [0.0] * grid.count
    hold = grid.hold_ms([ms for ms, _ in points])
    for (start, before), (end, value) in pairwise(points):
        if value is None or before is None or end - start > hold:
            continue
        step = value if delta else value - before if value >= before else value
        _spread(step, start, end, grid, increase, seconds)
    return tuple(amount / length if length else None for amount, length in zip(increase, seconds, strict=True))


def quantiles(
    points: Sequence[CountPoint], bounds: Sequence[float], quantile: float, grid: Grid, *, delta: bool = False
) -> tuple[float | None, ...]:
    """Return a quantile of the observations of each bucket of time, interpolated inside the histogram's bounds; None without observations."""
    totals: list[list[int] | None] = [None] * grid.count
    hold = grid.hold_ms([ms for ms, _ in points])
    for (start, before), (end, counts) in pairwise(points):
        i = grid.index(end - 1)  # what was observed up to the end of a bucket is that bucket's
        if counts is None or before is None or end - start > hold or not 0 <= i < grid.count:
            continue
        reset = any(now < then for now, then in zip(counts, before, strict=True))
        step = counts if delta or reset else [now - then for now, then in zip(counts, before, strict=True)]
        total = totals[i]
        totals[i] = list(step) if total is None else [a + b for a, b in zip(total, step, strict=True)]
    return tuple(None if total is None else _quantile(total, bounds, quantile) for total in totals)


def _spread(amount: float, start: float, end: float, grid: Grid, increase: list[float], seconds: list[float]) -> None:
    """Share an increase between two moments out to the buckets that lie in between."""
    for i in range(max(0, grid.index(start)), min(grid.count - 1, grid.index(end)) + 1):
        low = max(start, grid.since_ms + i * grid.step_ms)
        high = min(end, grid.since_ms + (i + 1) * grid.step_ms)
        if high > low:
            increase[i] += amount * (high - low) / (end - start)
            seconds[i] += (high - low) / 1000


def _quantile(counts: Sequence[int], bounds: Sequence[float], quantile: float) -> float | None:
    """Interpolate as Prometheus' histogram_quantile does: the first bucket begins at zero, the last has no end and gives its start."""
    rank = quantile * sum(counts)
    if not sum(counts) or not bounds:
        return None
    below = 0
    for i, count in enumerate(counts):
        if count and below + count >= rank:
            if i >= len(bounds):
                return bounds[-1]
            low = bounds[i - 1] if i else min(0.0, bounds[0])
            return low + (bounds[i] - low) * max(0.0, rank - below) / count
        below += count
    return bounds[-1]
