"""The board of a node: the agent's sources, the machine, its containers, its GPUs."""

from collections.abc import Mapping

from dashboards import agent, containers, gpu, host
from dashboards.board import Board, Variable

BOARD = Board(
    file="node",
    uid="otel-llm-node",
    title="otel-llm: node",
    description="Host, containers and GPUs as otel-agent reads them.",
    scope='host.name=~"$host"',
    variables=(Variable("host", "Host", "host.name", "otel_llm.source.status"),),
    rows=(host.OVERVIEW, gpu.ROW, containers.ROW, host.PROCESSOR, host.DISKS, host.NETWORK, agent.ROW),
)

# Rows of the catalogue that no panel shows, and why.
OFF: Mapping[str, str] = {
    "system.disk.limit": "does not change; the filesystems' sizes say more",
    "system.disk.merged": "for tuning an I/O scheduler, by a query of one's own",
    "system.paging.utilization": "the swap panel shows the bytes of both states",
    "system.process.limit": "does not change, and no host comes near it before memory is gone",
    "otel_llm.gpu.mode.enabled": "does not change but by hand",
}
