"""The row of GPUs. Series carry a UUID; the number by which people call a GPU is joined from its info series.

Both sides of a join are aggregated first: to one value a GPU here, to one series a GPU there. A GPU shared by containers, or an agent
that was started anew, then cannot make a query fail.
"""

from dashboards.board import Row
from dashboards.names import listed, rate
from dashboards.panels import Panel, Query
from otel_agent.settings import Settings

GPU = ("host.name", "hw.id")
INDEX = "otel_llm.gpu.index"
LEGEND = f"{{{{<host.name>}}}} GPU {{{{<{INDEX}>}}}}"
INFO = f"topk by ({listed(GPU)}) (1, <otel_llm.gpu.info>)"
WHO = listed(GPU)


def named(series: str, *attributes: str) -> str:
    """Return a series as one value a GPU, and a value of these attributes, with the GPU's number as a label."""
    return f"max by ({listed((*GPU, *attributes))}) ({series}) * on ({WHO}) group_left (<{INDEX}>) {INFO}"


ROW = Row(
    "GPUs",
    (
        Panel(
            "GPUs",
            "Every GPU with its state now. Degraded means that its clocks are held down by heat or power, or that it waits for a reset.",
            "short",
            (
                Query(f"max by ({WHO}, <{INDEX}>, <hw.name>, <hw.driver_version>) (<otel_llm.gpu.info>)"),
                Query(f"max by ({WHO}, <hw.state>) (<hw.status>) == 1"),
                Query(f'max by ({WHO}) (<hw.gpu.utilization{{hw.gpu.task="general"}}>)', "Busy", "percentunit"),
                Query(f"max by ({WHO}) (<hw.gpu.memory.usage>)", "Memory", "bytes"),
                Query(f"max by ({WHO}) (<hw.gpu.memory.limit>)", "of", "bytes"),
                Query(
                    f'max by ({WHO}) (<hw.temperature{{hw.sensor_location="gpu"}}>) and on ({WHO}) <otel_llm.gpu.info>',
                    "Temperature",
                    "celsius",
                ),
                Query(f"max by ({WHO}) (<hw.power>) and on ({WHO}) <otel_llm.gpu.info>", "Power", "watt"),
                Query(f"max by ({WHO}) (<otel_llm.gpu.performance.level>)", "P-state", "none"),
                Query(f"max by ({WHO}) (<otel_llm.gpu.process.count>)", "Processes", "none"),
            ),
            kind="table",
            width=24,
            height=9,
            columns={
                "host.name": "Host",
                INDEX: "GPU",
                "hw.state": "State",
                "hw.name": "Model",
                "hw.driver_version": "Driver",
                "hw.id": "UUID",
            },
        ),
        Panel(
            "GPU busy",
            "Share of time in which a kernel ran, however small: a GPU busy all the time can still have room.",
            "percentunit",
            (Query(named('<hw.gpu.utilization{hw.gpu.task="general"}>'), LEGEND),),
            low=0,
            high=1,
        ),
        Panel(
            "GPU memory in use",
            "Share of the memory in use; the line is where /health begins to warn by default.",
            "percentunit",
            (Query(named("<hw.gpu.memory.utilization>"), LEGEND),),
            low=0,
            high=1,
            limits=((Settings.gpu_memory_max, "red"),),
        ),
        Panel(
            "GPU temperature",
            "Temperature of the GPU and, where the board tells, of its memory; the line is where /health begins to warn by default.",
            "celsius",
            (
                Query(
                    named('<hw.temperature{hw.sensor_location=~"gpu|memory"}>', "hw.sensor_location"),
                    f"{LEGEND} {{{{<hw.sensor_location>}}}}",
                ),
            ),
            limits=((Settings.gpu_temperature_max, "red"),),
        ),
        Panel(
            "GPU power against its limit",
            "Power drawn by the whole board as a share of the limit in force, above which the driver lowers the clocks.",
            "percentunit",
            (
                Query(
                    f"{named('<hw.power>')} / on ({WHO}) group_left () max by ({WHO}) (<otel_llm.gpu.power.limit>)",
                    LEGEND,
                ),
            ),
            low=0,
            limits=((1.0, "orange"),),
        ),
        Panel(
            "GPU power",
            "Power drawn by the whole board, the mean that its energy counter tells, and the greatest that the driver sampled between two readings.",
            "watt",
            (
                Query(named("<hw.power>"), LEGEND),
                Query(named(rate("<hw.energy>")), f"{LEGEND} by energy"),
                Query(named('<otel_llm.gpu.power.sampled{otel_llm.statistic="max"}>'), f"{LEGEND} greatest"),
            ),
            low=0,
        ),
        Panel(
            "GPU clocks",
            "Present clocks of graphics and memory, and the highest they can have.",
            "hertz",
            (
                Query(named("<otel_llm.gpu.clock.speed>", "otel_llm.clock"), f"{LEGEND} {{{{<otel_llm.clock>}}}}"),
                Query(
                    named("<otel_llm.gpu.clock.limit>", "otel_llm.clock"), f"{LEGEND} {{{{<otel_llm.clock>}}}} limit"
                ),
            ),
            low=0,
        ),
        Panel(
            "Clocks held down: time",
            "Share of time in which a reason held the clocks down.",
            "percentunit",
            (
                Query(
                    named(rate("<otel_llm.gpu.throttle.time>"), "otel_llm.reason"),
                    f"{LEGEND} {{{{<otel_llm.reason>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Clocks held down: now",
            "Reasons that hold the clocks down at this moment; an idle GPU and a power limit under load are ordinary.",
            "none",
            (
                Query(
                    f"{named('<otel_llm.gpu.throttle.active>', 'otel_llm.reason')} == 1",
                    f"{LEGEND} {{{{<otel_llm.reason>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Memory errors and PCIe replays",
            "Errors of GPU memory and replayed PCIe packets, in the look-back of each point. Uncorrected ones end the work that met them.",
            "short",
            (Query(named("increase(<hw.errors>[$__rate_interval])", "error.type"), f"{LEGEND} {{{{<error.type>}}}}"),),
            low=0,
        ),
        Panel(
            "Memory rows to be replaced",
            "1 where the replacement of a faulty memory row waits for a reset (pending), or where it failed and the board is due for exchange.",
            "none",
            (Query(named("<otel_llm.gpu.row_remap.status>", "otel_llm.state"), f"{LEGEND} {{{{<otel_llm.state>}}}}"),),
            low=0,
            high=1,
            limits=((1, "red"),),
        ),
        Panel(
            "GPU memory controller, encoder, decoder",
            "Share of time in which device memory was read or written, and in which the video engines were busy.",
            "percentunit",
            (
                Query(named("<otel_llm.gpu.memory.controller.utilization>"), f"{LEGEND} memory controller"),
                Query(
                    named('<hw.gpu.utilization{hw.gpu.task!="general"}>', "hw.gpu.task"),
                    f"{LEGEND} {{{{<hw.gpu.task>}}}}",
                ),
            ),
            low=0,
            high=1,
        ),
        Panel(
            "GPU: parts of the chip",
            "Share of time in which each part worked, by the performance monitor of Hopper and later: tensor cores, memory, multiprocessors (sm) and how full of warps they were.",
            "percentunit",
            (Query(named("<otel_llm.gpu.activity>", "otel_llm.gpu.part"), f"{LEGEND} {{{{<otel_llm.gpu.part>}}}}"),),
            low=0,
            high=1,
        ),
        Panel(
            "GPU: bytes over PCIe and NVLink",
            "Bytes a second, by the performance monitor, and by the driver's counters where a GPU has them.",
            "Bps",
            (
                Query(
                    named("<otel_llm.gpu.throughput>", "otel_llm.gpu.link", "network.io.direction"),
                    f"{LEGEND} {{{{<otel_llm.gpu.link>}}}} {{{{<network.io.direction>}}}}",
                ),
                Query(
                    named(rate("<otel_llm.gpu.nvlink.io>"), "network.io.direction"),
                    f"{LEGEND} nvlink counted {{{{<network.io.direction>}}}}",
                ),
                Query(
                    named(rate("<hw.gpu.io>"), "network.io.direction"),
                    f"{LEGEND} pcie counted {{{{<network.io.direction>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "GPU events",
            "Events in the look-back of each point: errors that the driver numbers (xid), memory errors, lowered clocks, GPUs that failed and came back. Each is a log record, too.",
            "short",
            (
                Query(
                    f"{named('increase(<otel_llm.gpu.events>[$__rate_interval])', 'otel_llm.gpu.event')} > 0",
                    f"{LEGEND} {{{{<otel_llm.gpu.event>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "GPU use by process",
            "Share of time in which kernels of a process ran, of those with most memory on a GPU.",
            "percentunit",
            (
                Query(
                    named("<otel_llm.gpu.process.utilization>", "process.pid", "otel_llm.process.name"),
                    f"{LEGEND} {{{{<otel_llm.process.name>}}}} {{{{<process.pid>}}}}",
                ),
            ),
            low=0,
            high=1,
        ),
        Panel(
            "GPU memory by process",
            "GPU memory of each process, of those with most of it on a GPU.",
            "bytes",
            (
                Query(
                    named("<otel_llm.gpu.process.memory.usage>", "process.pid", "otel_llm.process.name"),
                    f"{LEGEND} {{{{<otel_llm.process.name>}}}} {{{{<process.pid>}}}}",
                ),
            ),
            low=0,
        ),
    ),
)
