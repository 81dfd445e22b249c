"""The board of LLM requests, as the applications that made them saw them: how many, how long, how many tokens, which failed."""

from dashboards.board import Board, Row, Variable
from dashboards.names import listed, rate
from dashboards.panels import Panel, Query
from otel_agent.telemetry.naming import prometheus_label
from otel_llm import semconv

DURATION = semconv.CLIENT_OPERATION_DURATION
TOKENS = semconv.CLIENT_TOKEN_USAGE
FIRST_CHUNK = semconv.CLIENT_TIME_TO_FIRST_CHUNK
OUTPUT_CHUNK = semconv.CLIENT_TIME_PER_OUTPUT_CHUNK
MODEL = semconv.REQUEST_MODEL
PROVIDER = semconv.PROVIDER_NAME
ERROR = semconv.ERROR_TYPE
TYPE = semconv.TOKEN_TYPE

REQUESTS = f"<{DURATION}_count>"
FAILED = f'<{DURATION}_count{{{ERROR}!=""}}>'
QUANTILES = (0.5, 0.95, 0.99)
BY_MODEL = f"{{{{<{MODEL}>}}}}"

# What the reader chose, in TraceQL; several values come joined by |.
CHOSEN = f'resource.service.name =~ "${{service:pipe}}" && span.{MODEL} =~ "${{model:pipe}}"'
SHOWN = (
    f"span.{MODEL}",
    f"span.{PROVIDER}",
    f"span.{semconv.USAGE_INPUT_TOKENS}",
    f"span.{semconv.USAGE_OUTPUT_TOKENS}",
    f"span.{semconv.RESPONSE_TIME_TO_FIRST_CHUNK}",
    f"span.{ERROR}",
    "status",
)


def _total(series: str, *by: str) -> str:
    return f"sum by ({listed(by)}) ({rate(series)})" if by else f"sum({rate(series)})"


def _share(part: str, whole: str, *by: str) -> str:
    """Return a share that is 0, not absent, where there is a whole and none of the part, and absent where there is no whole."""
    return f"({_total(part, *by)} or 0 * {_total(whole, *by)}) / ({_total(whole, *by)} > 0)"


def _quantiles(histogram: str) -> tuple[Query, ...]:
    series = rate(f"<{histogram}_bucket>")
    return tuple(
        Query(f"histogram_quantile({quantile}, sum by (le) ({series}))", f"p{quantile * 100:.0f}", exemplars=True)
        for quantile in QUANTILES
    )


def _quantile_by_model(histogram: str) -> tuple[Query, ...]:
    series = rate(f"<{histogram}_bucket>")
    return (Query(f"histogram_quantile(0.95, sum by (le, <{MODEL}>) ({series}))", BY_MODEL, exemplars=True),)


def _mean(histogram: str, matcher: str, *by: str) -> str:
    part, whole = f"<{histogram}_sum{{{matcher}}}>", f"<{histogram}_count{{{matcher}}}>"
    return f"{_total(part, *by)} / ({_total(whole, *by)} > 0)"


OVERVIEW = Row(
    "Overview",
    (
        Panel(
            "Requests",
            "Calls to models a second, failed ones included.",
            "reqps",
            (Query(_total(REQUESTS)),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Failed",
            "Share of the calls that failed or were cancelled.",
            "percentunit",
            (Query(_share(FAILED, REQUESTS)),),
            kind="stat",
            width=4,
            height=4,
            low=0,
            high=1,
            limits=((0.01, "orange"), (0.05, "red")),
        ),
        Panel(
            "Duration, p95",
            "95 of 100 calls took no longer than this; for a stream until its end.",
            "s",
            (Query(f"histogram_quantile(0.95, sum by (le) ({rate(f'<{DURATION}_bucket>')}))"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "First chunk, p95",
            "95 of 100 streamed calls had their first chunk by then.",
            "s",
            (Query(f"histogram_quantile(0.95, sum by (le) ({rate(f'<{FIRST_CHUNK}_bucket>')}))"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Tokens in",
            "Tokens a second of the prompts, as the servers counted them.",
            "short",
            (Query(_total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_INPUT}"}}>')),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Tokens out",
            "Tokens a second of the replies, as the servers counted them.",
            "short",
            (Query(_total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_OUTPUT}"}}>')),),
            kind="stat",
            width=4,
            height=4,
        ),
    ),
)

TRAFFIC = Row(
    "Requests",
    (
        Panel(
            "Requests by model and provider",
            "Calls a second, failed ones included.",
            "reqps",
            (Query(_total(REQUESTS, MODEL, PROVIDER), f"{BY_MODEL} · {{{{<{PROVIDER}>}}}}"),),
            low=0,
        ),
        Panel(
            "Failed share by model",
            "Share of the calls that failed or were cancelled; a gap where there were no calls.",
            "percentunit",
            (Query(_share(FAILED, REQUESTS, MODEL), BY_MODEL),),
            low=0,
            high=1,
            limits=((0.05, "red"),),
        ),
        Panel(
            "Failures by type",
            "Failed calls a second by the kind of error.",
            "reqps",
            (Query(_total(FAILED, ERROR, MODEL), f"{{{{<{ERROR}>}}}} · {BY_MODEL}"),),
            low=0,
            traces=f"{{ {CHOSEN} && status = error }}",
        ),
    ),
)

LATENCY = Row(
    "Time (a dot is one request: follow it to its trace)",
    (
        Panel(
            "Duration",
            "From the call until its reply is complete, for a stream until its end; half, 95 and 99 of 100 calls took no longer.",
            "s",
            _quantiles(DURATION),
            low=0,
            traces=f"{{ {CHOSEN} }}",
        ),
        Panel(
            "Time to first chunk",
            "From the call until the first chunk of its stream; streamed calls only.",
            "s",
            _quantiles(FIRST_CHUNK),
            low=0,
            traces=f"{{ {CHOSEN} && span.{semconv.RESPONSE_TIME_TO_FIRST_CHUNK} > 0 }}",
        ),
        Panel(
            "Time per output chunk",
            "From one chunk of a stream to the next; it includes the time the application itself took with a chunk.",
            "s",
            _quantiles(OUTPUT_CHUNK),
            low=0,
        ),
        Panel(
            "Duration by model, p95",
            "95 of 100 calls to a model took no longer.",
            "s",
            _quantile_by_model(DURATION),
            low=0,
        ),
        Panel(
            "First chunk by model, p95",
            "95 of 100 streamed calls to a model had their first chunk by then.",
            "s",
            _quantile_by_model(FIRST_CHUNK),
            low=0,
        ),
        Panel(
            "Output chunk by model, p95",
            "95 of 100 chunks of a model came no later after the one before.",
            "s",
            _quantile_by_model(OUTPUT_CHUNK),
            low=0,
        ),
    ),
)

USAGE = Row(
    "Tokens",
    (
        Panel(
            "Tokens in by model",
            "Tokens a second of the prompts, as the server counted them; calls whose server does not count are left out.",
            "short",
            (Query(_total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_INPUT}"}}>', MODEL), BY_MODEL),),
            low=0,
        ),
        Panel(
            "Tokens out by model",
            "Tokens a second of the replies, as the server counted them; calls whose server does not count are left out.",
            "short",
            (Query(_total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_OUTPUT}"}}>', MODEL), BY_MODEL),),
            low=0,
        ),
        Panel(
            "Tokens per request",
            "Mean tokens of prompt and reply of one call.",
            "short",
            (
                Query(
                    _mean(TOKENS, f'{TYPE}=~"{semconv.TOKEN_INPUT}|{semconv.TOKEN_OUTPUT}"', MODEL, TYPE),
                    f"{BY_MODEL} {{{{<{TYPE}>}}}}",
                ),
            ),
            low=0,
        ),
    ),
)

LAST = Row(
    "Last requests",
    (
        Panel(
            "Last requests",
            "The last calls with their traces; a click on the trace opens it.",
            "none",
            (Query(f"{{ {CHOSEN} }} | select({', '.join(SHOWN)})"),),
            kind="table",
            source="tempo",
            width=12,
            height=10,
        ),
        Panel(
            "Last failures",
            "The last calls that failed, with their traces.",
            "none",
            (Query(f"{{ {CHOSEN} && status = error }} | select({', '.join(SHOWN)})"),),
            kind="table",
            source="tempo",
            width=12,
            height=10,
        ),
        Panel(
            "Logs of the applications",
            "What the chosen services logged; a line written inside a traced call leads to its trace.",
            "none",
            (Query(f'{{{prometheus_label("service.name")}=~"$service"}}'),),
            kind="logs",
            source="loki",
            width=24,
            height=10,
        ),
    ),
)

BOARD = Board(
    file="llm",
    uid="otel-llm-requests",
    title="otel-llm: LLM requests",
    description="Calls to models as the applications saw them, from their own instrumentation.",
    scope=f'host.name=~"$host", service.name=~"$service", {MODEL}=~"$model"',
    variables=(
        Variable("host", "Host", "host.name", f"{DURATION}_count"),
        # Loki takes no pattern that matches the empty text.
        Variable("service", "Service", "service.name", f"{DURATION}_count", every=".+"),
        Variable("model", "Model", MODEL, f"{DURATION}_count"),
    ),
    rows=(OVERVIEW, TRAFFIC, LATENCY, USAGE, LAST),
)
