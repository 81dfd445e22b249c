"""The vLLM servers and LiteLLM proxies among the processes of a machine: how each was started, and with what installed.

Of a command line and an environment only what is listed here is kept, of the settings of this project only their names: the
rest is dropped as it is read. What the facts mean for telemetry is left to `serving.py`. A process may have changed its
environment after its start, and an option may stand in a configuration file; neither is seen.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from otel_agent.checks.packages import read_packages
from otel_agent.errors import ReadError

Kind = Literal["vllm", "litellm"]

COMMAND_BYTES: Final = 2**16
ENVIRON_BYTES: Final = 6 * 2**20  # the kernel lets no process start with more
SET: Final = "set"  # stands for a value that is not kept

OURS: Final = "OTEL_LLM_"  # among these are secrets
VARIABLES: Final = frozenset(
    {
        "OTEL_SDK_DISABLED", "OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER",
        "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        "PYTHONPATH", "VLLM_PLUGINS", "VLLM_USE_RUST_FRONTEND",
        "LITELLM_OTEL_V2", "USE_OTEL_LITELLM_REQUEST_SPAN", "OTEL_EXPORTER", "OTEL_ENDPOINT",
    }
)  # fmt: skip
OPTIONS: Final[Mapping[Kind, frozenset[str]]] = {
    "vllm": frozenset(
        {
            "--api-server-count", "--config", "--data-parallel-external-lb", "--data-parallel-hybrid-lb",
            "--data-parallel-multi-port-external-lb", "--data-parallel-rank", "--data-parallel-size",
            "--data-parallel-size-local", "--data-parallel-start-rank", "--disable-log-stats",
            "--enable-per-request-metrics", "--no-enable-per-request-metrics", "--headless", "--otlp-traces-endpoint",
            "--shutdown-timeout",
        }
    ),
    "litellm": frozenset(),
}  # fmt: skip
_SHORT: Final = {"-asc": "--api-server-count", "-dp": "--data-parallel-size", "-dpl": "--data-parallel-size-local",
                 "-dpn": "--data-parallel-rank", "-dpr": "--data-parallel-start-rank"}  # fmt: skip
_PROGRAM_WORDS: Final = 6  # of a command line: `python -X dev -u /opt/bin/vllm serve` has its script there
_PYTHON: Final = re.compile(r"(?:python|pypy)[0-9.]*t?$")
_VLLM_MODULES: Final = (
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.api_server",
    "vllm.entrypoints.grpc_server",
)
_LITELLM_MODULES: Final = ("litellm", "litellm.proxy.proxy_cli", "litellm.proxy.proxy_server")
_WEB_SERVERS: Final = ("uvicorn", "gunicorn", "hypercorn", "granian")


@dataclass(frozen=True)
class Server:
    """One server as it was started; None is what may not be read, or cannot be told."""

    kind: Kind
    pid: int
    # Addresses may hold passwords: neither is shown as it is.
    options: Mapping[str, str] = field(repr=False)  # of OPTIONS, as their long names; a switch has no value
    environ: Mapping[str, str] | None = field(
        repr=False
    )  # of VARIABLES as they are, and of OTEL_LLM_* that they are set
    packages: Mapping[str, str] | None  # versions by distribution, of those that matter


def read_servers(proc: Path) -> tuple[Server, ...]:
    """Return the servers that run, a server's own children left out; raises ReadError where processes cannot be listed."""
    try:
        pids = sorted(int(entry) for entry in os.listdir(proc) if entry.isdigit())  # noqa: PTH208 - names are enough
    except OSError as error:
        raise ReadError(f"{proc} cannot be listed: {error.strerror}") from error
    found: dict[int, tuple[Kind, tuple[str, ...], tuple[str, ...]]] = {}
    for pid in pids:
        command = tuple(_words(_bytes(proc / f"{pid}/cmdline", COMMAND_BYTES) or b""))
        kind, rest = recognise(command)
        if kind is not None:
            found[pid] = (kind, command, rest)
    # Forked workers show the command of the process that forked them.
    own = [pid for pid, (kind, *_) in found.items() if found.get(_parent(proc, pid), ("",))[0] != kind]
    return tuple(_server(proc, pid, *found[pid]) for pid in own)


def recognise(command: tuple[str, ...]) -> tuple[Kind | None, tuple[str, ...]]:
    """Tell a server by its command line, and return what follows the program's name."""
    program, rest = _program(command)
    if program in ("vllm", "vllm.entrypoints.cli.main"):
        return ("vllm", rest[1:]) if rest[:1] == ("serve",) else (None, ())
    if program in _VLLM_MODULES:
        return "vllm", rest
    if program in _LITELLM_MODULES:
        return "litellm", rest
    if program in _WEB_SERVERS and any(word.startswith("litellm.proxy.proxy_server:") for word in rest):
        return "litellm", rest
    return None, ()


def _program(command: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return a module's dotted name or a script's bare name, and what follows: `python -u -m a.b x` and `/bin/vllm x`."""
    if not command:
        return "", ()
    if not _PYTHON.match(_name(command[0])):
        return _name(command[0]), command[1:]
    words = list(command[1:])
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "-m":
            return (words[0], tuple(words[1:])) if words else ("", ())
        if option.startswith("-c"):
            return "", ()
        if option in ("-W", "-X") and words:
            words.pop(0)
    if not words:
        return "", ()
    script = words[0]
    # `python .../vllm/entrypoints/openai/api_server.py` is the module under another name.
    dotted = script.removesuffix(".py").replace("/", ".")
    for module in (*_VLLM_MODULES, "vllm.entrypoints.cli.main", *_LITELLM_MODULES[1:]):
        if script.endswith(".py") and dotted.endswith(f".{module}"):
            return module, tuple(words[1:])
    return _name(script), tuple(words[1:])


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _server(proc: Path, pid: int, kind: Kind, command: tuple[str, ...], rest: tuple[str, ...]) -> Server:
    environ = _environ(proc / str(pid))
    packages = read_packages(proc / str(pid), kind, command[:_PROGRAM_WORDS], (environ or {}).get("PYTHONPATH", ""))
    return Server(kind, pid, dict(_options(kind, rest)), environ, packages)


def _options(kind: Kind, words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the listed options: `--a b`, `--a=b`, and with underscores, which vLLM takes for dashes."""
    pending: str | None = None
    for word in words:
        if pending is not None:
            yield pending, "" if word.startswith("-") else word
            pending = None
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            name = _SHORT.get(name, name.replace("_", "-"))
            if name in OPTIONS[kind]:
                if equals:
                    yield name, value
                else:
                    pending = name
    if pending is not None:
        yield pending, ""


def _environ(process: Path) -> Mapping[str, str] | None:
    """Return what is kept of the environment a process was started with; where a name stands twice, Python takes the first."""
    text = _bytes(process / "environ", ENVIRON_BYTES)
    if text is None:
        return None
    kept: dict[str, str] = {}
    for word in _words(text):
        name, _, value = word.partition("=")
        if name in VARIABLES:
            kept.setdefault(name, value)
        elif name.startswith(OURS) and value:
            kept[name] = SET
    return kept


def _parent(proc: Path, pid: int) -> int:
    """Read the fourth column of `7 (na me) S 1 ...`; the name may hold blanks and parentheses."""
    columns = (_bytes(proc / f"{pid}/stat", 2048) or b"").rpartition(b")")[2].split()
    return int(columns[1]) if len(columns) > 1 and columns[1].isdigit() else 0


def _words(text: bytes) -> Iterator[str]:
    return (word.decode("utf-8", "replace") for word in text.split(b"\0") if word)


def _bytes(path: Path, cap: int) -> bytes | None:
    """Read at most `cap` bytes; None where it ended meanwhile or may not be read. The kernel hands out a page at a time."""
    try:
        with path.open("rb", buffering=0) as file:
            parts: list[bytes] = []
            while cap > 0 and (part := file.read(min(cap, 2**16))):
                parts.append(part)
                cap -= len(part)
            return b"".join(parts)
    except OSError:
        return None
