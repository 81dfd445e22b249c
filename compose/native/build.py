"""Builds the servers of the native stack from published Go modules and finds them again.

Each build lies in a folder of the cache named after program, version and a digest of what decides its bytes, so a changed
manifest is a new build and an unchanged one is never repeated. What is not to be had as a Go module (Tempo, Grafana) is left
to others: Tempo joins the stack by `TEMPO_BIN`.

    python -m compose.native.build [names]     build what is missing      --list     say what is there
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILDER_MANIFEST = ROOT / "collector-config" / "builder.yaml"
LDFLAGS = "-s -w"
PAGE = "<!doctype html><title>No page</title>This build has no web page; the API is complete.\n"
STEP_TIMEOUT_S = 3600.0


class BuildError(Exception):
    """A program could not be built; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Program:
    """One program to build: its module's folder, or None for the Collector, which its own builder assembles."""

    name: str
    binaries: tuple[tuple[str, str], ...]  # file name, Go package
    module: str = ""  # whose version names the build
    tags: str = ""
    page: str = ""  # where its source embeds a built web page that the published module leaves out

    @property
    def folder(self) -> Path:
        return HERE / self.name


COLLECTOR = Program("otelcol-llm", (("otelcol-llm", ""),))
PROGRAMS: tuple[Program, ...] = (
    COLLECTOR,
    Program(
        "prometheus",
        (
            ("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
            ("promtool", "github.com/prometheus/prometheus/cmd/promtool"),
        ),
        "github.com/prometheus/prometheus",
        "netgo,remove_all_sd",  # service discovery but by file is most of its size
    ),
    Program(
        "alertmanager",
        (("alertmanager", "github.com/prometheus/alertmanager/cmd/alertmanager"),),
        "github.com/prometheus/alertmanager",
        page="ui/app/dist",
    ),
    Program("loki", (("loki", "github.com/grafana/loki/v3/cmd/loki"),), "github.com/grafana/loki/v3"),
    Program(
        "docker-compose", (("docker-compose", "github.com/docker/compose/v2/cmd"),), "github.com/docker/compose/v2"
    ),
)
BY_NAME = {program.name: program for program in PROGRAMS}
SERVERS = (
    "otelcol-llm",
    "prometheus",
    "alertmanager",
    "loki",
)  # what the stack runs; docker-compose is for tests of compose.yaml


def cache_folder() -> Path:
    """Return the folder that holds all builds: `$XDG_CACHE_HOME/otel-llm`, or the same below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "otel-llm"


def version(program: Program) -> str:
    """Return the version that the manifest pins, without the leading v."""
    if program is COLLECTOR:
        found = re.search(r"^  version: (\S+)$", BUILDER_MANIFEST.read_text(), re.MULTILINE)
    else:
        pattern = rf"^(?:require |\s){re.escape(program.module)} v(\S+)"
        found = re.search(pattern, (program.folder / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"{program.name}: its manifest pins no version of {program.module or 'the distribution'}")
    return found[1]


def build_folder(program: Program) -> Path:
    """Return where this build lies or will lie."""
    manifests = (BUILDER_MANIFEST,) if program is COLLECTOR else (program.folder / "go.mod", program.folder / "go.sum")
    digest = hashlib.sha256(f"{program.tags}\n{LDFLAGS}\n{program.binaries}\n{PAGE if program.page else ''}\n".encode())
    for manifest in manifests:
        digest.update(manifest.read_bytes())
    return cache_folder() / f"{program.name}-{version(program)}-{digest.hexdigest()[:12]}"


def find(binary: str) -> Path | None:
    """Return the path of a built binary, or None where it is not built."""
    for program in PROGRAMS:
        if any(name == binary for name, _ in program.binaries):
            path = build_folder(program) / binary
            return path if path.is_file() else None
    raise BuildError(f"no program is called {binary}")


def ensure(names: Sequence[str] = SERVERS) -> dict[str, Path]:
    """Build what is missing of the named programs, one after another, and return every binary of theirs by name.

    Two callers at a time do not build twice: the second waits for the first.
    """
    found: dict[str, Path] = {}
    for name in names:
        program = BY_NAME.get(name)
        if program is None:
            raise BuildError(f"no program is called {name}; choose from {', '.join(BY_NAME)}")
        target = build_folder(program)
        if not target.is_dir():
            with _lock(target):
                if not target.is_dir():
                    _build(program, target)
        found.update({binary: target / binary for binary, _ in program.binaries})
    return found


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # let go by the kernel when the holder ends, however it ends
        yield


def _build(program: Program, target: Path) -> None:
    if shutil.which("go") is None:
        raise BuildError(
            f"{program.name} {version(program)} is not built and there is no Go here: install Go, or copy a build to {target}"
        )
    print(f"building {program.name} {version(program)} (once; minutes on two cores)", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{program.name}-") as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        if program is COLLECTOR:
            _build_collector(Path(scratch), made)
        else:
            module = _with_page(program, Path(scratch)) if program.page else program.folder
            for binary, package in program.binaries:
                command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", LDFLAGS, "-o", str(made / binary)]
                _run([*command, *(["-tags", program.tags] if program.tags else []), package], module)
        made.rename(target)  # whole or not at all
    print(f"built {program.name} {version(program)} in {time.monotonic() - started:.0f} s: {target}", flush=True)


def _build_collector(scratch: Path, made: Path) -> None:
    manifest, sources = scratch / "builder.yaml", scratch / "sources"
    manifest.write_text(re.sub(r"(?m)^  output_path: .*$", f"  output_path: {sources}", BUILDER_MANIFEST.read_text()))
    tool = f"go.opentelemetry.io/collector/cmd/builder@v{version(COLLECTOR)}"
    _run(["go", "run", tool, "--config", str(manifest), "--ldflags", LDFLAGS], scratch)
    shutil.copy2(sources / "otelcol-llm", made / "otelcol-llm")


def _with_page(program: Program, scratch: Path) -> Path:
    """Return a copy of the program's module in which its source is a copy too, with a page put where one is embedded."""
    module, source = scratch / "module", scratch / "source"
    shutil.copytree(program.folder, module)
    _run(["go", "mod", "download", program.module], module)
    published = _run(["go", "list", "-m", "-f", "{{.Dir}}", program.module], module).strip()
    shutil.copytree(published, source, copy_function=shutil.copyfile)
    for folder in (source, *(path for path in source.rglob("*") if path.is_dir())):
        folder.chmod(0o755)  # the module cache is read-only, and copytree keeps that for folders
    (source / program.page).mkdir(parents=True)
    (source / program.page / "index.html").write_text(PAGE)
    _run(["go", "mod", "edit", f"-replace={program.module}=../{source.name}"], module)
    return module


def _run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{' '.join(command)} took longer than {STEP_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise BuildError(
            f"{' '.join(command)} ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is named on the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m compose.native.build", description="Build the servers of the native stack."
    )
    parser.add_argument(
        "names",
        nargs="*",
        default=list(SERVERS),
        metavar="name",
        help=f"of {', '.join(BY_NAME)}; all the stack runs where none is named",
    )
    parser.add_argument("--list", action="store_true", help="say what is built and where, and build nothing")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.list:
            for program in PROGRAMS:
                folder = build_folder(program)
                print(f"{program.name:15} {version(program):8} {folder if folder.is_dir() else 'not built'}")
            return 0
        for binary, path in ensure(chosen.names).items():
            print(f"{binary:15} {path}")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
