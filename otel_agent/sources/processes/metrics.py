"""The metrics of chosen processes, by the names of semantic conventions. Which container and GPU they belong to stands on `otel_llm.placement.process`."""

from collections.abc import Callable, Iterator

from otel_agent.catalogue import Metric, Point
from otel_agent.sources.processes.snapshot import Process, ProcessesSnapshot

WHO = ("process.pid", "otel_llm.process.name")


def _who(process: Process) -> dict[str, str | int | bool]:
    return {"process.pid": process.pid} | ({"otel_llm.process.name": process.name} if process.name is not None else {})


def _each(value: Callable[[Process], float | None]) -> Callable[[ProcessesSnapshot], Iterator[Point]]:
    def points(snapshot: ProcessesSnapshot) -> Iterator[Point]:
        for process in snapshot.processes.values():
            yield value(process), _who(process)

    return points


def _cpu_time(snapshot: ProcessesSnapshot) -> Iterator[Point]:
    for process in snapshot.processes.values():
        yield process.user_s, {**_who(process), "cpu.mode": "user"}
        yield process.system_s, {**_who(process), "cpu.mode": "system"}


def _disk(snapshot: ProcessesSnapshot) -> Iterator[Point]:
    for process in snapshot.processes.values():
        yield process.read_bytes, {**_who(process), "disk.io.direction": "read"}
        yield process.written_bytes, {**_who(process), "disk.io.direction": "write"}


def _uptime(snapshot: ProcessesSnapshot) -> Iterator[Point]:
    if snapshot.boot_s is not None:
        for process in snapshot.processes.values():
            yield max(0.0, snapshot.time_s - process.started_s), _who(process)


def _info(snapshot: ProcessesSnapshot) -> Iterator[Point]:
    for process in snapshot.processes.values():
        attributes = _who(process) | {"otel_llm.process.on_gpu": process.pid in snapshot.gpu_pids}
        if process.parent is not None:
            attributes["process.parent_pid"] = process.parent
        if process.container_id is not None:
            attributes["container.id"] = process.container_id
        yield 1, attributes


METRICS: tuple[Metric[ProcessesSnapshot], ...] = (
    Metric("process.cpu.time", "counter", "s", "CPU time the process used.", _cpu_time, (*WHO, "cpu.mode")),
    Metric("otel_llm.process.cpu.usage", "gauge", "{cpu}", "CPUs in use between the last two readings; 1 is one CPU kept busy.",
           _each(lambda process: process.cpus), WHO,
           note="process.cpu.utilization is a share of all CPUs; container.cpu.usage, which counts CPUs, is the model here."),
    Metric("process.memory.usage", "updowncounter", "By", "Resident memory of the process.", _each(lambda process: process.memory_bytes), WHO),
    Metric("process.memory.virtual", "updowncounter", "By", "Address space of the process; with CUDA far larger than any memory.",
           _each(lambda process: process.virtual_bytes), WHO),
    Metric("process.disk.io", "counter", "By", "Bytes the process moved to and from block devices.", _disk, (*WHO, "disk.io.direction")),
    Metric("process.thread.count", "updowncounter", "{thread}", "Threads of the process.", _each(lambda process: process.threads), WHO),
    Metric("process.unix.file_descriptor.count", "updowncounter", "{file_descriptor}", "Open files of the process.",
           _each(lambda process: process.descriptors), WHO),
    Metric("process.uptime", "gauge", "s", "Time since the process was started.", _uptime, WHO),
    Metric("otel_llm.process.info", "gauge", "", "Always 1: parent, container and whether it is on a GPU, to be joined by process.pid.",
           _info, (*WHO, "process.parent_pid", "container.id", "otel_llm.process.on_gpu"),
           note="An info series keeps what rarely changes off all other series."),
)  # fmt: skip
