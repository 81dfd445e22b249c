"""The performance monitor (GPM) of Hopper and later: what the multiprocessors did between two readings, without a profiler's lock.

Two samples are kept; each reading takes a new one and asks what happened since the other. All metrics come in one call. Older GPUs have
no such monitor, and nothing stands in for it.
"""

import ctypes
import struct
from collections.abc import Mapping, Sequence

from otel_agent.sources.gpu.library import Inquiry

SHORTEST_S = 0.1  # between two samples, as NVML asks for
LONGEST_S = 120.0  # after a gap, what happened is no longer about now

# Metrics of nvml.h (NVML_GPM_METRIC_*), per cent.
ACTIVITY: Mapping[int, str] = {
    1: "graphics",
    2: "sm",
    3: "sm_occupancy",
    4: "integer",
    5: "tensor",
    6: "tensor_fp64",  # DFMA
    7: "tensor_half",  # HMMA: fp16, bf16 and, where the hardware counts them so, fp8
    9: "tensor_integer",  # IMMA
    10: "memory",
    11: "fp64",
    12: "fp32",
    13: "fp16",
}
# Mebibytes a second.
THROUGHPUT: Mapping[int, str] = {20: "pcie.transmit", 21: "pcie.receive", 60: "nvlink.receive", 61: "nvlink.transmit"}

_INFINITE, _UNTOLD, _MEBI = float("inf"), float("nan"), 2.0**20
_HEAD = struct.Struct("=IIQQ")  # version, count, the two samples
_METRIC = struct.Struct("=IId24x")  # number, status, value, words


class Monitor:
    """The monitor of one GPU, or of one GPU instance of a partitioned one."""

    def __init__(self, instance: int | None = None) -> None:
        self._instance = instance
        self._samples: list[tuple[object, int]] = []  # handle and address: the earlier, the newer
        self._taken_s: float | None = None
        self._asked = [*ACTIVITY, *THROUGHPUT]
        self._blank = b"".join(_METRIC.pack(number, 999, 0.0) for number in self._asked)
        self._answered = bytearray(_HEAD.size + len(self._blank))
        self._metrics = memoryview(self._answered)[_HEAD.size :]
        # Number and status in one word, which is the number alone where the status is 0.
        self._heads, self._values = self._metrics.cast("Q")[::5], self._metrics.cast("d")[1::5]
        self._buffer = (ctypes.c_char * len(self._answered)).from_buffer(self._answered)
        self._key, self._metrics_key = ("nvmlGpmSampleGet", instance), ("nvmlGpmMetricsGet", instance)

    def read(self, inquiry: Inquiry, now_s: float) -> tuple[dict[str, float] | None, dict[str, float] | None]:
        """Return the shares of time and the bytes a second since the last reading; None before the second one, and where there is no monitor."""
        if self._taken_s is not None and 0 <= now_s - self._taken_s < SHORTEST_S:
            return None, None
        if not self._samples and not self._allocate(inquiry):
            return None, None
        before = self._taken_s
        self._samples.reverse()
        if not self._sample(inquiry, self._samples[1][0]):
            self._taken_s = None
            return None, None
        self._taken_s = now_s
        if before is None or not 0 < now_s - before <= LONGEST_S:
            return None, None
        return self._between(inquiry)

    def free(self, inquiry: Inquiry) -> None:
        """Give the samples back."""
        samples, self._samples, self._taken_s = self._samples, [], None
        for handle, _ in samples:
            inquiry.call("nvmlGpmSampleFree", handle)

    def _allocate(self, inquiry: Inquiry) -> bool:
        for _ in range(2):
            handle = ctypes.c_void_p()
            if not inquiry.call("nvmlGpmSampleAlloc", ctypes.byref(handle)) or not handle.value:
                return False
            self._samples.append((handle, handle.value))
        return True

    def _sample(self, inquiry: Inquiry, sample: object) -> bool:
        if self._instance is None:
            return inquiry.call("nvmlGpmSampleGet", inquiry.handle, sample, key=self._key)
        return inquiry.call("nvmlGpmMigSampleGet", inquiry.handle, ctypes.c_uint(self._instance), sample, key=self._key)

    def _between(self, inquiry: Inquiry) -> tuple[dict[str, float] | None, dict[str, float] | None]:
        (_, earlier), (_, newer) = self._samples
        _HEAD.pack_into(self._answered, 0, 1, len(self._asked), earlier, newer)
        self._metrics[:] = self._blank
        if not inquiry.call("nvmlGpmMetricsGet", self._buffer, key=self._metrics_key):
            return None, None
        heads = self._heads.tolist()
        told: Sequence[float] = self._values.tolist()
        if heads != self._asked:
            told = [
                value if head == number else _UNTOLD
                for head, number, value in zip(heads, self._asked, told, strict=True)
            ]
        shares = {
            name: value / 100.0 for name, value in zip(ACTIVITY.values(), told, strict=False) if 0.0 <= value <= 100.0
        }
        rates = {
            name: value * _MEBI
            for name, value in zip(THROUGHPUT.values(), told[len(ACTIVITY) :], strict=True)
            if 0.0 <= value < _INFINITE
        }
        return shares or None, rates or None
