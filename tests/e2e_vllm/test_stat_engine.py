"""An engine's state by the stat-logger plug-in: gauges, totals, why it is limited, what was aborted, the proposed names."""

from typing import Any

import pytest
from vllm.v1.engine import FinishReason
from vllm.v1.metrics.stats import (
    PrefixCacheStats,
    SchedulerStats,
)

from otel_llm import semconv
from otel_llm.vllm.stats.limits import Limit
from otel_llm.vllm.stats.metrics import METRICS
from tests.e2e_vllm.model import MAX_TOKENS
from tests.e2e_vllm.watched import (
    MAX_SEQUENCES,
    Watched,
    finished,
    iteration,
    two_steps,
    watch,
)

pytestmark = pytest.mark.usefixtures("faults")


def test_the_engine_s_state_is_what_its_last_step_said_and_totals_add_up(watched: Watched) -> None:
    two_steps(watched)

    assert {
        semconv.VLLM_REQUESTS_RUNNING: [({}, 1)],
        semconv.VLLM_REQUESTS_WAITING: [
            ({semconv.VLLM_WAITING_REASON: "capacity"}, 3),
            ({semconv.VLLM_WAITING_REASON: "deferred"}, 2),
        ],
        semconv.VLLM_REQUESTS_FINISHED: [({semconv.VLLM_FINISH_REASON: "stop"}, 1)],
        semconv.VLLM_REQUESTS_UNACCOUNTED: [({}, 0)],
        semconv.VLLM_REQUEST_PHASE_TIME: [
            ({semconv.VLLM_PHASE: "queue"}, 0.25),
            ({semconv.VLLM_PHASE: "prefill"}, 0.5),
            ({semconv.VLLM_PHASE: "decode"}, 0.45),
        ],
        semconv.VLLM_TOKENS_PROMPT: [
            ({semconv.VLLM_PROMPT_SOURCE: "computed"}, 40),
            ({semconv.VLLM_PROMPT_SOURCE: "local_cache_hit"}, 0),
            ({semconv.VLLM_PROMPT_SOURCE: "external_kv_transfer"}, 0),
        ],
        semconv.VLLM_TOKENS_GENERATED: [({}, 4)],
        semconv.VLLM_TOKENS_UNACCOUNTED: [({}, 0)],
        semconv.VLLM_PREEMPTIONS: [({}, 1)],
        semconv.VLLM_KV_CACHE_UTILIZATION: [({}, 0.25)],
        semconv.VLLM_KV_CACHE_LIMIT: [({}, 64 * watched.logger._config.cache_config.block_size)],
        semconv.VLLM_PREFIX_CACHE_QUERIES: [({}, 60)],
        semconv.VLLM_PREFIX_CACHE_HITS: [({}, 32)],
        semconv.VLLM_EXTERNAL_PREFIX_CACHE_QUERIES: [({}, 24)],
        semconv.VLLM_EXTERNAL_PREFIX_CACHE_HITS: [({}, 8)],
        semconv.VLLM_MULTIMODAL_CACHE_QUERIES: [({}, 3)],
        semconv.VLLM_MULTIMODAL_CACHE_HITS: [({}, 1)],
        semconv.VLLM_SPECULATIVE_DRAFTS: [({}, 2)],
        semconv.VLLM_SPECULATIVE_DRAFT_TOKENS: [({}, 6)],
        semconv.VLLM_SPECULATIVE_ACCEPTED_TOKENS: [({}, 4)],
        semconv.VLLM_ENGINE_LIMIT: [
            ({semconv.VLLM_LIMIT_STATE: state}, int(state == "kv_pressure"))  # a request was preempted
            for state in ("idle", "none", "deferred", "sequence_cap", "kv_pressure", "token_budget")
        ],
        semconv.VLLM_ENGINE_MAX_SEQUENCES: [({}, MAX_SEQUENCES)],
        semconv.VLLM_ENGINE_MAX_BATCHED_TOKENS: [({}, watched.logger._config.scheduler_config.max_num_batched_tokens)],
        semconv.VLLM_ENGINE_SLEEP_LEVEL: [({}, 0)],
    } == watched.numbers()


def test_before_its_first_step_an_engine_tells_only_what_it_is(watched: Watched) -> None:
    assert {
        semconv.VLLM_KV_CACHE_LIMIT,
        semconv.VLLM_ENGINE_MAX_SEQUENCES,
        semconv.VLLM_ENGINE_MAX_BATCHED_TOKENS,
        semconv.VLLM_ENGINE_SLEEP_LEVEL,
    } == set(watched.numbers())


def test_sleep_and_rejections_are_told(watched: Watched) -> None:
    watched.logger.record_sleep_state(1, 2)
    watched.logger.record_admission_rejection("max_num_queued_reqs")
    watched.logger.record_admission_rejection("max_num_queued_reqs")

    assert watched.number(semconv.VLLM_ENGINE_SLEEP_LEVEL) == 2
    ((attributes, count),) = watched.numbers()[semconv.VLLM_REQUESTS_REJECTED]
    assert (attributes, count) == ({semconv.VLLM_REJECTION_REASON: "max_num_queued_reqs"}, 2)

    watched.logger.record_sleep_state(0, 0)
    assert watched.number(semconv.VLLM_ENGINE_SLEEP_LEVEL) == 0


BUSY = {"num_running_reqs": 4, "num_waiting_reqs": 2, "kv_cache_usage": 0.5}


@pytest.mark.parametrize(
    ("scheduler", "step", "limit"),
    [
        ({}, {}, Limit.IDLE),
        ({"num_running_reqs": MAX_SEQUENCES}, {}, Limit.NONE),
        ({"num_running_reqs": 4, "num_skipped_waiting_reqs": 1}, {}, Limit.DEFERRED),
        ({**BUSY, "num_running_reqs": MAX_SEQUENCES}, {}, Limit.SEQUENCE_CAP),
        ({**BUSY, "num_running_reqs": MAX_SEQUENCES - 1}, {"finished": (finished("cmpl-a-0"),)}, Limit.SEQUENCE_CAP),
        ({**BUSY, "kv_cache_usage": 0.95}, {}, Limit.KV_PRESSURE),
        ({**BUSY}, {"preempted": 1}, Limit.KV_PRESSURE),
        ({**BUSY}, {"started": 1, "prompt": 5000}, Limit.KV_PRESSURE),
        (BUSY, {"started": 1, "prompt": 100}, Limit.TOKEN_BUDGET),
    ],
    ids=lambda value: str(value) if isinstance(value, Limit) else "",
)
def test_why_the_engine_is_limited(
    watched: Watched, scheduler: dict[str, Any], step: dict[str, Any], limit: Limit
) -> None:
    watched.step(SchedulerStats(**scheduler), iteration(4, **step))

    assert limit.value == watched.limit()


def test_aborted_requests_are_the_balance_exact_when_the_engine_is_empty(watched: Watched) -> None:
    """Three requests start; one finishes, one is aborted by its client, which vLLM's statistics do not tell, one runs."""
    watched.step(SchedulerStats(num_running_reqs=3), iteration(3, started=3, prompt=5))
    watched.step(SchedulerStats(num_running_reqs=3), iteration(3))
    watched.step(
        SchedulerStats(num_running_reqs=1), iteration(2, finished=(finished("cmpl-a-0", num_generation_tokens=3),))
    )
    assert watched.number(semconv.VLLM_REQUESTS_UNACCOUNTED) == 1
    assert watched.number(semconv.VLLM_TOKENS_UNACCOUNTED) == 0  # the one that runs might have them all

    watched.step(SchedulerStats(), iteration(1, finished=(finished("cmpl-b-0", num_generation_tokens=4),)))
    assert watched.number(semconv.VLLM_REQUESTS_UNACCOUNTED) == 1
    assert watched.number(semconv.VLLM_TOKENS_UNACCOUNTED) == 2

    watched.step(SchedulerStats(num_running_reqs=5), iteration(5, started=5, prompt=5))
    assert watched.number(semconv.VLLM_REQUESTS_UNACCOUNTED) == 1
    assert watched.number(semconv.VLLM_TOKENS_UNACCOUNTED) == 2


def test_tokens_of_aborted_requests_are_told_on_an_engine_that_is_never_empty(watched: Watched) -> None:
    for _ in range(10):
        watched.step(SchedulerStats(num_running_reqs=2), iteration(MAX_TOKENS, started=1, prompt=5))

    assert watched.number(semconv.VLLM_REQUESTS_UNACCOUNTED) == 8
    assert watched.number(semconv.VLLM_TOKENS_UNACCOUNTED) == 8 * MAX_TOKENS


def test_the_proposed_names_are_told_where_asked(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_LLM_VLLM_PROPOSED_NAMES", "true")
    watched = watch(config)
    told = SchedulerStats(num_running_reqs=2, num_waiting_reqs=1, num_skipped_waiting_reqs=1, kv_cache_usage=0.25)
    told.prefix_cache_stats = PrefixCacheStats(requests=1, queries=20, hits=16)
    watched.step(told, iteration(10, 1, (finished("cmpl-a-0"),)))

    holds = 64 * config.cache_config.block_size
    numbers = {name: points for name, points in watched.numbers().items() if name.startswith("gen_ai.")}
    assert {
        semconv.PROPOSED_REQUEST_COUNT: [({"state": "queued"}, 2), ({"state": "running"}, 2)],
        semconv.PROPOSED_KV_CACHE_USAGE: [({}, holds // 4)],
        semconv.PROPOSED_KV_CACHE_LIMIT: [({}, holds)],
        semconv.PROPOSED_KV_CACHE_UTILIZATION: [({}, 0.25)],
        semconv.PROPOSED_PREFIX_CACHE_QUERIES: [({}, 20)],
        semconv.PROPOSED_PREFIX_CACHE_HITS: [({}, 16)],
    } == numbers
    phases = {one.attributes["phase"]: one.sum for one in watched.points()[semconv.PROPOSED_PHASE_DURATION]}
    assert phases == {"queue": 0.25, "prefill": 0.5, "decode": 0.45}


def test_every_metric_and_attribute_is_declared(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_LLM_VLLM_PROPOSED_NAMES", "true")
    watched = watch(config)
    two_steps(watched)
    watched.step(None, iteration(4, 1, (finished("cmpl-a-0", FinishReason.ERROR),), prompt=3))
    watched.logger.record_admission_rejection("max_num_queued_reqs")

    declared = {row.name: set(row.attributes) for row in METRICS}
    told = watched.points()
    assert set(declared) == set(told)
    for name, points in told.items():
        for point in points:
            assert set(point.attributes) <= declared[name], name
