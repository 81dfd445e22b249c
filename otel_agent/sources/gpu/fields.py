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
_BEFORE_VALUE = "32x"
_VALUES: Mapping[int, str] = {0: "d", 1: "I4x", 2: "Q", 3: "Q", 4: "q", 5: "i4x", 6: "H6x"}  # by nvmlValueType_t
_UNTOUCHED = 999
_INVALID = 2  # a number that the driver does not know


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
        self._heads = memoryview(self._answered).cast("Q")[3 :: _ENTRY.size // 8]  # of each field type and status
        self._told: list[int] = []  # the heads for which this was made ready:
        self._values = struct.Struct("")
        self._places: list[tuple[str, str | None, float | None]] = []

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
        heads = self._heads.tolist()
        refused = self._make_ready(inquiry, heads) if heads != self._told else []
        facts: dict[str, Any] = {}
        for value, (name, part, per) in zip(self._values.unpack(self._answered), self._places, strict=True):
            if value in UNKNOWN or value != value:  # noqa: PLR0124 - not a number
                continue
            amount = value if per is None else value / per
            if part is None:
                facts[name] = amount
            elif name in facts:
                facts[name][part] = amount
            else:
                facts[name] = {part: amount}
        if refused:
            self._refused(refused)
        return facts

    def _make_ready(self, inquiry: Inquiry, heads: list[int]) -> list[Field]:
        """Prepare to take out the values of fields told in this way, nearly always that of the reading before; return the fields refused."""
        layout, places, refused = "=", [], []
        for (field, name, part, per), head in zip(self._asked, heads, strict=True):
            status, kind = divmod(head, 2**32)
            if status in LASTING or status == _INVALID:
                refused.append(field)
            elif status in LOST:
                inquiry.note("nvmlDeviceGetFieldValues", status)
            told = status == 0 and kind in _VALUES  # a type to come is not known
            layout += _BEFORE_VALUE + (_VALUES[kind] if told else "8x")
            if told:
                places.append((name, part, per))
        self._told, self._values, self._places = heads, struct.Struct(layout), places
        return refused

    def _refused(self, fields: Iterable[Field]) -> None:
        self.unsupported.update(fields)
        self._prepare()
