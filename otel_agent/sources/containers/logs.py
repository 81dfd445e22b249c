"""The end of a container's log, for the event of an exit that nobody ordered: few lines, few bytes, secrets masked."""

from otel_agent.errors import ReadError
from otel_agent.sources.containers.engine import Engine
from otel_llm.masks import Masks

READ_CAP = 2**20  # bytes; lines have no bound, and what is wanted stands at the end
TAIL_LENGTH = 4096  # characters
HEADER = 8  # bytes before each piece of a log that keeps standard output and error apart


def read_tail(engine: Engine, container_id: str, lines: int, masks: Masks) -> str | None:
    """Return the last lines of a log; None where there is none, or where the engine does not tell it."""
    path = f"/containers/{container_id}/logs?stdout=1&stderr=1&tail={lines}"
    try:
        raw = engine.text(path, READ_CAP)
    except ReadError:  # the container is gone, or its log driver cannot be read
        return None
    text = without_headers(raw).decode("utf-8", "replace").replace("\x00", "").strip()
    # Masked before it is cut: a secret cut in half is not known for one.
    masked = masks.apply(text[-4 * TAIL_LENGTH :])
    return masked[-TAIL_LENGTH:] or None


def without_headers(raw: bytes) -> bytes:
    """Return the text of a log, whose pieces have headers of eight bytes unless the container has a terminal."""
    if raw[:1] not in (b"\x00", b"\x01", b"\x02") or raw[1:4] != b"\x00\x00\x00":
        return raw
    pieces, position = [], 0
    while position + HEADER <= len(raw):
        length = int.from_bytes(raw[position + 4 : position + HEADER], "big")
        pieces.append(raw[position + HEADER : position + HEADER + length])
        position += HEADER + length
    return b"".join(pieces)
