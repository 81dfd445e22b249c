"""Boards of others, fed by the instrumented LiteLLM alone: each query that concerns a client's calls has an answer."""

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.programs import program
from e2e.public_boards import BOARDS, NOT_OF_A_CLIENT, Asked
from e2e.stack import promql
from instrumentation.openai_server import serve
from waiting import until

from compose.native.stack import Stack

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
APP = "an-application-with-an-agent"
DEADLINE_S = 90.0
SWITCHES = {
    "OTEL_LLM_GRAFANA_METRIC_NAMES": "true",
    "OTEL_LLM_METRIC_ATTRIBUTES": "gen_ai.agent.name",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental/dup",
}


@pytest.fixture(scope="module", autouse=True)
def asking(stack: Stack) -> Iterator[None]:
    telemetry = {
        "OTEL_SERVICE_NAME": APP,
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.ports.url("otlp_grpc"),
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OTEL_LLM_PRICES": json.dumps({"plain": {"input": 0.1, "output": 0.4}}),
        **SWITCHES,
    }
    launcher = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    with serve() as server, program(launcher, sys.executable, str(HERE / "agent_app.py"), server.url, **telemetry):
        until(lambda: promql(stack, f'gen_ai_client_token_usage_sum{{service_name="{APP}"}}'), "tokens", DEADLINE_S)
        yield


def has_answer(stack: Stack, asked: Asked) -> bool:
    """Whether there is a number; a quantile of a histogram that did not grow yet is none."""
    return any(not math.isnan(value) for _, value in promql(stack, asked.query))


@pytest.mark.parametrize("board", BOARDS)
def test_every_query_about_calls_has_an_answer(stack: Stack, board: str) -> None:
    left = BOARDS[board]
    give_up = time.monotonic() + DEADLINE_S
    while left and time.monotonic() < give_up:
        left = tuple(asked for asked in left if not has_answer(stack, asked))

    assert left == ()


def test_agents_are_told_apart_and_cached_tokens_are_in_the_tokens_of_the_prompt(stack: Stack) -> None:
    def means() -> dict[str, float]:
        per_call = (
            "sum by (gen_ai_agent_name, gen_ai_token_type) (gen_ai_client_token_usage_sum)"
            " / sum by (gen_ai_agent_name, gen_ai_token_type) (gen_ai_client_token_usage_count)"
        )
        told = promql(stack, per_call)
        return {
            labels["gen_ai_token_type"]: value for labels, value in told if labels.get("gen_ai_agent_name") == "planner"
        }

    expected = {"input": 11.0, "output": 7.0, "cache_read": 3.0, "reasoning": 2.0}
    until(lambda: means() == pytest.approx(expected), f"{expected}")


@pytest.mark.parametrize("board", NOT_OF_A_CLIENT)
def test_what_no_client_can_tell_is_not_made_up(stack: Stack, board: str) -> None:
    """A query that finds our data belongs into `BOARDS`."""
    found = [
        query
        for query in NOT_OF_A_CLIENT[board]
        if any(labels.get("service_name") == APP for labels, _ in promql(stack, query))
    ]

    assert found == []
