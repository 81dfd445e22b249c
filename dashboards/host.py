"""The rows of the machine itself: processor, memory, disks, filesystems, network, processes, pressure, temperature.

Lines carry the host; what is stacked is one sum over the chosen hosts, since stacks of several hosts cannot be told apart.
"""

from dashboards.board import Row
from dashboards.names import rate
from dashboards.panels import Panel, Query

HOST = "<host.name>"
HOST_LEGEND = "{{<host.name>}}"
_FILESYSTEM = f"{HOST}, <system.filesystem.mountpoint>, <system.filesystem.type>, <system.device>"

OVERVIEW = Row(
    "Overview",
    (
        Panel(
            "Processor in use",
            "Share of the CPU time in which the processors worked; idling and waiting for a disk are no work.",
            "percentunit",
            (Query(f'1 - sum by ({HOST}) (<system.cpu.utilization{{cpu.mode=~"idle|iowait"}}>)', HOST_LEGEND),),
            kind="stat",
            width=4,
            height=4,
            low=0,
            high=1,
            limits=((0.9, "orange"),),
        ),
        Panel(
            "Memory in use",
            "Used share of the memory. Memory shared through tmpfs counts as used, the page cache does not.",
            "percentunit",
            (Query(f"max by ({HOST}) (<system.memory.utilization>)", HOST_LEGEND),),
            kind="stat",
            width=4,
            height=4,
            low=0,
            high=1,
            limits=((0.9, "orange"),),
        ),
        Panel(
            "Fullest filesystem",
            "Used share of the filesystem with the least room for ordinary users.",
            "percentunit",
            (Query(f"max by ({HOST}) (<system.filesystem.utilization>)", HOST_LEGEND),),
            kind="stat",
            width=4,
            height=4,
            low=0,
            high=1,
            limits=((0.85, "orange"), (0.95, "red")),
        ),
        Panel(
            "CPUs",
            "Logical CPUs online, and the cores that carry them.",
            "none",
            (
                Query(f"max by ({HOST}) (<system.cpu.logical.count>)", f"{HOST_LEGEND} logical"),
                Query(f"max by ({HOST}) (<system.cpu.physical.count>)", f"{HOST_LEGEND} cores"),
            ),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Uptime",
            "Time since the machine started.",
            "s",
            (Query(f"max by ({HOST}) (<system.uptime>)", HOST_LEGEND),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Killed for memory",
            "Processes that the kernel killed because memory ran out, over the time shown.",
            "none",
            (Query(f"sum by ({HOST}) (increase(<otel_llm.host.oom_kills>[$__range]))", HOST_LEGEND),),
            kind="stat",
            width=4,
            height=4,
            limits=((1, "red"),),
        ),
    ),
)

PROCESSOR = Row(
    "Processor and memory",
    (
        Panel(
            "CPU time by mode",
            "Share of each mode in the CPU time of all chosen hosts.",
            "percentunit",
            (
                Query(
                    f"sum by (<cpu.mode>) ({rate('<system.cpu.time>')}) / on () group_left () sum(max by ({HOST}) (<system.cpu.logical.count>))",
                    "{{<cpu.mode>}}",
                ),
            ),
            stacked=True,
            low=0,
            high=1,
        ),
        Panel(
            "Load",
            "Tasks that run, wait to run or wait for a disk, as a mean over the window; more than there are CPUs means waiting.",
            "short",
            (
                Query(
                    f"max by ({HOST}, <otel_llm.window>) (<otel_llm.host.load>)",
                    f"{HOST_LEGEND} {{{{<otel_llm.window>}}}}",
                ),
                Query(f"max by ({HOST}) (<system.cpu.logical.count>)", f"{HOST_LEGEND} CPUs"),
            ),
            low=0,
        ),
        Panel(
            "Pressure",
            "Share of time in which some tasks, or all of them, stood still because they waited for a resource.",
            "percentunit",
            (
                Query(
                    f"max by ({HOST}, <otel_llm.resource>, <otel_llm.stall>) ({rate('<otel_llm.host.pressure.time>')})",
                    f"{HOST_LEGEND} {{{{<otel_llm.resource>}}}} {{{{<otel_llm.stall>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Memory by state",
            "Memory of all chosen hosts; the states sum to what the machines have.",
            "bytes",
            (Query("sum by (<system.memory.state>) (<system.memory.usage>)", "{{<system.memory.state>}}"),),
            stacked=True,
            low=0,
        ),
        Panel(
            "Memory: what is left",
            "What programs can still get without swapping, beside what is shared, what the kernel's own caches hold, and the whole.",
            "bytes",
            (
                Query(f"max by ({HOST}) (<system.memory.linux.available>)", f"{HOST_LEGEND} available"),
                Query(f"max by ({HOST}) (<system.memory.linux.shared>)", f"{HOST_LEGEND} shared"),
                Query(
                    f"max by ({HOST}, <system.memory.linux.slab.state>) (<system.memory.linux.slab.usage>)",
                    f"{HOST_LEGEND} slab {{{{<system.memory.linux.slab.state>}}}}",
                ),
                Query(f"max by ({HOST}) (<system.memory.limit>)", f"{HOST_LEGEND} all"),
            ),
            low=0,
        ),
        Panel(
            "Swap space",
            "Swap space of all chosen hosts by state; none at all on a machine without swap.",
            "bytes",
            (Query("sum by (<system.paging.state>) (<system.paging.usage>)", "{{<system.paging.state>}}"),),
            stacked=True,
            low=0,
        ),
        Panel(
            "Page faults and swapping",
            "Page faults a second (a major one had to read from a disk), and pages read from and written to swap.",
            "ops",
            (
                Query(
                    f"sum by ({HOST}, <system.paging.fault.type>) ({rate('<system.paging.faults>')})",
                    f"{HOST_LEGEND} {{{{<system.paging.fault.type>}}}} faults",
                ),
                Query(
                    f"sum by ({HOST}, <system.paging.direction>) ({rate('<system.paging.operations>')})",
                    f"{HOST_LEGEND} swap {{{{<system.paging.direction>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Processes by state",
            "Processes of all chosen hosts; a blocked one waits for a device.",
            "short",
            (Query("sum by (<process.state>) (<system.process.count>)", "{{<process.state>}}"),),
            stacked=True,
            low=0,
        ),
        Panel(
            "New processes",
            "Processes and threads made a second.",
            "ops",
            (Query(f"sum by ({HOST}) ({rate('<system.process.created>')})", HOST_LEGEND),),
            low=0,
        ),
    ),
)

_DISK = f"{HOST}, <system.device>, <disk.io.direction>"
_DISK_LEGEND = f"{HOST_LEGEND} {{{{<system.device>}}}} {{{{<disk.io.direction>}}}}"

DISKS = Row(
    "Disks and filesystems",
    (
        Panel(
            "Disk throughput",
            "Bytes that whole disks read and wrote a second.",
            "Bps",
            (Query(f"sum by ({_DISK}) ({rate('<system.disk.io>')})", _DISK_LEGEND),),
            width=6,
            low=0,
        ),
        Panel(
            "Disk operations",
            "Reads and writes that disks completed a second.",
            "iops",
            (Query(f"sum by ({_DISK}) ({rate('<system.disk.operations>')})", _DISK_LEGEND),),
            width=6,
            low=0,
        ),
        Panel(
            "Time per disk operation",
            "Mean time of a read or write, waiting included; a gap where there was none.",
            "s",
            (
                Query(
                    f"sum by ({_DISK}) ({rate('<system.disk.operation_time>')}) / (sum by ({_DISK}) ({rate('<system.disk.operations>')}) > 0)",
                    _DISK_LEGEND,
                ),
            ),
            width=6,
            low=0,
        ),
        Panel(
            "Disk busy",
            "Share of time in which a disk had something to do.",
            "percentunit",
            (
                Query(
                    f"max by ({HOST}, <system.device>) ({rate('<system.disk.io_time>')})",
                    f"{HOST_LEGEND} {{{{<system.device>}}}}",
                ),
            ),
            width=6,
            low=0,
            high=1,
        ),
        Panel(
            "Filesystems",
            "Size and use of every real filesystem; inodes only where it has a fixed number of them.",
            "short",
            (
                Query(f"max by ({_FILESYSTEM}) (<system.filesystem.limit>)", "Size", "bytes"),
                Query(
                    f'max by ({_FILESYSTEM}) (<system.filesystem.usage{{system.filesystem.state="used"}}>)',
                    "Used",
                    "bytes",
                ),
                Query(f"max by ({_FILESYSTEM}) (<system.filesystem.utilization>)", "In use", "percentunit"),
                Query(
                    f"max by ({_FILESYSTEM}) (<otel_llm.host.filesystem.inodes.usage>) / max by ({_FILESYSTEM}) (<otel_llm.host.filesystem.inodes.limit>)",
                    "Inodes in use",
                    "percentunit",
                ),
            ),
            kind="table",
            width=18,
            columns={
                "host.name": "Host",
                "system.filesystem.mountpoint": "Mounted on",
                "system.filesystem.type": "Type",
                "system.device": "Device",
            },
        ),
        Panel(
            "Filesystems not read",
            "Mounted filesystems whose space is not told: no answer in time, failed, hidden from the agent, or beyond its limit.",
            "short",
            (
                Query(
                    f"max by ({HOST}, <otel_llm.reason>) (<otel_llm.host.filesystem.unread>)",
                    f"{HOST_LEGEND} {{{{<otel_llm.reason>}}}}",
                ),
            ),
            width=6,
            low=0,
            limits=((1, "orange"),),
        ),
    ),
)

_INTERFACE = f"{HOST}, <network.interface.name>, <network.io.direction>"
_INTERFACE_LEGEND = f"{HOST_LEGEND} {{{{<network.interface.name>}}}} {{{{<network.io.direction>}}}}"

NETWORK = Row(
    "Network and temperature",
    (
        Panel(
            "Network throughput",
            "Bytes a second through the interfaces that lead out of the machine.",
            "Bps",
            (Query(f"sum by ({_INTERFACE}) ({rate('<system.network.io>')})", _INTERFACE_LEGEND),),
            low=0,
        ),
        Panel(
            "Packets",
            "Packets a second through the interfaces that lead out of the machine.",
            "pps",
            (
                Query(
                    f"sum by ({HOST}, <system.device>, <network.io.direction>) ({rate('<system.network.packet.count>')})",
                    f"{HOST_LEGEND} {{{{<system.device>}}}} {{{{<network.io.direction>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Packets lost",
            "Packets a second with errors, and packets dropped although they had none.",
            "pps",
            (
                Query(f"sum by ({_INTERFACE}) ({rate('<system.network.errors>')})", f"{_INTERFACE_LEGEND} errors"),
                Query(
                    f"sum by ({_INTERFACE}) ({rate('<system.network.packet.dropped>')})", f"{_INTERFACE_LEGEND} dropped"
                ),
            ),
            low=0,
        ),
        Panel(
            "Sockets",
            "Sockets in use, those that listen included; TCP connections in TIME_WAIT are counted apart.",
            "short",
            (
                Query(
                    f"max by ({HOST}, <network.transport>, <network.connection.state>) (<system.network.connection.count>)",
                    f"{HOST_LEGEND} {{{{<network.transport>}}}} {{{{<network.connection.state>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Temperature of the machine",
            "Temperature by sensor, GPUs left out; a virtual machine has no sensors.",
            "celsius",
            (
                Query(
                    f'max by ({HOST}, <hw.name>, <hw.sensor_location>) (<hw.temperature{{hw.type!~"|gpu"}}>)',
                    f"{HOST_LEGEND} {{{{<hw.name>}}}} {{{{<hw.sensor_location>}}}}",
                ),
            ),
        ),
    ),
)
