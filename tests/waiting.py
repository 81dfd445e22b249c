"""Waiting in tests: for a condition, never for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_S = 30.0


def until(condition: Callable[[], T], what: str = "it", deadline_s: float = DEADLINE_S) -> T:
    """Ask until the answer is true, and return it; fails naming `what` after the deadline."""
    give_up = time.monotonic() + deadline_s
    while not (answer := condition()):
        assert time.monotonic() < give_up, f"waited {deadline_s:.0f} s in vain for {what}"
        time.sleep(0.01)
    return answer
