"""The driver's events: waited for in a thread of its own, kept until the next reading takes them.

An error of the driver ends a wait, not the waiting: the events are asked for anew, less and less often while that fails. What an event
means is left to `changes`.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from ctypes import c_void_p, cast
from dataclasses import dataclass
from typing import Any

from otel_agent.sources.gpu.library import Inquiry

# nvmlEventType*: what is asked for, where a GPU knows it. Clocks and P-states change all the time, and are read instead.
KINDS: Mapping[int, str] = {
    0x2: "ecc_double_bit",
    0x8: "xid",
    0x200: "ecc_storm",
    0x400: "row_remap",
    0x800: "row_remap_failure",
    0x1000: "poison",
    0x2000: "poison_fatal",
    0x4000: "gpu_unavailable",
    0x8000: "recovery_action",
}
ROOM = 256  # events kept between two readings; a GPU in trouble can tell the same thousands of times
WAIT_MS = 500
RETRY_S = (1.0, 60.0)
_TIMEOUT = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Raw:
    """One event as the driver gives it, `gpu` being the position of the GPU among those watched."""

    time_s: float
    gpu: int
    kind: str
    data: int
    gpu_instance: int | None = None
    compute_instance: int | None = None


class Watch:
    """Waits for events from `start()` to `stop()`; `watched` is False where no GPU has any."""

    def __init__(self, library: Any, handles: Mapping[int, object], clock: Callable[[], float] = time.time) -> None:
        self._library, self._clock = library, clock
        self._handles = dict(handles)
        self._positions = {_address(handle): position for position, handle in handles.items()}
        self._kept: deque[Raw] = deque(maxlen=ROOM)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu-events", daemon=True)
        self.watched: bool | None = None
        self.lost = 0

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self, timeout_s: float = 2 * WAIT_MS / 1000) -> bool:
        """End the waiting; tells whether it has ended, which a driver that hangs can prevent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def take(self) -> list[Raw]:
        """Return the events since the last time, oldest first."""
        taken = []
        while self._kept:
            taken.append(self._kept.popleft())
        return taken

    def _run(self) -> None:
        pause_s, said = RETRY_S[0], ""
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                why = self._watch()
            except Exception as error:  # whatever the driver answers, the waiting goes on
                why = repr(error)
            if why is None:
                return
            if time.monotonic() - began > RETRY_S[1]:
                pause_s, said = RETRY_S[0], ""
            if why != said:
                logger.warning("GPU events: the driver ends the wait with: %s; it is tried again", why)
                said = why
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])

    def _watch(self) -> str | None:
        """Wait for events until that fails, and return why; None where there is nothing to wait for, or an end."""
        ask = Inquiry(self._library, fatal=False)
        chosen = ask.ask("nvmlEventSetCreate")
        if chosen is None:
            return ask.fault
        try:
            registered = [self._register(handle, chosen) for handle in self._handles.values()]
            self.watched = any(registered)
            if not self.watched:
                return None
            while not self._stopping.is_set():
                ask.begin()
                event = ask.ask("nvmlEventSetWait_v2", chosen, WAIT_MS, key="nvmlEventSetWait")
                if event is not None:
                    self._keep(event)
                elif ask.code != _TIMEOUT:
                    return ask.fault
            return None
        finally:
            ask.ask("nvmlEventSetFree", chosen, key="nvmlEventSetFree")

    def _register(self, handle: object, chosen: object) -> bool:
        about = Inquiry(self._library, handle, fatal=False)
        types = about.ask("nvmlDeviceGetSupportedEventTypes") or 0
        wanted = types & sum(KINDS)
        if not wanted:
            return False
        about.ask("nvmlDeviceRegisterEvents", wanted, chosen, key="nvmlDeviceRegisterEvents")
        return about.code == 0

    def _keep(self, event: Any) -> None:
        position = self._positions.get(_address(event.device))
        kind = KINDS.get(event.eventType)
        if position is None or kind is None:
            return
        if len(self._kept) == ROOM:
            self.lost += 1
        part = [None if number == 2**32 - 1 else number for number in (event.gpuInstanceId, event.computeInstanceId)]
        self._kept.append(Raw(self._clock(), position, kind, event.eventData, *part))


def _address(handle: Any) -> int | None:
    return cast(handle, c_void_p).value
