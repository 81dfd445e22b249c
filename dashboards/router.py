"""The board of LiteLLM's Router: what it did around the calls, by group of models and by deployment."""

from dashboards.board import Board, Row, Variable
from dashboards.names import listed
from dashboards.panels import Panel, Query
from dashboards.shapes import failed_share, number, quantile, quantiles, share, shown, total
from otel_llm import semconv

DURATION = semconv.ROUTER_REQUEST_DURATION
GROUP = semconv.ROUTER_MODEL_GROUP
TO_GROUP = semconv.ROUTER_FALLBACK_GROUP
DEPLOYMENT = semconv.ROUTER_DEPLOYMENT_ID
ERROR = semconv.ERROR_TYPE

# Beside the board's scope and not in it: a cooldown is of a deployment, whichever group it was asked in.
OF_GROUP = f'{GROUP}=~"$group"'
REQUESTS = f"<{DURATION}_count{{{OF_GROUP}}}>"
FAILED = f'<{DURATION}_count{{{OF_GROUP}, {ERROR}!=""}}>'
RETRIES = f"<{semconv.ROUTER_RETRIED}{{{OF_GROUP}}}>"
FALLBACKS = f"<{semconv.ROUTER_FELL_BACK}{{{OF_GROUP}}}>"
COOLDOWNS = f"<{semconv.ROUTER_COOLDOWNS}>"

# What the reader chose, in TraceQL; several values come joined by |.
CHOSEN = f'name =~ "route .*" && resource.service.name =~ "${{service:pipe}}" && span.{GROUP} =~ "${{group:pipe}}"'
COLUMNS = (
    f"span.{GROUP}",
    f"span.{DEPLOYMENT}",
    f"span.{semconv.ROUTER_ATTEMPTS}",
    f"span.{semconv.ROUTER_RETRIES}",
    f"span.{semconv.ROUTER_FALLBACKS}",
    f"span.{ERROR}",
    "status",
)


def _least(metric: str) -> str:
    return f"min by ({listed((GROUP, DEPLOYMENT))}) (<{metric}{{{OF_GROUP}}}>)"


OVERVIEW = Row(
    "Overview",
    (
        number(
            "Routed requests",
            "Requests to Routers a second, failed ones included; one request can be several calls.",
            "reqps",
            total(REQUESTS),
            width=6,
        ),
        failed_share(
            "Share of the requests that failed after all retries and fallbacks, or were cancelled.",
            FAILED,
            REQUESTS,
            width=6,
        ),
        number(
            "Duration, p95",
            "95 of 100 requests were answered by then, with all attempts and waits; for a stream until it is handed out.",
            "s",
            quantile(0.95, DURATION, matcher=OF_GROUP),
            width=6,
        ),
        number(
            "Retries per request",
            "Attempts made again in the same group, for each request; 1 is that each was tried twice.",
            "short",
            share(RETRIES, REQUESTS),
            width=6,
            low=0,
        ),
    ),
)

REQUESTED = Row(
    "Requests (a dot is one request: follow it to its trace)",
    (
        Panel(
            "Requests by model group",
            "Routed requests a second by the group that was asked for, failed ones included.",
            "reqps",
            (Query(total(REQUESTS, GROUP), shown(GROUP)),),
            low=0,
        ),
        Panel(
            "Failed share by model group",
            "Share of the requests that failed after all retries and fallbacks; a gap where there were no requests.",
            "percentunit",
            (Query(share(FAILED, REQUESTS, GROUP), shown(GROUP)),),
            low=0,
            high=1,
            limits=((0.05, "red"),),
            traces=f"{{ {CHOSEN} && status = error }}",
        ),
        Panel(
            "Duration",
            "From the request until the Router has its answer, with all attempts and waits; half, 95 and 99 of 100 took no longer.",
            "s",
            quantiles(DURATION, OF_GROUP),
            low=0,
            traces=f"{{ {CHOSEN} }}",
        ),
    ),
)

DETOURS = Row(
    "Detours",
    (
        Panel(
            "Retries",
            "Attempts a second made again in the same group, by what made the attempt before fail.",
            "ops",
            (Query(total(RETRIES, GROUP, ERROR), shown(GROUP, ERROR)),),
            low=0,
            traces=f"{{ {CHOSEN} && span.{semconv.ROUTER_RETRIES} > 0 }}",
        ),
        Panel(
            "Fallbacks",
            "Requests a second passed on, from one group to another; the same group twice is one order of it to the next.",
            "ops",
            (Query(total(FALLBACKS, GROUP, TO_GROUP), f"{shown(GROUP)} → {shown(TO_GROUP)}"),),
            low=0,
            traces=f"{{ {CHOSEN} && span.{semconv.ROUTER_FALLBACKS} > 0 }}",
        ),
        Panel(
            "Cooldowns by deployment",
            "How often a deployment was put into cooldown, a second, by the failure that did it; of all groups.",
            "ops",
            (Query(total(COOLDOWNS, DEPLOYMENT, ERROR), shown(DEPLOYMENT, ERROR)),),
            low=0,
        ),
    ),
)

LIMITS = Row(
    "Rate limits of the providers",
    (
        Panel(
            "Requests left by deployment",
            "What is left before the provider's limit, as its last reply said; of several applications, the least.",
            "short",
            (Query(_least(semconv.ROUTER_REMAINING_REQUESTS), shown(GROUP, DEPLOYMENT)),),
            width=12,
            low=0,
        ),
        Panel(
            "Tokens left by deployment",
            "What is left before the provider's limit, as its last reply said; of several applications, the least.",
            "short",
            (Query(_least(semconv.ROUTER_REMAINING_TOKENS), shown(GROUP, DEPLOYMENT)),),
            width=12,
            low=0,
        ),
    ),
)

LAST = Row(
    "Last requests",
    (
        Panel(
            "Last routed requests",
            "The last requests to Routers with their traces: below each, the attempts it took.",
            "none",
            (Query(f"{{ {CHOSEN} }} | select({', '.join(COLUMNS)})"),),
            kind="table",
            source="tempo",
            width=24,
            height=10,
        ),
    ),
)

BOARD = Board(
    file="router",
    uid="otel-llm-router",
    title="otel-llm: LiteLLM Router",
    description="Requests as LiteLLM's Router served them: attempts, retries, fallbacks and cooldowns; the calls are on the board of LLM requests.",
    scope='host.name=~"$host", service.name=~"$service"',
    variables=(
        Variable("host", "Host", "host.name", f"{DURATION}_count"),
        Variable("service", "Service", "service.name", f"{DURATION}_count"),
        Variable("group", "Model group", GROUP, f"{DURATION}_count"),
    ),
    rows=(OVERVIEW, REQUESTED, DETOURS, LIMITS, LAST),
)
