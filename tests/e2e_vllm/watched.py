"""What tests of the stat-logger plug-in share: an engine's configuration, statistics as vLLM makes them, what is collected."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.engine import FinishReason
from vllm.v1.metrics.stats import (
    FinishedRequestStats,
    IterationStats,
    MultiModalCacheStats,
    PrefillStats,
    PrefixCacheStats,
    SchedulerStats,
)
from vllm.v1.spec_decode.metrics import SpecDecodingStats

from otel_llm import fault, semconv
from otel_llm.vllm.stats import OtelStatLogger

MAX_SEQUENCES = 8
ENGINE = {semconv.REQUEST_MODEL: "tiny", semconv.VLLM_ENGINE_INDEX: 0}


def configured(offline: dict[str, Any]) -> Any:
    """Return vLLM's configuration of an engine that is up."""
    arguments = {**offline, "served_model_name": ["tiny", "small"], "max_num_seqs": MAX_SEQUENCES}
    made = EngineArgs(**arguments).create_engine_config()
    made.cache_config.num_gpu_blocks = 64  # an engine says it when it is up
    return made


@contextmanager
def caught() -> Iterator[list[tuple[str, Exception]]]:
    """Collect what our guards catch; a test that causes faults takes them out again."""
    found: list[tuple[str, Exception]] = []
    before = fault.set_on_fault(lambda place, error: found.append((place, error)))
    try:
        yield found
    finally:
        fault.set_on_fault(before)
    assert found == []


@dataclass
class Watched:
    """A stat logger, and what is collected from it."""

    logger: Any
    reader: InMemoryMetricReader

    def step(
        self, scheduler: SchedulerStats | None = None, iteration: IterationStats | None = None, **more: Any
    ) -> None:
        self.logger.record(scheduler, iteration, **more)

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def numbers(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """The engine's state and totals by metric, each point's attributes without those that name the engine."""
        return {
            name: [
                ({key: value for key, value in point.attributes.items() if key not in ENGINE}, point.value)
                for point in points
            ]
            for name, points in self.points().items()
            if isinstance(points[0], NumberDataPoint)
        }

    def number(self, name: str) -> float:
        ((_, value),) = self.numbers()[name]
        return value

    def limit(self) -> str:
        (state,) = [
            attributes[semconv.VLLM_LIMIT_STATE]
            for attributes, value in self.numbers()[semconv.VLLM_ENGINE_LIMIT]
            if value
        ]
        return str(state)


def watch(config: Any, indexes: Sequence[int] = (0,)) -> Watched:
    """Make a stat logger with a reader of its own."""
    reader = InMemoryMetricReader()
    return Watched(OtelStatLogger(config, indexes, meter_provider=MeterProvider([reader])), reader)


def iteration(
    tokens: int = 0,
    started: int = 0,
    finished: tuple[FinishedRequestStats, ...] = (),
    preempted: int = 0,
    prompt: int = 0,
) -> IterationStats:
    """Statistics as vLLM's front end makes them: the requests that started here had prompts of `prompt` tokens."""
    made = IterationStats()
    made.num_generation_tokens = tokens
    made.time_to_first_tokens_iter = [0.01] * started
    made.num_preempted_reqs = preempted
    made.finished_requests = list(finished)
    for _ in range(started):
        made.prompt_token_stats.update_from_output(
            PrefillStats(
                num_prompt_tokens=prompt,
                num_computed_tokens=prompt,
            )
        )
    return made


def finished(request_id: str | None, reason: FinishReason = FinishReason.STOP, **more: Any) -> FinishedRequestStats:
    times = {"e2e_latency": 1.25, "queued_time": 0.25, "prefill_time": 0.5, "decode_time": 0.45, "inference_time": 0.95}
    known = {"num_prompt_tokens": 20, "num_generation_tokens": 10, "mean_time_per_output_token": 0.05, **times}
    return FinishedRequestStats(finish_reason=reason, request_id=request_id, **{**known, **more})


def two_steps(watched: Watched) -> None:
    """Hand over everything that an engine can tell."""
    watched.logger.log_engine_initialized()
    first = SchedulerStats(num_running_reqs=2, num_waiting_reqs=1, kv_cache_usage=0.5)
    first.prefix_cache_stats = PrefixCacheStats(requests=2, queries=40, hits=16)
    first.connector_prefix_cache_stats = PrefixCacheStats(requests=1, queries=24, hits=8)
    first.spec_decoding_stats = SpecDecodingStats(
        num_spec_tokens=3, num_drafts=2, num_draft_tokens=6, num_accepted_tokens=4
    )
    watched.step(
        first, iteration(2, started=2, prompt=20), mm_cache_stats=MultiModalCacheStats(requests=1, queries=3, hits=1)
    )
    last = SchedulerStats(num_running_reqs=1, num_waiting_reqs=3, num_skipped_waiting_reqs=2, kv_cache_usage=0.25)
    last.prefix_cache_stats = PrefixCacheStats(requests=1, queries=20, hits=16)
    watched.step(last, iteration(2, preempted=1, finished=(finished("cmpl-a-0", num_generation_tokens=2),)))
