"""A disk that is full: senders are asked to come back, what was taken stays, and writing goes on once there is room."""

import subprocess
import sys
from pathlib import Path

from agent.store import otlp
from agent.store.opened import opened

ROOT = Path(__file__).resolve().parents[3]
NOW = 1_800_000_000.0

# The size that files of this process may have stands for the disk: SQLite meets the same failing write.
WRITER = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests")
from agent.store import otlp
from agent.store.opened import opened
from otel_agent.store.sink import NotStored

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
kept = refused = 0
with opened(Path(sys.argv[1]), clock=lambda: float(sys.argv[2])) as it:
    while refused < 3:
        try:
            it.keep("logs", otlp.one_log(float(sys.argv[2]), "x" * 50_000))
            kept += 1
        except NotStored as error:
            refused += 1
            reason = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    it.keep("logs", otlp.one_log(float(sys.argv[2]), "there is room again"))
print(kept, reason)
"""


def test_a_full_disk_loses_nothing_and_is_survived(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, tmp_path, str(NOW)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    kept, _, reason = done.stdout.strip().partition(" ")
    with opened(tmp_path, clock=lambda: NOW) as it:
        rows = it.history.logs(since_s=NOW - 1, until_s=NOW + 1, limit=1000)
        assert it.keep("logs", otlp.one_log(NOW)) == 0

    assert (rows[0].body, len(rows)) == ("there is room again", int(kept) + 1)
    assert int(kept) > 0
    assert reason in ("disk I/O error", "database or disk is full")
    assert done.stderr.splitlines() == [f"the store cannot write: {reason}; senders are asked to try again"]
