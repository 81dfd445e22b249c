"""One GPU: every question put to it in a reading, and the answers in base units.

Meanings and units are those of NVML's API reference (docs.nvidia.com/deploy/nvml-api). What hardly moves is asked once a minute.
`nvmlDeviceGetPcieThroughput` is not asked at all: it holds its caller up for 20 ms a direction.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from otel_agent.sources.gpu import calls, fields
from otel_agent.sources.gpu.calls import Calls
from otel_agent.sources.gpu.fields import Batch
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
_LIMITS = ("shutdown", "slowdown", "memory_max", "gpu_max")
_ERRORS = {(where, kind): f"{where}_{kind}" for where in ("dram", "sram") for kind in ("corrected", "uncorrected")}
# What fields tell on newer devices, and how else it is asked for where they do not: the call, and how many make one base unit.
_OLDER: Mapping[str, tuple[tuple[Any, ...], float]] = {
    "power_watts": (("nvmlDeviceGetPowerUsage",), 1000),
    "power_limit_watts": (("nvmlDeviceGetEnforcedPowerLimit",), 1000),
    "energy_joules": (("nvmlDeviceGetTotalEnergyConsumption",), 1000),
    "ecc_corrected": (("nvmlDeviceGetTotalEccErrors", 0, 0), 1),
    "ecc_uncorrected": (("nvmlDeviceGetTotalEccErrors", 1, 0), 1),
    "pcie_replays": (("nvmlDeviceGetPcieReplayCounter",), 1),
}
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
        self._calls, self._seldom_calls = Calls(calls.OFTEN), Calls(calls.SELDOM)
        self._fields, self._seldom_fields = Batch(fields.OFTEN), Batch(fields.SELDOM)
        self._monitor, self._sampled, self._use, self._listed = Monitor(), Sampled(), Use(), Listed()
        self._partitions = Partitions(library, identity.id, _MEMORY_INFO_2)
        self._memory_2, self._margin_1 = _Memory(), _Margin()
        self._references = ctypes.byref(self._memory_2), ctypes.byref(self._margin_1)
        self._kept: dict[str, Any] = {}
        self._unsupported: tuple[str, ...] = ()
        self._monitored = False
        self._most: dict[str, int] = {}
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
        told = self._calls.read(inquiry)
        mig = _flag(told.get("mig"))
        if mig is not None and self._partitioned is not None and mig != self._partitioned:
            self._probe(now_s)  # what a GPU tells changes with its partition
            told = self._calls.read(inquiry)
        self._partitioned = mig if mig is not None else self._partitioned
        if self._kept_s is None or not 0 <= now_s - self._kept_s < SELDOM_S:
            self._kept, self._kept_s = self._hardly_moving(), now_s
        facts = {**self._kept, "identity": self.identity, "mig_enabled": mig, **self._moving(told)}
        inquiry.group = "fields"
        facts.update(self._from_fields())
        inquiry.group = "monitor"
        if self._monitored:
            facts["activity"], facts["throughput"] = self._monitor.read(inquiry, now_s)
        inquiry.group = "samples"
        facts["spreads"] = self._sampled.read(inquiry)
        inquiry.group = "processes"
        facts["processes"] = self._listed.read(inquiry, people, self._use.read(inquiry))
        inquiry.group = "instances"
        facts["instances"] = self._partitions.read(inquiry, people, now_s) if mig else ()
        if not inquiry.answers:
            raise DeviceLostError(f"every question is answered with: {inquiry.fault}")
        unsupported, facts["refused"] = inquiry.lasting()
        facts["unsupported"] = unsupported + self._unsupported_fields()
        facts["waited_s"] = dict(inquiry.waited_s)
        return GpuReading.telling(facts)

    def close(self) -> None:
        """Give back what the driver lent."""
        self._monitor.free(self.inquiry)
        self._partitions.free(self.inquiry)

    def _probe(self, now_s: float) -> None:
        self.inquiry.forget()
        for set_of_questions in (self._calls, self._seldom_calls, self._fields, self._seldom_fields):
            set_of_questions.forget()
        self._partitions.forget()
        support = self.inquiry.ask("nvmlGpmQueryDeviceSupport")
        self._monitored = support is not None and bool(support.isSupportedDevice)
        self._probed_s, self._kept_s = now_s, None

    def _unsupported_fields(self) -> tuple[str, ...]:
        count = len(self._fields.unsupported) + len(self._seldom_fields.unsupported)
        if count != len(self._unsupported):
            self._unsupported = tuple(
                f"field {number}" + (f" of scope {scope}" if scope else "")
                for number, scope in sorted(self._fields.unsupported | self._seldom_fields.unsupported)
            )
        return self._unsupported

    def _moving(self, told: Mapping[str, int]) -> dict[str, Any]:
        used, reserved, total = self._memory()
        busy, level = told.get("busy"), told.get("level")
        link = self._most | {name: told[name] for name in ("generation", "width") if name in told}
        return {
            "utilization": None if busy is None else _ratio(busy & 0xFFFFFFFF),
            "memory_controller_utilization": None if busy is None else _ratio(busy >> 32),
            "encoder_utilization": _ratio(told.get("encoder")),
            "decoder_utilization": _ratio(told.get("decoder")),
            "jpeg_utilization": _ratio(told.get("jpeg")),
            "optical_flow_utilization": _ratio(told.get("optical_flow")),
            "memory_used_bytes": used,
            "memory_reserved_bytes": reserved,
            "memory_total_bytes": total,
            "temperature_celsius": self._temperature(told.get("temperature")),
            "temperature_margin_celsius": self._margin(),
            "clock_graphics_hz": _mega(told.get("graphics")),
            "clock_sm_hz": _mega(told.get("sm")),
            "clock_memory_hz": _mega(told.get("memory")),
            "clock_video_hz": _mega(told.get("video")),
            "throttle": _throttle(told.get("reasons")),
            "performance_level": level if level is not None and level <= 15 else None,
            "pcie_link": link or None,
            "fan_speed": self._fans() if self._fan_count else None,
        }

    def _memory(self) -> tuple[int | None, int | None, int | None]:
        """Return memory used, reserved and in all; before version 2 what the driver keeps for itself counts as used."""
        room = self._memory_2
        room.version = _MEMORY_INFO_2
        if self.inquiry.call("nvmlDeviceGetMemoryInfo_v2", self.handle, self._references[0]):
            return known(room.used), known(room.reserved), known(room.total)
        if self.inquiry.code not in OUTDATED:
            return None, None, None
        older = self.inquiry.ask("nvmlDeviceGetMemoryInfo")
        return (None, None, None) if older is None else (known(older.used), None, known(older.total))

    def _temperature(self, told: int | None) -> int | None:
        if told is None and self.inquiry.settled("nvmlDeviceGetTemperature", 0) in OUTDATED:
            return known(self.inquiry.ask("nvmlDeviceGetTemperatureV", 0))
        return told

    def _margin(self) -> int | None:
        room = self._margin_1
        room.version = _MARGIN_1
        told = self.inquiry.call("nvmlDeviceGetMarginTemperature", self.handle, self._references[1])
        return room.celsius if told and -300 < room.celsius < 300 else None

    def _fans(self) -> tuple[float, ...] | None:
        speeds = [self.inquiry.number(("nvmlDeviceGetFanSpeed_v2", fan)) for fan in range(self._fan_count)]
        return tuple(speed / 100 for speed in speeds if speed is not None and speed <= 255) or None

    def _from_fields(self) -> dict[str, Any]:
        """Take the facts that fields tell; what no field tells has an older question where there is one."""
        facts, lacking = self._fields.read(self.inquiry), self._fields.lacking
        for name in lacking & _OLDER.keys():
            question, per = _OLDER[name]
            told = self.inquiry.number(question)
            facts[name] = told if told is None or per == 1 else told / per
        if "row_remap_pending" in lacking:
            rows = self.inquiry.ask("nvmlDeviceGetRemappedRows")
            if rows is not None:
                older = {"corrected": known(rows[0]), "uncorrected": known(rows[1])}
                pending, failed = known(rows[2]), known(rows[3])
                facts = {
                    "remapped_rows": _present(older),
                    "row_remap_pending": pending,
                    "row_remap_failed": failed,
                } | facts
        facts["row_remap_pending"] = _flag(facts.get("row_remap_pending"))
        facts["row_remap_failed"] = _flag(facts.get("row_remap_failed"))
        facts["recovery_action"] = _named(RECOVERY_ACTIONS, facts.get("recovery_action"))
        return facts

    def _hardly_moving(self) -> dict[str, Any]:
        ask = self.inquiry
        ask.group = "fields"
        facts = self._seldom_fields.read(ask)
        ask.group = "calls"
        told = self._seldom_calls.read(ask)
        banks = ask.ask("nvmlDeviceGetRowRemapperHistogram")
        self._most = {name: told[name] for name in ("generation_max", "width_max") if name in told}
        self._fan_count = min(told.get("fans", 0), 16)
        located = {key: told[name] for key, name in _ERRORS.items() if name in told}
        return facts | {
            "temperature_limits_celsius": {name: told[name] for name in _LIMITS if name in told} or None,
            "clock_graphics_max_hz": _mega(told.get("graphics")),
            "clock_sm_max_hz": _mega(told.get("sm")),
            "clock_memory_max_hz": _mega(told.get("memory")),
            "clock_video_max_hz": _mega(told.get("video")),
            "ecc_enabled": _flag(told.get("ecc")),
            "ecc_located": located or None,
            "retired_pending": _flag(facts.get("retired_pending")),
            "remap_banks": None if banks is None else {name: int(getattr(banks, name)) for name in _BANKS},
            "fabric_state": self._fabric(),
            "persistence_enabled": _flag(told.get("persistence")),
        }

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


@lru_cache(64)
def _throttle(reasons: int | None) -> Mapping[str, bool] | None:
    """Return which reasons hold the clocks down; the same mapping for the same bits, since they seldom change."""
    return None if reasons is None else {reason: bool(reasons & bit) for reason, bit in _THROTTLE.items()}


def _present(values: Mapping[Any, Any]) -> dict[Any, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


def _named(names: Sequence[str], value: float | None) -> str | None:
    return names[int(value)] if value is not None and 0 <= value < len(names) else None


def _mega(value: int | None) -> float | None:
    return None if value is None else value * 1e6


def _ratio(per_cent: int | None) -> float | None:
    return per_cent / 100 if per_cent is not None and 0 <= per_cent <= 100 else None


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)
