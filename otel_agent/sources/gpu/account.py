"""From what was seen of all GPUs, reading by reading: the snapshot, with what happened since the last one, and a word in the log.

It stays in the agent's own process, so that counts go on when the one that reads has to be started again.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_agent.sources.gpu.changes import Changes
from otel_agent.sources.gpu.snapshot import GpuReading, GpuSnapshot
from otel_agent.sources.gpu.watch import Raw

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """All GPUs as they were read at `time_s`, and what the driver reported since the time before, by the id of the GPU."""

    time_s: float
    driver_version: str | None
    cuda_version: str | None
    library_version: str | None
    gpus: tuple[GpuReading, ...]
    reported: Mapping[str, list[Raw]] = field(default_factory=dict)
    failure: str | None = None
    events_lost: int = 0
    events_watched: bool | None = None


class Account:
    """What is remembered from one reading to the next."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._failed: set[str] = set()
        self._failure: str | None = None

    def told(self, seen: Seen) -> GpuSnapshot:
        """Return the snapshot."""
        happened = tuple(self._changes.since(seen.gpus, seen.reported, seen.time_s))
        snapshot = GpuSnapshot(
            seen.time_s,
            seen.driver_version,
            seen.gpus,
            cuda_version=seen.cuda_version,
            library_version=seen.library_version,
            failure=seen.failure,
            happened=happened,
            counts=self._changes.counts(),
            events_lost=seen.events_lost,
            events_watched=seen.events_watched,
        )
        self._log(snapshot)
        return snapshot

    def _log(self, snapshot: GpuSnapshot) -> None:
        """Say once that the driver or a GPU fails, and once that it answers again."""
        if snapshot.failure != self._failure:
            if snapshot.failure is not None:
                logger.warning("GPUs: %s", snapshot.failure)
            elif self._failure is not None:
                logger.info("GPUs: the NVIDIA driver answers again")
            self._failure = snapshot.failure
        if snapshot.failure is not None:
            return
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
