"""Containers that come and go for a day, through reader, points, instruments and SDK: memory and series stay flat."""

import gc
import tracemalloc
from collections.abc import Iterator

import pytest
from agent.sources.scripted_engine import HYBRID, Clock, ScriptedEngine, scripted_engine
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from waiting import until

from otel_agent.schedule import Worker
from otel_agent.sources.containers import watch
from otel_agent.sources.containers.metrics import METRICS
from otel_agent.sources.containers.read import open_containers
from otel_agent.telemetry.ends import SeriesEnds
from otel_agent.telemetry.forgetting import Forgetting
from otel_agent.telemetry.instruments import Latest, bind

A_DAY = 17_280  # readings, five seconds apart
SHOWN = 150  # of them driven whole; what is kept a container would show in a few dozen


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as running:
        yield running


def held() -> int:
    """Return the bytes that the agent's code and the SDK's hold; the engine of the test holds some too."""
    gc.collect()
    ours = [tracemalloc.Filter(True, f"*/{package}/*") for package in ("otel_agent", "opentelemetry")]
    return sum(line.size for line in tracemalloc.take_snapshot().filter_traces(ours).statistics("filename"))


def test_a_container_replaced_at_every_reading_leaves_nothing_behind(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than two thousand identities would be folded into one series by the SDK, were they remembered."""
    # Two memories that are bounded by themselves must be full by half-time, or their filling would count as growth.
    monkeypatch.setattr(watch, "REMEMBERED", 16)
    tracemalloc.start()
    reader = open_containers(HYBRID, environ=engine.host, clock=Clock(), wall=lambda: 1795259576.0)
    until(lambda: reader().events, "the stream")
    latest, ends = Latest(), SeriesEnds()
    worker = Worker("containers", lambda: reader, METRICS, interval_s=5, deadline_s=4, on_publish=latest.publish)
    memory = InMemoryMetricReader()
    provider = MeterProvider([memory], shutdown_on_exit=False)
    bind(provider.get_meter("otel_agent.sources.containers"), METRICS, latest.points)
    forgetting = Forgetting(provider, memory, lambda _, name: latest.points().get(name, ()))
    template, entry = engine.containers[engine.ids["busy"]], engine.entries[engine.ids["busy"]]
    before: str | None = None
    counts, sizes, closed, forgotten = [], [], [], 0
    for number in range(SHOWN):
        fresh = f"{number:064x}"
        engine.containers[fresh] = {**template, "Id": fresh, "Name": f"/job-{number}"}
        engine.entries[fresh] = {**entry, "Id": fresh, "Names": [f"/job-{number}"]}
        engine.emit("start", fresh, 10.0 + number)
        if before is not None:
            del engine.containers[before], engine.entries[before]
            engine.emit("destroy", before, 10.5 + number)
        before = fresh
        until(lambda name=f"job-{number}": any(one.identity.name == name for one in reader().containers), "it appears")
        worker._read_once(reader)  # one beat, without the thread
        latest.hold(worker)
        data = memory.get_metrics_data()
        assert data is not None
        closed.append(
            sum(
                len(getattr(metric, str(metric.WhichOneof("data"))).data_points)
                for resource in ends.closing(data)
                for scope in resource.scope_metrics
                for metric in scope.metrics
            )
        )
        ends.accepted()
        forgotten += forgetting.prune()
        counts.append(
            sum(len(m.data.data_points) for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics)
        )
        if number in (SHOWN // 2, SHOWN - 1):
            sizes.append(held())
    tracemalloc.stop()
    provider.shutdown()
    assert len(set(counts[2:])) == 1, "as many points at the end as at the beginning"
    assert min(closed[2:]) > 10, "the series of the one that went are closed in the very next export"
    assert forgotten > 1000, "the SDK was made to forget"
    grown = (sizes[1] - sizes[0]) / (SHOWN // 2)
    assert grown * A_DAY < 20 * 2**20, f"{grown:.0f} bytes a container"
