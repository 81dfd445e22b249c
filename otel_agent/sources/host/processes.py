"""How many processes are in which state, from the stat file of each."""

import os
from collections.abc import Mapping

from otel_agent.sources.host.files import entries

# The letters of proc_pid_stat(5) as the states of the semantic conventions; "blocked" is ours, for a process that waits for a device
# and cannot be interrupted, since that is how a dead disk, a dead NFS server or a hung GPU shows itself.
_STATES: Mapping[bytes, str] = {
    b"R": "running",
    b"S": "sleeping",
    b"I": "sleeping",
    b"D": "blocked",
    b"T": "stopped",
    b"t": "stopped",
    b"Z": "defunct",
    b"X": "defunct",
}
STATES = ("running", "sleeping", "blocked", "stopped", "defunct")


def count_states(proc: str) -> dict[str, int]:
    """Return the number of processes by state, every state listed; empty where this user may not see all processes (hidepid).

    A process that ends while it is read is not counted.
    """
    pids = [name for name in entries(proc) if name.isdigit()]
    if "1" not in pids:
        return {}
    counts = dict.fromkeys(STATES, 0)
    for pid in pids:
        try:
            descriptor = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            return {}
        except OSError:
            continue
        try:
            line = os.read(descriptor, 256)
        except OSError:
            continue
        finally:
            os.close(descriptor)
        # A program may have any name, with blanks and brackets in it: the state follows the last bracket.
        letter = line[line.rfind(b")") + 2 :][:1]
        if state := _STATES.get(letter, "sleeping" if letter else ""):
            counts[state] += 1
    return counts
