"""The driver's own samples: it takes power and utilisation many times a second, and keeps the last ones.

From them come minimum, mean and maximum of the time since the last reading, so that a burst between two readings is not lost. Partitioned
GPUs have none.
"""

import ctypes
import struct
from collections.abc import Mapping

from otel_agent.sources.gpu.fields import decoded
from otel_agent.sources.gpu.library import Inquiry
from otel_agent.sources.gpu.snapshot import Spread

# NVML_*_SAMPLES: the name of the fact, its scale to base units, the highest value that can be.
KINDS: Mapping[int, tuple[str, float, float]] = {
    0: ("power", 1e-3, 1e5),
    1: ("utilization", 1e-2, 1.0),
    2: ("memory_controller_utilization", 1e-2, 1.0),
}
ROOM = 512  # the driver keeps about 120 of each
_SAMPLE = struct.Struct("=QQ")  # microseconds since the epoch, value


class Sampled:
    """What one device's driver has sampled since it was asked last."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._room = ctypes.create_string_buffer(ROOM * _SAMPLE.size)
        self._count, self._kind = ctypes.c_uint(), ctypes.c_uint()

    def read(self, inquiry: Inquiry) -> dict[str, Spread] | None:
        """Return a spread for each fact that has new samples; None before the second reading, since what was before the first is not its own."""
        found: dict[str, Spread] = {}
        for number, (name, scale, highest) in KINDS.items():
            since = self._last.get(number)
            entries = self._since(inquiry, number, since or 0)
            if entries:
                self._last[number] = max(at for at, _ in entries)
            if since is None or not entries:
                continue
            kind = self._kind.value
            values = [
                value * scale
                for at, raw in entries
                if at > since and (value := decoded(kind, raw)) is not None and 0 <= value * scale <= highest
            ]
            if values:
                found[name] = Spread(min(values), sum(values) / len(values), max(values))
        return found or None

    def _since(self, inquiry: Inquiry, number: int, since: int) -> list[tuple[int, int]]:
        self._count.value = ROOM
        told = inquiry.call(
            "nvmlDeviceGetSamples",
            inquiry.handle,
            number,
            ctypes.c_ulonglong(since),
            ctypes.byref(self._kind),
            ctypes.byref(self._count),
            self._room,
            key=("nvmlDeviceGetSamples", number),
        )
        if not told:
            return []
        room = memoryview(self._room)[: min(self._count.value, ROOM) * _SAMPLE.size]
        return list(_SAMPLE.iter_unpack(room))
