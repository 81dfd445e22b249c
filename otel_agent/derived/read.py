"""Joins the last snapshots of GPUs, containers and processes into the picture that is published, and remembers since when what does not fit."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from otel_agent.derived.mismatch import Mismatch, Remembered, judge
from otel_agent.derived.placement import Places, place
from otel_agent.errors import Follows
from otel_agent.sources import Others

INPUTS = ("gpu", "containers", "processes")
FIRST_S = 3.0  # how long the first reading waits for those it joins
POLL_S = 0.02


@dataclass(frozen=True)
class PlacementSnapshot:
    """The picture, what does not fit in it, and what began and ceased not to since the snapshot before."""

    places: Places
    mismatches: tuple[Mismatch, ...] = ()
    begun: tuple[Mismatch, ...] = ()
    over: tuple[Mismatch, ...] = ()


def open_placement(
    others: Others,
    idle_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> Callable[[], PlacementSnapshot]:
    """Return the reader; raises Follows where no GPU is read, for then there is nothing to place on."""
    give_up = clock() + FIRST_S
    while clock() < give_up and not all(others.begun(name) for name in INPUTS):
        pause(POLL_S)
    if others.snapshot("gpu") is None:
        raise Follows("no GPU is read, so there is nothing to place on", "see the source gpu")
    remembered = Remembered()

    def read() -> PlacementSnapshot:
        nonlocal remembered
        found: tuple[Any, ...] = tuple(others.snapshot(name) for name in INPUTS)
        if found[0] is None:
            raise Follows("no GPU is read any more", "see the source gpu")
        places = place(*found)
        verdict, remembered = judge(remembered, places, idle_s)
        return PlacementSnapshot(places, verdict.now, verdict.begun, verdict.over)

    return read
