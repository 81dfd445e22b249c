"""The stat-logger plug-in as vLLM has it: how it is taken in, which engines it tells, what becomes of faults."""

import gc
import inspect
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from vllm.v1.metrics import loggers
from vllm.v1.metrics.stats import (
    SchedulerStats,
)

from otel_llm import semconv
from otel_llm.vllm.stats import OtelStatLogger
from tests.e2e_vllm.watched import (
    Watched,
    finished,
    iteration,
    watch,
)

pytestmark = pytest.mark.usefixtures("faults")


def test_every_engine_has_series_of_its_own(config: Any) -> None:
    watched = watch(config, [0, 1])
    watched.step(SchedulerStats(num_running_reqs=1), iteration(1, 1), engine_idx=0)
    watched.step(SchedulerStats(num_running_reqs=2), iteration(2, 1, (finished("cmpl-a-0"),)), engine_idx=1)

    points = watched.points()
    index = semconv.VLLM_ENGINE_INDEX
    assert {one.attributes[index]: one.value for one in points[semconv.VLLM_REQUESTS_RUNNING]} == {0: 1, 1: 2}
    assert {one.attributes[index]: one.value for one in points[semconv.VLLM_TOKENS_GENERATED]} == {0: 1, 1: 2}
    assert [one.attributes[index] for one in points[semconv.SERVER_REQUEST_DURATION]] == [1]


@pytest.mark.parametrize(("rank", "tells_state"), [(0, True), (1, False)])
def test_of_several_api_servers_the_first_tells_the_state_and_all_tell_totals(
    config: Any, monkeypatch: pytest.MonkeyPatch, rank: int, tells_state: bool
) -> None:
    monkeypatch.setattr(config.parallel_config, "_api_process_count", 2)
    monkeypatch.setattr(config.parallel_config, "_api_process_rank", rank)
    watched = watch(config)
    watched.step(SchedulerStats(num_running_reqs=1), iteration(3, 1, (finished("cmpl-a-0"),)))

    points = watched.points()
    assert tells_state == (semconv.VLLM_REQUESTS_RUNNING in points)
    for name in (semconv.VLLM_TOKENS_GENERATED, semconv.SERVER_REQUEST_DURATION):
        (point,) = points[name]
        assert rank == point.attributes[semconv.VLLM_API_SERVER_INDEX]


def test_vllm_is_left_as_it_was(config: Any) -> None:
    """The plug-in is asked, it does not reach in: no attribute of vLLM's logging, statistics or engine is replaced."""
    from vllm.v1.engine import async_llm, output_processor
    from vllm.v1.metrics import stats

    modules = (loggers, stats, async_llm, output_processor)

    def seen() -> dict[str, Any]:
        return {
            f"{module.__name__}.{name}.{part}": inspect.getattr_static(thing, part)
            for module in modules
            for name, thing in vars(module).items()
            if inspect.isclass(thing)
            for part in dir(thing)
            if part not in ("__subclasshook__", "_abc_impl", "__weakref__")
        }

    before = seen()
    OtelStatLogger(config, [0], meter_provider=MeterProvider()).record(SchedulerStats(), iteration(1, 1))
    assert before == seen()
    assert issubclass(OtelStatLogger, loggers.AggregateStatLoggerBase)


def test_vllm_s_own_manager_takes_it(config: Any) -> None:
    """Both ways in: the class, as an entry point names it, and a function that makes one an engine."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    providers = [MeterProvider([reader]) for reader in readers]

    class Plugged(OtelStatLogger):
        def __init__(self, vllm_config: Any, engine_indexes: list[int]) -> None:
            super().__init__(vllm_config, engine_indexes, meter_provider=providers[0])

    def make(vllm_config: Any, engine_index: int) -> Any:
        return OtelStatLogger(vllm_config, engine_index, meter_provider=providers[1])

    manager = loggers.StatLoggerManager(config, [0, 1], [Plugged, make], enable_default_loggers=False)
    manager.log_engine_initialized()
    manager.record(SchedulerStats(num_running_reqs=3), iteration(1, 1), None, engine_idx=1)
    manager.record_sleep_state(1, 1)
    manager.log()

    for reader in readers:
        points = Watched(None, reader).points()[semconv.VLLM_REQUESTS_RUNNING]
        assert [(one.attributes[semconv.VLLM_ENGINE_INDEX], one.value) for one in points] == [(1, 3)]


def test_statistics_without_some_fields_leave_out_their_metrics(watched: Watched) -> None:
    """What a later vLLM might hand out."""

    class Scheduler:
        num_running_reqs = 2

    class Iteration:
        num_generation_tokens = 5

    watched.step(Scheduler(), Iteration())  # type: ignore[arg-type]

    assert {
        name: points
        for name, points in watched.numbers().items()
        if name
        not in (
            semconv.VLLM_KV_CACHE_LIMIT,
            semconv.VLLM_ENGINE_MAX_SEQUENCES,
            semconv.VLLM_ENGINE_MAX_BATCHED_TOKENS,
            semconv.VLLM_ENGINE_SLEEP_LEVEL,
        )
    } == {
        semconv.VLLM_REQUESTS_RUNNING: [({}, 2)],
        semconv.VLLM_TOKENS_GENERATED: [({}, 5)],
    }


def test_it_switches_itself_off_after_ten_errors_and_says_so_once(
    watched: Watched, faults: list[tuple[str, Exception]], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        @property
        def num_generation_tokens(self) -> int:
            raise RuntimeError("no such thing")

    watched.step(SchedulerStats(num_running_reqs=1), iteration(1, 1))
    for _ in range(30):
        watched.step(SchedulerStats(num_running_reqs=1), Broken())  # type: ignore[arg-type]

    assert [place for place, _ in faults] == ["statistics of a step of vLLM"] * 10
    assert [
        record.getMessage()[len("otel_llm: ") :].split(";")[0]
        for record in caplog.records
        if "is off" in record.getMessage()
    ] == ["recording of vLLM's statistics is off after 10 errors"]
    assert watched.numbers() == {}  # what is no longer followed is not told
    faults.clear()


def test_an_odd_configuration_keeps_no_server_from_starting() -> None:
    for odd in (None, object()):
        watched = watch(odd)
        watched.step(SchedulerStats(num_running_reqs=1), iteration(1, 1, (finished("cmpl-a-0"),)))
        (point,) = watched.points()[semconv.VLLM_REQUESTS_RUNNING]
        assert dict(point.attributes) == {semconv.VLLM_ENGINE_INDEX: 0}


def test_of_an_engine_that_is_gone_the_totals_stay_for_the_last_export(config: Any) -> None:
    first = watch(config)
    reader = first.reader
    first.step(SchedulerStats(num_running_reqs=1), iteration(7, 1))
    assert semconv.VLLM_REQUESTS_RUNNING in first.numbers()

    del first
    gc.collect()
    left = Watched(None, reader).numbers()
    assert left[semconv.VLLM_TOKENS_GENERATED] == [({}, 7)]
    assert not [name for name in left if name in (semconv.VLLM_REQUESTS_RUNNING, semconv.VLLM_ENGINE_LIMIT)]


def test_a_new_engine_takes_the_place_of_one_with_its_name(config: Any) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    for running in (1, 2):
        watched = Watched(OtelStatLogger(config, [0], meter_provider=provider), reader)
        watched.step(SchedulerStats(num_running_reqs=running))
    assert watched.number(semconv.VLLM_REQUESTS_RUNNING) == 2
