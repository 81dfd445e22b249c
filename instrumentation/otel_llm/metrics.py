"""The client metrics: what is recorded, in which unit, with which buckets and attributes; rows, and their instruments.

Bucket bounds are the ones the GenAI conventions ask for, given to the SDK as advice, so views of the application win.
"""

from dataclasses import dataclass
from typing import Final

from opentelemetry.metrics import Histogram, Meter

from . import semconv

SECONDS: Final = tuple(0.01 * 2**n for n in range(14))  # 10 ms to 81.92 s
TOKENS: Final = tuple(4.0**n for n in range(14))  # 1 to 67108864

_CALL: Final = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)


@dataclass(frozen=True)
class ClientMetric:
    """One row: a histogram recorded in the application."""

    name: str
    unit: str
    help: str
    boundaries: tuple[float, ...]
    attributes: tuple[str, ...]


DURATION: Final = ClientMetric(
    semconv.CLIENT_OPERATION_DURATION,
    "s",
    "Time from the call until its reply is complete, failed calls included; for a stream until its end.",
    SECONDS,
    (*_CALL, semconv.ERROR_TYPE),
)
TOKEN_USAGE: Final = ClientMetric(
    semconv.CLIENT_TOKEN_USAGE,
    "{token}",
    "Tokens of one call as the server reported them; a call whose server reports none has no point.",
    TOKENS,
    (*_CALL, semconv.TOKEN_TYPE),
)
TIME_TO_FIRST_CHUNK: Final = ClientMetric(
    semconv.CLIENT_TIME_TO_FIRST_CHUNK,
    "s",
    "Time from the call until the first chunk of its stream, streamed calls only.",
    SECONDS,
    _CALL,
)
TIME_PER_OUTPUT_CHUNK: Final = ClientMetric(
    semconv.CLIENT_TIME_PER_OUTPUT_CHUNK,
    "s",
    "Time from one chunk of a stream to the next, the first one excepted; it includes the consumer's own time.",
    SECONDS,
    # One point a chunk, and the SDK's work grows with the attributes: the three that tell series apart, no more.
    (semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL),
)

METRICS: Final[tuple[ClientMetric, ...]] = (DURATION, TOKEN_USAGE, TIME_TO_FIRST_CHUNK, TIME_PER_OUTPUT_CHUNK)


@dataclass(frozen=True)
class ClientInstruments:
    """The instruments of one meter, one a row."""

    duration: Histogram
    token_usage: Histogram
    time_to_first_chunk: Histogram
    time_per_output_chunk: Histogram


def create_instruments(meter: Meter) -> ClientInstruments:
    """Create the histogram of every row."""
    return ClientInstruments(
        duration=_histogram(meter, DURATION),
        token_usage=_histogram(meter, TOKEN_USAGE),
        time_to_first_chunk=_histogram(meter, TIME_TO_FIRST_CHUNK),
        time_per_output_chunk=_histogram(meter, TIME_PER_OUTPUT_CHUNK),
    )


def _histogram(meter: Meter, row: ClientMetric) -> Histogram:
    return meter.create_histogram(
        row.name, unit=row.unit, description=row.help, explicit_bucket_boundaries_advisory=row.boundaries
    )
