"""Run every benchmark, or those named, each in a process of its own, and say what they ran on.

python -m benchmarks [NAME ...]
"""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
VLLM = HERE.parent / ".venv-vllm" / "bin" / "python"
PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp", "litellm", "grpcio", "starlette", "uvicorn")


def machine():
    """Return what this runs on, in one line each for machine and versions."""
    processor = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Machine: {os.cpu_count()} x {processor}, {memory / 2**30:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}\n"
        f"Versions: {versions}"
    )


def main():
    """Run what is asked for; the exit status is the worst of theirs."""
    known = sorted(file.stem for file in HERE.glob("[a-z]*.py"))
    names = sys.argv[1:] or known
    if unknown := sorted(set(names) - set(known)):
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    worst = 0
    for name in names:
        print(f"\n## {name}: python benchmarks/{name}.py\n", flush=True)
        python = VLLM if name.startswith("vllm_") else Path(sys.executable)
        if not python.exists():
            print("left out: it needs the real vLLM, which `make e2e-vllm` installs", flush=True)
            continue
        worst = max(worst, subprocess.run([str(python), str(HERE / f"{name}.py")], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
