"""One GPU: every question put to it in a reading, and the answers in base units.

Meanings and units are those of NVML's API reference (docs.nvidia.com/deploy/nvml-api). What hardly moves is asked once a minute.
`nvmlDeviceGetPcieThroughput` is not asked at all: it holds its caller up for 20 ms a direction.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from otel_agent.sources.gpu import fields
from otel_agent.sources.gpu.fields import Batch, Field
from otel_agent.sources.gpu.library import OUTDATED, DeviceLostError, Inquiry, known
from otel_agent.sources.gpu.monitor import Monitor
from otel_agent.sources.gpu.partitions import Partitions
from otel_agent.sources.gpu.processes import Listed, People, Use
from otel_agent.sources.gpu.samples import Sampled
from otel_agent.sources.gpu.snapshot import FABRIC_STATES, RECOVERY_ACTIONS, GpuIdentity, GpuReading

SELDOM_S = 60.0  # between two times that what hardly moves is asked
PROBE_S = 600.0  # between two times that everything is asked, also what was not supported

_THROTTLE = {  # nvmlClocksEventReason*, bit by bit
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
}
_BANKS = ("max", "high", "partial", "low", "none")
_LIMITS = {"shutdown": 0, "slowdown": 1, "memory_max": 2, "gpu_max": 3}  # NVML_TEMPERATURE_THRESHOLD_*
_LOCATIONS = {"dram": 2, "sram": 7}  # NVML_MEMORY_LOCATION_*
_KINDS = {"corrected": 0, "uncorrected": 1}
_MEMORY_INFO_2 = 0x02000028  # nvmlMemory_v2: the structure's size and version
_MARGIN_1 = 0x01000008
_FABRIC_INFO = (0x03000028, 0x02000024)  # the newest version, and the one before it, which is shorter


class _Memory(ctypes.Structure):  # nvmlMemory_v2_t
    _fields_ = (
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Margin(ctypes.Structure):  # nvmlMarginTemperature_v1_t
    _fields_ = (("version", ctypes.c_uint), ("celsius", ctypes.c_int))


class _Fabric(ctypes.Structure):  # nvmlGpuFabricInfo_v3_t, which older bindings lack
    _fields_ = (
        ("version", ctypes.c_uint),
        ("cluster", ctypes.c_ubyte * 16),
        ("status", ctypes.c_uint),
        ("clique", ctypes.c_uint),
        ("state", ctypes.c_ubyte),
        ("mask", ctypes.c_uint),
        ("summary", ctypes.c_ubyte),
    )


class Device:
    """One GPU under one opening of the driver; used by one thread at a time."""

    def __init__(self, library: Any, handle: object, identity: GpuIdentity) -> None:
        self.identity, self.handle = identity, handle
        self.inquiry = Inquiry(library, handle)
        self._often, self._seldom = Batch(fields.OFTEN), Batch(fields.SELDOM)
        self._monitor, self._sampled, self._use, self._listed = Monitor(), Sampled(), Use(), Listed()
        self._partitions = Partitions(library, identity.id, _MEMORY_INFO_2)
        self._two = (ctypes.c_uint(), ctypes.c_uint())
        self._ones = tuple(map(ctypes.byref, self._two))
        self._memory_2, self._margin_1 = _Memory(), _Margin()
        self._kept: dict[str, Any] = {}
        self._unsupported: tuple[str, ...] = ()
        self._monitored = False
        self._most: dict[str, int | None] = {}
        self._fan_count = 0
        self._kept_s: float | None = None
        self._probed_s: float | None = None
        self._partitioned: bool | None = None

    def read(self, people: People, now_s: float) -> GpuReading:
        """Return all that this GPU tells at this moment; raises DeviceLostError or DriverGoneError.

        Errors of memory are the volatile ones: like energy, they count from the loading of the driver.
        """
        inquiry = self.inquiry
        inquiry.begin()
        if self._probed_s is None or not 0 <= now_s - self._probed_s < PROBE_S:
            self._probe(now_s)
        inquiry.group = "calls"
        mig = _flag(self._first_of_two("nvmlDeviceGetMigMode"))
        if mig is not None and self._partitioned is not None and mig != self._partitioned:
            self._probe(now_s)  # what a GPU tells changes with its partition
        self._partitioned = mig if mig is not None else self._partitioned
        if self._kept_s is None or not 0 <= now_s - self._kept_s < SELDOM_S:
            self._kept, self._kept_s = self._hardly_moving(), now_s
        facts = self._kept | self._moving()
        inquiry.group = "fields"
        facts |= self._from_fields(self._often.read(inquiry))
        inquiry.group = "monitor"
        activity, throughput = self._monitor.read(inquiry, now_s) if self._monitored else (None, None)
        inquiry.group = "samples"
        spreads = self._sampled.read(inquiry)
        inquiry.group = "processes"
        listed = self._listed.read(inquiry, people, self._use.read(inquiry))
        inquiry.group = "instances"
        instances = self._partitions.read(inquiry, people, now_s) if mig else ()
        if not inquiry.answers:
            raise DeviceLostError(f"every question is answered with: {inquiry.fault}")
        unsupported, refused = inquiry.lasting()
        return GpuReading(
            identity=self.identity,
            mig_enabled=mig,
            activity=activity,
            throughput=throughput,
            spreads=spreads,
            processes=listed,
            instances=instances,
            waited_s=dict(inquiry.waited_s),
            unsupported=unsupported + self._unsupported_fields(),
            refused=refused,
            **facts,
        )

    def close(self) -> None:
        """Give back what the driver lent."""
        self._monitor.free(self.inquiry)
        self._partitions.free(self.inquiry)

    def _probe(self, now_s: float) -> None:
        self.inquiry.forget()
        self._often.forget()
        self._seldom.forget()
        self._partitions.forget()
        support = self.inquiry.ask("nvmlGpmQueryDeviceSupport")
        self._monitored = support is not None and bool(support.isSupportedDevice)
        self._probed_s, self._kept_s = now_s, None

    def _unsupported_fields(self) -> tuple[str, ...]:
        count = len(self._often.unsupported) + len(self._seldom.unsupported)
        if count != len(self._unsupported):
            self._unsupported = tuple(
                f"field {number}" + (f" of scope {scope}" if scope else "")
                for number, scope in sorted(self._often.unsupported | self._seldom.unsupported)
            )
        return self._unsupported

    def _moving(self) -> dict[str, Any]:
        ask = self.inquiry
        used, reserved, total = self._memory()
        busy = ask.pair("nvmlDeviceGetUtilizationRates") or (None, None)
        clocks = ask.number(("nvmlDeviceGetCurrentClocksEventReasons",), ("nvmlDeviceGetCurrentClocksThrottleReasons",))
        level = ask.number(("nvmlDeviceGetPerformanceState",))
        link = {
            "generation": ask.number(("nvmlDeviceGetCurrPcieLinkGeneration",)),
            "width": ask.number(("nvmlDeviceGetCurrPcieLinkWidth",)),
        }
        return {
            "utilization": _ratio(busy[0]),
            "memory_controller_utilization": _ratio(busy[1]),
            "encoder_utilization": _ratio(self._first_of_two("nvmlDeviceGetEncoderUtilization")),
            "decoder_utilization": _ratio(self._first_of_two("nvmlDeviceGetDecoderUtilization")),
            "jpeg_utilization": _ratio(self._first_of_two("nvmlDeviceGetJpgUtilization")),
            "optical_flow_utilization": _ratio(self._first_of_two("nvmlDeviceGetOfaUtilization")),
            "memory_used_bytes": used,
            "memory_reserved_bytes": reserved,
            "memory_total_bytes": total,
            "temperature_celsius": self._temperature(),
            "temperature_margin_celsius": self._margin(),
            "clock_graphics_hz": _mega(ask.number(("nvmlDeviceGetClockInfo", 0))),
            "clock_sm_hz": _mega(ask.number(("nvmlDeviceGetClockInfo", 1))),
            "clock_memory_hz": _mega(ask.number(("nvmlDeviceGetClockInfo", 2))),
            "clock_video_hz": _mega(ask.number(("nvmlDeviceGetClockInfo", 3))),
            "throttle": None if clocks is None else {reason: bool(clocks & bit) for reason, bit in _THROTTLE.items()},
            "performance_level": level if level is not None and level <= 15 else None,
            "pcie_link": _present(self._most | link),
            "fan_speed": self._fans(),
        }

    def _memory(self) -> tuple[int | None, int | None, int | None]:
        """Return memory used, reserved and in all; before version 2 what the driver keeps for itself counts as used."""
        room = self._memory_2
        room.version = _MEMORY_INFO_2
        if self.inquiry.call("nvmlDeviceGetMemoryInfo_v2", self.handle, ctypes.byref(room)):
            return known(room.used), known(room.reserved), known(room.total)
        if self.inquiry.code not in OUTDATED:
            return None, None, None
        older = self.inquiry.ask("nvmlDeviceGetMemoryInfo")
        return (None, None, None) if older is None else (known(older.used), None, known(older.total))

    def _temperature(self) -> int | None:
        told = self.inquiry.number(("nvmlDeviceGetTemperature", 0))
        if told is None and self.inquiry.code in OUTDATED:
            return known(self.inquiry.ask("nvmlDeviceGetTemperatureV", 0))
        return told

    def _margin(self) -> int | None:
        room = self._margin_1
        room.version = _MARGIN_1
        told = self.inquiry.call("nvmlDeviceGetMarginTemperature", self.handle, ctypes.byref(room))
        return room.celsius if told and -300 < room.celsius < 300 else None

    def _first_of_two(self, function: str) -> int | None:
        """Ask for two numbers, of which the other is a period, or a mode after the next start."""
        told = self.inquiry.call(function, self.handle, self._ones[0], self._ones[1])
        return known(self._two[0].value) if told else None

    def _fans(self) -> tuple[float, ...] | None:
        speeds = [self.inquiry.number(("nvmlDeviceGetFanSpeed_v2", fan)) for fan in range(self._fan_count)]
        return tuple(speed / 100 for speed in speeds if speed is not None and speed <= 255) or None

    def _from_fields(self, found: Mapping[Field, int | float]) -> dict[str, Any]:
        """Take the facts from the fields; a field that is not known has an older question where there is one."""

        def one(field: Field, *ways: tuple[Any, ...]) -> int | float | None:
            if field in found or field not in self._often.unsupported:
                return found.get(field)
            return self.inquiry.number(*ways) if ways else None

        remapped = (
            self.inquiry.ask("nvmlDeviceGetRemappedRows") if fields.REMAP_PENDING in self._often.unsupported else None
        )
        rows = {"corrected": _item(remapped, 0), "uncorrected": _item(remapped, 1)}
        errors = {
            kind: one(field, ("nvmlDeviceGetTotalEccErrors", _KINDS[kind], 0))
            for kind, field in fields.ECC_MEMORY.items()
        }
        action = found.get(fields.RECOVERY_ACTION)
        return {
            "memory_temperature_celsius": found.get(fields.MEMORY_TEMPERATURE),
            "power_watts": _milli(one(fields.POWER_AVERAGE, ("nvmlDeviceGetPowerUsage",))),
            "power_instant_watts": _milli(found.get(fields.POWER_INSTANT)),
            "power_memory_watts": _milli(found.get(fields.POWER_MEMORY)),
            "power_limit_watts": _milli(one(fields.POWER_LIMIT, ("nvmlDeviceGetEnforcedPowerLimit",))),
            "energy_joules": _milli(one(fields.ENERGY, ("nvmlDeviceGetTotalEnergyConsumption",))),
            "ecc_corrected": errors["corrected"],
            "ecc_uncorrected": errors["uncorrected"],
            "ecc_lifetime": _taken(found, fields.ECC_LIFETIME),
            "remapped_rows": _taken(found, fields.REMAPPED) or _present(rows),
            "row_remap_pending": _flag(found.get(fields.REMAP_PENDING, _item(remapped, 2))),
            "row_remap_failed": _flag(found.get(fields.REMAP_FAILED, _item(remapped, 3))),
            "pcie_replays": one(fields.PCIE_REPLAYS, ("nvmlDeviceGetPcieReplayCounter",)),
            "pcie_errors": _taken(found, fields.PCIE_ERRORS),
            "pcie_bytes": _taken(found, fields.PCIE_BYTES),
            "nvlink_bytes": _taken(found, fields.NVLINK_BYTES, 1 / 1024),
            "nvlink_errors": _taken(found, fields.NVLINK_ERRORS),
            "throttle_time_s": _taken(found, fields.THROTTLE_TIME, 1e9),
            "recovery_action": _named(RECOVERY_ACTIONS, action),
        }

    def _hardly_moving(self) -> dict[str, Any]:
        ask = self.inquiry
        ask.group = "fields"
        found = self._seldom.read(ask)
        ask.group = "calls"
        banks = ask.ask("nvmlDeviceGetRowRemapperHistogram")
        located = {
            (where, kind): known(ask.ask("nvmlDeviceGetMemoryErrorCounter", number, 0, place))
            for where, place in _LOCATIONS.items()
            for kind, number in _KINDS.items()
        }
        limits = {name: known(ask.ask("nvmlDeviceGetTemperatureThreshold", number)) for name, number in _LIMITS.items()}
        most = {
            "generation_max": ask.number(("nvmlDeviceGetMaxPcieLinkGeneration",)),
            "width_max": ask.number(("nvmlDeviceGetMaxPcieLinkWidth",)),
        }
        kept = {
            "temperature_limits_celsius": _present(limits),
            "power_bounds_watts": _taken(found, fields.POWER_BOUNDS, 1e3),
            "clock_graphics_max_hz": _mega(ask.number(("nvmlDeviceGetMaxClockInfo", 0))),
            "clock_sm_max_hz": _mega(ask.number(("nvmlDeviceGetMaxClockInfo", 1))),
            "clock_memory_max_hz": _mega(ask.number(("nvmlDeviceGetMaxClockInfo", 2))),
            "clock_video_max_hz": _mega(ask.number(("nvmlDeviceGetMaxClockInfo", 3))),
            "ecc_enabled": _flag(self._first_of_two("nvmlDeviceGetEccMode")),
            "ecc_located": _present(located),
            "retired_pages": _taken(found, fields.RETIRED),
            "retired_pending": _flag(found.get(fields.RETIRED_PENDING)),
            "remap_banks": None if banks is None else {name: int(getattr(banks, name)) for name in _BANKS},
            "nvlink_links": found.get(fields.LINKS),
            "fabric_state": self._fabric(),
            "persistence_enabled": _flag(ask.number(("nvmlDeviceGetPersistenceMode",))),
        }
        self._most, self._fan_count = most, min(ask.number(("nvmlDeviceGetNumFans",)) or 0, 16)
        return kept

    def _fabric(self) -> str | None:
        for version in _FABRIC_INFO:
            info = _Fabric(version=version)
            key = ("nvmlDeviceGetGpuFabricInfoV", version >> 24)
            if self.inquiry.call("nvmlDeviceGetGpuFabricInfoV", self.handle, ctypes.byref(info), key=key):
                return _named(FABRIC_STATES, info.state) if info.status == 0 else None
            if self.inquiry.code not in OUTDATED:
                return None
        return None


def identify(library: Any, index: int) -> Device:
    """Return a GPU by the driver's index, with who it is; raises DeviceLostError or DriverGoneError."""
    inquiry = Inquiry(library)
    handle: object = inquiry.ask("nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        raise DeviceLostError(inquiry.fault)
    about = Inquiry(library, handle)
    pci = about.ask("nvmlDeviceGetPciInfo")
    identity = GpuIdentity(
        index=index,
        uuid=about.ask("nvmlDeviceGetUUID") or None,
        name=about.ask("nvmlDeviceGetName") or None,
        pci_bus_id=f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0" if pci else None,
        serial=about.ask("nvmlDeviceGetSerial") or None,
        firmware_version=about.ask("nvmlDeviceGetVbiosVersion") or None,
    )
    return Device(library, handle, identity)


def _taken(found: Mapping[Field, int | float], wanted: Mapping[str, Field], per: float = 1) -> dict[str, Any] | None:
    return {
        name: found[field] if per == 1 else found[field] / per for name, field in wanted.items() if field in found
    } or None


def _present(values: Mapping[Any, Any]) -> dict[Any, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


def _named(names: Sequence[str], value: float | None) -> str | None:
    return names[int(value)] if value is not None and 0 <= value < len(names) else None


def _milli(value: float | None) -> float | None:
    return None if value is None else value / 1000


def _mega(value: int | None) -> float | None:
    return None if value is None else value * 1e6


def _ratio(per_cent: int | None) -> float | None:
    return per_cent / 100 if per_cent is not None and 0 <= per_cent <= 100 else None


def _item(values: Sequence[int] | None, position: int) -> int | None:
    return None if values is None else values[position]


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)
