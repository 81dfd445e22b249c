"""What one reading of all GPUs tells; facts only, no driver and no metric names.

A fact that the device, the driver or the permissions do not give is None. Units are base units: bytes, joules, watts, hertz, seconds,
degrees Celsius, ratios from 0 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

Status = Literal["ok", "degraded", "predicted_failure", "failed"]
STATUSES: tuple[Status, ...] = ("ok", "degraded", "predicted_failure", "failed")
Answer = Literal["ok", "failed", "stuck"]
ANSWERS: tuple[Answer, ...] = ("ok", "failed", "stuck")

RECOVERY_ACTIONS = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)  # in the order of NVML_GPU_RECOVERY_ACTION_*
FABRIC_STATES = ("not_supported", "not_started", "in_progress", "completed")  # in the order of NVML_GPU_FABRIC_STATE_*

# Reasons for lower clocks that mean trouble. A power cap under load, an idle GPU or clocks set by hand are ordinary.
ABNORMAL = frozenset({"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})


class GpuProcess(NamedTuple):
    """One process with a context on a GPU; `name` is the kernel's, at most 15 bytes, None where the process cannot be seen from here."""

    pid: int
    name: str | None
    memory_used_bytes: int | None
    sm_utilization: float | None = None  # share of time in which its kernels ran, since the last reading
    container_id: str | None = None  # of its cgroup, None where it runs in no container
    kinds: tuple[str, ...] = ()  # of the driver's lists that name it: compute, graphics, mps


@dataclass(frozen=True)
class GpuIdentity:
    """Which GPU it is; `index` is None once the driver no longer lists it, the rest is None where it could never be asked."""

    index: int | None
    uuid: str | None = None
    name: str | None = None
    pci_bus_id: str | None = None  # as in /sys/bus/pci/devices
    serial: str | None = None
    firmware_version: str | None = None  # of the video BIOS

    @cached_property
    def id(self) -> str:
        """The UUID, or the best that is known in its place; unique on this machine."""
        return self.uuid or self.pci_bus_id or f"index-{self.index}"


class Spread(NamedTuple):
    """What the driver's own samples since the last reading tell of a fact that moves faster than it is read."""

    min: float
    mean: float
    max: float


@dataclass(frozen=True)
class GpuInstance:
    """One MIG device: a part of a GPU with memory and multiprocessors of its own; compute instances of a GPU instance share its memory."""

    uuid: str
    parent: str
    name: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    multiprocessors: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    activity: Mapping[str, float] | None = None
    throughput: Mapping[str, float] | None = None
    processes: tuple[GpuProcess, ...] | None = None

    @property
    def memory_utilization(self) -> float | None:
        """Memory in use as a share of all of it."""
        return _share(self.memory_used_bytes, self.memory_total_bytes)


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment; `failure` says in words why it gives no facts at all, `stuck` that it is because a call does not come back.

    Counters count since the driver was loaded unless said otherwise; `waited_s` since the agent's start.
    """

    identity: GpuIdentity
    failure: str | None = None
    stuck: bool = False
    utilization: float | None = None  # share of time in which a kernel ran
    memory_controller_utilization: float | None = None  # share of time in which device memory was read or written
    encoder_utilization: float | None = None
    decoder_utilization: float | None = None
    jpeg_utilization: float | None = None
    optical_flow_utilization: float | None = None
    memory_used_bytes: int | None = None  # without what the driver keeps for itself, as nvidia-smi counts
    memory_reserved_bytes: int | None = None  # what the driver keeps for itself
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    temperature_margin_celsius: float | None = None  # to the temperature at which the driver lowers the clocks
    temperature_limits_celsius: Mapping[str, float] | None = None  # shutdown, slowdown, gpu_max, memory_max
    power_watts: float | None = None  # average over a second from Ampere on (GA100 excepted), the present draw before
    power_instant_watts: float | None = None
    power_memory_watts: float | None = None  # of the memory alone
    power_limit_watts: float | None = None  # the one in force
    power_bounds_watts: Mapping[str, float] | None = None  # min, max, default: between which the limit can be set
    energy_joules: float | None = None
    clock_graphics_hz: float | None = None
    clock_sm_hz: float | None = None
    clock_memory_hz: float | None = None
    clock_video_hz: float | None = None
    clock_graphics_max_hz: float | None = None
    clock_sm_max_hz: float | None = None
    clock_memory_max_hz: float | None = None
    clock_video_max_hz: float | None = None
    ecc_enabled: bool | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    ecc_lifetime: Mapping[str, int] | None = None  # corrected, uncorrected: since the board was made
    ecc_located: Mapping[tuple[str, str], int] | None = None  # by where (dram, sram) and kind (corrected, uncorrected)
    retired_pages: Mapping[str, int] | None = None  # corrected, uncorrected: why a page was given up; before Ampere
    retired_pending: bool | None = None
    remapped_rows: Mapping[str, int] | None = None  # corrected, uncorrected: why a row was replaced; since Ampere
    remap_banks: Mapping[str, int] | None = (
        None  # by how many spare rows a bank has left: max, high, partial, low, none
    )
    row_remap_pending: bool | None = None  # rows of memory wait for a reset to be replaced
    row_remap_failed: bool | None = None  # a row could not be replaced: the board is due for exchange
    pcie_replays: int | None = None
    pcie_errors: Mapping[str, int] | None = None
    pcie_bytes: Mapping[str, int] | None = None  # transmit, receive
    pcie_link: Mapping[str, int] | None = None  # generation, generation_max, width, width_max
    nvlink_bytes: Mapping[str, int] | None = None  # transmit, receive: data of all links
    nvlink_errors: Mapping[str, int] | None = None
    nvlink_links: int | None = None
    throttle: Mapping[str, bool] | None = None  # by reason: does it hold the clocks down now
    throttle_time_s: Mapping[str, float] | None = None  # by reason
    performance_level: int | None = None  # P-state: 0 is the fastest, 15 the slowest
    recovery_action: str | None = None  # what the driver asks for to make the GPU whole again
    fabric_state: str | None = None  # of the NVLink fabric, where there is one
    fan_speed: tuple[float, ...] | None = None  # each as a share of its highest
    mig_enabled: bool | None = None
    persistence_enabled: bool | None = None
    activity: Mapping[str, float] | None = None  # of the performance monitor: share of time, since the last reading
    throughput: Mapping[str, float] | None = None  # of the performance monitor: bytes a second
    spreads: Mapping[str, Spread] | None = None  # power (watts), utilization, memory_controller_utilization
    processes: tuple[GpuProcess, ...] | None = None
    instances: tuple[GpuInstance, ...] = ()
    waited_s: Mapping[str, float] | None = None  # time spent in the driver, by group of questions
    unsupported: tuple[str, ...] = ()  # questions that this GPU, or this driver, does not know
    refused: tuple[str, ...] = ()  # questions that this user may not ask

    @classmethod
    def telling(cls, facts: dict[str, Any]) -> Self:
        """Return a reading that takes these facts over as they are; a constructor would set each of the sixty fields by a call."""
        reading = cls.__new__(cls)
        object.__setattr__(reading, "__dict__", facts)
        return reading

    @property
    def status(self) -> Status:
        """The worst state, among those that semantic conventions give hardware, that the facts speak for."""
        if self.failure is not None:
            return "failed"
        if self.row_remap_failed:
            return "predicted_failure"
        slowed = any(active and reason in ABNORMAL for reason, active in (self.throttle or {}).items())
        waits = self.row_remap_pending or self.retired_pending or self.recovery_action not in (None, "none")
        return "degraded" if slowed or waits else "ok"

    @property
    def answer(self) -> Answer:
        """How the GPU answers."""
        return "stuck" if self.stuck else "ok" if self.failure is None else "failed"

    @property
    def memory_utilization(self) -> float | None:
        """Memory in use as a share of all of it."""
        return _share(self.memory_used_bytes, self.memory_total_bytes)


def _share(used: int | None, total: int | None) -> float | None:
    return used / total if used is not None and total else None


Severity = Literal["info", "warn", "error", "fatal"]
Remedy = Literal["none", "restart_application", "reset_gpu", "restart_host", "contact_vendor"]
REMEDIES: tuple[Remedy, ...] = ("none", "restart_application", "reset_gpu", "restart_host", "contact_vendor")


@dataclass(frozen=True)
class GpuEvent:
    """Something that happened to a GPU at `time_s`; `processes` are those on it then, which it may have ended."""

    time_s: float
    kind: str
    gpu: GpuIdentity
    said: str
    severity: Severity
    remedy: Remedy
    code: int | None = None
    reason: str | None = None
    instance: str | None = None  # the MIG device it happened to, where the driver says
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True)
class Counts:
    """How often each kind of event, and each XID by its number, was met since the agent's start."""

    kinds: Mapping[str, int]
    xids: Mapping[int, int]


@dataclass(frozen=True)
class GpuSnapshot:
    """All GPUs of this machine at `time_s`, seconds since the epoch, and what happened since the last reading.

    `failure` says why the driver as a whole does not answer; the GPUs are then those seen before, failed.
    """

    time_s: float
    driver_version: str | None
    gpus: tuple[GpuReading, ...]
    cuda_version: str | None = None
    library_version: str | None = None
    failure: str | None = None
    happened: tuple[GpuEvent, ...] = ()
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by the id of the GPU
    events_lost: int = 0
    events_watched: bool | None = None  # False where the driver cannot be asked for events

    @cached_property
    def devices(self) -> Mapping[str, GpuReading | GpuInstance]:
        """Every GPU, followed by its MIG devices, by what identifies it."""
        found: dict[str, GpuReading | GpuInstance] = {}
        for gpu in self.gpus:
            found[gpu.identity.id] = gpu
            found.update({part.uuid: part for part in gpu.instances})
        return found

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """What identifies each GPU, in their order."""
        return tuple([gpu.identity.id for gpu in self.gpus])
