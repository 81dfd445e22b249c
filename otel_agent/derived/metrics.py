"""Rows and events of placement. Info series: they are joined to the numbers of GPUs, containers and processes, and copied onto none."""

from collections.abc import Iterator

from otel_agent.catalogue import Attributes, Event, Metric, Point
from otel_agent.derived.devices import Part
from otel_agent.derived.mismatch import Mismatch
from otel_agent.derived.read import PlacementSnapshot
from otel_agent.sources.containers.snapshot import Container

MISMATCH, MISMATCH_OVER = "otel_llm.placement.mismatch", "otel_llm.placement.mismatch_over"
_GPU = ("hw.id", "hw.parent", "otel_llm.gpu.index")
_CONTAINER = ("container.id", "container.name")


def _known(**values: str | int | None) -> dict[str, str | int | bool]:
    return {name.replace("__", "."): value for name, value in values.items() if value is not None}


def _gpu(part: Part) -> dict[str, str | int | bool]:
    return _known(hw__id=part.id, hw__parent=part.parent, otel_llm__gpu__index=part.index)


def _container(container: Container | None) -> dict[str, str | int | bool]:
    return _known(container__id=container.identity.id, container__name=container.identity.name) if container else {}


def _placements(snapshot: PlacementSnapshot) -> Iterator[Point]:
    for one in snapshot.places.placements:
        about = {"otel_llm.process.name": one.program, "otel_llm.model.name": one.model}
        yield (
            1,
            {
                **_gpu(one.part),
                **_container(one.container),
                **{name: text for name, text in about.items() if text is not None},
                "otel_llm.placement.evidence": one.evidence,
            },
        )


def _processes(snapshot: PlacementSnapshot) -> Iterator[Point]:
    for one in snapshot.places.processes:
        about = {"otel_llm.process.name": one.name, "otel_llm.model.name": one.model}
        yield (
            1,
            {
                **_gpu(one.part),
                **_container(one.container),
                "process.pid": one.pid,
                **{name: text for name, text in about.items() if text is not None},
            },
        )


def _about(one: Mismatch) -> dict[str, str | int | bool]:
    gpu = {"hw.id": one.part} if one.part else {}
    return {
        **gpu,
        **_container(one.container),
        **({} if one.pid is None else {"process.pid": one.pid}),
        "otel_llm.placement.mismatch.kind": one.kind,
    }


def _mismatches(snapshot: PlacementSnapshot) -> Iterator[Point]:
    return ((1, _about(one)) for one in snapshot.mismatches)


def events(snapshot: PlacementSnapshot) -> Iterator[Event]:
    """Yield what began not to fit, and what ceased to."""
    at = snapshot.places.time_s
    for one in snapshot.begun:
        severity = "info" if one.kind in ("shared", "declared_idle") else "warn"
        yield Event(MISMATCH, at, severity, one.said, _told(one))  # type: ignore[arg-type]
    for one in snapshot.over:
        yield Event(MISMATCH_OVER, at, "info", f"no longer: {one.said}", _told(one))


def _told(one: Mismatch) -> Attributes:
    index = {} if one.index is None else {"otel_llm.gpu.index": one.index}
    memory = {} if one.memory_bytes is None else {"otel_llm.gpu.memory.held": one.memory_bytes}
    return {**_about(one), **index, **memory}


_NOTE = "Semantic conventions have no relation between hardware, containers and models."
METRICS: tuple[Metric[PlacementSnapshot], ...] = (
    Metric("otel_llm.placement", "gauge", "",
           "Always 1: who uses a GPU or MIG device, or was given it: a container, or a program outside of containers, with the model it declares."
           " Evidence: observed (it has processes there), declared (it was given it), or both.",
           _placements, (*_GPU, *_CONTAINER, "otel_llm.process.name", "otel_llm.model.name", "otel_llm.placement.evidence"), note=_NOTE),
    Metric("otel_llm.placement.process", "gauge", "", "Always 1: whose a process on a GPU is, to be joined by hw.id and process.pid.",
           _processes, (*_GPU, *_CONTAINER, "process.pid", "otel_llm.process.name", "otel_llm.model.name"), note=_NOTE),
    Metric(MISMATCH, "updowncounter", "1",
           "1 for each thing that does not fit: declared and unused (declared_idle), used and not declared (undeclared), memory of a process that"
           " has ended (ended_process), several at once (shared), GPUs that a container has lost (lost_gpus).",
           _mismatches, ("hw.id", *_CONTAINER, "process.pid", "otel_llm.placement.mismatch.kind"), note=_NOTE),
    Metric("otel_llm.placement.observed", "updowncounter", "1",
           "1 where processes on GPUs are looked up; 0 where only declarations are told, because their pids are not those seen here.",
           lambda snapshot: [(int(snapshot.places.observed), {})], note=_NOTE),
)  # fmt: skip
