"""The metrics of an instrumented application: what is recorded, in which unit, with which buckets and attributes; rows.

Bucket bounds are the ones the GenAI conventions ask for, given to the SDK as advice, so views of the application win.
"""

from dataclasses import dataclass
from typing import Final, Literal

from opentelemetry.metrics import Meter

from . import semconv
from .bound import Bound

SECONDS: Final = tuple(0.01 * 2**n for n in range(14))  # 10 ms to 81.92 s
TOKENS: Final = tuple(4.0**n for n in range(14))  # 1 to 67108864
FEW: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

_CALL: Final = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
# One point a chunk, and the SDK's work grows with the attributes: the three that tell series apart, no more.
CHUNK: Final = (semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL)


@dataclass(frozen=True)
class ClientMetric:
    """One row: an instrument in the application; histograms alone have boundaries."""

    name: str
    kind: Literal["histogram", "counter", "gauge", "updowncounter"]
    unit: str
    help: str
    attributes: tuple[str, ...]
    boundaries: tuple[float, ...] = ()
    only: str = ""  # the setting that switches it on, for the reference


DURATION: Final = ClientMetric(
    semconv.CLIENT_OPERATION_DURATION,
    "histogram",
    "s",
    "Time from the call until its reply is complete, failed calls included; for a stream until its end.",
    (*_CALL, semconv.ERROR_TYPE),
    SECONDS,
)
TOKEN_USAGE: Final = ClientMetric(
    semconv.CLIENT_TOKEN_USAGE,
    "histogram",
    "{token}",
    "Tokens of one call as the server reported them; a call whose server reports none has no point.",
    (*_CALL, semconv.TOKEN_TYPE, semconv.GRAFANA_TOKEN_SEMANTICS),
    TOKENS,
)
TIME_TO_FIRST_CHUNK: Final = ClientMetric(
    semconv.CLIENT_TIME_TO_FIRST_CHUNK,
    "histogram",
    "s",
    "Time from the call until the first chunk of its stream, streamed calls only.",
    _CALL,
    SECONDS,
)
TIME_PER_OUTPUT_CHUNK: Final = ClientMetric(
    semconv.CLIENT_TIME_PER_OUTPUT_CHUNK,
    "histogram",
    "s",
    "Time from one chunk of a stream to the next, the first one excepted; it includes the consumer's own time.",
    CHUNK,
    SECONDS,
)
COST: Final = ClientMetric(
    semconv.CLIENT_COST,
    "counter",
    "{USD}",
    "US dollars for the calls whose tokens the server reported: by LiteLLM's price list, or by OTEL_LLM_PRICES.",
    (*_CALL, semconv.COST_SOURCE),
)
ESTIMATED_TOKENS: Final = ClientMetric(
    semconv.CLIENT_ESTIMATED_TOKENS,
    "counter",
    "{token}",
    "Tokens of calls whose server reports none, as the client's tokenizer estimates them.",
    (*_CALL, semconv.TOKEN_TYPE),
    only="OTEL_LLM_ESTIMATE_USAGE",
)
ENGINE_QUEUE_TIME: Final = ClientMetric(
    semconv.CLIENT_ENGINE_QUEUE_TIME,
    "histogram",
    "s",
    "Time the request waited in the engine, by the engine's own clock, where its reply says so (vLLM's `metrics`).",
    _CALL,
    SECONDS,
)
ENGINE_TIME_TO_FIRST_TOKEN: Final = ClientMetric(
    semconv.CLIENT_ENGINE_TIME_TO_FIRST_TOKEN,
    "histogram",
    "s",
    "Time from the request's arrival at the engine until its first token, by the engine's own clock.",
    _CALL,
    SECONDS,
)
ENGINE_GENERATION_TIME: Final = ClientMetric(
    semconv.CLIENT_ENGINE_GENERATION_TIME,
    "histogram",
    "s",
    "Time from the first token to the last, by the engine's own clock.",
    _CALL,
    SECONDS,
)

_LATEST: Final = "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental"
INFERENCE_DURATION: Final = ClientMetric(
    semconv.CLIENT_INFERENCE_DURATION, "histogram", "s", DURATION.help, DURATION.attributes, SECONDS, _LATEST
)
EMBEDDINGS_DURATION: Final = ClientMetric(
    semconv.CLIENT_EMBEDDINGS_DURATION, "histogram", "s", DURATION.help, DURATION.attributes, SECONDS, _LATEST
)
INFERENCE_TIME_TO_FIRST_CHUNK: Final = ClientMetric(
    semconv.CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK, "histogram", "s", TIME_TO_FIRST_CHUNK.help, _CALL, SECONDS, _LATEST
)
INFERENCE_TIME_PER_OUTPUT_CHUNK: Final = ClientMetric(
    semconv.CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK,
    "histogram",
    "s",
    TIME_PER_OUTPUT_CHUNK.help,
    CHUNK,
    SECONDS,
    _LATEST,
)


def _counter(kind: str, help: str) -> ClientMetric:
    return ClientMetric(
        semconv.CLIENT_INFERENCE_USAGE + kind,
        "counter",
        "{token}",
        help,
        (*_CALL, semconv.TOKEN_MODALITY),
        only=_LATEST,
    )


USAGE_COUNTERS: Final = {
    "input_tokens": _counter("input_tokens", "Input tokens as reported, cached ones included."),
    "output_tokens": _counter("output_tokens", "Output tokens as reported, reasoning included."),
    "cache_read.input_tokens": _counter("cache_read.input_tokens", "Input tokens read from the server's cache."),
    "cache_write.input_tokens": _counter("cache_write.input_tokens", "Input tokens written to the server's cache."),
    "reasoning.output_tokens": _counter("reasoning.output_tokens", "Output tokens spent on reasoning."),
}
INFERENCE_INPUT_TOKENS: Final = ClientMetric(
    semconv.CLIENT_INFERENCE_INPUT_TOKENS, "histogram", "{token}", "Input tokens of one call.", _CALL, TOKENS, _LATEST
)
INFERENCE_OUTPUT_TOKENS: Final = ClientMetric(
    semconv.CLIENT_INFERENCE_OUTPUT_TOKENS, "histogram", "{token}", "Output tokens of one call.", _CALL, TOKENS, _LATEST
)
EMBEDDINGS_INPUT_TOKENS: Final = ClientMetric(
    semconv.CLIENT_EMBEDDINGS_INPUT_TOKENS, "histogram", "{token}", "Input tokens of one call.", _CALL, TOKENS, _LATEST
)
GRAFANA_TIME_TO_FIRST_TOKEN: Final = ClientMetric(
    semconv.GRAFANA_TIME_TO_FIRST_TOKEN,
    "histogram",
    "s",
    "The time to the first chunk, under the name Grafana's agent plugin reads.",
    _CALL,
    SECONDS,
    "OTEL_LLM_GRAFANA_METRIC_NAMES",
)
GRAFANA_TOOL_CALLS: Final = ClientMetric(
    semconv.GRAFANA_TOOL_CALLS,
    "histogram",
    "count",  # the plugin's own unit: Prometheus appends it to the name
    "Tool calls in one reply, under the name Grafana's agent plugin reads.",
    _CALL,
    FEW,
    "OTEL_LLM_GRAFANA_METRIC_NAMES",
)

METRICS: Final[tuple[ClientMetric, ...]] = (
    DURATION, TOKEN_USAGE, TIME_TO_FIRST_CHUNK, TIME_PER_OUTPUT_CHUNK,
    COST, ENGINE_QUEUE_TIME, ENGINE_TIME_TO_FIRST_TOKEN, ENGINE_GENERATION_TIME, ESTIMATED_TOKENS,
    INFERENCE_DURATION, EMBEDDINGS_DURATION, INFERENCE_TIME_TO_FIRST_CHUNK, INFERENCE_TIME_PER_OUTPUT_CHUNK,
    *USAGE_COUNTERS.values(), INFERENCE_INPUT_TOKENS, INFERENCE_OUTPUT_TOKENS, EMBEDDINGS_INPUT_TOKENS,
    GRAFANA_TIME_TO_FIRST_TOKEN, GRAFANA_TOOL_CALLS,
)  # fmt: skip


def histogram(meter: Meter, row: ClientMetric) -> Bound:
    """Create the histogram of a row that has boundaries."""
    made = meter.create_histogram(
        row.name, unit=row.unit, description=row.help, explicit_bucket_boundaries_advisory=row.boundaries
    )
    return Bound(made, made.record)


def counter(meter: Meter, row: ClientMetric) -> Bound:
    """Create the counter of a row that has no boundaries."""
    made = meter.create_counter(row.name, unit=row.unit, description=row.help)
    return Bound(made, made.add)
