"""What can be asked about the past, and the records that answer: the one contract of API, console and alerts with any store.

Times are seconds since the epoch (`_s`) or nanoseconds (`_ns`), everything else base units. None is unknown, never zero. How an
answer is found (SQL over the embedded store, PromQL and TraceQL over the full stack) is left to the engines of this package, and
the JSON field names to the API.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

AttributeValue: TypeAlias = "bool | int | float | str | list[AttributeValue] | dict[str, AttributeValue] | None"
Attributes: TypeAlias = Mapping[str, AttributeValue]
Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
Kind = Literal["gauge", "counter", "updowncounter", "histogram", "exponential_histogram", "summary"]

MAX_POINTS = 11_000  # buckets of one series in one answer, the limit that Prometheus has too
MAX_SERIES = 500  # series of one answer
MAX_ROWS = 10_000  # requests or log records of one answer
MAX_SPANS = 20_000  # spans of one trace


class HistoryError(Exception):
    """The question cannot be answered now: the time limit ran out or the store could not be read."""


@dataclass(frozen=True)
class Sample:
    """The last value of one series; of a histogram or summary, the number of observations so far."""

    name: str
    unit: str
    kind: Kind
    resource: Attributes
    attributes: Attributes
    time_s: float
    value: float


@dataclass(frozen=True)
class Series:
    """One line of a chart: `times_s` are the starts of the buckets, evenly spaced; a bucket without data is None (a gap)."""

    name: str
    unit: str
    kind: Kind
    resource: Attributes
    attributes: Attributes
    times_s: tuple[float, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class MetricName:
    """A metric the store has seen inside the time bound, with the number of its series."""

    name: str
    unit: str
    kind: Kind
    series: int


@dataclass(frozen=True)
class Exemplar:
    """One observation of a metric with the span that it was made in: the way from a chart to a trace."""

    attributes: Attributes
    time_s: float
    value: float
    trace_id: str
    span_id: str


@dataclass(frozen=True)
class RequestRow:
    """One LLM request as its outermost span tells it; the fields of the InferenceRecord, in base units.

    `request_id` is the id that the server gave, or the span id where it gave none; lengths are in characters, `cost_usd` in dollars.
    `success` is False where the span has status error or carries `error.type`.
    """

    request_id: str
    trace_id: str
    span_id: str
    start_ns: int
    duration_ns: int
    service: str | None
    name: str
    operation: str | None
    provider: str | None
    model_name: str | None  # the model that answered, or else the one that was asked for
    request_model: str | None
    response_model: str | None
    success: bool
    error_type: str | None = None
    error_message: str | None = None
    finish_reasons: tuple[str, ...] = ()
    streamed: bool | None = None
    server_address: str | None = None
    server_port: int | None = None
    model_version: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    prompt_length: int | None = None
    response_length: int | None = None
    time_to_first_chunk_s: float | None = None
    inter_token_s: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_k: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop_sequences: tuple[str, ...] | None = None
    prompt_template_name: str | None = None
    prompt_template_version: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    team_id: str | None = None
    batch_size: int | None = None
    cost_usd: float | None = None
    attributes: Attributes = field(default_factory=dict)
    resource: Attributes = field(default_factory=dict)

    @property
    def total_tokens(self) -> int | None:
        """Return input plus output tokens, or None where either is unknown."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Return output tokens per second of the whole call, or None where unknown."""
        if self.completion_tokens is None or self.duration_ns <= 0:
            return None
        return self.completion_tokens / (self.duration_ns / 1e9)


@dataclass(frozen=True)
class SpanEvent:
    """Something that happened at one moment of a span, such as an exception."""

    time_ns: int
    name: str
    attributes: Attributes


@dataclass(frozen=True)
class SpanLink:
    """A span of another trace that this one belongs with."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True)
class SpanRow:
    """One span of a trace, ids in lower-case hex; `parent_id` is None for a root."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
    service: str | None
    scope: str
    start_ns: int
    duration_ns: int
    status: Literal["unset", "ok", "error"]
    status_message: str
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    links: tuple[SpanLink, ...]
    resource: Attributes


@dataclass(frozen=True)
class LogRow:
    """One log record; `severity` is OpenTelemetry's number (9 is INFO, 17 is ERROR), None where the record has none."""

    time_ns: int
    severity: int | None
    severity_text: str | None
    service: str | None
    scope: str
    event_name: str | None
    body: AttributeValue
    trace_id: str | None
    span_id: str | None
    attributes: Attributes
    resource: Attributes


@dataclass(frozen=True)
class SignalStats:
    """What is kept of one signal; `rows` counts spans, points or log records, times are None where nothing is kept."""

    rows: int
    oldest_s: float | None
    newest_s: float | None


@dataclass(frozen=True)
class StoreStats:
    """How the store fares. What only the writing process knows is None in another one.

    `dropped` counts what was refused, evicted or lost, by (signal, reason). `ingest_lag_s` is the time from acceptance to commit of the
    last batch, `queue_bytes` of `queue_limit_bytes` are waiting to be written. `requests` counts every span of a call, also those inside another call.
    """

    path: str
    bytes: int
    wal_bytes: int
    max_bytes: int | None
    series: int
    requests: int
    signals: Mapping[Signal, SignalStats]
    dropped: Mapping[tuple[str, str], int]
    ingest_lag_s: float | None = None
    queue_bytes: int | None = None
    queue_limit_bytes: int | None = None
    failure: str | None = None  # why the last write failed, None once one succeeded


class History(Protocol):
    """One typed question each, answered alike by every engine; all raise HistoryError where no answer can be had in time.

    An attribute in `where` is compared, as text, with the attributes of the series first and with those of its resource next.
    """

    def latest(self, names: Sequence[str], *, max_age_s: float = 30) -> list[Sample]:
        """Return the last sample of every series of these metrics that is no older than `max_age_s` and has not ended."""
        ...

    def series(
        self,
        name: str,
        *,
        since_s: float,
        until_s: float,
        step_s: float,
        where: Mapping[str, str] = {},
        quantile: float | None = None,
    ) -> list[Series]:
        """Return a metric as lines: gauges and updowncounters by their last value, counters as rate per second.

        Of a histogram or summary, the observations per second; with `quantile` (0 to 1) that quantile of the observations of each bucket, for
        histograms with fixed bounds, interpolated linearly inside a bound. At most MAX_SERIES lines, those that came first; raises ValueError
        for more than MAX_POINTS buckets.
        """
        ...

    def metrics(self, *, since_s: float) -> list[MetricName]:
        """Return the metrics that had points since then, by name."""
        ...

    def exemplars(self, name: str, *, since_s: float, until_s: float, limit: int = 100) -> list[Exemplar]:
        """Return observations of a metric that carry a trace, newest first."""
        ...

    def requests(
        self,
        *,
        since_s: float,
        until_s: float,
        limit: int = 100,
        model: str | None = None,
        failed: bool | None = None,
        request_id: str | None = None,
    ) -> list[RequestRow]:
        """Return the LLM requests that began in this time, newest first; a request made inside another one is a layer of it, no row."""
        ...

    def trace(self, trace_id: str) -> list[SpanRow]:
        """Return the spans of a trace by their start, MAX_SPANS at most; empty when it is unknown, ValueError when that is no trace id."""
        ...

    def logs(
        self,
        *,
        since_s: float,
        until_s: float,
        limit: int = 100,
        trace_id: str | None = None,
        text: str | None = None,
        min_severity: int | None = None,
    ) -> list[LogRow]:
        """Return log records of this time, newest first; `text` is looked for anywhere in the body, with a to z as good as A to Z."""
        ...

    def stats(self) -> StoreStats:
        """Return how much is kept, how old it is, and what was dropped."""
        ...
