"""What the vLLM servers and LiteLLM proxies on this machine send, and what is amiss: `findings` for `otel-agent doctor`.

Nothing of a command line or an environment is shown but addresses without what may be secret in them, numbers and plain words.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from otel_agent.checks.finding import Finding
from otel_agent.checks.servers import Kind, Server, read_servers
from otel_agent.checks.serving_rows import (
    INSTRUMENTORS,
    ROWS,
    TESTED,
    api_servers,
    callback_variable,
    sends,
    version,
    way,
)
from otel_agent.checks.wire import Signal, exporters, own_tracing, wire
from otel_agent.errors import ReadError

TITLES: Final[Mapping[Kind, str]] = {"vllm": "vLLM", "litellm": "LiteLLM proxy"}
_NAMES: Final[Mapping[Signal, str]] = {"METRICS": "metrics", "TRACES": "spans"}
_WORD: Final = re.compile(r"[A-Za-z0-9._/,+-]{1,64}")


def findings(root: Path) -> Iterator[Finding]:
    """Look at the servers below a root, the machine's own or the host's."""
    try:
        servers = read_servers(root / "proc")
    except ReadError as error:
        yield Finding("servers", "note", str(error), "run it where the machine's processes can be seen")
        return
    if not os.access(root / "proc/1/cmdline", os.R_OK):
        yield Finding(
            "servers", "note", "processes of other users cannot be seen (hidepid)", "run `otel-agent doctor` as root"
        )
    for server in servers:
        yield from judge(server)


def judge(server: Server) -> Iterator[Finding]:
    """Tell what the facts of one server mean: first what it sends, then what is amiss."""
    subject = f"{TITLES[server.kind]}, pid {server.pid}"
    if server.environ is None:
        yield Finding(
            subject, "note", "its environment may not be read: what it sends cannot be told",
            "run `otel-agent doctor` as the server's user, or as root",
        )  # fmt: skip
        return
    facts, told = words(server), set[str]()
    found: list[Finding] = []
    for row in ROWS:
        if server.kind in row.kinds and row.topic not in told and row.holds(server):
            told.add(row.topic)
            found.append(Finding(subject, row.verdict, row.said.format_map(facts), row.remedy.format_map(facts)))
    if sends(server) and "out" not in told and not any(one.verdict == "problem" for one in found):
        yield Finding(subject, "ok", _summary(server, facts, has_spans="launcher" not in told))
    yield from found


def _summary(server: Server, facts: Mapping[str, str], *, has_spans: bool) -> str:
    signals: tuple[Signal, ...] = ("METRICS", "TRACES") if has_spans else ("METRICS",)
    told = (
        f"{_NAMES[signal]} to {out.shown} over {_word(out.protocol)}"
        if (out := wire(server, signal))
        else f"{_NAMES[signal]} not by OTLP"
        for signal in signals
    )
    return f"{facts['version']} is set to send " + ", ".join(told)


def words(server: Server) -> Mapping[str, str]:
    """Return the facts that rows name, as they may be shown; what is not the case is empty, and no row names it then."""
    crossed, pathless = way(server, lambda out: out.is_crossed), way(server, lambda out: out.lacks_path)
    unknown, first = way(server, lambda out: not out.is_known), wire(server, "METRICS") or wire(server, "TRACES")
    own = own_tracing(server)
    return {
        "version": f"{TITLES[server.kind]} {version(server) or ''}".strip(),
        "tested": ".".join(map(str, TESTED[server.kind])),
        "instrumentor": INSTRUMENTORS[server.kind],
        "metrics_exporter": _word(",".join(exporters(server, "METRICS"))),
        "protocol": _word(first.protocol) if first else "",
        "crossed": crossed.shown if crossed else "",
        "crossed_protocol": crossed.protocol if crossed else "",
        "crossed_other": crossed.other if crossed else "",
        "pathless": pathless.shown if pathless else "",
        "unknown": _word(unknown.protocol) if unknown else "",
        "own": own.shown if own else "",
        "own_protocol": own.protocol if own else "",
        "own_other": own.other if own else "",
        "api_servers": str(api_servers(server)),
        "callback": callback_variable(server) or "",
    }


def _word(text: str) -> str:
    """Return a value of somebody else's environment where it is a plain word, else only that there is one."""
    return text if _WORD.fullmatch(text) else "something else"
