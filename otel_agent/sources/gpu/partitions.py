"""The instances of a partitioned GPU (MIG): each with a UUID, memory and a part of the multiprocessors of its own.

Compute instances of one GPU instance share its memory and its monitor, so what they tell there is the same. What the whole GPU tells stays
with the GPU; power, temperature and clocks exist for it alone.
"""

from typing import Any

from otel_agent.sources.gpu.library import DeviceLostError, Inquiry, known
from otel_agent.sources.gpu.monitor import Monitor
from otel_agent.sources.gpu.processes import Listed, People
from otel_agent.sources.gpu.snapshot import GpuInstance

MOST = 8  # instances of one GPU, of which today's have at most seven


class Partitions:
    """The MIG devices of one GPU; which there are is asked at each reading, since they come and go while it runs."""

    def __init__(self, library: Any, parent: str, memory_version: int) -> None:
        self._library, self._parent, self._memory_version = library, parent, memory_version
        self._known: dict[str, tuple[Inquiry, GpuInstance]] = {}
        self._monitors: dict[int, Monitor] = {}
        self._listed = Listed()

    def read(self, whole: Inquiry, people: People, now_s: float) -> tuple[GpuInstance, ...]:
        """Return every MIG device with what it tells now."""
        most = whole.number(("nvmlDeviceGetMaxMigDeviceCount",)) or 0
        found: dict[str, tuple[Inquiry, GpuInstance]] = {}
        for slot in range(min(most, MOST)):
            handle = whole.ask("nvmlDeviceGetMigDeviceHandleByIndex", slot)
            if handle is None:
                continue
            inquiry = Inquiry(self._library, handle)
            inquiry.waited_s, inquiry.group = whole.waited_s, whole.group  # one account for the whole GPU
            uuid = inquiry.ask("nvmlDeviceGetUUID")
            if uuid:
                found[uuid] = self._known.get(uuid) or self._identify(uuid, inquiry)
        self._known = found
        told = {}
        used = {one.gpu_instance for _, one in found.values() if one.gpu_instance is not None}
        for number in list(self._monitors):
            if number not in used:
                self._monitors.pop(number).free(whole)
        for number in sorted(used):
            told[number] = self._monitors.setdefault(number, Monitor(number)).read(whole, now_s)
        return tuple(
            self._one(inquiry, one, told.get(one.gpu_instance or 0, (None, None)), people)
            for inquiry, one in found.values()
        )

    def forget(self) -> None:
        """Ask every instance everything again, also who it is."""
        self._known.clear()

    def free(self, whole: Inquiry) -> None:
        """Give back what the driver lent."""
        for monitor in self._monitors.values():
            monitor.free(whole)
        self._monitors.clear()

    def _identify(self, uuid: str, inquiry: Inquiry) -> tuple[Inquiry, GpuInstance]:
        attributes = inquiry.ask("nvmlDeviceGetAttributes_v2")
        return inquiry, GpuInstance(
            uuid=uuid,
            parent=self._parent,
            name=inquiry.ask("nvmlDeviceGetName") or None,
            gpu_instance=inquiry.number(("nvmlDeviceGetGpuInstanceId",)),
            compute_instance=inquiry.number(("nvmlDeviceGetComputeInstanceId",)),
            multiprocessors=known(attributes.multiprocessorCount) if attributes else None,
        )

    def _one(
        self,
        inquiry: Inquiry,
        one: GpuInstance,
        monitored: tuple[dict[str, float] | None, dict[str, float] | None],
        people: People,
    ) -> GpuInstance:
        try:
            memory = inquiry.first(("nvmlDeviceGetMemoryInfo", self._memory_version), ("nvmlDeviceGetMemoryInfo",))
            listed = self._listed.read(inquiry, people)
        except DeviceLostError:  # taken away between two questions; the whole GPU says for itself how it is
            memory = listed = None
        return GpuInstance(
            uuid=one.uuid,
            parent=one.parent,
            name=one.name,
            gpu_instance=one.gpu_instance,
            compute_instance=one.compute_instance,
            multiprocessors=one.multiprocessors,
            memory_used_bytes=known(memory.used) if memory else None,
            memory_total_bytes=known(memory.total) if memory else None,
            activity=monitored[0],
            throughput=monitored[1],
            processes=listed,
        )
