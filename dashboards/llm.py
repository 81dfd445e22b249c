"""The board of LLM requests, as the applications that made them saw them: how many, how long, how many tokens, which failed."""

from collections.abc import Mapping

from dashboards.board import Board, Row, Variable
from dashboards.panels import Panel, Query
from dashboards.shapes import failed_share, mean, number, p95_by, quantile, quantiles, share, shown, total
from otel_agent.telemetry.naming import prometheus_label
from otel_llm import semconv
from otel_llm.metrics import METRICS

DURATION = semconv.CLIENT_OPERATION_DURATION
TOKENS = semconv.CLIENT_TOKEN_USAGE
FIRST_CHUNK = semconv.CLIENT_TIME_TO_FIRST_CHUNK
OUTPUT_CHUNK = semconv.CLIENT_TIME_PER_OUTPUT_CHUNK
COST = f"<{semconv.CLIENT_COST}>"
MODEL = semconv.REQUEST_MODEL
PROVIDER = semconv.PROVIDER_NAME
ERROR = semconv.ERROR_TYPE
TYPE = semconv.TOKEN_TYPE

REQUESTS = f"<{DURATION}_count>"
FAILED = f'<{DURATION}_count{{{ERROR}!=""}}>'
BY_MODEL = shown(MODEL)

# What the reader chose, in TraceQL; several values come joined by |.
CHOSEN = f'resource.service.name =~ "${{service:pipe}}" && span.{MODEL} =~ "${{model:pipe}}"'
COLUMNS = (
    f"span.{MODEL}",
    f"span.{PROVIDER}",
    f"span.{semconv.USAGE_INPUT_TOKENS}",
    f"span.{semconv.USAGE_OUTPUT_TOKENS}",
    f"span.{semconv.RESPONSE_TIME_TO_FIRST_CHUNK}",
    f"span.{ERROR}",
    "status",
)


OVERVIEW = Row(
    "Overview",
    (
        number("Requests", "Calls to models a second, failed ones included.", "reqps", total(REQUESTS), width=4),
        failed_share("Share of the calls that failed or were cancelled.", FAILED, REQUESTS, width=4),
        number(
            "Duration, p95",
            "95 of 100 calls took no longer than this; for a stream until its end.",
            "s",
            quantile(0.95, DURATION),
            width=4,
        ),
        number(
            "First chunk, p95",
            "95 of 100 streamed calls had their first chunk by then.",
            "s",
            quantile(0.95, FIRST_CHUNK),
            width=4,
        ),
        number(
            "Tokens in",
            "Tokens a second of the prompts, as the servers counted them.",
            "short",
            total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_INPUT}"}}>'),
            width=4,
        ),
        number(
            "Tokens out",
            "Tokens a second of the replies, as the servers counted them.",
            "short",
            total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_OUTPUT}"}}>'),
            width=4,
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
            (Query(total(REQUESTS, MODEL, PROVIDER), shown(MODEL, PROVIDER)),),
            low=0,
        ),
        Panel(
            "Failed share by model",
            "Share of the calls that failed or were cancelled; a gap where there were no calls.",
            "percentunit",
            (Query(share(FAILED, REQUESTS, MODEL), BY_MODEL),),
            low=0,
            high=1,
            limits=((0.05, "red"),),
        ),
        Panel(
            "Failures by type",
            "Failed calls a second by the kind of error.",
            "reqps",
            (Query(total(FAILED, ERROR, MODEL), shown(ERROR, MODEL)),),
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
            quantiles(DURATION),
            low=0,
            traces=f"{{ {CHOSEN} }}",
        ),
        Panel(
            "Time to first chunk",
            "From the call until the first chunk of its stream; streamed calls only.",
            "s",
            quantiles(FIRST_CHUNK),
            low=0,
            traces=f"{{ {CHOSEN} && span.{semconv.RESPONSE_TIME_TO_FIRST_CHUNK} > 0 }}",
        ),
        Panel(
            "Time per output chunk",
            "From one chunk of a stream to the next; it includes the time the application itself took with a chunk.",
            "s",
            quantiles(OUTPUT_CHUNK),
            low=0,
        ),
        Panel(
            "Duration by model, p95",
            "95 of 100 calls to a model took no longer.",
            "s",
            p95_by(DURATION, MODEL),
            low=0,
        ),
        Panel(
            "First chunk by model, p95",
            "95 of 100 streamed calls to a model had their first chunk by then.",
            "s",
            p95_by(FIRST_CHUNK, MODEL),
            low=0,
        ),
        Panel(
            "Output chunk by model, p95",
            "95 of 100 chunks of a model came no later after the one before.",
            "s",
            p95_by(OUTPUT_CHUNK, MODEL),
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
            (Query(total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_INPUT}"}}>', MODEL), BY_MODEL),),
            low=0,
        ),
        Panel(
            "Tokens out by model",
            "Tokens a second of the replies, as the server counted them; calls whose server does not count are left out.",
            "short",
            (Query(total(f'<{TOKENS}_sum{{{TYPE}="{semconv.TOKEN_OUTPUT}"}}>', MODEL), BY_MODEL),),
            low=0,
        ),
        Panel(
            "Tokens per request",
            "Mean tokens of prompt and reply of one call.",
            "short",
            (
                Query(
                    mean(TOKENS, f'{TYPE}=~"{semconv.TOKEN_INPUT}|{semconv.TOKEN_OUTPUT}"', MODEL, TYPE),
                    shown(MODEL, TYPE),
                ),
            ),
            low=0,
        ),
    ),
)

ENGINE_AND_MONEY = Row(
    "Engine and money",
    (
        Panel(
            "Cost a second by model",
            "US dollars a second for tokens that servers reported: by LiteLLM's price list, or by OTEL_LLM_PRICES.",
            "currencyUSD",
            (Query(total(COST, MODEL), BY_MODEL),),
            width=12,
            low=0,
        ),
        Panel(
            "Cost an hour by model",
            "US dollars an hour, were it to go on as it goes now.",
            "currencyUSD",
            (Query(f"3600 * {total(COST, MODEL)}", BY_MODEL),),
            width=12,
            low=0,
        ),
        Panel(
            "Queue in the engine by model, p95",
            "95 of 100 requests waited no longer in the engine, by its own clock; only of engines whose replies tell.",
            "s",
            p95_by(semconv.CLIENT_ENGINE_QUEUE_TIME, MODEL),
            low=0,
        ),
        Panel(
            "First token of the engine by model, p95",
            "95 of 100 requests had their first token no later after they reached the engine, by its own clock.",
            "s",
            p95_by(semconv.CLIENT_ENGINE_TIME_TO_FIRST_TOKEN, MODEL),
            low=0,
        ),
        Panel(
            "Generation in the engine by model, p95",
            "95 of 100 requests took no longer from the first token to the last, by the engine's own clock.",
            "s",
            p95_by(semconv.CLIENT_ENGINE_GENERATION_TIME, MODEL),
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
            (Query(f"{{ {CHOSEN} }} | select({', '.join(COLUMNS)})"),),
            kind="table",
            source="tempo",
            width=12,
            height=10,
        ),
        Panel(
            "Last failures",
            "The last calls that failed, with their traces.",
            "none",
            (Query(f"{{ {CHOSEN} && status = error }} | select({', '.join(COLUMNS)})"),),
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
    rows=(OVERVIEW, TRAFFIC, LATENCY, USAGE, ENGINE_AND_MONEY, LAST),
)

# Why no panel shows what only a setting switches on, by that setting.
_ONLY: Mapping[str, str] = {
    "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental": (
        "newer names, still experimental, for what this board shows under the released ones; `/dup` records both"
    ),
    "OTEL_LLM_ESTIMATE_USAGE": "estimates do not belong beside the tokens that servers counted",
    "OTEL_LLM_GRAFANA_METRIC_NAMES": "there for boards of Grafana's own, which read these names",
}
OFF: Mapping[str, str] = {row.name: _ONLY[row.only] for row in METRICS if row.only}
