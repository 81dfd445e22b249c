"""The row of containers: which there are, in what state, and what each uses."""

from dashboards.board import Row
from dashboards.names import listed, rate
from dashboards.panels import Panel, Query

WHO = listed(("host.name", "container.id", "container.name"))
NAMED = listed(("host.name", "container.name"))  # a container made anew under its old name goes on in its old line
LEGEND = "{{<container.name>}}"

# Recording rules can put series of cAdvisor's beside ours under the same name; only ours say container.name.
WORKING_SET = '<container.memory.working_set{container.name!=""}>'
CHARGED = '<container.memory.usage{container.name!=""}>'
SOME = '<otel_llm.container.pressure.time{otel_llm.stall="some"}>'
LIMIT = "<otel_llm.container.memory.limit>"

ROW = Row(
    "Containers",
    (
        Panel(
            "Containers",
            "Every container the engine knows, running or not. CPU is in CPUs: 1 is one kept busy. Memory leaves the inactive page cache out, as `docker stats` does.",
            "short",
            (
                Query(
                    f"max by ({WHO}, <container.image.name>, <otel_llm.container.image.tag>, <otel_llm.container.gpu.declared>) (<otel_llm.container.info>)"
                ),
                Query(f"max by ({WHO}, <otel_llm.container.state>) (<otel_llm.container.status>) == 1"),
                Query(f"max by ({WHO}, <otel_llm.container.health>) (<otel_llm.container.health.status>) == 1"),
                Query(f"max by ({WHO}) (<container.cpu.usage>)", "CPU", "short"),
                Query(f"max by ({WHO}) ({WORKING_SET})", "Memory", "bytes"),
                Query(f"max by ({WHO}) ({LIMIT})", "Limit", "bytes"),
                Query(f"max by ({WHO}) (<otel_llm.container.restart.count>)", "Restarts", "short"),
                Query(f"max by ({WHO}) (<container.uptime>)", "Up for", "s"),
                Query(f"1000 * max by ({WHO}) (<otel_llm.container.created>)", "Created", "dateTimeFromNow"),
            ),
            kind="table",
            width=24,
            columns={
                "host.name": "Host",
                "container.name": "Container",
                "otel_llm.container.state": "State",
                "otel_llm.container.health": "Health",
                "container.image.name": "Image",
                "otel_llm.container.image.tag": "Tag",
                "otel_llm.container.gpu.declared": "GPUs asked for",
                "container.id": "Id",
            },
        ),
        Panel(
            "Containers by state",
            "How many containers are in each state, over all chosen hosts.",
            "short",
            (
                Query(
                    "sum by (<otel_llm.container.state>) (<otel_llm.container.status>)",
                    "{{<otel_llm.container.state>}}",
                ),
            ),
            stacked=True,
            low=0,
        ),
        Panel(
            "CPU of containers",
            "CPUs in use: 1 is one CPU kept busy.",
            "short",
            (Query(f"sum by ({NAMED}) ({rate('<container.cpu.time>')})", LEGEND),),
            low=0,
        ),
        Panel(
            "Memory of containers",
            "Memory in use less the inactive page cache.",
            "bytes",
            (Query(f"sum by ({NAMED}) ({WORKING_SET})", LEGEND),),
            low=0,
        ),
        Panel(
            "Memory against the limit",
            "Share of the limit in use, for containers that have one. `charged` counts the page cache too, which the kernel gives up first.",
            "percentunit",
            (
                Query(f"sum by ({NAMED}) ({WORKING_SET}) / sum by ({NAMED}) ({LIMIT})", LEGEND),
                Query(f"sum by ({NAMED}) ({CHARGED}) / sum by ({NAMED}) ({LIMIT})", f"{LEGEND} charged"),
            ),
            low=0,
            limits=((0.9, "orange"),),
        ),
        Panel(
            "Network of containers",
            "Bytes a second over the container's own interfaces; a container on the host's network has none.",
            "Bps",
            (
                Query(
                    f"sum by ({NAMED}, <network.io.direction>) ({rate('<container.network.io>')})",
                    f"{LEGEND} {{{{<network.io.direction>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Disk of containers",
            "Bytes a second to and from block devices.",
            "Bps",
            (
                Query(
                    f"sum by ({NAMED}, <disk.io.direction>) ({rate('<container.disk.io>')})",
                    f"{LEGEND} {{{{<disk.io.direction>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "Held back by the CPU limit",
            "Seconds a second in which threads wanted to run and the container's CPU limit kept them from it.",
            "short",
            (Query(f"sum by ({NAMED}) ({rate('<otel_llm.container.cpu.throttled.time>')})", LEGEND),),
            low=0,
        ),
        Panel(
            "Waiting for a resource",
            "Share of time in which some task of the container waited for CPU, memory or a disk.",
            "percentunit",
            (
                Query(
                    f"sum by ({NAMED}, <otel_llm.resource>) ({rate(SOME)})",
                    f"{LEGEND} {{{{<otel_llm.resource>}}}}",
                ),
            ),
            low=0,
        ),
    ),
)
