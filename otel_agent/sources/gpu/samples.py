"""The driver's own samples: it takes power and utilisation many times a second, and keeps the last ones.

From them come minimum, mean and maximum of the time since the last reading, so that a burst between two readings is not lost. Partitioned
GPUs have none.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Literal

from otel_agent.sources.gpu.library import Inquiry
from otel_agent.sources.gpu.snapshot import Spread

# NVML_*_SAMPLES: the name of the fact, its scale to base units, and the highest value that can be, which "not available" is above.
KINDS: Mapping[int, tuple[str, float, float]] = {
    0: ("power", 1e-3, 1e8),
    1: ("utilization", 1e-2, 100),
    2: ("memory_controller_utilization", 1e-2, 100),
}
ROOM = 512  # the driver keeps about 120 of each
_SIZE = 16  # of a sample: microseconds since the epoch, value
# How the value lies in a sample, by nvmlValueType_t.
_FLOAT = 0
_INTEGERS: Mapping[int, Literal["I", "Q", "q", "i", "H"]] = {1: "I", 2: "Q", 3: "Q", 4: "q", 5: "i", 6: "H"}


class Sampled:
    """What one device's driver has sampled since it was asked last."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        samples = bytearray(ROOM * _SIZE)
        self._room = (ctypes.c_char * len(samples)).from_buffer(samples)
        whole = memoryview(samples)
        self._views = {kind: whole.cast(layout) for kind, layout in _INTEGERS.items()} | {_FLOAT: whole.cast("d")}
        self._times = whole.cast("Q")
        self._since, self._count, self._kind = ctypes.c_ulonglong(), ctypes.c_uint(), ctypes.c_uint()
        self._counted, self._typed = ctypes.byref(self._count), ctypes.byref(self._kind)
        self._questions = {number: ("nvmlDeviceGetSamples", number) for number in KINDS}

    def read(self, inquiry: Inquiry) -> dict[str, Spread] | None:
        """Return a spread for each fact that has new samples; None before the second reading, since what was before the first is not its own."""
        found: dict[str, Spread] = {}
        for number, (name, scale, highest) in KINDS.items():
            since = self._last.get(number)
            count = self._ask(inquiry, number, since or 0)
            if not count:
                continue
            times = self._times[: 2 * count : 2].tolist()
            self._last[number] = max(times)
            if since is None:
                continue
            values = self._values(count)
            if min(times) <= since:
                values = [value for at, value in zip(times, values, strict=False) if at > since]
            if self._kind.value == _FLOAT:  # which may be no number, and have no place in an order
                values = [value for value in values if 0 <= value <= highest]
            values = sorted(values)  # costs less than to look for the least and the greatest
            if values and (values[0] < 0 or values[-1] > highest):
                values = [value for value in values if 0 <= value <= highest]
            if values:
                found[name] = Spread(values[0] * scale, sum(values) / len(values) * scale, values[-1] * scale)
        return found or None

    def _ask(self, inquiry: Inquiry, number: int, since: int) -> int:
        """Return how many samples the driver has put into the room."""
        self._since.value, self._count.value = since, ROOM
        told = inquiry.call(
            "nvmlDeviceGetSamples",
            inquiry.handle,
            number,
            self._since,
            self._typed,
            self._counted,
            self._room,
            key=self._questions[number],
        )
        return min(self._count.value, ROOM) if told else 0

    def _values(self, count: int) -> Sequence[float]:
        """Return what is in the room, none where it is of a type to come."""
        view = self._views.get(self._kind.value)
        if view is None:
            return ()
        each = _SIZE // view.itemsize
        return view[each // 2 : each * count : each].tolist()
