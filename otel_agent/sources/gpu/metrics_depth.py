"""What a GPU does inside: pipes of the performance monitor, bytes over its links, the driver's own samples, processes, and time spent asking."""

from collections.abc import Callable, Iterator, Mapping

from otel_agent.catalogue import Attributes, Metric, Point
from otel_agent.sources.gpu.points import Made, described, mapped, mapped_with_parts, named, one
from otel_agent.sources.gpu.processes import PROCESSES_MAX
from otel_agent.sources.gpu.snapshot import GpuProcess, GpuReading, GpuSnapshot, Spread

_MONITOR = "Semantic conventions have one utilisation for a GPU, whatever part of it is busy."
_SAMPLED = "Semantic conventions have no minimum and maximum between two points of a gauge."


def _spread(name: str) -> Callable[[GpuReading], Mapping[str, float] | None]:
    def values(gpu: GpuReading) -> Mapping[str, float] | None:
        spread: Spread | None = (gpu.spreads or {}).get(name)
        return None if spread is None else {"min": spread.min, "mean": spread.mean, "max": spread.max}

    return values


def _described(known: tuple[str, int, str | None, str | None]) -> Attributes:
    gpu, pid, name, container = known
    return described(gpu, {"process.pid": pid, "otel_llm.process.name": name, "container.id": container})


_ABOUT = Made(_described)


def _per_process(value: Callable[[GpuProcess], float | None]) -> Callable[[GpuSnapshot], Iterator[Point]]:
    def points(snapshot: GpuSnapshot) -> Iterator[Point]:
        for gpu in snapshot.gpus:
            largest = sorted(gpu.processes or (), key=lambda process: process.memory_used_bytes or 0, reverse=True)
            for process in largest[:PROCESSES_MAX]:
                yield value(process), _ABOUT[gpu.identity.id, process.pid, process.name, process.container_id]

    return points


DEPTH: tuple[Metric[GpuSnapshot], ...] = (
    Metric(
        "otel_llm.gpu.activity",
        "gauge",
        "1",
        "Share of time, since the last reading, in which a part of the chip worked; sm_occupancy is the share of warps that were there. Hopper and later.",
        mapped_with_parts(("otel_llm.gpu.part",), lambda told: told.activity),
        attributes=("hw.id", "otel_llm.gpu.part"),
        note=_MONITOR,
    ),
    Metric(
        "otel_llm.gpu.throughput",
        "gauge",
        "By/s",
        "Bytes a second over PCIe and over all NVLinks since the last reading, as the performance monitor has them. Hopper and later.",
        mapped_with_parts(("otel_llm.gpu.link", "network.io.direction"), lambda told: told.throughput),
        attributes=("hw.id", "otel_llm.gpu.link", "network.io.direction"),
        note="hw.gpu.io is a counter of bytes, which the monitor does not have.",
    ),
    Metric(
        "hw.gpu.io",
        "counter",
        "By",
        "Bytes received and transmitted over PCIe; counters of the driver, which may begin again at 0.",
        mapped(named("network.io.direction"), lambda gpu: gpu.pcie_bytes),
        attributes=("hw.id", "network.io.direction"),
    ),
    Metric(
        "otel_llm.gpu.nvlink.io",
        "counter",
        "By",
        "Bytes of data received and transmitted over all NVLinks.",
        mapped(named("network.io.direction"), lambda gpu: gpu.nvlink_bytes),
        attributes=("hw.id", "network.io.direction"),
        note="hw.gpu.io is what goes to the host.",
    ),
    Metric(
        "otel_llm.gpu.nvlink.links",
        "updowncounter",
        "{link}",
        "NVLinks of the GPU.",
        one(lambda gpu: gpu.nvlink_links),
        attributes=("hw.id",),
        note="No convention has links between GPUs.",
    ),
    Metric(
        "otel_llm.gpu.pcie.link",
        "gauge",
        "{level}",
        "Generation and width of the PCIe link now, and the highest that GPU and slot can have together.",
        mapped(named("otel_llm.gpu.link.property"), lambda gpu: gpu.pcie_link),
        attributes=("hw.id", "otel_llm.gpu.link.property"),
        note="No convention has properties of a bus; a link that came up narrower costs bandwidth silently.",
    ),
    Metric(
        "otel_llm.gpu.power.sampled",
        "gauge",
        "W",
        "Least, mean and greatest of the driver's own samples of the board's power since the last reading.",
        mapped(named("otel_llm.statistic"), _spread("power")),
        attributes=("hw.id", "otel_llm.statistic"),
        note=_SAMPLED,
    ),
    Metric(
        "otel_llm.gpu.utilization.sampled",
        "gauge",
        "1",
        "Least, mean and greatest of the driver's own samples of how busy the GPU was since the last reading.",
        mapped(named("otel_llm.statistic"), _spread("utilization")),
        attributes=("hw.id", "otel_llm.statistic"),
        note=_SAMPLED,
    ),
    Metric(
        "otel_llm.gpu.memory.controller.utilization.sampled",
        "gauge",
        "1",
        "Least, mean and greatest of the driver's own samples of how busy the memory controller was since the last reading.",
        mapped(named("otel_llm.statistic"), _spread("memory_controller_utilization")),
        attributes=("hw.id", "otel_llm.statistic"),
        note=_SAMPLED,
    ),
    Metric(
        "otel_llm.gpu.process.count",
        "updowncounter",
        "{process}",
        "Processes with a context on the GPU.",
        one(lambda gpu: None if gpu.processes is None else len(gpu.processes)),
        attributes=("hw.id",),
        note="system.process.count counts those of the host.",
    ),
    Metric(
        "otel_llm.gpu.process.memory.usage",
        "updowncounter",
        "By",
        f"GPU memory of each process, of at most the {PROCESSES_MAX} with most of it on a GPU.",
        _per_process(lambda process: process.memory_used_bytes),
        attributes=("hw.id", "process.pid", "otel_llm.process.name", "container.id"),
        note="process.memory.usage is host memory. The name is the kernel's (comm), which conventions do not have.",
    ),
    Metric(
        "otel_llm.gpu.process.utilization",
        "gauge",
        "1",
        f"Share of time in which kernels of a process ran since the last reading, of at most the {PROCESSES_MAX} with most memory on a GPU.",
        _per_process(lambda process: process.sm_utilization),
        attributes=("hw.id", "process.pid", "otel_llm.process.name", "container.id"),
        note="process.cpu.utilization is of the host's CPUs. The name is the kernel's (comm), which conventions do not have.",
    ),
    Metric(
        "otel_llm.gpu.driver.time",
        "counter",
        "s",
        "Time that the agent spent in the driver, by group of questions: single calls, field values, performance monitor, samples, processes, MIG instances.",
        mapped(named("otel_llm.gpu.questions"), lambda gpu: gpu.waited_s),
        attributes=("hw.id", "otel_llm.gpu.questions"),
        note="Conventions have no name for what a collecting agent costs its source.",
    ),
)
