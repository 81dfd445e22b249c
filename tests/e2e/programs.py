"""Programs that run beside a test until it is done with them."""

import contextlib
import subprocess
from collections.abc import Iterator

from processes import ENVIRONMENT


@contextlib.contextmanager
def program(*command: str, **environment: str) -> Iterator[None]:
    """Run a program until the block ends; it is to end when its standard input is closed."""
    running = subprocess.Popen(command, env={**ENVIRONMENT, **environment}, stdin=subprocess.PIPE)
    assert running.stdin
    try:
        yield
    finally:
        running.stdin.close()
        try:
            running.wait(5)
        except subprocess.TimeoutExpired:
            running.terminate()
            running.wait(10)
