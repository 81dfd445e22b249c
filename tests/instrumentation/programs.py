"""Programs in processes of their own, for what one process can be asked only once: imports, forks, exits."""

import subprocess
import sys
import textwrap
from pathlib import Path

from processes import ENVIRONMENT


def run(program: str, *, launcher: bool = False, **environment: str) -> str:
    """Run a program in a process of its own and return what it printed; anything on stderr fails the test."""
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument"))] if launcher else []
    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(program)],
        env={**ENVIRONMENT, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
