"""The table of the routes that need the token: path, parameters, answer; the reference page and /api/v1/ are printed from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from otel_agent.api import stored, topology
from otel_agent.api.params import Asked, Param, duration, hex_id, moment, share, whole, words, yes_or_no
from otel_agent.api.view import View

DAY_S = 86_400
SEVERITIES = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "warning": 13, "error": 17, "fatal": 21, "critical": 21}


@dataclass(frozen=True)
class Route:
    """One question: `path_params` stand in the path, `params` in the query; with `attributes`, names with a dot filter by attribute."""

    path: str
    answer: Callable[[View, Asked], Any]
    help: str
    params: tuple[Param, ...] = ()
    path_params: tuple[Param, ...] = ()
    attributes: bool = False


def _severity(text: str, now_s: float) -> int:
    if text.lower() in SEVERITIES:
        return SEVERITIES[text.lower()]
    try:
        return whole(1, 24)(text, now_s)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(SEVERITIES)}, or 1 to 24") from None


def _since(default: str) -> Param:
    return Param("since", moment, "From when: 15m (ago), seconds since the epoch, or RFC 3339.", default)


UNTIL = Param("until", moment, "Until when, in the same forms as since.", "now")
STEP = Param(
    "step",
    duration(1, 7 * DAY_S),
    "Time between two points, such as 10s or 1m; twice the time between two readings unless given.",
)
HOST = Param("host", words, "Only what this host reported, by its name.")
LIMIT = Param("limit", whole(1, 1000), "How many rows at most, 1 to 1000.", "100")
TRACE_ID = Param("trace_id", hex_id(32), "A trace id of 32 hexadecimal digits.")

ROUTES: tuple[Route, ...] = (
    Route("/api/v1/now", stored.now, "The machine now: system, GPUs, containers and how their sources fare.", (HOST,)),
    Route("/api/v1/system", stored.system, "SystemMetrics now.", (HOST,)),
    Route(
        "/api/v1/system/history",
        stored.system_history,
        "SystemMetrics over time, in columns.",
        (_since("15m"), UNTIL, STEP, HOST),
    ),
    Route("/api/v1/gpus", stored.gpus, "GPUMetrics of every GPU now.", (HOST,)),
    Route(
        "/api/v1/gpus/history",
        stored.gpus_history,
        "GPUMetrics over time, in columns, of every GPU.",
        (_since("15m"), UNTIL, STEP, HOST),
    ),
    Route(
        "/api/v1/gpus/processes",
        topology.processes,
        "Every process on a GPU, with its container and the model that this declares to serve.",
        (HOST,),
    ),
    Route("/api/v1/containers", stored.containers, "ContainerMetrics of every container now.", (HOST,)),
    Route(
        "/api/v1/topology",
        topology.topology,
        "Who uses which GPU: GPUs with their users and processes, containers with their GPUs and model, what does not fit.",
        (HOST,),
    ),
    Route("/api/v1/metrics", stored.metrics, "The metrics that the store knows.", (_since("1h"),)),
    Route(
        "/api/v1/series",
        stored.series,
        "One metric as lines: gauges by value, counters as rate per second, histograms as observations per second or a quantile of them.",
        (
            Param("metric", words, "The name of the metric, such as system.cpu.utilization.", required=True),
            _since("15m"),
            UNTIL,
            STEP,
            Param("quantile", share, "Of a histogram: this quantile, 0 to 1, instead of the rate."),
        ),
        attributes=True,
    ),
    Route(
        "/api/v1/requests",
        stored.requests,
        "InferenceRecords of the newest LLM requests.",
        (
            _since("30d"),
            UNTIL,
            LIMIT,
            Param("model", words, "Only requests to this model."),
            Param("failed", yes_or_no, "true: only those that failed; false: only those that did not."),
        ),
    ),
    Route(
        "/api/v1/requests/{request_id}",
        stored.request,
        "One InferenceRecord.",
        path_params=(Param("request_id", words, "The id of a request."),),
    ),
    Route("/api/v1/traces/{trace_id}", stored.trace, "The spans of one trace.", path_params=(TRACE_ID,)),
    Route(
        "/api/v1/logs",
        stored.logs,
        "The newest log records.",
        (
            _since("1h"),
            UNTIL,
            LIMIT,
            TRACE_ID,
            Param("text", words, "Only records whose body holds this text."),
            Param(
                "min_severity",
                _severity,
                "Only records at least as severe: debug, info, warn, error, or OpenTelemetry's number.",
            ),
        ),
    ),
    Route("/api/v1/store", stored.store, "What the store holds, what it dropped and why."),
    Route("/api/v1/sources", stored.sources, "How every source of this agent fares."),
    Route(
        "/api/metrics/gpu",
        stored.gpu_overview,
        "Temperature, memory, utilization and power of the host's GPUs together and of each.",
        (HOST,),
    ),
)


def described(
    path: str, help: str, params: tuple[Param, ...] = (), *, token: bool = True, attributes: bool = False
) -> dict[str, Any]:
    """Return one route in words, for /api/v1/ and the reference."""
    told = [
        {"name": param.name, "help": param.help, "default": param.default, "required": param.required}
        for param in params
    ]
    return {"path": path, "help": help, "token": token, "parameters": told, "attribute_filters": attributes}


OPEN_ROUTES: tuple[dict[str, Any], ...] = (
    described(
        "/health",
        "How the agent and its sources fare, with a verdict on the GPUs; always 200 while it answers.",
        token=False,
    ),
    described("/ready", "200 once a source has been read and while it is current, 503 otherwise.", token=False),
    described(
        "/metrics",
        "The last reading as JSON; as Prometheus text where Accept names text/plain or application/openmetrics-text.",
        token=False,
    ),
    described("/gpu", "GPUMetrics of the last reading, and how the GPU source fares.", token=False),
)
LIVE = (
    described(
        "/api/live",
        "Server-sent events: points (as /api/v1/now), requests (new InferenceRecords), health (the sources), reset (ask anew).",
    ),
    described(
        "/api/v1/live",
        "How many pages hold the live stream open, were refused, and were let go since they could not keep up.",
    ),
)


def index() -> list[dict[str, Any]]:
    """Return every route in words, the open ones first."""
    return [
        *OPEN_ROUTES,
        *(
            described(route.path, route.help, route.path_params + route.params, attributes=route.attributes)
            for route in ROUTES
        ),
        *LIVE,
    ]
