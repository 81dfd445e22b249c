"""What one reading of all GPUs tells; facts only, no driver and no metric names.

A fact that the device, the driver or the permissions do not give is None. Units are base units: bytes, joules, watts, hertz, seconds,
degrees Celsius, ratios from 0 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "degraded", "predicted_failure", "failed"]
STATUSES: tuple[Status, ...] = ("ok", "degraded", "predicted_failure", "failed")

# Reasons for lower clocks that mean trouble. A power cap under load, an idle GPU or clocks set by hand are ordinary.
ABNORMAL = frozenset({"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})


@dataclass(frozen=True)
class GpuProcess:
    """One process with a context on a GPU; `name` is the kernel's, at most 15 bytes, None where the process cannot be seen from here."""

    pid: int
    name: str | None
    memory_used_bytes: int | None


@dataclass(frozen=True)
class GpuIdentity:
    """Which GPU it is; `index` is None once the driver no longer lists it, the rest is None where it could never be asked."""

    index: int | None
    uuid: str | None = None
    name: str | None = None
    pci_bus_id: str | None = None  # as in /sys/bus/pci/devices

    @property
    def id(self) -> str:
        """The UUID, or the best that is known in its place; unique on this machine."""
        return self.uuid or self.pci_bus_id or f"index-{self.index}"


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment; `failure` says in words why it gives no facts at all."""

    identity: GpuIdentity
    failure: str | None = None
    utilization: float | None = None  # share of time in which a kernel ran
    memory_controller_utilization: float | None = None  # share of time in which device memory was read or written
    encoder_utilization: float | None = None
    decoder_utilization: float | None = None
    memory_used_bytes: int | None = None  # without what the driver keeps for itself, as nvidia-smi counts
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None  # average over a second from Ampere on (GA100 excepted), the present draw before
    power_limit_watts: float | None = None  # the one in force
    energy_joules: float | None = None  # since the driver was loaded
    clock_graphics_hz: float | None = None
    clock_memory_hz: float | None = None
    clock_graphics_max_hz: float | None = None
    clock_memory_max_hz: float | None = None
    ecc_corrected: int | None = None  # since the driver was loaded
    ecc_uncorrected: int | None = None
    pcie_replays: int | None = None
    row_remap_pending: bool | None = None  # rows of memory wait for a reset to be replaced
    row_remap_failed: bool | None = None  # a row could not be replaced: the board is due for exchange
    throttle: Mapping[str, bool] | None = None  # by reason: does it hold the clocks down now
    throttle_time_s: Mapping[str, float] | None = None  # by reason, since the driver was loaded
    performance_level: int | None = None  # P-state: 0 is the fastest, 15 the slowest
    mig_enabled: bool | None = None
    persistence_enabled: bool | None = None
    processes: tuple[GpuProcess, ...] | None = None

    @property
    def status(self) -> Status:
        """The worst state, among those that semantic conventions give hardware, that the facts speak for."""
        if self.failure is not None:
            return "failed"
        if self.row_remap_failed:
            return "predicted_failure"
        slowed = any(active and reason in ABNORMAL for reason, active in (self.throttle or {}).items())
        return "degraded" if slowed or self.row_remap_pending else "ok"

    @property
    def memory_utilization(self) -> float | None:
        """Memory in use as a share of all of it."""
        if self.memory_used_bytes is None or not self.memory_total_bytes:
            return None
        return self.memory_used_bytes / self.memory_total_bytes


@dataclass(frozen=True)
class GpuSnapshot:
    """All GPUs of this machine at `time_s`, seconds since the epoch."""

    time_s: float
    driver_version: str | None
    gpus: tuple[GpuReading, ...]
