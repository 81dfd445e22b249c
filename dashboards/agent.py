"""The row of the agent itself: how its sources fare. What is empty above is explained here."""

from dashboards.board import Row
from dashboards.names import listed, rate
from dashboards.panels import Panel, Query

WHO = listed(("host.name", "otel_llm.source"))
LEGEND = "{{<host.name>}} {{<otel_llm.source>}}"

ROW = Row(
    "Agent",
    (
        Panel(
            "Sources",
            "How each source of the agent fares. Unavailable is no fault: `otel-agent doctor` on that host says why and what would help.",
            "short",
            (
                Query(f"max by ({WHO}, <otel_llm.source.state>) (<otel_llm.source.status>) == 1"),
                Query(f"max by ({WHO}) (<otel_llm.source.age>)", "Last reading", "s"),
                Query(f"max by ({WHO}) (<otel_llm.source.duration>)", "took", "s"),
                Query(f"max by ({WHO}) (<otel_llm.source.points>)", "Points", "short"),
                Query(f"max by ({WHO}) (<otel_llm.source.failures>)", "Failures", "short"),
            ),
            kind="table",
            width=12,
            columns={"host.name": "Host", "otel_llm.source": "Source", "otel_llm.source.state": "State"},
        ),
        Panel(
            "Duration of a reading",
            "How long the last reading of each source took.",
            "s",
            (Query(f"max by ({WHO}) (<otel_llm.source.duration>)", LEGEND),),
            width=4,
            low=0,
        ),
        Panel(
            "Age of the last reading",
            "Time since a source was read with success; it grows while a source hangs or fails.",
            "s",
            (Query(f"max by ({WHO}) (<otel_llm.source.age>)", LEGEND),),
            width=4,
            low=0,
        ),
        Panel(
            "Failed readings",
            "Readings that failed, a second.",
            "ops",
            (Query(f"max by ({WHO}) ({rate('<otel_llm.source.failures>')})", LEGEND),),
            width=4,
            low=0,
        ),
    ),
)
