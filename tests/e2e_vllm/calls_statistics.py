"""What vLLM's statistics are handed to, our logger among others, as rows of the table in `outcomes`."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics import MeterProvider as Recording
from prometheus_client import REGISTRY
from vllm.v1.engine import FinishReason
from vllm.v1.metrics.loggers import StatLoggerManager
from vllm.v1.metrics.stats import SchedulerStats

from otel_llm.vllm.stats import OtelStatLogger
from tests.e2e_vllm.watched import finished, iteration

TRACED = f"00-{0xA:032x}-{0xB:016x}-01"


class Statistics:
    """The configuration for the statistics' loggers, and the meter provider that ours is to use; set by the test."""

    config: Any
    meter_provider: MeterProvider | None = None  # None: without ours


def _statistics(_: object) -> Any:
    """What vLLM's own logger for Prometheus and another one tell, with ours between them."""
    heard: list[Any] = []

    class Other:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **__: heard.append((name, len(args)))

    ours = [] if Statistics.meter_provider is None else [Ours]
    manager = StatLoggerManager(Statistics.config, [0], [*ours, Other], enable_default_loggers=False)
    manager.log_engine_initialized()
    manager.record(
        SchedulerStats(num_running_reqs=2, num_waiting_reqs=1, kv_cache_usage=0.5), iteration(2, 2, prompt=20)
    )
    ended = (finished(f"cmpl-{TRACED}-0"), finished(None, FinishReason.ABORT))
    manager.record(SchedulerStats(num_running_reqs=1), iteration(9, finished=ended, preempted=1))
    manager.record(None, None)
    manager.record_sleep_state(1, 2)
    manager.record_sleep_state(0, 0)
    manager.record_admission_rejection("max_num_queued_reqs")
    manager.log()
    if isinstance(Statistics.meter_provider, Recording):
        Statistics.meter_provider.force_flush()  # collects
    told = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in REGISTRY.collect()
        if metric.name.startswith("vllm:")
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
    return told, heard


class Ours(OtelStatLogger):  # type: ignore[misc]  # mypy sees no vLLM
    """As vLLM makes it, save that it records for the test."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given, meter_provider=Statistics.meter_provider)


def _nonsense(_: object) -> None:
    """More of it than our logger bears."""
    if Statistics.meter_provider is not None:
        logger = Ours(Statistics.config, [0])
        for _ in range(12):
            logger.record(object(), SimpleNamespace(finished_requests=7))
        logger.record_sleep_state("a", None)
        logger.record_admission_rejection(None)


STATISTICS: Mapping[str, Callable[[object], Any]] = {"statistics": _statistics, "nonsense": _nonsense}
