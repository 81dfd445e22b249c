"""From what the driver reports, and from one reading to the next: the events of a GPU, with what they mean and what to do.

Pure: nothing is asked here. What both tell is told once. Counts begin at 0 for every kind, so that the first of them is a step.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from otel_agent.sources.gpu.snapshot import (
    ABNORMAL,
    Counts,
    GpuEvent,
    GpuIdentity,
    GpuProcess,
    GpuReading,
    Remedy,
    Severity,
)
from otel_agent.sources.gpu.watch import Raw
from otel_agent.sources.gpu.xids import explained

QUIET_S = 30.0  # a reason that comes back sooner has not been away: power limits switch many times a minute
_ORDINARY = frozenset({"gpu_idle", "applications_clocks_setting", "display_clock_setting"})

# Every kind, in words, how bad and what to do, where the code of the event does not say it better.
KINDS: Mapping[str, tuple[str, Severity, Remedy]] = {
    "xid": ("", "error", "contact_vendor"),
    "ecc_double_bit": ("memory met an error that ECC cannot correct", "fatal", "reset_gpu"),
    "ecc_storm": ("memory errors that ECC corrects come in a storm", "warn", "contact_vendor"),
    "row_remap": ("a row of memory waits for a reset to be replaced", "warn", "reset_gpu"),
    "row_remap_failure": (
        "a row of memory could not be replaced: the board is due for exchange",
        "fatal",
        "contact_vendor",
    ),
    "poison": ("an application met poisoned memory", "error", "restart_application"),
    "poison_fatal": ("poisoned memory was met outside any application", "fatal", "reset_gpu"),
    "gpu_unavailable": ("the driver has given the GPU up", "fatal", "reset_gpu"),
    "recovery_action": ("what the driver asks for has changed", "warn", "none"),
    "throttle_start": ("the clocks are held down", "info", "none"),
    "throttle_end": ("the clocks are held down no more", "info", "none"),
    "failed": ("the GPU gives no facts", "error", "none"),
    "stuck": ("a call about the GPU does not come back", "error", "none"),
    "recovered": ("the GPU answers again", "info", "none"),
}
_ACTIONS: Mapping[str, tuple[Severity, Remedy]] = {
    "none": ("info", "none"),
    "gpu_reset": ("error", "reset_gpu"),
    "node_reboot": ("fatal", "restart_host"),
    "drain_p2p": ("warn", "restart_application"),
    "drain_and_reset": ("error", "reset_gpu"),
    "recover_imex_domain": ("error", "restart_host"),
    "bus_reset": ("fatal", "restart_host"),
    "system_reboot": ("fatal", "restart_host"),
}


@dataclass
class _Past:
    """What is remembered of one GPU between two readings."""

    reading: GpuReading
    processes: tuple[GpuProcess, ...] = ()  # those of the last reading that had any: an error may have ended them
    held: dict[str, tuple[float, float]] = field(default_factory=dict)  # by reason: since when, and when last seen
    told: frozenset[str] = frozenset()  # kinds that the driver itself reported lately
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    xids: Counter[int] = field(default_factory=Counter)
    counts: Counts = field(default_factory=lambda: Counts(dict.fromkeys(KINDS, 0), {}))  # both, as they are told


class Changes:
    """What happened to the GPUs of one machine, by their id."""

    def __init__(self) -> None:
        self._past: dict[str, _Past] = {}

    def counts(self) -> dict[str, Counts]:
        """Return how often each kind, and each XID, was met since the start, by the id of the GPU."""
        return {gpu: past.counts for gpu, past in self._past.items()}

    def since(self, readings: Iterable[GpuReading], raw: Mapping[str, list[Raw]], now_s: float) -> Iterator[GpuEvent]:
        """Yield what happened since the readings before; `raw` is what the driver reported, by the GPU's id."""
        for reading in readings:
            own = raw.get(reading.identity.id, [])
            told = frozenset([one.kind for one in own])
            past = self._past.get(reading.identity.id)
            if past is None:
                past = self._past[reading.identity.id] = _Past(reading)
                events = [_reported(one, reading, reading.processes or ()) for one in own]
                past.held = dict.fromkeys(_holding(reading), (now_s, now_s))
            else:
                events = []
                if own:
                    on_it = {process.pid: process for process in (*past.processes, *(reading.processes or ()))}
                    events = [_reported(one, reading, tuple(on_it.values())) for one in own]
                reported = past.told | told
                events += [event for event in _compared(past.reading, reading, now_s) if event.kind not in reported]
                events += _throttling(past.held, reading, now_s)
            past.told = told
            past.reading, past.processes = reading, reading.processes or past.processes
            for event in events:
                past.kinds[event.kind] += 1
                if event.kind == "xid" and event.code is not None:
                    past.xids[event.code] += 1
            if events:
                past.counts = Counts(dict(past.kinds), dict(past.xids))
            yield from events


def _reported(one: Raw, reading: GpuReading, on_it: tuple[GpuProcess, ...]) -> GpuEvent:
    said, severity, remedy = explained(one.data) if one.kind == "xid" else KINDS[one.kind]
    code = one.data if one.kind == "xid" else None
    part = next(
        (
            instance.uuid
            for instance in reading.instances
            if (instance.gpu_instance, instance.compute_instance) == (one.gpu_instance, one.compute_instance)
        ),
        None,
    )
    if one.kind == "xid":
        said = f"XID {one.data}: {said}"
    return GpuEvent(one.time_s, one.kind, reading.identity, said, severity, remedy, code, None, part, on_it)


def _compared(before: GpuReading, after: GpuReading, now_s: float) -> Iterator[GpuEvent]:
    def event(kind: str, more: str = "", **known: object) -> GpuEvent:
        said, severity, remedy = KINDS[kind]
        told = {"severity": severity, "remedy": remedy, "processes": after.processes or before.processes or ()} | known
        return GpuEvent(now_s, kind, after.identity, f"{said}{more}", **told)  # type: ignore[arg-type]

    if before.answer != after.answer:
        kind = "recovered" if after.answer == "ok" else after.answer
        yield event(kind, f": {after.failure}" if after.failure else "")
    if after.failure is not None:
        return
    if _grew(before.ecc_uncorrected, after.ecc_uncorrected):
        yield event("ecc_double_bit")
    if before.row_remap_pending is False and after.row_remap_pending:
        yield event("row_remap")
    if before.row_remap_failed is False and after.row_remap_failed:
        yield event("row_remap_failure")
    if before.recovery_action is not None and after.recovery_action not in (None, before.recovery_action):
        severity, remedy = _ACTIONS[str(after.recovery_action)]
        yield event(
            "recovery_action",
            f": {after.recovery_action}",
            severity=severity,
            remedy=remedy,
            reason=after.recovery_action,
        )


def _grew(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def _holding(reading: GpuReading) -> set[str]:
    return {reason for reason, active in (reading.throttle or {}).items() if active and reason not in _ORDINARY}


def _throttling(held: dict[str, tuple[float, float]], reading: GpuReading, now_s: float) -> Iterator[GpuEvent]:
    """Yield beginnings and ends of lowered clocks; a GPU that tells no reasons neither begins nor ends any."""
    if reading.throttle is None:
        return
    holding = _holding(reading)
    for reason in sorted(holding):
        since = held.get(reason)
        held[reason] = (since[0] if since else now_s, now_s)
        if since is None:
            yield _throttle("throttle_start", reading.identity, now_s, reason, "", reading.processes or ())
    for reason, (began, last) in list(held.items()):
        if reason not in holding and now_s - last >= QUIET_S:
            del held[reason]
            yield _throttle("throttle_end", reading.identity, last, reason, f" after {last - began:.0f} s", ())


def _throttle(
    kind: str, gpu: GpuIdentity, time_s: float, reason: str, more: str, on_it: tuple[GpuProcess, ...]
) -> GpuEvent:
    said, severity, remedy = KINDS[kind]
    if kind == "throttle_start" and reason in ABNORMAL:
        severity = "warn"
    return GpuEvent(time_s, kind, gpu, f"{said}{more}: {reason}", severity, remedy, reason=reason, processes=on_it)


def table() -> str:
    """Return the kinds of events for the reference."""
    lines = ["| event | what it says | severity | remedy |", "| --- | --- | --- | --- |"]
    for kind, (said, severity, remedy) in KINDS.items():
        told = (
            (said, severity, remedy)
            if said
            else ("an error that the driver numbers; see below", "by number", "by number")
        )
        lines.append(f"| `otel_llm.gpu.{kind}` | {told[0]} | {told[1]} | {told[2]} |")
    return "\n".join(lines)
