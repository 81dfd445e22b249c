"""What goes wrong with a GPU: errors, lowered clocks, memory being replaced, what the driver asks for, and how often each event was met."""

from otel_agent.catalogue import Columns, Metric
from otel_agent.sources.gpu.points import Series, Value, flags, mapped, named, states
from otel_agent.sources.gpu.snapshot import FABRIC_STATES, RECOVERY_ACTIONS, GpuSnapshot

_ERRORS = named("error.type", typed=True)
_PCIE_ERRORS = Series[str](lambda name: (("error.type", f"pcie_{name}"),), typed=True)
_NVLINK_ERRORS = Series[str](lambda name: (("error.type", f"nvlink_{name}"),), typed=True)
_XIDS = Series[int](lambda code: (("otel_llm.gpu.xid", str(code)),))
_EVENTS = named("otel_llm.gpu.event")


def _errors(snapshot: GpuSnapshot) -> Columns[Value]:
    counts, gpus = snapshot.counts, snapshot.gpus
    told = [
        {
            "corrected": gpu.ecc_corrected,
            "uncorrected": gpu.ecc_uncorrected,
            "pcie_replay": gpu.pcie_replays,
            "xid": counts[identity].kinds.get("xid") if identity in counts else None,
        }
        for identity, gpu in zip(snapshot.ids, gpus, strict=True)
    ]
    memory = _ERRORS.columns(snapshot.ids, told)
    pcie = _PCIE_ERRORS.columns(snapshot.ids, [gpu.pcie_errors or {} for gpu in gpus])
    nvlink = _NVLINK_ERRORS.columns(snapshot.ids, [gpu.nvlink_errors or {} for gpu in gpus])
    return Columns(
        [*memory.values, *pcie.values, *nvlink.values], memory.attributes + pcie.attributes + nvlink.attributes
    )


def _xids(snapshot: GpuSnapshot) -> Columns[Value]:
    return _XIDS.columns(tuple(snapshot.counts), [counts.xids for counts in snapshot.counts.values()])


def _events(snapshot: GpuSnapshot) -> Columns[Value]:
    return _EVENTS.columns(tuple(snapshot.counts), [counts.kinds for counts in snapshot.counts.values()])


HEALTH: tuple[Metric[GpuSnapshot], ...] = (
    Metric(
        "otel_llm.gpu.throttle.active",
        "updowncounter",
        "1",
        "Why the clocks are lower than they could be: 1 for each reason that holds now, 0 for the others.",
        flags("otel_llm.reason", lambda gpu: gpu.throttle),
        attributes=("hw.id", "otel_llm.reason"),
        note="No convention has reasons for lowered clocks.",
    ),
    Metric(
        "otel_llm.gpu.throttle.time",
        "counter",
        "s",
        "Time in which a reason held the clocks down since the driver was loaded.",
        mapped(named("otel_llm.reason"), lambda gpu: gpu.throttle_time_s),
        attributes=("hw.id", "otel_llm.reason"),
        note="No convention has reasons for lowered clocks.",
    ),
    Metric(
        "hw.errors",
        "counter",
        "{error}",
        "Errors of GPU memory (corrected and uncorrected), of PCIe and of NVLink since the driver was loaded; errors that the driver numbers (xid) since the agent's start.",
        _errors,
        attributes=("hw.id", "hw.type", "error.type"),
    ),
    Metric(
        "otel_llm.gpu.xid.errors",
        "counter",
        "{error}",
        "Errors that the driver numbers, by number, since the agent's start; from the first of a number on. hw.errors has their sum, from 0 on.",
        _xids,
        attributes=("hw.id", "otel_llm.gpu.xid"),
        note="As values of error.type on hw.errors, beside their sum, they would be counted twice.",
    ),
    Metric(
        "otel_llm.gpu.events",
        "counter",
        "{event}",
        "Events of a GPU by kind, since the agent's start; each is a log record, too, with what it means and what to do.",
        _events,
        attributes=("hw.id", "otel_llm.gpu.event"),
        note="hw.errors counts errors alone; that clocks were lowered or a GPU came back is none.",
    ),
    Metric(
        "otel_llm.gpu.memory.errors",
        "counter",
        "{error}",
        "Errors of memory by where they were: in the device memory (dram) or inside the chip (sram); since the driver was loaded.",
        mapped(
            Series(lambda place: (("otel_llm.gpu.memory.location", place[0]), ("error.type", place[1]))),
            lambda gpu: gpu.ecc_located,
        ),
        attributes=("hw.id", "otel_llm.gpu.memory.location", "error.type"),
        note="As values of error.type on hw.errors, beside their sums, they would be counted twice.",
    ),
    Metric(
        "otel_llm.gpu.memory.errors.lifetime",
        "counter",
        "{error}",
        "Errors of memory since the board was made.",
        mapped(named("error.type"), lambda gpu: gpu.ecc_lifetime),
        attributes=("hw.id", "error.type"),
        note="hw.errors counts from the loading of the driver, as energy does.",
    ),
    Metric(
        "otel_llm.gpu.memory.pages.retired",
        "updowncounter",
        "{page}",
        "Pages of memory given up, by the kind of error; on GPUs before Ampere.",
        mapped(named("error.type"), lambda gpu: gpu.retired_pages),
        attributes=("hw.id", "error.type"),
        note="No convention has repairs of memory.",
    ),
    Metric(
        "otel_llm.gpu.memory.rows.remapped",
        "updowncounter",
        "{row}",
        "Rows of memory replaced by spare ones, by the kind of error; on GPUs since Ampere.",
        mapped(named("error.type"), lambda gpu: gpu.remapped_rows),
        attributes=("hw.id", "error.type"),
        note="No convention has repairs of memory.",
    ),
    Metric(
        "otel_llm.gpu.memory.banks",
        "updowncounter",
        "{bank}",
        "Banks of memory by how many spare rows they have left.",
        mapped(named("otel_llm.spare"), lambda gpu: gpu.remap_banks),
        attributes=("hw.id", "otel_llm.spare"),
        note="No convention has repairs of memory.",
    ),
    Metric(
        "otel_llm.gpu.row_remap.status",
        "updowncounter",
        "1",
        "Replacement of faulty memory: 1 where it waits for a reset (pending; on GPUs before Ampere pages_pending), or where it failed (failed).",
        flags(
            "otel_llm.state",
            lambda gpu: {
                "pending": gpu.row_remap_pending,
                "failed": gpu.row_remap_failed,
                "pages_pending": gpu.retired_pending,
            },
        ),
        attributes=("hw.id", "otel_llm.state"),
        note="hw.status sums it up as degraded and predicted_failure; which of several causes it was has no name.",
    ),
    Metric(
        "otel_llm.gpu.recovery.status",
        "updowncounter",
        "1",
        "What the driver asks for to make the GPU whole again: 1 for that, 0 for the others.",
        states("otel_llm.gpu.recovery", RECOVERY_ACTIONS, lambda gpu: gpu.recovery_action),
        attributes=("hw.id", "otel_llm.gpu.recovery"),
        note="hw.status sums it up as degraded; what is asked for has no name.",
    ),
    Metric(
        "otel_llm.gpu.fabric.status",
        "updowncounter",
        "1",
        "Whether the GPU has joined its NVLink fabric: 1 for the state it is in, 0 for the others.",
        states("otel_llm.state", FABRIC_STATES, lambda gpu: gpu.fabric_state),
        attributes=("hw.id", "otel_llm.state"),
        note="No convention has fabrics.",
    ),
)
