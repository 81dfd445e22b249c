"""What the receiver and the store behind it say of themselves: rows over counts that are held in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from otel_agent.catalogue import Metric, Point

_NOTE = "The semantic conventions name what an SDK does, not what a receiver and a store do."


@dataclass(frozen=True)
class ReceiverSnapshot:
    """Requests by (signal, "accepted" or the reason of the refusal), accepted bytes by signal, and how the writing goes."""

    requests: Mapping[tuple[str, str], int]
    accepted_bytes: Mapping[str, int]
    queue_bytes: int
    queue_limit_bytes: int
    lag_s: float | None  # from acceptance to commit, of what was written last


def _requests(snapshot: ReceiverSnapshot) -> Iterator[Point]:
    for (signal, outcome), count in snapshot.requests.items():
        yield count, {"otel_llm.signal": signal, "otel_llm.receiver.outcome": outcome}


def _accepted(snapshot: ReceiverSnapshot) -> Iterator[Point]:
    return ((count, {"otel_llm.signal": signal}) for signal, count in snapshot.accepted_bytes.items())


METRICS: tuple[Metric[ReceiverSnapshot], ...] = (
    Metric("otel_llm.receiver.requests", "counter", "{request}", "OTLP requests that came, by what became of them.", _requests,
           ("otel_llm.signal", "otel_llm.receiver.outcome"), note=_NOTE),
    Metric("otel_llm.receiver.accepted", "counter", "By", "Bytes of the OTLP requests that were accepted, inflated.", _accepted,
           ("otel_llm.signal",), note=_NOTE),
    Metric("otel_llm.store.queue.usage", "updowncounter", "By", "Accepted requests that wait to be written.",
           lambda snapshot: [(snapshot.queue_bytes, {})], note=_NOTE),
    Metric("otel_llm.store.queue.limit", "updowncounter", "By", "Size at which requests are refused because too much waits.",
           lambda snapshot: [(snapshot.queue_limit_bytes, {})], note=_NOTE),
    Metric("otel_llm.store.lag", "gauge", "s", "Time from acceptance to commit of the requests that were written last.",
           lambda snapshot: [(snapshot.lag_s, {})], note=_NOTE),
)  # fmt: skip
