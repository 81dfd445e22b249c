"""Points counted where the SDK counts them are the points the API would have recorded: the same script through both."""

import math
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    Histogram,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_span_in_context

from otel_llm import bound
from otel_llm.bound import Bound
from otel_llm.metrics import COST, DURATION, counter, histogram

POINTS: Sequence[dict[str, Any]] = (
    {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m", "server.port": 1},
    {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m", "server.port": 2},
    {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "openai", "error.type": "Timeout"},
    {"gen_ai.provider.name": "openai", "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "server.port": 1},
    {"server.port": "1"},
    {},
)
DELTA = {Histogram: AggregationTemporality.DELTA, Counter: AggregationTemporality.DELTA}

SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "as it comes": dict,
    "delta": lambda: {"metric_readers": [InMemoryMetricReader(DELTA)]},
    "two readers": lambda: {"metric_readers": [InMemoryMetricReader(), InMemoryMetricReader(DELTA)]},
    "no reader": lambda: {"metric_readers": []},
    "fewer attributes": lambda: {"views": [View(instrument_name="*", attribute_keys={"gen_ai.operation.name"})]},
    "two views": lambda: {
        "views": [
            View(instrument_name="*"),
            View(instrument_name=DURATION.name, name="again", aggregation=ExplicitBucketHistogramAggregation((1, 5))),
        ]
    },
    "exponential": lambda: {
        "views": [View(instrument_name=DURATION.name, aggregation=ExponentialBucketHistogramAggregation())]
    },
    "dropped": lambda: {"views": [View(instrument_name="*", aggregation=DropAggregation())]},
    "every point an exemplar": lambda: {"exemplar_filter": AlwaysOnExemplarFilter()},
    "no exemplars": lambda: {"exemplar_filter": AlwaysOffExemplarFilter()},
    "exemplars by trace": lambda: {"exemplar_filter": TraceBasedExemplarFilter()},
}


class Metered:
    """A provider with a histogram and a counter, and what its readers have seen."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.readers = settings.setdefault("metric_readers", [InMemoryMetricReader()])
        self.provider = MeterProvider(**settings, shutdown_on_exit=False)
        meter = self.provider.get_meter("bound")
        self.histogram, self.counter = histogram(meter, DURATION), counter(meter, COST)

    def seen(self) -> list[Any]:
        """All points of all readers, without their times, which no two runs share."""
        return [
            (
                metric.name,
                sorted(
                    (sorted(point.attributes.items(), key=str), *_values(point)) for point in metric.data.data_points
                ),
            )
            for reader in self.readers
            for data in [reader.get_metrics_data()]
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]


def _values(point: Any) -> tuple[Any, ...]:
    names = ("value", "count", "sum", "min", "max", "bucket_counts", "scale", "zero_count", "positive", "negative")
    values = tuple(str(getattr(point, name, None)) for name in names)
    exemplars = sorted((one.value, one.span_id, one.trace_id, str(one.filtered_attributes)) for one in point.exemplars)
    return (*values, str(exemplars))


@pytest.fixture
def through_the_api(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What switches to an SDK that is not known."""
    return lambda: monkeypatch.setattr(bound, "_is_tested", lambda: False)


def _script(metered: Metered, contexts: Sequence[Context]) -> list[Any]:
    dice, seen = random.Random(7), []
    random.seed(7)  # reservoirs of exemplars draw from it
    for _ in range(4):
        for _ in range(60):
            point, context = dice.choice(POINTS), dice.choice(contexts)
            metered.histogram.record(dice.expovariate(1), point, context)
            metered.counter.add(dice.randrange(9), point, context)
        metered.histogram.record_all([dice.expovariate(1) for _ in range(9)], dice.choice(POINTS))
        seen.append(metered.seen())
    return seen


@pytest.fixture
def contexts() -> list[Context]:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bound")
    spans = [tracer.start_span("one"), tracer.start_span("two")]
    return [set_span_in_context(span, Context({"other": 1})) for span in spans] + [Context({"other": 1})]


@pytest.mark.parametrize("name", SETTINGS)
def test_both_ways_record_the_same(name, contexts, through_the_api):
    near, far = Metered(SETTINGS[name]()), Metered(SETTINGS[name]())
    directly = _script(near, contexts)
    through_the_api()
    assert _script(far, contexts) == directly
    assert (directly[-1] == []) is (name in ("no reader", "dropped"))


def _calls_of_the_api(metered: Metered) -> list[float]:
    calls: list[float] = []
    api = metered.histogram._api
    metered.histogram._api = lambda amount, *rest: (calls.append(amount), api(amount, *rest))  # type: ignore[assignment]
    return calls


def test_a_series_is_described_to_the_sdk_once():
    metered = Metered({})
    calls = _calls_of_the_api(metered)
    for number in range(5):
        for point in POINTS:
            metered.histogram.record(number, point)
    metered.histogram.record_all([7.0, 8.0], POINTS[0])
    assert calls == [0] * len(POINTS)


def test_an_sdk_that_is_not_known_is_left_to_itself(through_the_api):
    through_the_api()
    metered = Metered({})
    calls = _calls_of_the_api(metered)
    for number in range(3):
        metered.histogram.record(number, POINTS[0])
    metered.histogram.record_all([7.0, 8.0], POINTS[0])
    assert calls == [0, 1, 2, 7.0, 8.0]


def test_the_installed_sdk_is_known():
    assert bound._is_tested(), "run these tests with it, then add it to TESTED; until then points cost more with it"


@pytest.mark.parametrize("amount", [-1.0, math.nan, math.inf])
def test_what_the_sdk_refuses_it_is_asked_to_refuse(amount, caplog):
    metered = Metered({})
    metered.histogram.record(1.0, POINTS[0])
    before = metered.seen()
    metered.histogram.record(amount, POINTS[0])
    assert metered.seen() == before
    assert "Record amount" in caplog.text


def test_a_reader_that_comes_later_sees_what_comes_later():
    metered, late = Metered({}), InMemoryMetricReader()
    metered.histogram.record(1.0, POINTS[0])
    metered.histogram.record(1.0, POINTS[0])
    metered.provider.add_metric_reader(late)
    metered.histogram.record(2.0, POINTS[0])
    metered.histogram.record_all([2.0, 2.0], POINTS[0])
    counts = [reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].count
              for reader in (metered.readers[0], late)]  # fmt: skip
    assert counts == [5, 3]


def test_a_context_that_is_not_given_is_the_current_one():
    metered = Metered({})
    span = TracerProvider(shutdown_on_exit=False).get_tracer("bound").start_span("current")
    metered.histogram.record(1.0, POINTS[0])
    token = attach(set_span_in_context(span))
    metered.histogram.record(1.0, POINTS[0])
    detach(token)
    assert str(span.get_span_context().span_id) in str(metered.seen())


def test_before_there_is_a_provider_nothing_is_settled():
    from opentelemetry.metrics._internal import _ProxyMeter

    meter, metered = _ProxyMeter("proxy"), Metered({})
    early = histogram(meter, DURATION)
    early.record(1.0, POINTS[0])  # which the API drops
    meter.on_set_meter_provider(metered.provider)
    for _ in range(3):
        early.record(1.0, POINTS[0])
    assert "'3'" in str(metered.seen())
    assert early._met[(*POINTS[0], *POINTS[0].values())] is not None


def test_an_sdk_of_another_make_gets_every_point():
    meter = NoOpMeterProvider().get_meter("none")
    instrument = histogram(meter, DURATION)
    for _ in range(3):
        instrument.record(1.0, POINTS[0])
    assert instrument._met == {(*POINTS[0], *POINTS[0].values()): None}


def test_more_series_than_are_remembered_are_recorded_all_the_same(monkeypatch):
    monkeypatch.setattr(bound, "_MOST_SERIES", 3)
    metered = Metered({})
    for number in [*range(9), *range(9)]:
        metered.histogram.record(1.0, {"server.port": number})
    assert len(metered.histogram._met) == 3
    assert str(metered.seen()).count("'2'") >= 9


def test_a_look_up_that_fails_costs_no_point(monkeypatch):
    faults: list[str] = []
    monkeypatch.setattr(bound.fault, "report", lambda place, error: faults.append(place))

    def fail(*_: Any) -> None:
        raise KeyError("moved")

    monkeypatch.setattr(bound, "_look_up", fail)
    metered = Metered({})
    for _ in range(3):
        metered.histogram.record(1.0, POINTS[0])
    assert faults == ["looking a series up in the SDK"]
    assert "'3'" in str(metered.seen())


def test_threads_lose_nothing_while_it_is_collected():
    metered, each = Metered({"metric_readers": [InMemoryMetricReader(DELTA), InMemoryMetricReader()]}), 500
    ended = threading.Event()

    def work() -> None:
        for number in range(each):
            metered.counter.add(1, POINTS[number % 3])

    threads = [threading.Thread(target=work) for _ in range(4)]
    totals = [0.0, 0.0]

    def collect() -> None:
        while True:
            was_ended = ended.is_set()
            for number, reader in enumerate(metered.readers):
                data = reader.get_metrics_data()
                found = [p.value for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics
                         for p in m.data.data_points] if data is not None else []  # fmt: skip
                totals[number] = totals[0] + sum(found) if number == 0 else sum(found)
            if was_ended:
                return

    collector = threading.Thread(target=collect)
    for thread in (*threads, collector):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    collector.join()
    assert totals == [4 * each, 4 * each]


def test_what_is_not_text_or_an_integer_goes_through_the_api():
    class Word(str):
        __slots__ = ()

    metered = Metered({})
    for value in (True, 1.5, Word("m")):
        metered.histogram.record(1.0, {"x": value})
        metered.histogram.record(1.0, {"x": value})
    assert set(metered.histogram._met.values()) == {None}


def test_bound_needs_no_sdk_to_be_made():
    recorded: list[Any] = []
    instrument = Bound(object(), lambda *given: recorded.append(given))
    instrument.record(1.0, {"a": "b"})
    instrument.add(2.0, {"a": "b"})
    assert recorded == [(1.0, {"a": "b"}, None), (2.0, {"a": "b"}, None)]
