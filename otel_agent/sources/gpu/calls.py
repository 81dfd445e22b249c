"""Numbers that have a function of NVML each: called one after the other, and answered into one room.

Functions, arguments and room stand ready between readings, so that a call costs little more than the driver's own work. What a device
does not know is left out until everything is asked anew. What a number means is left to `device`.
"""

import ctypes
from collections.abc import Mapping
from operator import itemgetter
from time import perf_counter
from typing import Any, NamedTuple

from otel_agent.sources.gpu.library import LASTING, OUTDATED, UNKNOWN, Inquiry


class Call(NamedTuple):
    """How a number is asked for: the function, what it is asked with, and the function that told it before.

    With `two`, a second number is told along with it, which nobody wants: a period, or what holds after the next start.
    """

    function: str
    arguments: tuple[int, ...] = ()
    older: str | None = None
    two: bool = False


_Ready = tuple[str, tuple[object, ...], Any, tuple[Any, ...]]  # name, question, function of the library, its arguments
_NAME = itemgetter(0)
_SIZE = 8  # of an answer, of which one of 32 bits fills half

OFTEN: Mapping[str, Call] = {
    "mig": Call("nvmlDeviceGetMigMode", two=True),
    "busy": Call("nvmlDeviceGetUtilizationRates"),  # two of 32 bits, side by side
    "encoder": Call("nvmlDeviceGetEncoderUtilization", two=True),
    "decoder": Call("nvmlDeviceGetDecoderUtilization", two=True),
    "jpeg": Call("nvmlDeviceGetJpgUtilization", two=True),
    "optical_flow": Call("nvmlDeviceGetOfaUtilization", two=True),
    "temperature": Call("nvmlDeviceGetTemperature", (0,)),
    "graphics": Call("nvmlDeviceGetClockInfo", (0,)),
    "sm": Call("nvmlDeviceGetClockInfo", (1,)),
    "memory": Call("nvmlDeviceGetClockInfo", (2,)),
    "video": Call("nvmlDeviceGetClockInfo", (3,)),
    "reasons": Call("nvmlDeviceGetCurrentClocksEventReasons", older="nvmlDeviceGetCurrentClocksThrottleReasons"),
    "level": Call("nvmlDeviceGetPerformanceState"),
    "generation": Call("nvmlDeviceGetCurrPcieLinkGeneration"),
    "width": Call("nvmlDeviceGetCurrPcieLinkWidth"),
}
SELDOM: Mapping[str, Call] = {
    "shutdown": Call("nvmlDeviceGetTemperatureThreshold", (0,)),  # NVML_TEMPERATURE_THRESHOLD_*
    "slowdown": Call("nvmlDeviceGetTemperatureThreshold", (1,)),
    "memory_max": Call("nvmlDeviceGetTemperatureThreshold", (2,)),
    "gpu_max": Call("nvmlDeviceGetTemperatureThreshold", (3,)),
    # the kind of error, since the driver was loaded, and NVML_MEMORY_LOCATION_*
    "dram_corrected": Call("nvmlDeviceGetMemoryErrorCounter", (0, 0, 2)),
    "dram_uncorrected": Call("nvmlDeviceGetMemoryErrorCounter", (1, 0, 2)),
    "sram_corrected": Call("nvmlDeviceGetMemoryErrorCounter", (0, 0, 7)),
    "sram_uncorrected": Call("nvmlDeviceGetMemoryErrorCounter", (1, 0, 7)),
    "ecc": Call("nvmlDeviceGetEccMode", two=True),
    "graphics": Call("nvmlDeviceGetMaxClockInfo", (0,)),
    "sm": Call("nvmlDeviceGetMaxClockInfo", (1,)),
    "memory": Call("nvmlDeviceGetMaxClockInfo", (2,)),
    "video": Call("nvmlDeviceGetMaxClockInfo", (3,)),
    "generation_max": Call("nvmlDeviceGetMaxPcieLinkGeneration"),
    "width_max": Call("nvmlDeviceGetMaxPcieLinkWidth"),
    "fans": Call("nvmlDeviceGetNumFans"),
    "persistence": Call("nvmlDeviceGetPersistenceMode"),
}


class Calls:
    """A set of numbers of one device, asked together."""

    def __init__(self, wanted: Mapping[str, Call]) -> None:
        self._wanted = wanted
        self._blank = bytes(len(wanted) * _SIZE)
        self._answered = bytearray(self._blank)
        self._numbers = memoryview(self._answered).cast("Q")
        self._room = (ctypes.c_char * len(self._answered)).from_buffer(self._answered)
        self._second = ctypes.byref(ctypes.c_ulonglong())
        self._ready: list[_Ready] | None = None

    def forget(self) -> None:
        """Ask for every number again."""
        self._ready = None

    def read(self, inquiry: Inquiry) -> dict[str, int]:
        """Return the numbers that are known; raises DeviceLostError or DriverGoneError."""
        ready = self._ready = self._prepared(inquiry) if self._ready is None else self._ready
        failed: list[tuple[str, int]] = []
        self._answered[:] = self._blank  # an answer of 32 bits leaves the other half as it is
        began = perf_counter()
        try:
            for name, question, function, arguments in ready:
                code = function(*arguments)
                if code:
                    failed.append((name, code))
                    inquiry.note(question, code)
        finally:
            inquiry.waited(began)
        inquiry.answers += len(ready) - len(failed)
        found = dict(zip(map(_NAME, ready), self._numbers.tolist(), strict=False))
        if not UNKNOWN.isdisjoint(found.values()):
            found = {name: value for name, value in found.items() if value not in UNKNOWN}
        for name, code in failed:
            found.pop(name, None)
            if code in LASTING:
                self._ready = None  # what the device does not know is not asked again
            call = self._wanted[name]
            if code in OUTDATED and call.older:
                value = inquiry.number((call.older, *call.arguments))
                if value is not None:
                    found[name] = value
        return found

    def _prepared(self, inquiry: Inquiry) -> list[_Ready]:
        """Return a call for each number that the device may know, in the newest way that it has not refused."""
        ready: list[_Ready] = []
        for name, call in self._wanted.items():
            for way in (call.function, *([call.older] if call.older else [])):
                question = (way, *call.arguments)
                function = inquiry.function(way, question)
                if function is not None:
                    room = ctypes.byref(self._room, len(ready) * _SIZE)
                    rooms = (room, self._second) if call.two else (room,)
                    ready.append((name, question, function, (inquiry.handle, *call.arguments, *rooms)))
                    break
                if inquiry.code not in OUTDATED:
                    break
        return ready
