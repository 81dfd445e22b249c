"""All NVIDIA GPUs of this machine at one moment, and what becomes of those that answer no more.

A GPU that fails stays among them, as failed, under the identity it had; so do all of them when the driver goes. How one GPU is asked is left
to `device`, what happened to them to `account`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from otel_agent.errors import Unavailable
from otel_agent.sources.gpu.account import Account, Seen
from otel_agent.sources.gpu.device import Device, identify
from otel_agent.sources.gpu.lane import Lanes
from otel_agent.sources.gpu.library import DeviceLostError, DriverGoneError, Inquiry, load, shut_down
from otel_agent.sources.gpu.processes import People
from otel_agent.sources.gpu.snapshot import GpuIdentity, GpuProcess, GpuReading, GpuSnapshot
from otel_agent.sources.gpu.watch import Raw, Watch

__all__ = ["GpuIdentity", "GpuProcess", "GpuReading", "GpuSnapshot", "open_gpus"]

REOPEN_S = 30.0  # at least so long between two attempts to bring back GPUs that have all failed
DEADLINE_S = 2.0  # for all GPUs together; one that takes longer is stuck


def open_gpus(
    proc: Path = Path("/proc"), clock: Callable[[], float] = time.time, deadline_s: float = DEADLINE_S
) -> Callable[[], GpuSnapshot]:
    """Return the reader of all GPUs; raises Unavailable where there is no driver, no permission or no GPU.

    While the driver is gone (it is being replaced, say), the GPUs seen before are failed, and it is opened anew at the next reading.
    """
    gpus, account = Gpus(proc, clock, deadline_s), Account()
    gpus.open()
    return lambda: account.told(gpus.read())


class _Place:
    """One index of the driver: who is there, and how to ask."""

    def __init__(self, device: Device | None, identity: GpuIdentity) -> None:
        self.device, self.identity = device, identity
        self.waited_s: dict[str, float] = {} if device is None else device.inquiry.waited_s


class Gpus:
    """The open driver and every GPU seen so far, by PCI address: a board keeps its slot, while its index moves when another is lost."""

    def __init__(self, proc: Path, clock: Callable[[], float], deadline_s: float) -> None:
        self._people = People(proc)
        self._clock, self._deadline_s = clock, deadline_s
        self._library: object | None = None
        self._opened_s = 0.0
        self._places: list[_Place] = []  # in the order of the driver's index
        self._lanes: Lanes[GpuReading] = Lanes("gpu")
        self._versions: tuple[str | None, str | None, str | None] = (None, None, None)
        self._seen: dict[str, GpuIdentity] = {}
        self._watch: Watch | None = None
        self._lost = 0

    def open(self) -> None:
        """Open the driver for the first time; raises Unavailable."""
        try:
            self._open()
        except DriverGoneError as error:
            self._close()
            raise Unavailable(
                f"the NVIDIA driver does not answer: {error}", "see what nvidia-smi and 'dmesg | grep NVRM' say"
            ) from error
        if not self._places:
            self._close()
            raise Unavailable(
                "the NVIDIA driver is loaded but shows no GPU",
                "check 'lspci | grep -i nvidia'; in a container, start it with --gpus all",
            )

    def read(self) -> Seen:
        """Return all GPUs at this moment, and what the driver reported since the last time."""
        now = self._clock()
        failure: str | None = None
        readings: tuple[GpuReading, ...] = ()
        try:
            if self._library is None:
                self._open()
            now = self._clock()
            readings = self._read(now)
        except DriverGoneError as error:
            failure = f"the NVIDIA driver answers no more: {error}"
        except Unavailable as error:
            failure = f"the NVIDIA driver cannot be opened again: {error.reason}"
        raw, watch = self._reported(), self._watch
        lost, watched = self._lost + (watch.lost if watch else 0), watch.watched if watch else None
        if failure is not None:
            self._close()
            readings = tuple(GpuReading(identity, failure=failure) for identity in self._seen.values())
        readings += tuple(self._missing(readings))
        if all(reading.answer == "failed" for reading in readings) and not 0 <= now - self._opened_s < REOPEN_S:
            self._close()  # after a reset NVML finds its GPUs only when it starts afresh
        return Seen(now, *self._versions, readings, raw, failure, lost, watched)

    def _read(self, now: float) -> tuple[GpuReading, ...]:
        numbers = range(len(self._places))
        found = self._lanes.together({number: partial(self._ask, number, now) for number in numbers}, self._deadline_s)
        return tuple(self._outcome(number, found.get(number)) for number in numbers)

    def _ask(self, position: int, now: float) -> GpuReading:
        place = self._places[position]
        if place.device is None or place.identity.uuid is None:
            place.device = identify(self._library, position)
            place.identity = place.device.identity
            place.device.inquiry.waited_s = place.waited_s
        return place.device.read(self._people, now)

    def _outcome(self, number: int, result: GpuReading | BaseException | None) -> GpuReading:
        place = self._places[number]
        if isinstance(result, GpuReading):
            self._seen[_slot(place.identity)] = place.identity
            return result
        if isinstance(result, DeviceLostError):
            place.device = None  # once it is back, it is asked anew who it is and what it knows
            return GpuReading(place.identity, failure=str(result))
        if result is not None:
            raise result
        since = self._lanes.since(number)
        waited = self._deadline_s if since is None else time.monotonic() - since
        return GpuReading(
            place.identity, failure=f"a call of the driver has not come back for {waited:.0f} s", stuck=True
        )

    def _open(self) -> None:
        library = load()
        self._library, self._opened_s = library, self._clock()
        try:
            ask = Inquiry(library)
            count = ask.ask("nvmlDeviceGetCount")
            if count is None:
                raise DriverGoneError(f"it does not tell its GPUs: {ask.fault}")
            cuda = ask.number(("nvmlSystemGetCudaDriverVersion_v2",))
            self._versions = (
                ask.ask("nvmlSystemGetDriverVersion"),
                None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
                ask.ask("nvmlSystemGetNVMLVersion"),
            )
            found = [self._identify(library, index) for index in range(count)]
        except DeviceLostError as error:
            raise DriverGoneError(str(error)) from error
        listed = {_slot(place.identity) for place in found if place.device is not None}
        lost = {identity.index: identity for slot, identity in self._seen.items() if slot not in listed}
        for place in found:
            if place.device is None:
                place.identity = lost.get(place.identity.index, place.identity)
        self._places = found
        known = {
            _slot(place.identity): place.identity for place in found if place.identity.uuid or place.identity.pci_bus_id
        }
        self._seen = {slot: replace(identity, index=None) for slot, identity in self._seen.items()} | known
        self._watch = Watch(
            library,
            {position: place.device.handle for position, place in enumerate(found) if place.device},
            self._clock,
        )
        self._watch.start()

    def _identify(self, library: object, index: int) -> _Place:
        try:
            device = identify(library, index)
        except DeviceLostError:
            return _Place(None, GpuIdentity(index))
        return _Place(device, device.identity)

    def _close(self) -> None:
        library, self._library = self._library, None
        watch, self._watch = self._watch, None
        free = watch is None or watch.stop()
        if watch is not None:
            self._lost += watch.lost
        busy = [self._lanes.since(number) is not None for number in range(len(self._places))]
        free = self._lanes.end() and free  # while a call is under way, the library must stay as it is
        for place, hung in zip(self._places, busy, strict=True):
            if place.device is not None and not hung:
                try:
                    place.device.close()
                except (DeviceLostError, DriverGoneError):
                    continue
        self._places, self._lanes = [], Lanes("gpu")
        if library is not None and free:
            shut_down(library)

    def _reported(self) -> dict[str, list[Raw]]:
        found: dict[str, list[Raw]] = {}
        for one in self._watch.take() if self._watch else ():
            if one.gpu < len(self._places):
                found.setdefault(self._places[one.gpu].identity.id, []).append(one)
        return found

    def _missing(self, readings: tuple[GpuReading, ...]) -> Iterator[GpuReading]:
        """Yield those seen before that the driver no longer lists; their index may be another's by now."""
        listed = {_slot(reading.identity) for reading in readings}
        for slot, identity in self._seen.items():
            if slot not in listed:
                yield GpuReading(replace(identity, index=None), failure="the driver no longer lists it")


def _slot(identity: GpuIdentity) -> str:
    return identity.pci_bus_id or identity.id
