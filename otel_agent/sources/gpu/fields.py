"""NVML's field values: dozens of facts for one call, each with a status of its own.

The numbers are those of nvml.h (NVML_FI_*), not names of the bindings: those of 2024 give some of them other meanings. A driver that does
not know a number refuses it, and it is not asked again. What a value means is left to `device`.
"""

import ctypes
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from otel_agent.sources.gpu.library import LASTING, LOST, UNKNOWN, Inquiry

Field = tuple[int, int]  # number and scope
ALL_LINKS = 2**32 - 1
_MEMORY_SCOPE = 2


class Fact(NamedTuple):
    """A fact that one field tells, or that several tell together, each by the name of its part; `per` of them make one base unit.

    A fact without `per` is told in base units.
    """

    field: Field | Mapping[str, Field]
    per: float | None = None

    @property
    def fields(self) -> Iterable[tuple[str | None, Field]]:
        """The fields by the name of the part that they tell, which is None where there is but one."""
        return self.field.items() if isinstance(self.field, Mapping) else [(None, self.field)]


OFTEN: Mapping[str, Fact] = {
    "ecc_corrected": Fact((3, 0)),
    "ecc_uncorrected": Fact((4, 0)),
    "throttle_time_s": Fact(
        {
            "sw_power_cap": (74, 0),
            "thermal": (75, 0),
            "sync_boost": (76, 0),
            "board_limit": (77, 0),
            "low_utilization": (78, 0),
            "reliability": (79, 0),
            "sw_thermal_slowdown": (269, 0),
            "hw_thermal_slowdown": (270, 0),
            "hw_power_brake_slowdown": (271, 0),
        },
        per=1e9,
    ),
    "memory_temperature_celsius": Fact((82, 0)),
    "energy_joules": Fact((83, 0), per=1000),
    "pcie_replays": Fact((94, 0)),
    "nvlink_bytes": Fact({"transmit": (138, ALL_LINKS), "receive": (139, ALL_LINKS)}, per=1 / 1024),
    "remapped_rows": Fact({"corrected": (142, 0), "uncorrected": (143, 0)}),
    "row_remap_pending": Fact((144, 0)),
    "row_remap_failed": Fact((145, 0)),
    "power_watts": Fact((185, 0), per=1000),  # an average
    "power_instant_watts": Fact((186, 0), per=1000),
    "power_memory_watts": Fact((185, _MEMORY_SCOPE), per=1000),
    "power_limit_watts": Fact((190, 0), per=1000),
    "pcie_bytes": Fact({"transmit": (197, 0), "receive": (198, 0)}),
    "recovery_action": Fact((230, 0)),
}
SELDOM: Mapping[str, Fact] = {
    "ecc_lifetime": Fact({"corrected": (5, 0), "uncorrected": (6, 0)}),
    "pcie_errors": Fact(
        {
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
    ),
    "nvlink_errors": Fact(
        {
            "crc_flit": (38, 0),
            "crc_data": (45, 0),
            "replay": (52, 0),
            "recovery": (59, 0),
            "ecc_data": (160, 0),
        }
    ),
    "retired_pages": Fact({"corrected": (29, 0), "uncorrected": (30, 0)}),
    "retired_pending": Fact((31, 0)),
    "nvlink_links": Fact((91, 0)),
    "power_bounds_watts": Fact({"min": (187, 0), "max": (188, 0), "default": (189, 0)}, per=1000),
}

_ENTRY = struct.Struct("=IIqqIIQ")  # nvmlFieldValue_t: number, scope, time, latency, type, status, value
_TOLD = struct.Struct("=24xIIQ")  # of it, what the driver answers
_UNTOUCHED = 999
_INVALID = 2  # a number that the driver does not know
_UNSIGNED: Mapping[int, int] = {1: 2**32 - 1, 2: 2**64 - 1, 3: 2**64 - 1}  # of nvmlValueType_t, with the bits they use


class Batch:
    """A set of fields of one device, asked together; those that it does not know are asked once."""

    def __init__(self, wanted: Mapping[str, Fact]) -> None:
        self._wanted = [(field, name, part, fact.per) for name, fact in wanted.items() for part, field in fact.fields]
        self.forget()

    def forget(self) -> None:
        """Ask for every field again."""
        self.unsupported: set[Field] = set()
        self._prepare()

    def _prepare(self) -> None:
        self._asked = [one for one in self._wanted if one[0] not in self.unsupported]
        self.lacking = {name for field, name, *_ in self._wanted if field in self.unsupported}
        # A status that the driver leaves as it was must not make an old value look like a new one.
        self._blank = b"".join(_ENTRY.pack(*field, 0, 0, 0, _UNTOUCHED, 0) for field, *_ in self._asked)
        self._answered = bytearray(self._blank)
        self._buffer = (ctypes.c_char * len(self._blank)).from_buffer(self._answered)

    def read(self, inquiry: Inquiry) -> dict[str, Any]:
        """Return the facts that the driver tells, in base units; one unknown field does not spoil the others.

        The names of facts of which it does not know every field are in `lacking`.
        """
        if not self._asked:
            return {}
        self._answered[:] = self._blank
        if not inquiry.call("nvmlDeviceGetFieldValues", inquiry.handle, len(self._asked), self._buffer):
            if inquiry.code in LASTING or inquiry.code == _INVALID:
                self._refused(field for field, *_ in self._asked)
            return {}
        facts: dict[str, Any] = {}
        refused = []
        for (field, name, part, per), (kind, status, raw) in zip(
            self._asked, _TOLD.iter_unpack(self._answered), strict=True
        ):
            if status:
                if status in LASTING or status == _INVALID:
                    refused.append(field)
                elif status in LOST:
                    inquiry.note("nvmlDeviceGetFieldValues", status)
                continue
            value = raw & _UNSIGNED[kind] if kind in _UNSIGNED else decoded(kind, raw)
            if value is None or value in UNKNOWN:
                continue
            if per is not None:
                value /= per
            if part is None:
                facts[name] = value
            elif name in facts:
                facts[name][part] = value
            else:
                facts[name] = {part: value}
        if refused:
            self._refused(refused)
        return facts

    def _refused(self, fields: Iterable[Field]) -> None:
        self.unsupported.update(fields)
        self._prepare()


def decoded(kind: int, raw: int) -> int | float | None:
    """Return a value of nvmlValueType_t, other than the unsigned ones of 32 and 64 bits, from the eight bytes that hold it.

    None where it is no number, or of a type to come.
    """
    if kind == 0:
        value = float(struct.unpack("=d", raw.to_bytes(8, "little"))[0])
        return value if value == value else None  # noqa: PLR0124 - not a number
    if kind == 4:
        return raw - 2**64 if raw >= 2**63 else raw
    if kind == 5:
        low = raw & 0xFFFFFFFF
        return low - 2**32 if low >= 2**31 else low
    return raw & 0xFFFF if kind == 6 else None
