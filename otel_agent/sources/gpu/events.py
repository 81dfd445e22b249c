"""What happened to GPUs, as events: one name a kind, the GPU, what it means and what to do as attributes. No I/O."""

from collections.abc import Iterator

from otel_agent.catalogue import Attributes, Event
from otel_agent.sources.gpu.snapshot import GpuEvent, GpuSnapshot

NAME = "otel_llm.gpu."
PROCESSES_MAX = 16  # of one event, those with most memory


def events(snapshot: GpuSnapshot) -> Iterator[Event]:
    """Yield what happened since the snapshot before."""
    for one in snapshot.happened:
        yield Event(NAME + one.kind, one.time_s, one.severity, _said(one), _attributes(one))


def _said(one: GpuEvent) -> str:
    number = "" if one.gpu.index is None else f" {one.gpu.index}"
    return f"GPU{number}: {one.said}"


def _attributes(one: GpuEvent) -> Attributes:
    on_it = sorted(one.processes, key=lambda process: process.memory_used_bytes or 0, reverse=True)[:PROCESSES_MAX]
    containers = dict.fromkeys(process.container_id for process in on_it if process.container_id is not None)
    found: dict[str, str | int | None] = {
        "hw.id": one.gpu.id,
        "hw.type": "gpu",
        "hw.name": one.gpu.name,
        "otel_llm.gpu.index": one.gpu.index,
        "otel_llm.gpu.event": one.kind,
        "otel_llm.gpu.xid": one.code,
        "otel_llm.gpu.remedy": one.remedy,
        "otel_llm.gpu.instance": one.instance,
        "otel_llm.reason": one.reason,
        "otel_llm.gpu.process.pids": ",".join(str(process.pid) for process in on_it) or None,
        "otel_llm.gpu.process.names": ",".join(process.name for process in on_it if process.name) or None,
        "otel_llm.gpu.container.ids": ",".join(containers) or None,
    }
    return {key: value for key, value in found.items() if value is not None}
