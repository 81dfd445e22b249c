"""NVML's field values: dozens of facts for one call, each with a status of its own.

The numbers are those of nvml.h (NVML_FI_*), not names of the bindings: those of 2024 give some of them other meanings. A driver that does
not know a number refuses it, and it is not asked again. What a value means is left to `device`.
"""

import ctypes
import struct
from collections.abc import Iterable, Mapping

from otel_agent.sources.gpu.library import LASTING, LOST, UNKNOWN, Inquiry

Field = tuple[int, int]  # number and scope
ALL_LINKS = 2**32 - 1
_MEMORY_SCOPE = 2

ECC_MEMORY: Mapping[str, Field] = {"corrected": (3, 0), "uncorrected": (4, 0)}
ECC_LIFETIME: Mapping[str, Field] = {"corrected": (5, 0), "uncorrected": (6, 0)}
RETIRED: Mapping[str, Field] = {"corrected": (29, 0), "uncorrected": (30, 0)}
RETIRED_PENDING: Field = (31, 0)
THROTTLE_TIME: Mapping[str, Field] = {  # nanoseconds
    "sw_power_cap": (74, 0),
    "thermal": (75, 0),
    "sync_boost": (76, 0),
    "board_limit": (77, 0),
    "low_utilization": (78, 0),
    "reliability": (79, 0),
    "sw_thermal_slowdown": (269, 0),
    "hw_thermal_slowdown": (270, 0),
    "hw_power_brake_slowdown": (271, 0),
}
MEMORY_TEMPERATURE: Field = (82, 0)
ENERGY: Field = (83, 0)  # millijoules
LINKS: Field = (91, 0)
PCIE_REPLAYS: Field = (94, 0)
NVLINK_BYTES: Mapping[str, Field] = {"transmit": (138, ALL_LINKS), "receive": (139, ALL_LINKS)}  # kibibytes
NVLINK_ERRORS: Mapping[str, Field] = {
    "crc_flit": (38, 0),
    "crc_data": (45, 0),
    "replay": (52, 0),
    "recovery": (59, 0),
    "ecc_data": (160, 0),
}
REMAPPED: Mapping[str, Field] = {"corrected": (142, 0), "uncorrected": (143, 0)}
REMAP_PENDING: Field = (144, 0)
REMAP_FAILED: Field = (145, 0)
PCIE_ERRORS: Mapping[str, Field] = {
    "recovery": (169, 0),
    "correctable": (173, 0),
    "naks_received": (174, 0),
    "receiver": (175, 0),
    "bad_tlp": (176, 0),
    "naks_sent": (177, 0),
    "bad_dllp": (178, 0),
    "non_fatal": (179, 0),
    "fatal": (180, 0),
    "unsupported_request": (181, 0),
    "lcrc": (182, 0),
    "lane": (183, 0),
}
POWER_AVERAGE: Field = (185, 0)  # milliwatts, as all power
POWER_INSTANT: Field = (186, 0)
POWER_MEMORY: Field = (185, _MEMORY_SCOPE)
POWER_BOUNDS: Mapping[str, Field] = {"min": (187, 0), "max": (188, 0), "default": (189, 0)}
POWER_LIMIT: Field = (190, 0)
PCIE_BYTES: Mapping[str, Field] = {"transmit": (197, 0), "receive": (198, 0)}
RECOVERY_ACTION: Field = (230, 0)

OFTEN: tuple[Field, ...] = (
    *ECC_MEMORY.values(),
    *ECC_LIFETIME.values(),
    *THROTTLE_TIME.values(),
    MEMORY_TEMPERATURE,
    ENERGY,
    PCIE_REPLAYS,
    *NVLINK_BYTES.values(),
    *NVLINK_ERRORS.values(),
    *REMAPPED.values(),
    REMAP_PENDING,
    REMAP_FAILED,
    *PCIE_ERRORS.values(),
    POWER_AVERAGE,
    POWER_INSTANT,
    POWER_MEMORY,
    POWER_LIMIT,
    *PCIE_BYTES.values(),
    RECOVERY_ACTION,
)
SELDOM: tuple[Field, ...] = (*RETIRED.values(), RETIRED_PENDING, LINKS, *POWER_BOUNDS.values())

_ENTRY = struct.Struct("=IIqqIIQ")  # nvmlFieldValue_t: number, scope, time, latency, type, status, value
_UNTOUCHED = 999
_INVALID = 2  # a number that the driver does not know


class Batch:
    """A set of fields of one device, asked together; those that it does not know are asked once."""

    def __init__(self, wanted: Iterable[Field]) -> None:
        self._wanted = tuple(wanted)
        self.forget()

    def forget(self) -> None:
        """Ask for every field again."""
        self.unsupported: set[Field] = set()
        self._prepare()

    def _prepare(self) -> None:
        asked = [field for field in self._wanted if field not in self.unsupported]
        # A status that the driver leaves as it was must not make an old value look like a new one.
        self._blank = b"".join(_ENTRY.pack(number, scope, 0, 0, 0, _UNTOUCHED, 0) for number, scope in asked)
        self._buffer = ctypes.create_string_buffer(self._blank, len(self._blank)) if asked else None
        self._count = len(asked)

    def read(self, inquiry: Inquiry) -> dict[Field, int | float]:
        """Return the values that the driver gives; one unknown field does not spoil the others."""
        if self._buffer is None:
            return {}
        ctypes.memmove(self._buffer, self._blank, len(self._blank))
        if not inquiry.call("nvmlDeviceGetFieldValues", inquiry.handle, self._count, self._buffer):
            if inquiry.code in LASTING or inquiry.code == _INVALID:
                self.unsupported = set(self._wanted)
            return {}
        found: dict[Field, int | float] = {}
        refused = False
        for number, scope, _, _, kind, status, raw in _ENTRY.iter_unpack(self._buffer.raw):
            if status == 0:
                value = decoded(kind, raw)
                if value is not None:
                    found[number, scope] = value
            elif status in LASTING or status == _INVALID:
                self.unsupported.add((number, scope))
                refused = True
            elif status in LOST:
                inquiry.note("nvmlDeviceGetFieldValues", status)
        if refused:
            self._prepare()
        return found


def decoded(kind: int, raw: int) -> int | float | None:
    """Return a value of nvmlValueType_t from the eight bytes that hold it; None where it stands for "not available" or is of a type to come."""
    value: int | float
    if kind == 0:
        value = float(struct.unpack("=d", raw.to_bytes(8, "little"))[0])
        return value if value == value else None  # noqa: PLR0124 - not a number
    if kind == 1:
        value = raw & 0xFFFFFFFF
    elif kind in (2, 3):
        value = raw
    elif kind == 4:
        return raw - 2**64 if raw >= 2**63 else raw
    elif kind == 5:
        low = raw & 0xFFFFFFFF
        return low - 2**32 if low >= 2**31 else low
    elif kind == 6:
        return raw & 0xFFFF
    else:
        return None
    return None if value in UNKNOWN else value
