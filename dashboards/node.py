"""The board of a node: the agent's sources, the machine, its containers, its GPUs."""

from collections.abc import Mapping

from dashboards import agent, containers, gpu, host, placement
from dashboards.board import Board, Variable

BOARD = Board(
    file="node",
    uid="otel-llm-node",
    title="otel-llm: node",
    description="Host, containers and GPUs as otel-agent reads them.",
    scope='host.name=~"$host"',
    variables=(Variable("host", "Host", "host.name", "otel_llm.source.status"),),
    rows=(host.OVERVIEW, gpu.ROW, containers.ROW, placement.ROW, host.PROCESSOR, host.DISKS, host.NETWORK, agent.ROW),
)

# Rows of the catalogue that no panel shows, and why.
OFF: Mapping[str, str] = {
    "system.disk.limit": "does not change; the filesystems' sizes say more",
    "system.disk.merged": "for tuning an I/O scheduler, by a query of one's own",
    "system.paging.utilization": "the swap panel shows the bytes of both states",
    "system.process.limit": "does not change, and no host comes near it before memory is gone",
    "otel_llm.gpu.mode.enabled": "does not change but by hand",
    "otel_llm.gpu.instance.info": "what MIG devices are called; joined by hw.id where a machine is partitioned",
    "otel_llm.gpu.answer.status": "the table of GPUs shows failed; whether the driver hangs or refuses is for the search after it",
    "otel_llm.gpu.memory.reserved": "does not change while the driver is the same",
    "hw.temperature.limit": "does not change; the temperature panel has the line at which /health begins to warn",
    "otel_llm.gpu.temperature.margin": "the same as the temperature, from the other end",
    "otel_llm.gpu.power.instant": "the power panel has the average, and the greatest that the driver sampled",
    "otel_llm.gpu.power.memory": "a part of the power that few boards tell",
    "otel_llm.gpu.power.limit.bound": "does not change",
    "hw.fan.speed_ratio": "boards of servers have no fans",
    "otel_llm.gpu.xid.errors": "the panel of events counts them, the log records have their numbers and what to do",
    "otel_llm.gpu.memory.errors": "the panel of errors has their sums; where they were is for the search after one",
    "otel_llm.gpu.memory.errors.lifetime": "the panel of errors has those since the driver was loaded",
    "otel_llm.gpu.memory.pages.retired": "of boards before Ampere",
    "otel_llm.gpu.memory.rows.remapped": "the panel of rows to be replaced has what asks for a hand",
    "otel_llm.gpu.memory.banks": "how many spare rows are left, for those who plan exchanges",
    "otel_llm.gpu.recovery.status": "hw.status sums it up, an event tells it",
    "otel_llm.gpu.fabric.status": "does not change once the fabric is up",
    "otel_llm.gpu.nvlink.links": "does not change",
    "otel_llm.gpu.pcie.link": "changes with the P-state of an idle GPU, which alarms for nothing",
    "otel_llm.gpu.utilization.sampled": "the panel of busy GPUs shows the driver's own mean",
    "otel_llm.gpu.memory.controller.utilization.sampled": "the panel of the memory controller shows the driver's own mean",
    "otel_llm.gpu.driver.time": "what reading costs, for those who look into it",
    "otel_llm.container.cpu.limit": "the CPU panel shows use, the throttling panel where a limit holds it down",
    "otel_llm.container.cpu.periods": "the throttling panel shows the time that the same periods cost",
    "container.memory.rss": "the memory panel has the working set, which the kernel's killer goes by",
    "container.memory.available": "the panel of memory against the limit shows the same as a share",
    "otel_llm.container.memory.events": "events tell each kill with its container",
    "container.paging.faults": "ordinary while a program starts; for the search after one that swaps",
    "otel_llm.container.network.errors": "virtual interfaces hardly ever have any",
    "otel_llm.container.network.packet.dropped": "virtual interfaces hardly ever have any",
    "otel_llm.container.disk.operations": "the disk panel shows the bytes",
    "otel_llm.container.pids.count": "for those who set a limit",
    "otel_llm.container.pids.limit": "does not change but by hand",
    "otel_llm.container.exit.code": "the event of each exit carries it",
    "otel_llm.container.oom_killed": "the event of each exit carries it",
    "process.cpu.time": "the panel of processes shows the CPUs in use",
    "process.memory.virtual": "says little: with CUDA it is far larger than any memory",
    "process.disk.io": "for the search after who keeps a disk busy",
    "process.thread.count": "for the search after one that leaks them",
    "process.unix.file_descriptor.count": "for the search after one that leaks them",
    "process.uptime": "for the search after one that restarts",
    "otel_llm.process.info": "is joined by process.pid",
    "otel_llm.placement.process": "is joined by hw.id and process.pid, as docs/containers.md shows",
    "otel_llm.placement.observed": "`otel-agent doctor` says it with the remedy",
}
