"""Imports point down the floors of docs/architecture.md, never up, and never sideways between sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# From the top floor to the bottom one; rooms on one floor do not import each other.
FLOORS = [
    {"cli", "__main__"},
    {"once", "doctor"},
    {"checks"},
    {"app"},
    {"api", "receiver", "alerts", "simulate", "console", "reference", "serve"},
    {"history"},
    {"store"},
    {"telemetry"},
    {"derived", "discovery", "schedule"},
    {"sources"},
    {"settings"},
    {"catalogue", "errors", "testing"},
]
# Within the composition: doctor looks at what once reads, the API serves what console ships and reference lists.
ALLOWED = {
    ("doctor", "once"),
    ("__main__", "cli"),
    ("api", "console"),
    ("reference", "api"),
    ("reference", "receiver"),
    ("catalogue", "errors"),
}
ROOT = Path(__file__).resolve().parents[2]


def modules(package: Path):
    for file in sorted(package.rglob("*.py")):
        if "web" not in file.parts:
            yield file, ast.parse(file.read_text())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(room):
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_imports_point_down():
    wrong = []
    for file, tree in modules(ROOT / "otel_agent"):
        room = file.relative_to(ROOT / "otel_agent").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] != "otel_agent" or len(parts) < 2 or parts[1] in (room, "__version__"):
                continue
            if floor(parts[1]) <= floor(room) and (room, parts[1]) not in ALLOWED:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_sources_do_not_know_each_other_and_reading_knows_no_opentelemetry():
    wrong = []
    for file, tree in modules(ROOT / "otel_agent" / "sources"):
        if file.parent.name == "sources":
            continue
        for name in imported(tree):
            parts = name.split(".")
            if parts[:2] == ["otel_agent", "sources"] and len(parts) > 2 and parts[2] != file.parent.name:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
            if parts[0] == "opentelemetry":
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
            if file.name == "metrics.py" and parts[0] in ("os", "socket", "subprocess", "pathlib", "http"):
                wrong.append(f"{file.relative_to(ROOT)} does I/O by {name}")
    assert wrong == []


# Loaded by entry points of their own, never by an application's calls; what they build is the SDK's.
BUILD_WITH_THE_SDK = {"resource.py", "vllm/stats/provider.py"}


def test_the_instrumentation_stands_alone():
    home = ROOT / "instrumentation" / "otel_llm"
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file, tree in modules(home)
        for name in imported(tree)
        if name.split(".")[0] == "otel_agent"
        or (name.startswith("opentelemetry.sdk") and str(file.relative_to(home)) not in BUILD_WITH_THE_SDK)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("otel_llm", ("opentelemetry.sdk", "psutil", "litellm", "vllm", "wrapt", "grpc")),
        ("otel_llm.litellm", ("opentelemetry.sdk", "psutil", "litellm", "vllm", "grpc")),
        ("otel_llm.vllm", ("opentelemetry.sdk", "psutil", "litellm", "vllm", "torch", "grpc")),
        ("otel_llm.vllm.stats.metrics", ("opentelemetry.sdk", "psutil", "litellm", "vllm", "torch", "grpc")),
        ("otel_agent.sources", ("psutil", "pynvml", "docker", "requests", "grpc", "opentelemetry")),
        ("otel_agent.cli", ("opentelemetry", "psutil", "pynvml", "docker", "grpc", "starlette", "sqlalchemy")),
    ],
)
def test_importing_costs_only_what_it_says(module, unwanted):
    code = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
