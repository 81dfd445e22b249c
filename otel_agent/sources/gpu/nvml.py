"""NVML, the NVIDIA driver's own library, in our words: base units, None for what is not told, three errors instead of thirty.

Meanings and units are those of NVML's API reference (docs.nvidia.com/deploy/nvml-api). This alone touches pynvml, and only once a driver
is opened. Who is asked when, and what becomes of a GPU that answers no more, is left to `read`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from otel_agent.errors import Unavailable
from otel_agent.sources.gpu.snapshot import GpuIdentity, GpuProcess, GpuReading

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
_MEMORY_TEMPERATURE = 82  # NVML_FI_DEV_MEMORY_TEMP
# NVML_FI_DEV_CLOCKS_EVENT_REASON_*, nanoseconds. As numbers: bindings of 2024 give the last three as 251 to 253, which stand for something
# else by now; drivers of that time refuse the numbers below, so there the facts are absent.
_THROTTLE_TIME = {
    "sw_power_cap": 74,
    "sync_boost": 76,
    "sw_thermal_slowdown": 269,
    "hw_thermal_slowdown": 270,
    "hw_power_brake_slowdown": 271,
}
_FIELDS = (_MEMORY_TEMPERATURE, *_THROTTLE_TIME.values())
_FIELD_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t
_PROCESS_LISTS = ("Compute", "Graphics", "MPSCompute")
_UNKNOWN = frozenset({2**32 - 1, 2**64 - 1})  # NVML_VALUE_NOT_AVAILABLE, as 32 and as 64 bits
_MEMORY_INFO_2 = 0x02000028  # nvmlMemory_v2: the structure's size and version

# Error codes by what they are about; any other costs the one fact that was asked for.
_OUTDATED = frozenset({13, 25})  # function not found, argument version mismatch: an older way to ask may exist
_LOST = frozenset({15, 16})  # GPU is lost, GPU requires restart
_GONE = frozenset({1, 9, 18})  # uninitialised, driver not loaded, library and kernel module differ


class DeviceLostError(Exception):
    """This one GPU answers no more."""


class DriverGoneError(Exception):
    """The driver as a whole answers no more; it has to be opened anew."""


class Driver:
    """One initialised NVML; made by `open_driver`, used by one thread.

    Held rather than reopened for each reading: without persistence mode each first client waits more than a second for the GPUs to start.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        inquiry = _Inquiry(library)
        count: int | None = inquiry.ask("nvmlDeviceGetCount")
        if count is None:
            raise DriverGoneError(f"it does not tell its GPUs: {inquiry.fault}")
        self.count = count
        self.version: str | None = inquiry.ask("nvmlSystemGetDriverVersion")

    def identify(self, index: int) -> tuple[object, GpuIdentity]:
        """Return the handle of a GPU and who it is; raises DeviceLostError or DriverGoneError."""
        inquiry = _Inquiry(self._library)
        handle: object = inquiry.ask("nvmlDeviceGetHandleByIndex", index)
        if handle is None:
            raise DeviceLostError(inquiry.fault)
        pci = inquiry.ask("nvmlDeviceGetPciInfo", handle)
        identity = GpuIdentity(
            index=index,
            uuid=inquiry.ask("nvmlDeviceGetUUID", handle) or None,
            name=inquiry.ask("nvmlDeviceGetName", handle) or None,
            pci_bus_id=f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0" if pci else None,
        )
        return handle, identity

    def read(self, handle: object, identity: GpuIdentity, process_name: Callable[[int], str | None]) -> GpuReading:
        """Return all that this GPU tells at this moment; raises DeviceLostError or DriverGoneError.

        Errors of memory are the volatile ones: like energy, they count from the loading of the driver.
        """
        inquiry = _Inquiry(self._library, handle)
        memory = inquiry.first(("nvmlDeviceGetMemoryInfo", _MEMORY_INFO_2), ("nvmlDeviceGetMemoryInfo",))
        busy = inquiry.of("nvmlDeviceGetUtilizationRates")
        remapped = inquiry.of("nvmlDeviceGetRemappedRows")
        clocks = inquiry.number(
            ("nvmlDeviceGetCurrentClocksEventReasons",), ("nvmlDeviceGetCurrentClocksThrottleReasons",)
        )
        level = inquiry.number(("nvmlDeviceGetPerformanceState",))
        mig = inquiry.of("nvmlDeviceGetMigMode")
        fields = inquiry.fields(_FIELDS)
        reading = GpuReading(
            identity=identity,
            utilization=_ratio(busy.gpu if busy else None),
            memory_controller_utilization=_ratio(busy.memory if busy else None),
            encoder_utilization=_ratio(_item(inquiry.of("nvmlDeviceGetEncoderUtilization"), 0)),
            decoder_utilization=_ratio(_item(inquiry.of("nvmlDeviceGetDecoderUtilization"), 0)),
            memory_used_bytes=_known(memory.used if memory else None),
            memory_total_bytes=_known(memory.total if memory else None),
            temperature_celsius=inquiry.number(("nvmlDeviceGetTemperature", 0), ("nvmlDeviceGetTemperatureV", 0)),
            memory_temperature_celsius=fields.get(_MEMORY_TEMPERATURE),
            power_watts=_milli(inquiry.number(("nvmlDeviceGetPowerUsage",))),
            power_limit_watts=_milli(inquiry.number(("nvmlDeviceGetEnforcedPowerLimit",))),
            energy_joules=_milli(inquiry.number(("nvmlDeviceGetTotalEnergyConsumption",))),
            clock_graphics_hz=_mega(inquiry.number(("nvmlDeviceGetClockInfo", 0))),
            clock_memory_hz=_mega(inquiry.number(("nvmlDeviceGetClockInfo", 2))),
            clock_graphics_max_hz=_mega(inquiry.number(("nvmlDeviceGetMaxClockInfo", 0))),
            clock_memory_max_hz=_mega(inquiry.number(("nvmlDeviceGetMaxClockInfo", 2))),
            ecc_corrected=inquiry.number(("nvmlDeviceGetTotalEccErrors", 0, 0)),
            ecc_uncorrected=inquiry.number(("nvmlDeviceGetTotalEccErrors", 1, 0)),
            pcie_replays=inquiry.number(("nvmlDeviceGetPcieReplayCounter",)),
            row_remap_pending=_flag(_item(remapped, 2)),
            row_remap_failed=_flag(_item(remapped, 3)),
            throttle=None if clocks is None else {reason: bool(clocks & bit) for reason, bit in _THROTTLE.items()},
            throttle_time_s={reason: fields[field] / 1e9 for reason, field in _THROTTLE_TIME.items() if field in fields}
            or None,
            performance_level=level if level is not None and level <= 15 else None,
            mig_enabled=_flag(_item(mig, 0)),
            persistence_enabled=_flag(inquiry.number(("nvmlDeviceGetPersistenceMode",))),
            processes=_processes(inquiry, process_name),
        )
        if not inquiry.answers:
            raise DeviceLostError(f"every question is answered with: {inquiry.fault}")
        return reading

    def close(self) -> None:
        """Let the library go; what the driver says to that does not matter."""
        _shut_down(self._library)


def open_driver() -> Driver:
    """Initialise NVML; raises Unavailable with the reason and the remedy, or DriverGoneError where it fails right after."""
    try:
        import pynvml
    except ImportError as error:
        raise Unavailable("the package nvidia-ml-py is not installed", "pip install 'otel-llm[agent]'") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _unavailable(error.value, str(error)) from error
    try:
        return Driver(pynvml)
    except (DeviceLostError, DriverGoneError) as error:
        _shut_down(pynvml)
        raise DriverGoneError(str(error)) from error


def _shut_down(library: Any) -> None:
    _Inquiry(library, fatal=False).ask("nvmlShutdown")


def _unavailable(code: int, text: str) -> Unavailable:
    """Say in words, with what to do about it, why NVML did not start."""
    known = {
        4: (
            "no permission to talk to the NVIDIA driver",
            "let this user read and write /dev/nvidiactl and /dev/nvidia*",
        ),
        9: (
            "the NVIDIA driver is installed but not loaded",
            "load it with 'modprobe nvidia'; in a container, start it with --gpus all",
        ),
        12: (
            "no NVIDIA driver: libnvidia-ml.so.1 not found",
            "install the NVIDIA driver; in a container, install the NVIDIA Container Toolkit on the host and start it with --gpus all",
        ),
        13: (
            "libnvidia-ml.so.1 is too old or not NVIDIA's: it lacks the function that starts it",
            "install a current NVIDIA driver",
        ),
        18: (
            "libnvidia-ml.so.1 and the loaded NVIDIA kernel module differ in version",
            "the driver was updated while in use: reboot, or unload and load the module, then start this again",
        ),
        999: (
            "NVML does not start: Unknown Error",
            "in a container, its GPUs may have been taken away, as 'systemctl daemon-reload' does: restart it; else see 'dmesg | grep NVRM'",
        ),
    }
    return Unavailable(
        *known.get(code, (f"NVML does not start: {text}", "see what nvidia-smi and 'dmesg | grep NVRM' say"))
    )


class _Inquiry:
    """Questions put to NVML in a row, with a count of those it answered and the first fault that it gave."""

    def __init__(self, library: Any, handle: object = None, *, fatal: bool = True) -> None:
        self.answers = 0
        self.fault: str | None = None
        self._code = 0
        self._library = library
        self._handle = handle
        self._fatal = fatal

    def ask(self, function: str, *arguments: object) -> Any:
        """Return what the function says, None where it fails; raises DeviceLostError or DriverGoneError where nothing else will work either."""
        call = getattr(self._library, function, None)
        if call is None:  # bindings older than the function
            self._fault(13, "Function Not Found")
            return None
        try:
            answer = call(*arguments)
        except UnicodeDecodeError:  # the bindings decode names as UTF-8, whatever they hold
            self._fault(0, "Not UTF-8")
            return None
        except self._library.NVMLError as error:
            self._fault(error.value, str(error))
            return None
        self.answers += 1
        self._code = 0
        return answer

    def of(self, function: str, *arguments: object) -> Any:
        """Ask about the device of this inquiry."""
        return self.ask(function, self._handle, *arguments)

    def first(self, *ways: tuple[Any, ...]) -> Any:
        """Ask in the newest way, and in the next older one where library or bindings do not know it."""
        for function, *arguments in ways:
            answer = self.of(function, *arguments)
            if answer is not None or self._code not in _OUTDATED:
                return answer
        return None

    def number(self, *ways: tuple[Any, ...]) -> int | None:
        """Ask for a whole number, None where it is the one that stands for 'not available'."""
        return _known(self.first(*ways))

    def fields(self, ids: Iterable[int]) -> dict[int, int | float]:
        """Return the field values that the driver gives; each carries its own status, one unknown field does not spoil the others."""
        found = self.of("nvmlDeviceGetFieldValues", list(ids))
        told = [entry for entry in found or () if entry.nvmlReturn == 0 and entry.valueType < len(_FIELD_MEMBERS)]
        values = {entry.fieldId: getattr(entry.value, _FIELD_MEMBERS[entry.valueType]) for entry in told}
        return {field: value for field, value in values.items() if value not in _UNKNOWN}

    def _fault(self, code: int, text: str) -> None:
        self._code = code
        self.fault = self.fault or text
        if self._fatal and code in _GONE:
            raise DriverGoneError(text)
        if self._fatal and code in _LOST:
            raise DeviceLostError(text)


def _processes(inquiry: _Inquiry, process_name: Callable[[int], str | None]) -> tuple[GpuProcess, ...] | None:
    """Join the driver's lists; None where it gives none of them.

    A process stands in several lists with the same memory when it computes and draws, and several times in one list, with memory
    of its own each time, when it uses several instances of a partitioned GPU.
    """
    memory: dict[tuple[int, int, int], int | None] = {}
    lists = [
        inquiry.first((f"nvmlDeviceGet{kind}RunningProcesses_v3",), (f"nvmlDeviceGet{kind}RunningProcesses_v2",))
        for kind in _PROCESS_LISTS
    ]
    for entry in (entry for listed in lists for entry in listed or ()):
        instance = (entry.pid, entry.gpuInstanceId, entry.computeInstanceId)
        memory[instance] = _most(memory.get(instance), _known(entry.usedGpuMemory))
    if all(listed is None for listed in lists):
        return None
    used: dict[int, int | None] = {}
    for (pid, _, _), amount in memory.items():
        before = used.get(pid)
        used[pid] = amount if before is None else before + (amount or 0)
    return tuple(GpuProcess(pid, process_name(pid), amount) for pid, amount in sorted(used.items()))


def _most(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _known(value: int | None) -> int | None:
    return None if value is None or value in _UNKNOWN else value


def _milli(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _mega(value: int | None) -> float | None:
    return None if value is None else value * 1e6


def _ratio(per_cent: int | None) -> float | None:
    return per_cent / 100 if per_cent is not None and 0 <= per_cent <= 100 else None


def _item(values: list[int] | tuple[int, ...] | None, position: int) -> int | None:
    return None if values is None else values[position]


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)
