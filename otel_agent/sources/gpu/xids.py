"""What NVIDIA's numbered errors (XID) mean, how bad they are, and what to do: after its catalogue (docs.nvidia.com/deploy/xid-errors).

Codes that stand here are those of data-centre GPUs from Ampere on; any other is told by its number, as one for the vendor.
"""

from collections.abc import Mapping
from typing import NamedTuple

from otel_agent.sources.gpu.snapshot import Remedy, Severity


class Xid(NamedTuple):
    """One code: in words, how bad, and the first thing to do."""

    said: str
    severity: Severity
    remedy: Remedy


_APPLICATION: Remedy = "restart_application"

XIDS: Mapping[int, Xid] = {
    8: Xid("the GPU stopped processing", "error", _APPLICATION),
    11: Xid("an invalid or corrupted push buffer stream", "error", _APPLICATION),
    13: Xid("an exception of the graphics engine, such as an access outside an array", "error", _APPLICATION),
    31: Xid("an illegal address was accessed (MMU fault)", "error", _APPLICATION),
    32: Xid("an invalid or corrupted push buffer", "error", _APPLICATION),
    38: Xid("the driver's firmware met an error", "error", "contact_vendor"),
    39: Xid("a copy engine met an error", "error", _APPLICATION),
    40: Xid("a copy engine met an error", "error", _APPLICATION),
    41: Xid("a copy engine met an error", "error", _APPLICATION),
    43: Xid("an application's channel was stopped after its own fault", "warn", "none"),
    44: Xid("a fault while contexts were switched", "warn", "none"),
    45: Xid(
        "an application was ended before its channels were closed, often in the wake of another error", "warn", "none"
    ),
    46: Xid("the GPU stopped processing", "fatal", "reset_gpu"),
    48: Xid("a double-bit error of memory that ECC cannot correct", "fatal", "reset_gpu"),
    54: Xid("the auxiliary power is not connected or not enough", "error", "contact_vendor"),
    62: Xid("the GPU's own controller (PMU) halted", "fatal", "reset_gpu"),
    63: Xid("a row of memory is marked for replacement, or a page was retired", "warn", "none"),
    64: Xid("a row of memory could not be replaced, or a page not be retired", "fatal", "reset_gpu"),
    66: Xid("an illegal access by a driver or its firmware", "warn", "none"),
    67: Xid("an illegal access by a driver or its firmware", "warn", "none"),
    68: Xid("a video decoder met an exception", "error", _APPLICATION),
    69: Xid("the graphics engine met a class error", "error", _APPLICATION),
    74: Xid("an NVLink met an error", "error", "reset_gpu"),
    78: Xid("a virtual GPU could not be started", "error", "contact_vendor"),
    79: Xid("the GPU has fallen off the bus", "fatal", "restart_host"),
    80: Xid("corrupted data was sent to the GPU", "error", _APPLICATION),
    92: Xid("memory errors that ECC corrects come at a high rate", "warn", "contact_vendor"),
    94: Xid("a memory error that ECC cannot correct, contained in one application", "error", _APPLICATION),
    95: Xid("a memory error that ECC cannot correct, not contained: any application may be hit", "fatal", "reset_gpu"),
    109: Xid("switching contexts timed out", "fatal", "reset_gpu"),
    110: Xid("a fault of the security engine", "fatal", "reset_gpu"),
    119: Xid("the GPU's system processor (GSP) does not answer", "fatal", "reset_gpu"),
    120: Xid("the GPU's system processor (GSP) met an error", "fatal", "reset_gpu"),
    121: Xid("the link to the CPU (C2C) met an error", "error", "contact_vendor"),
    136: Xid("an NVLink could not be trained", "error", "reset_gpu"),
    137: Xid("an access over NVLink failed, often because the other side had an error", "error", "none"),
    140: Xid("an uncorrected memory error was found late", "fatal", "reset_gpu"),
    143: Xid("the GPU could not be initialised", "fatal", "reset_gpu"),
    149: Xid("an NVLink met an error", "error", "reset_gpu"),
    150: Xid("an NVLink met an error", "error", "reset_gpu"),
    151: Xid("keys of confidential computing could not be rotated", "error", "restart_host"),
    154: Xid("what the driver asks for to make the GPU whole again has changed", "warn", "none"),
    156: Xid("a resource was retired", "warn", "reset_gpu"),
    157: Xid("a resource could not be retired", "error", "contact_vendor"),
    158: Xid("the GPU met a fatal timeout", "fatal", "reset_gpu"),
}


def explained(code: int) -> Xid:
    """Return what a code means; one that is not known is an error for the vendor."""
    found = XIDS.get(code)
    return found or Xid("an error that NVIDIA's catalogue of XIDs explains", "error", "contact_vendor")


def table() -> str:
    """Return the codes for the reference."""
    lines = ["| XID | what it means | severity | first thing to do |", "| --- | --- | --- | --- |"]
    lines += [f"| {code} | {one.said} | {one.severity} | {one.remedy} |" for code, one in sorted(XIDS.items())]
    return "\n".join(lines)
