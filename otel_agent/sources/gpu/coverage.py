"""What two widely used exporters carry by default, and where it is here: a table for the reference, checked by a test.

A name maps to a metric of ours, with the attributes that select it, or to the reason why there is none. The names are those of
dcgm-exporter's default-counters.csv and of what nvidia_gpu_exporter gives of an H200 and an L40S with its default settings.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Ours(NamedTuple):
    """The metric that says the same, and the attributes of the series."""

    metric: str
    attributes: Mapping[str, str] = {}
    note: str = ""


class Absent(NamedTuple):
    """Why there is none."""

    reason: str


INFO = Ours("otel_llm.gpu.info", note="an attribute of it")
_VGPU = Absent("of virtual GPUs, which are not read")
_DISPLAY = Absent("of displays, which GPUs of servers do not have")
_PCI_PARTS = Absent("a part of the PCI address, which is whole on otel_llm.gpu.info")
_PLATFORM = Absent("where in a rack the board sits: of the inventory, not of its state")
_SRAM = Absent("otel_llm.gpu.memory.errors has dram and sram; finer places help the board's maker alone")
_ACCOUNTING = Absent("NVML's own accounting of processes, which has to be switched on and ends with the driver")
_EXPORTER = Absent("about that exporter itself; ours are otel_llm.source.*")
_ENCODER = Absent("sessions of the video encoder; how busy it is, is hw.gpu.utilization")
_PROTECTED = Absent("of confidential computing, which is not read")


def _throttle(reason: str) -> Ours:
    return Ours("otel_llm.gpu.throttle.active", {"otel_llm.reason": reason})


def _throttled(reason: str) -> Ours:
    return Ours("otel_llm.gpu.throttle.time", {"otel_llm.reason": reason})


def _clock(which: str) -> Ours:
    return Ours("otel_llm.gpu.clock.speed", {"otel_llm.clock": which})


def _fastest(which: str) -> Ours:
    return Ours("otel_llm.gpu.clock.limit", {"otel_llm.clock": which})


def _busy(task: str) -> Ours:
    return Ours("hw.gpu.utilization", {"hw.gpu.task": task})


def _memory_errors(where: str, kind: str) -> Ours:
    return Ours("otel_llm.gpu.memory.errors", {"otel_llm.gpu.memory.location": where, "error.type": kind})


def _lifetime(kind: str) -> Ours:
    return Ours("otel_llm.gpu.memory.errors.lifetime", {"error.type": kind}, "by kind, not by place")


DCGM_EXPORTER: Mapping[str, Ours | Absent] = {
    "DCGM_FI_DEV_SM_CLOCK": _clock("sm"),
    "DCGM_FI_DEV_MEM_CLOCK": _clock("memory"),
    "DCGM_FI_DEV_MEMORY_TEMP": Ours("hw.temperature", {"hw.sensor_location": "memory"}),
    "DCGM_FI_DEV_GPU_TEMP": Ours("hw.temperature", {"hw.sensor_location": "gpu"}),
    "DCGM_FI_DEV_POWER_USAGE": Ours("hw.power"),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Ours("hw.energy"),
    "DCGM_FI_DEV_PCIE_TX_THROUGHPUT": Ours("hw.gpu.io", {"network.io.direction": "transmit"}),
    "DCGM_FI_DEV_PCIE_RX_THROUGHPUT": Ours("hw.gpu.io", {"network.io.direction": "receive"}),
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": Ours("hw.errors", {"error.type": "pcie_replay"}),
    "DCGM_FI_DEV_GPU_UTIL": _busy("general"),
    "DCGM_FI_DEV_MEM_COPY_UTIL": Ours("otel_llm.gpu.memory.controller.utilization"),
    "DCGM_FI_DEV_ENC_UTIL": _busy("encoder"),
    "DCGM_FI_DEV_DEC_UTIL": _busy("decoder"),
    "DCGM_FI_DEV_XID_ERRORS": Ours(
        "hw.errors",
        {"error.type": "xid"},
        "a count, by number on otel_llm.gpu.xid.errors, where DCGM has the last number",
    ),
    "DCGM_FI_DEV_FB_FREE": Ours("hw.gpu.memory.limit", note="less usage and otel_llm.gpu.memory.reserved"),
    "DCGM_FI_DEV_FB_USED": Ours("hw.gpu.memory.usage"),
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": Ours("otel_llm.gpu.nvlink.io", note="by direction"),
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS": _VGPU,
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": Ours("otel_llm.gpu.memory.rows.remapped", {"error.type": "uncorrected"}),
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": Ours("otel_llm.gpu.memory.rows.remapped", {"error.type": "corrected"}),
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": Ours("otel_llm.gpu.row_remap.status", {"otel_llm.state": "failed"}),
}

# Names after nvidia_smi_.
NVIDIA_GPU_EXPORTER: Mapping[str, Ours | Absent] = {
    "accounting_buffer_size": _ACCOUNTING,
    "accounting_mode": _ACCOUNTING,
    "c2c_mode": Absent("of boards with NVIDIA's own CPU, which are not read"),
    "clocks_current_graphics_clock_hz": _clock("graphics"),
    "clocks_current_memory_clock_hz": _clock("memory"),
    "clocks_current_sm_clock_hz": _clock("sm"),
    "clocks_current_video_clock_hz": _clock("video"),
    "clocks_event_reasons_active": Ours("otel_llm.gpu.throttle.active", note="bit by bit"),
    "clocks_event_reasons_supported": Absent("which reasons the driver can tell does not change"),
    **{
        f"clocks_event_reasons_{reason}": _throttle(reason)
        for reason in (
            "applications_clocks_setting",
            "gpu_idle",
            "hw_power_brake_slowdown",
            "hw_slowdown",
            "hw_thermal_slowdown",
            "sw_power_cap",
            "sw_thermal_slowdown",
            "sync_boost",
        )
    },
    **{
        f"clocks_event_reasons_counters_{reason}_seconds": _throttled(reason)
        for reason in (
            "hw_power_brake_slowdown",
            "hw_thermal_slowdown",
            "sw_power_cap",
            "sw_thermal_slowdown",
            "sync_boost",
        )
    },
    "clocks_max_graphics_clock_hz": _fastest("graphics"),
    "clocks_max_memory_clock_hz": _fastest("memory"),
    "clocks_max_sm_clock_hz": _fastest("sm"),
    "command_exit_code": _EXPORTER,
    "compute_app_info": Ours("otel_llm.gpu.process.memory.usage", note="its attributes"),
    "compute_app_used_memory_bytes": Ours("otel_llm.gpu.process.memory.usage"),
    "compute_apps": Ours("otel_llm.gpu.process.count"),
    "compute_apps_last_collect_success": _EXPORTER,
    "compute_cap": Absent("follows from the name of the GPU"),
    "compute_mode": Absent("who may use the GPU is set by hand and does not change"),
    "count": Absent("the number of series of hw.status"),
    "display_active": _DISPLAY,
    "display_attached": _DISPLAY,
    "driver_version": INFO,
    "ecc_errors_corrected_aggregate_device_memory": _lifetime("corrected"),
    "ecc_errors_corrected_aggregate_dram": _lifetime("corrected"),
    "ecc_errors_corrected_aggregate_sram": _lifetime("corrected"),
    "ecc_errors_corrected_aggregate_total": _lifetime("corrected"),
    "ecc_errors_corrected_volatile_device_memory": _memory_errors("dram", "corrected"),
    "ecc_errors_corrected_volatile_dram": _memory_errors("dram", "corrected"),
    "ecc_errors_corrected_volatile_sram": _memory_errors("sram", "corrected"),
    "ecc_errors_corrected_volatile_total": Ours("hw.errors", {"error.type": "corrected"}),
    "ecc_errors_uncorrected_aggregate_device_memory": _lifetime("uncorrected"),
    "ecc_errors_uncorrected_aggregate_dram": _lifetime("uncorrected"),
    "ecc_errors_uncorrected_aggregate_sram": _lifetime("uncorrected"),
    **{
        f"ecc_errors_uncorrected_aggregate_sram_{place}": _SRAM
        for place in ("l2", "mcu", "other", "parity", "pcie", "secded", "sm", "threshold_exceeded")
    },
    "ecc_errors_uncorrected_aggregate_total": _lifetime("uncorrected"),
    "ecc_errors_uncorrected_volatile_device_memory": _memory_errors("dram", "uncorrected"),
    "ecc_errors_uncorrected_volatile_dram": _memory_errors("dram", "uncorrected"),
    "ecc_errors_uncorrected_volatile_sram": _memory_errors("sram", "uncorrected"),
    "ecc_errors_uncorrected_volatile_sram_parity": _SRAM,
    "ecc_errors_uncorrected_volatile_sram_secded": _SRAM,
    "ecc_errors_uncorrected_volatile_total": Ours("hw.errors", {"error.type": "uncorrected"}),
    "ecc_mode_current": Ours("otel_llm.gpu.mode.enabled", {"otel_llm.mode": "ecc"}),
    "ecc_mode_pending": Absent("what is set for the next start is known to who set it"),
    "edpp_multiplier_ratio": Absent("a setting of the board's power supply that does not change"),
    "encoder_stats_average_fps": _ENCODER,
    "encoder_stats_average_latency": _ENCODER,
    "encoder_stats_session_count": _ENCODER,
    "energy_joules_total": Ours("hw.energy"),
    "enforced_power_limit_watts": Ours("otel_llm.gpu.power.limit"),
    "fabric_clique_id": Absent(
        "which partition of the fabric a GPU is in does not change; whether it has joined is otel_llm.gpu.fabric.status"
    ),
    "failed_scrapes_total": _EXPORTER,
    "gpu_info": INFO,
    "gpu_recovery_action": Ours("otel_llm.gpu.recovery.status"),
    "gsp_mode_current": Absent("which firmware runs the GPU does not change while the driver is loaded"),
    "gsp_mode_default": Absent("which firmware runs the GPU does not change while the driver is loaded"),
    "index": INFO,
    "inforom_ecc": Absent("the version of a table on the board, which does not change"),
    "inforom_oem": Absent("the version of a table on the board, which does not change"),
    "kmd_version": INFO,
    "last_collect_success": _EXPORTER,
    "memory_free_bytes": Ours("hw.gpu.memory.limit", note="less usage and otel_llm.gpu.memory.reserved"),
    "memory_reserved_bytes": Ours("otel_llm.gpu.memory.reserved"),
    "memory_total_bytes": Ours("hw.gpu.memory.limit"),
    "memory_used_bytes": Ours("hw.gpu.memory.usage"),
    "mig_mode_current": Ours("otel_llm.gpu.mode.enabled", {"otel_llm.mode": "mig"}),
    "mig_mode_pending": Absent("what is set for the next start is known to who set it"),
    "name": INFO,
    **{
        f"pci_{part}": _PCI_PARTS
        for part in ("base_class", "bus", "device", "device_id", "domain", "sub_class", "sub_device_id")
    },
    "pcie_link_gen_current": Ours("otel_llm.gpu.pcie.link", {"otel_llm.gpu.link.property": "generation"}),
    "pcie_link_gen_gpucurrent": Ours("otel_llm.gpu.pcie.link", {"otel_llm.gpu.link.property": "generation"}),
    "pcie_link_gen_gpumax": Ours("otel_llm.gpu.pcie.link", {"otel_llm.gpu.link.property": "generation_max"}),
    "pcie_link_gen_max": Ours("otel_llm.gpu.pcie.link", {"otel_llm.gpu.link.property": "generation_max"}),
    "pcie_link_width_current": Ours("otel_llm.gpu.pcie.link", {"otel_llm.gpu.link.property": "width"}),
    "pcie_link_width_max": Ours("otel_llm.gpu.pcie.link", {"otel_llm.gpu.link.property": "width_max"}),
    "persistence_mode": Ours("otel_llm.gpu.mode.enabled", {"otel_llm.mode": "persistence"}),
    **{
        f"platform_{part}": _PLATFORM
        for part in ("gpu_fabric_guid", "host_id", "module_id", "slot_number", "tray_index")
    },
    "power_default_limit_watts": Ours("otel_llm.gpu.power.limit.bound", {"otel_llm.bound": "default"}),
    "power_draw_average_watts": Ours("hw.power"),
    "power_draw_instant_watts": Ours("otel_llm.gpu.power.instant"),
    "power_draw_watts": Ours("hw.power"),
    "power_limit_watts": Ours("otel_llm.gpu.power.limit"),
    "power_max_limit_watts": Ours("otel_llm.gpu.power.limit.bound", {"otel_llm.bound": "max"}),
    "power_min_limit_watts": Ours("otel_llm.gpu.power.limit.bound", {"otel_llm.bound": "min"}),
    "protected_memory_free_bytes": _PROTECTED,
    "protected_memory_total_bytes": _PROTECTED,
    "protected_memory_used_bytes": _PROTECTED,
    "pstate": Ours("otel_llm.gpu.performance.level"),
    "remapped_rows_correctable": Ours("otel_llm.gpu.memory.rows.remapped", {"error.type": "corrected"}),
    "remapped_rows_correctable_inactive": Absent("replacements that wait are otel_llm.gpu.row_remap.status"),
    "remapped_rows_failure": Ours("otel_llm.gpu.row_remap.status", {"otel_llm.state": "failed"}),
    **{
        f"remapped_rows_histogram_{left}": Ours("otel_llm.gpu.memory.banks", {"otel_llm.spare": left})
        for left in ("high", "low", "max", "none", "partial")
    },
    "remapped_rows_pending": Ours("otel_llm.gpu.row_remap.status", {"otel_llm.state": "pending"}),
    "remapped_rows_uncorrectable": Ours("otel_llm.gpu.memory.rows.remapped", {"error.type": "uncorrected"}),
    "remapped_rows_uncorrectable_inactive": Absent("replacements that wait are otel_llm.gpu.row_remap.status"),
    "serial": INFO,
    "temperature_gpu": Ours("hw.temperature", {"hw.sensor_location": "gpu"}),
    "temperature_gpu_tlimit": Ours("otel_llm.gpu.temperature.margin"),
    "temperature_memory": Ours("hw.temperature", {"hw.sensor_location": "memory"}),
    "utilization_decoder_ratio": _busy("decoder"),
    "utilization_encoder_ratio": _busy("encoder"),
    "utilization_gpu_ratio": _busy("general"),
    "utilization_jpeg_ratio": _busy("jpeg"),
    "utilization_memory_ratio": Ours("otel_llm.gpu.memory.controller.utilization"),
    "utilization_ofa_ratio": _busy("optical_flow"),
    "xid_errors_total": Ours("otel_llm.gpu.xid.errors", note="their sum, from 0 on, is hw.errors"),
    "xid_last_timestamp_seconds": Absent("the log record of the event has its time"),
}


def table() -> str:
    """Return the table for the reference."""
    lines = ["| theirs | ours | |", "| --- | --- | --- |"]
    for rival, prefix, rows in (
        ("dcgm-exporter", "", DCGM_EXPORTER),
        ("nvidia_gpu_exporter", "nvidia_smi_", NVIDIA_GPU_EXPORTER),
    ):
        lines.append(f"| **{rival}** | | |")
        for name, entry in rows.items():
            if isinstance(entry, Absent):
                lines.append(f"| `{prefix}{name}` | | {entry.reason} |")
            else:
                chosen = ", ".join(f"`{key}={value}`" for key, value in entry.attributes.items())
                more = "; ".join(part for part in (chosen, entry.note) if part)
                lines.append(f"| `{prefix}{name}` | `{entry.metric}` | {more} |")
    return "\n".join(lines)
