"""Every SDK whose structures are relied on, met for real: what holds with the installed one holds with each."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from otel_llm.bound import TESTED

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
RESTS_ON_THEM = ("tests/instrumentation/test_bound.py", "tests/agent/telemetry")


@pytest.mark.parametrize("sdk", sorted(TESTED - {version("opentelemetry-sdk")}))
def test_what_rests_on_the_sdk_s_own_structures_holds_with(sdk, tmp_path):
    subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", sys.executable, "--target", tmp_path, f"opentelemetry-sdk=={sdk}"],
        check=True, timeout=120,
    )  # fmt: skip
    says = "import opentelemetry.sdk.version as sdk; print(sdk.__version__)"
    assert _python("-c", says, found_first=tmp_path).stdout.strip() == sdk
    done = _python("-m", "pytest", "-q", *RESTS_ON_THEM, found_first=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _python(*arguments: str, found_first: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(found_first)}
    return subprocess.run(
        [sys.executable, *arguments], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
