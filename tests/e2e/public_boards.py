"""What boards of others ask Prometheus for: their metrics, labels and kinds of query, written down in words of our own.

Read from the plugin's and the boards' published sources. What asks for telemetry that no client of a model has is named
in `NOT_OF_A_CLIENT`, with the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass

RANGE = "1m"
DURATION = "gen_ai_client_operation_duration_seconds"
TOKENS = "gen_ai_client_token_usage"
FIRST_TOKEN = "gen_ai_client_time_to_first_token_seconds"
TOOL_CALLS = "gen_ai_client_tool_calls_per_operation_count"  # a histogram in the unit `count`
INFERENCE = "gen_ai_client_inference"


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    panel: str
    query: str


def grows(series: str, *by: str, function: str = "rate") -> str:
    """How much a counter grows, by labels or all together."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped}({function}({series}[{RANGE}]))"


def slowest(histogram: str, *by: str, function: str = "rate") -> str:
    return f"histogram_quantile(0.95, {grows(f'{histogram}_bucket', 'le', *by, function=function)})"


def agent_plugin() -> Iterator[Asked]:
    """Grafana's plugin for agents: activity, performance, errors, tokens, cache and tools."""
    cached, uncached = f'{TOKENS}_sum{{gen_ai_token_type="cache_read"}}', f'{TOKENS}_sum{{gen_ai_token_type="input"}}'
    failed = f'{DURATION}_count{{error_type!=""}}'
    chosen = 'gen_ai_provider_name=~"(?i).*openai.*", gen_ai_request_model=~"(?i).*pla.*"'
    yield Asked("requests, filtered", grows(f"{DURATION}_count{{{chosen}}}"))
    yield Asked("requests that succeeded", grows(f'{DURATION}_count{{error_type=""}}'))
    yield Asked("errors by type", grows(failed, "error_type", function="increase"))
    yield Asked(
        "tokens for the cost by model", grows(f"{TOKENS}_sum", *(f"gen_ai_{of}" for of in ("provider_name", "request_model", "token_type")))
    )  # fmt: skip
    yield Asked("tokens by type", grows(f"{TOKENS}_sum", "gen_ai_token_type", function="increase"))
    yield Asked("cache reads and writes", grows(f'{TOKENS}_sum{{gen_ai_token_type=~"cache_read|cache_write"}}', "gen_ai_token_type"))  # fmt: skip
    yield Asked("tokens that are marked as counted with the cached ones", grows(f'{TOKENS}_sum{{gen_ai_token_semantics="inclusive"}}'))  # fmt: skip
    yield Asked("tool calls of a reply", f"{grows(f'{TOOL_CALLS}_sum')} / {grows(f'{TOOL_CALLS}_count')}")
    for label in ("gen_ai_provider_name", "gen_ai_request_model", "gen_ai_agent_name"):
        of = f"by {label}"
        yield Asked(f"requests {of}", grows(f"{DURATION}_count", label))
        yield Asked(f"requests in all {of}", grows(f"{DURATION}_count", label, function="increase"))
        yield Asked(f"share of errors {of}", f"{grows(failed, label)} / {grows(f'{DURATION}_count', label)} * 100")
        yield Asked(
            f"share of errors by type {of}",
            f"{grows(failed, 'error_type', label)} / on({label}) group_left() {grows(f'{DURATION}_count', label)} * 100",
        )
        yield Asked(f"latency {of}", slowest(DURATION, label))
        yield Asked(f"latency in all {of}", slowest(DURATION, label, function="increase"))
        yield Asked(f"first token {of}", slowest(FIRST_TOKEN, label))
        yield Asked(f"tokens {of}", grows(f'{TOKENS}_sum{{gen_ai_token_type=~"input|output"}}', label))
        yield Asked(f"tokens by type {of}", grows(f"{TOKENS}_sum", label, "gen_ai_token_type"))
        yield Asked(
            f"cache hits {of}",
            f"{grows(cached, label)} / ({grows(cached, label)} + {grows(uncached, label)}) * 100",
        )


def litellm_board() -> Iterator[Asked]:
    """The board that LiteLLM publishes for its own OpenTelemetry metrics."""
    chosen = '{service_name=~".+", gen_ai_request_model=~".+"}'
    model = "gen_ai_request_model"
    yield Asked("Requests", grows(f"{DURATION}_count{chosen}", function="increase"))
    yield Asked("Tokens", grows(f"{TOKENS}_sum{chosen}", function="increase"))
    yield Asked("p95 request duration", f"histogram_quantile(0.95, {grows(f'{DURATION}_bucket{chosen}', 'le')})")
    yield Asked("Request rate by model", f"{grows(f'{DURATION}_count{chosen}', model)} * 60")
    yield Asked("Tokens by model and type", f"{grows(f'{TOKENS}_sum{chosen}', model, 'gen_ai_token_type')} * 60")
    yield Asked(
        "p95 request duration by model", f"histogram_quantile(0.95, {grows(f'{DURATION}_bucket{chosen}', 'le', model)})"
    )


def newer_conventions() -> Iterator[Asked]:
    """What the newer GenAI conventions name; no public board asks for it yet."""
    yield Asked("requests", grows(f"{INFERENCE}_duration_seconds_count", "gen_ai_request_model"))
    yield Asked("duration", slowest(f"{INFERENCE}_duration_seconds", "gen_ai_request_model"))
    yield Asked("first chunk", slowest(f"{INFERENCE}_time_to_first_chunk_seconds", "gen_ai_request_model"))
    yield Asked("output chunk", slowest(f"{INFERENCE}_time_per_output_chunk_seconds", "gen_ai_request_model"))
    for kind in ("input_tokens", "output_tokens", "cache_read_input_tokens", "reasoning_output_tokens"):
        yield Asked(kind, grows(f"{INFERENCE}_usage_{kind}_total", "gen_ai_request_model", "gen_ai_token_modality"))


BOARDS = {
    "Grafana's agent plugin": tuple(agent_plugin()),
    "LiteLLM's board": tuple(litellm_board()),
    "the newer conventions": tuple(newer_conventions()),
}

# By board: what it asks for besides. These find nothing, and why.
NOT_OF_A_CLIENT = {
    "Grafana's agent plugin": {
        'gen_ai_client_operation_duration_seconds_count{gen_ai_tool_name!=""}': "the application runs its tools, not LiteLLM",
        "gen_ai_evaluation_score_bucket": "nothing is evaluated here",
    },
    "Grafana's integration for OpenLIT": {
        'gen_ai_client_operation_duration_seconds_count{telemetry_sdk_name="openlit"}': "nearly every panel asks for one SDK by its name",
        "db_client_operation_duration_seconds_bucket": "a vector database",
        "gen_ai_usage_cost_USD_sum": "a recording rule makes it of otel_llm_client_cost_total",
    },
    "LiteLLM's board": {
        "gen_ai_usage_cost_USD_sum": "as above",
        "gen_ai_server_time_to_first_token_seconds_bucket": "a client's clock is no server's; instrumented vLLM has it",
        "gen_ai_client_response_duration_seconds_bucket": "LiteLLM's name for its call without its own overhead, which is on the span",
    },
    "vLLM's and llm-d's boards": {
        "vllm:e2e_request_latency_seconds_bucket": "the server's own page, which the agent reads where there is one",
        "llm_d_epp_request_total": "llm-d's scheduler",
        "gen_ai_server_kv_cache_utilization": "proposed for servers",
    },
}
