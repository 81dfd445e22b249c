"""The board of vLLM engines, from the metrics of the stat-logger plug-in: load, what holds an engine back, time, tokens, cache, ends.

What to do about what is seen here is said by the alerts, in `engine_alerts`.
"""

from collections.abc import Mapping

from dashboards.board import Board, Row, Variable
from dashboards.engine_requests import ENDS, LATENCY, TOKENS
from dashboards.engine_series import CHOSEN, INDEX, MODEL
from dashboards.engine_state import CACHE, LOAD, OVERVIEW
from dashboards.panels import Panel, Query
from otel_llm import semconv
from otel_llm.vllm.stats.metrics import METRICS

COLUMNS = (
    f"span.{MODEL}",
    f"span.{semconv.USAGE_INPUT_TOKENS}",
    f"span.{semconv.USAGE_OUTPUT_TOKENS}",
    f"span.{semconv.ENGINE_QUEUE_TIME}",
    f"span.{semconv.ENGINE_PREFILL_TIME}",
    f"span.{semconv.ENGINE_GENERATION_TIME}",
    f"span.{semconv.ABORT_REASON}",
    "status",
)

LAST = Row(
    "Last requests",
    (
        Panel(
            "Last requests in the engines",
            "The last spans of requests with the engine's times; of servers under the instrumentation, or with vLLM's own tracing on.",
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
    file="engine",
    uid="otel-llm-engine",
    title="otel-llm: vLLM engines",
    description="vLLM's engines by their own statistics, as the stat-logger plug-in pushes them: nothing is scraped.",
    scope=f'host.name=~"$host", service.name=~"$server", {MODEL}=~"$model"',
    variables=(
        Variable("host", "Host", "host.name", semconv.VLLM_TOKENS_GENERATED),
        # Not `service`, which links carry over from the boards of applications: this is the service that they call.
        Variable("server", "Server", "service.name", semconv.VLLM_TOKENS_GENERATED),
        Variable("model", "Model", MODEL, semconv.VLLM_TOKENS_GENERATED),
        Variable("engine", "Engine", INDEX, semconv.VLLM_TOKENS_GENERATED),
    ),
    rows=(OVERVIEW, LOAD, LATENCY, TOKENS, CACHE, ENDS, LAST),
)

# Why no panel shows what only a setting switches on, by that setting.
_ONLY: Mapping[str, str] = {
    "OTEL_LLM_VLLM_PROPOSED_NAMES": "names proposed to OpenTelemetry, for what this board shows under those that stand",
}
OFF: Mapping[str, str] = {row.name: _ONLY[row.only] for row in METRICS if row.only}
