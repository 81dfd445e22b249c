"""All NVIDIA GPUs of this machine at one moment, and what becomes of those that answer no more.

A GPU that fails stays in the snapshot, as failed, under the identity it had. How NVML is asked is left to `nvml`.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.gpu.nvml import DeviceLostError, Driver, DriverGoneError, open_driver
from otel_agent.sources.gpu.snapshot import GpuIdentity, GpuProcess, GpuReading, GpuSnapshot

__all__ = ["GpuIdentity", "GpuProcess", "GpuReading", "GpuSnapshot", "open_gpus"]

logger = logging.getLogger(__name__)

REOPEN_S = 30.0  # at least so long between two attempts to bring back GPUs that have all failed


def open_gpus(proc: Path = Path("/proc"), clock: Callable[[], float] = time.time) -> Callable[[], GpuSnapshot]:
    """Return the reader of all GPUs; raises Unavailable where there is no driver, no permission or no GPU.

    The reader raises ReadError while the driver is gone (it is being replaced, say) and opens it anew at the next reading.
    """
    gpus = _Gpus(proc, clock)
    gpus.open()
    return gpus.read


class _Gpus:
    """The open driver and every GPU seen so far, by PCI address: a board keeps its slot, while its index moves when another is lost."""

    def __init__(self, proc: Path, clock: Callable[[], float]) -> None:
        self._proc = proc
        self._clock = clock
        self._driver: Driver | None = None
        self._opened_s = 0.0
        self._handles: list[tuple[object | None, GpuIdentity]] = []  # in the order of the driver's index
        self._seen: dict[str, GpuIdentity] = {}
        self._failed: set[str] = set()

    def open(self) -> None:
        """Open the driver for the first time; raises Unavailable."""
        try:
            self._open()
        except DriverGoneError as error:
            self._close()
            raise Unavailable(
                f"the NVIDIA driver does not answer: {error}", "see what nvidia-smi and 'dmesg | grep NVRM' say"
            ) from error
        if not self._handles:
            self._close()
            raise Unavailable(
                "the NVIDIA driver is loaded but shows no GPU",
                "check 'lspci | grep -i nvidia'; in a container, start it with --gpus all",
            )

    def read(self) -> GpuSnapshot:
        """Return all GPUs at this moment; raises ReadError where the driver does not answer."""
        try:
            driver = self._driver or self._open()
            now = self._clock()
            names = cache(self._process_name)  # a process that spans GPUs is looked up once a reading
            readings = tuple(self._read(driver, position, names) for position in range(len(self._handles)))
        except DriverGoneError as error:
            self._close()
            raise ReadError(f"the NVIDIA driver answers no more: {error}") from error
        except Unavailable as error:
            raise ReadError(f"the NVIDIA driver cannot be opened again: {error}") from error
        snapshot = GpuSnapshot(now, driver.version, readings + tuple(self._missing()))
        self._log(snapshot)
        if all(reading.failure for reading in snapshot.gpus) and not 0 <= now - self._opened_s < REOPEN_S:
            self._close()  # after a reset NVML finds its GPUs only when it starts afresh
        return snapshot

    def _open(self) -> Driver:
        driver = self._driver = open_driver()
        self._opened_s = self._clock()
        found = [self._identify(driver, index) for index in range(driver.count)]
        listed = {_slot(identity) for handle, identity in found if handle is not None}
        lost = {identity.index: identity for slot, identity in self._seen.items() if slot not in listed}
        self._handles = [
            (handle, identity if handle is not None else lost.get(identity.index, identity))
            for handle, identity in found
        ]
        known = {_slot(identity): identity for _, identity in self._handles if identity.uuid or identity.pci_bus_id}
        self._seen = {slot: replace(identity, index=None) for slot, identity in self._seen.items()} | known
        return driver

    def _close(self) -> None:
        if self._driver is not None:
            self._driver.close()
        self._driver = None

    def _identify(self, driver: Driver, index: int) -> tuple[object | None, GpuIdentity]:
        try:
            return driver.identify(index)
        except DeviceLostError:
            return None, GpuIdentity(index)

    def _read(self, driver: Driver, position: int, names: Callable[[int], str | None]) -> GpuReading:
        handle, identity = self._handles[position]
        try:
            if handle is None or identity.uuid is None:
                handle, identity = self._handles[position] = driver.identify(position)
                self._seen[_slot(identity)] = identity
            return driver.read(handle, identity, names)
        except DeviceLostError as error:
            return GpuReading(identity, failure=str(error))

    def _missing(self) -> Iterator[GpuReading]:
        """Yield those seen before that the driver no longer lists; their index may be another's by now."""
        listed = {_slot(identity) for _, identity in self._handles}
        for slot, identity in self._seen.items():
            if slot not in listed:
                yield GpuReading(replace(identity, index=None), failure="the driver no longer lists it")

    def _log(self, snapshot: GpuSnapshot) -> None:
        """Say once that a GPU fails, and once that it answers again."""
        failures = {gpu.identity: gpu.failure for gpu in snapshot.gpus if gpu.failure is not None}
        for identity, failure in failures.items():
            if identity.id not in self._failed:
                logger.warning(
                    "GPU %s (%s) gives no facts: %s; see 'nvidia-smi' and 'dmesg | grep NVRM'",
                    identity.id,
                    identity.name or "name unknown",
                    failure,
                )
        failed = {identity.id for identity in failures}
        for recovered in sorted(self._failed - failed):
            logger.info("GPU %s answers again", recovered)
        self._failed = failed

    def _process_name(self, pid: int) -> str | None:
        try:
            with (self._proc / str(pid) / "comm").open("rb") as file:
                return file.read(64).removesuffix(b"\n").decode("utf-8", "replace") or None
        except OSError:  # gone meanwhile, or of a pid namespace that is not ours
            return None


def _slot(identity: GpuIdentity) -> str:
    return identity.pci_bus_id or identity.id
