"""The commands of `otel-agent`: words in, an exit status out; what each does stands in the module it calls."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from otel_agent import __version__
from otel_agent.errors import SettingsError, Unavailable
from otel_agent.settings import Settings, load

EXIT_SETTINGS = 2
AGAIN_S = 1.0

logger = logging.getLogger("otel_agent")


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command and return its exit status: 0 well, 1 not, 2 for settings or words that cannot be used."""
    try:
        status = _run(_parser().parse_args(argv), environ)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _run(words: argparse.Namespace, environ: Mapping[str, str]) -> int:
    _log_to_stderr(words.verbose)
    if words.command == "docs":
        from otel_agent import reference

        return reference.main(write=words.write, check=words.check)
    if words.command == "simulate":
        return _simulate(words)
    try:
        settings = load(environ)
    except SettingsError as error:
        print("otel-agent cannot start with these settings:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return EXIT_SETTINGS
    if words.command in ("once", "doctor"):
        logger.setLevel(logging.ERROR)  # they print what the log would say
    if words.command == "once":
        from otel_agent import once

        return once.main(settings, as_json=words.json)
    if words.command == "doctor":
        from otel_agent import doctor

        return doctor.main(settings, environ)
    return _serve(settings, local=words.command == "up")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-agent", description="OpenTelemetry for self-hosted LLM serving: host, GPU, containers and requests."
    )
    parser.add_argument("--version", action="version", version=f"otel-agent {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more of what is done")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="the agent; OTLP to OTEL_EXPORTER_OTLP_ENDPOINT")
    commands.add_parser("up", help="the agent with receiver, store and console in one process")
    once = commands.add_parser("once", help="one reading of everything, as a table")
    once.add_argument("--json", action="store_true", help="as JSON")
    commands.add_parser("doctor", help="what works here, what does not and why, with the remedy")
    _add_simulate(commands.add_parser("simulate", help="a stand-in for a vLLM server: an engine without a model"))
    docs = commands.add_parser("docs", help="print the generated reference")
    docs.add_argument("--write", type=Path, metavar="FOLDER", help="write the pages there")
    docs.add_argument("--check", type=Path, metavar="FOLDER", help="exit 1 where the pages there are not up to date")
    return parser


def _add_simulate(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=int, default=8000, help="0: one that is free")
    simulate.add_argument("--model", default="stand-in")
    simulate.add_argument("--max-num-seqs", type=int, default=256, help="sequences in one step")
    simulate.add_argument("--kv-blocks", type=int, default=4096, help="KV cache, in blocks of 16 tokens")
    simulate.add_argument("--step", type=float, default=0.010, metavar="SECONDS", help="time of one decode step")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument("--error-rate", type=float, default=0.0, help="share of requests answered with status 500")
    simulate.add_argument("--otlp-traces-endpoint", help="where its llm_request spans go, as vLLM's own option")


def _simulate(words: argparse.Namespace) -> int:
    try:
        from otel_agent.simulate.options import EngineOptions
        from otel_agent.simulate.server import serve_engine

        options = EngineOptions(
            host=words.host,
            port=words.port,
            model=words.model,
            max_num_seqs=words.max_num_seqs,
            kv_blocks=words.kv_blocks,
            step_s=words.step,
            seed=words.seed,
            error_rate=words.error_rate,
            otlp_endpoint=words.otlp_traces_endpoint,
        )
        serve_engine(options, lambda port: print(f"http://{words.host}:{port}", flush=True))
    except ModuleNotFoundError as error:
        print(
            f"otel-agent cannot start: {error.name} is not installed\n  pip install 'otel-llm[local]'", file=sys.stderr
        )
        return 1
    except ValueError as error:
        print(f"otel-agent cannot start: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except Unavailable as error:
        print(f"otel-agent cannot start: {error.reason}\n  {error.remedy}", file=sys.stderr)
        return 1
    return 0


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", force=True
    )
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in ("opentelemetry", "urllib3", "docker"):
        # Exporters report each failed attempt; otel_agent.telemetry says it once, and once more when it is over.
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    # Faults in a route are logged by otel_agent.api; what is left is uvicorn's word on live streams that a stop cuts.
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if verbose else logging.CRITICAL)


def _serve(settings: Settings, *, local: bool) -> int:
    from otel_agent import app

    asked: list[float] = []
    # A lock, and so an Event, may be held by the very code that a handler interrupts; and a signal that another thread gets does not
    # interrupt this one. What wakes it in every case is the byte that the interpreter writes where this says.
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def end(number: int, _: object) -> None:
        # A launcher may signal the process and its group at once; a person who asks again a moment later does not want to wait.
        if asked and number == signal.SIGINT and time.monotonic() - asked[0] > AGAIN_S:
            os._exit(128 + number)
        asked.append(time.monotonic())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)

    def started(running: app.Running) -> None:
        logger.info("sending OTLP to %s", running.otlp)
        if running.grpc_port:
            logger.info(
                "receiving OTLP on %s, gRPC port %d and HTTP port %d",
                settings.listen,
                running.grpc_port,
                running.http_port,
            )
        if running.page:
            print(f"\n  Open {running.page}\n", flush=True)

    try:
        app.run(settings, lambda: os.read(wake, 1), local=local, started=started)
    except Unavailable as error:
        print(f"otel-agent cannot start: {error.reason}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = "local" if local else "agent"
        print(
            f"otel-agent cannot start: {error.name} is not installed\n  pip install 'otel-llm[{extra}]'",
            file=sys.stderr,
        )
        return 1
    return 0
