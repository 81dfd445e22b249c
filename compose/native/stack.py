"""The whole pipeline as ordinary processes on loopback: Prometheus, Loki, Alertmanager, the Collector, the agent, perhaps Tempo.

Tempo is not to be had as a Go module: it joins when TEMPO_BIN names a binary, and without it traces go to the agent's store.
Which server is started how stands in services.py; this module starts them together, watches them, and stops them in order.

    python -m compose.native.stack
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compose.native import build, services
from compose.native.ports import LOOPBACK, Ports, StackError, check_free, load
from compose.native.process import Process, Service

PAGE_S = 2.0


@dataclass(frozen=True)
class Plan:
    """What to start and with what; the defaults are those of `make stack`."""

    ports: Ports
    data: Path
    tempo_bin: Path | None = None
    agent: tuple[
        str, ...
    ] = ()  # the agent's command; without one, and without Tempo, traces go to whatever listens on store_grpc
    overlays: tuple[str, ...] = ()
    collector_environment: Mapping[str, str] = field(default_factory=dict)
    alertmanager_config: Path | None = None


class Stack:
    """The servers of one plan, by name: collector, prometheus, loki, alertmanager, and tempo and agent where the plan has them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ports = plan.ports
        self.processes: dict[str, Process] = {
            service.name: Process(service, plan.data / "logs" / f"{service.name}.log")
            for service in plan_services(plan)
        }

    def start(self) -> None:
        """Start all and return when all are ready; raises StackError, with nothing left running, when one is not."""
        self.plan.data.mkdir(parents=True, exist_ok=True, mode=0o700)  # logs and queues are nobody else's
        check_free(self.ports, frozenset[str]().union(*(process.service.ports for process in self.processes.values())))
        try:
            for process in self.processes.values():
                process.start()
            for process in self.processes.values():
                process.wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all, each before those it sends to, so that its last words arrive."""
        for process in reversed(self.processes.values()):
            process.stop()

    def ended(self) -> Process | None:
        """Return a server that has ended by itself, if one has."""
        return next((process for process in self.processes.values() if not process.running), None)


def plan_services(plan: Plan) -> list[Service]:
    """Return the services of a plan, each after those it sends to; builds what is not built."""
    binaries = build.ensure()
    chosen = [
        services.prometheus(plan.ports, binaries["prometheus"], plan.data, tempo=plan.tempo_bin is not None),
        services.loki(plan.ports, binaries["loki"], plan.data),
        services.alertmanager(plan.ports, binaries["alertmanager"], plan.data, plan.alertmanager_config),
    ]
    if plan.tempo_bin is not None:
        chosen.append(services.tempo(plan.ports, plan.tempo_bin, plan.data))
    overlays = (*(() if plan.tempo_bin is not None else ("store-without-tempo",)), *plan.overlays)
    chosen.append(
        services.collector(plan.ports, binaries["otelcol-llm"], plan.data, overlays, plan.collector_environment)
    )
    if plan.agent:
        chosen.append(services.agent(plan.ports, plan.agent, plan.data, store=plan.tempo_bin is None))
    return chosen


@contextlib.contextmanager
def running(plan: Plan) -> Iterator[Stack]:
    """Run the stack for the length of a `with` block."""
    stack = Stack(plan)
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


def plan_from(environ: Mapping[str, str] = os.environ) -> Plan:
    """Read the plan from the environment; raises StackError for what cannot be."""
    tempo = environ.get("TEMPO_BIN", "").strip()
    found = shutil.which(tempo) if tempo else None
    if tempo and found is None:
        raise StackError(f"TEMPO_BIN={tempo} is no program that can be run")
    config = environ.get("ALERTMANAGER_CONFIG", "").strip()
    return Plan(
        ports=load(environ),
        data=_data_folder(environ),
        tempo_bin=Path(found) if found else None,
        agent=() if environ.get("STACK_AGENT", "").strip().lower() == "off" else services.AGENT_COMMAND,
        overlays=tuple(name.strip() for name in environ.get("STACK_OVERLAYS", "").split(",") if name.strip()),
        alertmanager_config=Path(config).resolve() if config else None,
    )


def _data_folder(environ: Mapping[str, str]) -> Path:
    if chosen := environ.get("STACK_DATA_DIR", "").strip():
        return Path(chosen).expanduser().resolve()
    base = environ.get("XDG_DATA_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "otel-llm" / "stack"


def describe(stack: Stack) -> str:
    """Return what a person needs to know of a running stack."""
    plan, ports = stack.plan, stack.ports
    if plan.tempo_bin is not None:
        traces = f"Tempo, {ports.url('tempo')}"
    else:
        where = "the agent's embedded store" if plan.agent else f"whatever takes OTLP at {LOOPBACK}:{ports.store_grpc}"
        traces = f"{where}; set TEMPO_BIN to a binary of Tempo, which is not built here, to have them there"
    rows = {
        "OTLP": f"{ports.url('otlp_http')} (HTTP), {ports.url('otlp_grpc')} (gRPC)",
        "metrics": f"Prometheus, {ports.url('prometheus')}",
        "logs": f"Loki, {ports.url('loki')}",
        "traces": traces,
        "alerts": f"Alertmanager, {ports.url('alertmanager')}",
        "data": f"{plan.data}, what the servers print in {plan.data / 'logs'}",
    }
    if "agent" in stack.processes:
        rows["page"] = _page(stack.processes["agent"])
    return "\n".join(f"  {name:8} {text}" for name, text in rows.items())


def _page(agent: Process) -> str:
    give_up = time.monotonic() + PAGE_S
    while time.monotonic() < give_up:  # the agent answers a moment before it prints its link
        printed = agent.log.read_bytes()[agent.log_start :].decode(errors="replace")
        if link := re.search(r"https?://\S+/\?token=\S+", printed):
            return link[0]
        time.sleep(0.05)
    return f"its link is in {agent.log}"


def _watch(stack: Stack) -> None:
    while True:
        if (ended := stack.ended()) is not None:
            raise StackError(ended.epitaph())
        time.sleep(0.5)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stack until it is asked to end; returns the exit status."""
    description = "Run Prometheus, Loki, Alertmanager, the Collector and the agent as processes on loopback. Settings are in docs/stack.md."
    argparse.ArgumentParser(prog="python -m compose.native.stack", description=description).parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    stack: Stack | None = None
    try:
        plan = plan_from()
        stack = Stack(plan)
        started = time.monotonic()
        stack.start()
        print(
            f"the stack is ready after {time.monotonic() - started:.1f} s; Ctrl-C stops it\n{describe(stack)}",
            flush=True,
        )
        _watch(stack)
    except (StackError, build.BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopping", flush=True)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what follows ends by itself: every wait has a deadline
        if stack is not None:
            stack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
