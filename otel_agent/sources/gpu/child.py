"""Reading the GPUs in a process of its own: a driver's library that crashes, or that hangs for good, takes that process and not the agent.

The agent asks for a reading by a line on the child's standard input; the answer is a pickle of known length, from a process of our own
making. A child that ended is started again at a later reading; one that does not answer is left alone until it does.
"""

import ctypes
import logging
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.gpu.account import Account, Seen
from otel_agent.sources.gpu.read import DEADLINE_S, Gpus
from otel_agent.sources.gpu.snapshot import GpuReading, GpuSnapshot

START_S = 20.0  # for the first answer: an interpreter starts, and without persistence mode the GPUs do
RESTART_S = (5.0, 60.0)  # after a child ended, before the next is started; and the longest such pause
ANSWER_MAX = 64 * 2**20
_LENGTH = struct.Struct("=Q")
ENTRY = f"from {__name__} import main; main()"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

logger = logging.getLogger(__name__)


def open_gpus_apart(
    proc: Path = Path("/proc"), deadline_s: float = DEADLINE_S, clock: Callable[[], float] = time.monotonic
) -> Callable[[], GpuSnapshot]:
    """Return the reader of all GPUs that leaves the driver to another process; raises Unavailable as `open_gpus` does."""
    apart, account = _Apart(proc, deadline_s, clock), Account()
    first = apart.read()
    waiting = [first]
    return lambda: account.told(waiting.pop() if waiting else apart.read())


class _Apart:
    """The child, and what was seen through it last."""

    def __init__(self, proc: Path, deadline_s: float, clock: Callable[[], float]) -> None:
        self._proc, self._deadline_s, self._clock = proc, deadline_s, clock
        self._child: subprocess.Popen[bytes] | None = None
        self._asked_s: float | None = None  # since when an answer is outstanding
        self._buffer = b""
        self._last: Seen | None = None
        self._again_s = 0.0
        self._pause_s = RESTART_S[0]
        self._why = ""

    def read(self) -> Seen:
        """Return what the child sees now, or every GPU failed where it cannot say; raises ReadError where none was seen yet."""
        if self._child is None:
            if self._last is not None and self._clock() < self._again_s:
                return self._failed(self._why)
            self._start()
        fresh = self._last is None
        if self._asked_s is None:
            self._ask()
        answer = self._answer(START_S if fresh else 2 * self._deadline_s)
        if answer is None:
            return self._failed(self._ended())
        if isinstance(answer, float):
            return self._failed(f"the process that reads the GPUs has not answered for {answer:.0f} s", stuck=True)
        kind, content, said = answer
        for level, text in said:
            logger.log(level, "%s", text)
        if kind == "unavailable":
            self._stop()
            if self._last is None:
                raise Unavailable(*content)
            return self._failed(f"the NVIDIA driver cannot be opened again: {content[0]}")
        self._pause_s = RESTART_S[0]
        self._last = content
        return self._last

    def _start(self) -> None:
        command = [sys.executable, "-c", ENTRY, str(self._proc), str(self._deadline_s), str(os.getpid())]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._buffer, self._asked_s = b"", None

    def _ask(self) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        self._asked_s = self._clock()
        try:
            self._child.stdin.write(b"\n")
            self._child.stdin.flush()
        except OSError:  # it has ended; its answer will say so
            return

    def _answer(self, wait_s: float) -> tuple[str, Any, list[tuple[int, str]]] | float | None:
        """Return the answer that is outstanding; None where the child ended, and the seconds so far where neither comes in time."""
        assert self._child is not None
        assert self._child.stdout is not None
        file = self._child.stdout.fileno()
        give_up = time.monotonic() + wait_s
        while True:
            if len(self._buffer) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer)
                if length > ANSWER_MAX:
                    return None
                if len(self._buffer) >= _LENGTH.size + length:
                    answer = pickle.loads(self._buffer[_LENGTH.size : _LENGTH.size + length])  # noqa: S301 - of our own child
                    self._buffer, self._asked_s = self._buffer[_LENGTH.size + length :], None
                    return answer  # type: ignore[no-any-return]
            if not select.select([file], [], [], max(0.0, give_up - time.monotonic()))[0]:
                return float(max(0.0, self._clock() - (self._clock() if self._asked_s is None else self._asked_s)))
            part = os.read(file, 2**20)
            if not part:
                return None
            self._buffer += part

    def _ended(self) -> str:
        """Say how the child ended, and when the next may be started."""
        assert self._child is not None
        self._stop()
        status = self._child_status
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        self._again_s = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, RESTART_S[1])
        self._why = f"the process that reads the GPUs ended with {how}, most likely inside the driver's library"
        return self._why

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._child_status = child.wait(1)
        except subprocess.TimeoutExpired:
            child.kill()
            self._child_status = -signal.SIGKILL

    def _failed(self, why: str, *, stuck: bool = False) -> Seen:
        if self._last is None:
            raise ReadError(why)
        gpus = tuple(GpuReading(gpu.identity, failure=why, stuck=stuck) for gpu in self._last.gpus)
        return replace(self._last, time_s=time.time(), gpus=gpus, reported={}, failure=why)


class _Kept(logging.Handler):
    """What the child has to say, until it can be handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.said) < 100:
            self.said.append((record.levelno, record.getMessage()))


def main() -> None:
    """Answer each line on standard input with a reading, until it ends."""
    proc, deadline_s, parent = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)  # also where a call of the driver never comes back
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the agent, which ends this one
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed must not get among the answers
    kept = _Kept()
    logging.basicConfig(level=logging.INFO, handlers=[kept])
    gpus: Gpus | None = None
    for _ in sys.stdin.buffer:
        answer: tuple[str, Any, list[tuple[int, str]]]
        try:
            if gpus is None:
                opened = Gpus(proc, time.time, deadline_s)
                opened.open()
                gpus = opened
            answer = ("seen", gpus.read(), kept.said)
        except Unavailable as error:
            answer = ("unavailable", (error.reason, error.remedy), kept.said)
        content = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        kept.said = []
        answers.write(_LENGTH.pack(len(content)) + content)
        answers.flush()
    os._exit(0)  # threads that hang in the driver are left behind
