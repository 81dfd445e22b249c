"""The row of placement: who uses which GPU, what does not fit, and the processes that use most."""

from dashboards.board import Row
from dashboards.names import listed
from dashboards.panels import Panel, Query

WHO = listed(("host.name", "hw.id", "container.name", "otel_llm.model.name"))
NAMED = listed(("host.name", "process.pid", "otel_llm.process.name"))
LEGEND = "{{<otel_llm.process.name>}} {{<process.pid>}}"

ROW = Row(
    "Who uses what",
    (
        Panel(
            "Who uses which GPU",
            "Containers and programs by GPU. Observed: it has processes there; declared: it was given the GPU; both.",
            "short",
            (
                Query(
                    f"max by ({WHO}, <otel_llm.gpu.index>, <otel_llm.process.name>, <otel_llm.placement.evidence>) (<otel_llm.placement>)"
                ),
            ),
            kind="table",
            width=14,
            columns={
                "host.name": "Host",
                "otel_llm.gpu.index": "GPU",
                "container.name": "Container",
                "otel_llm.process.name": "Program",
                "otel_llm.model.name": "Model",
                "otel_llm.placement.evidence": "Evidence",
                "hw.id": "Id",
            },
        ),
        Panel(
            "What does not fit",
            "GPUs given and not used, used and not given, shared, lost, or held by a process that has ended. Nothing is well.",
            "short",
            (
                Query(
                    "sum by (<otel_llm.placement.mismatch.kind>) (<otel_llm.placement.mismatch>)",
                    "{{<otel_llm.placement.mismatch.kind>}}",
                ),
            ),
            width=10,
            stacked=True,
            low=0,
        ),
        Panel(
            "CPU of processes",
            "CPUs in use, of the busiest processes, the largest, and all on a GPU.",
            "short",
            (Query(f"sum by ({NAMED}) (<otel_llm.process.cpu.usage>)", LEGEND),),
            low=0,
        ),
        Panel(
            "Memory of processes",
            "Resident memory of the same processes.",
            "bytes",
            (Query(f"sum by ({NAMED}) (<process.memory.usage>)", LEGEND),),
            low=0,
        ),
    ),
)
