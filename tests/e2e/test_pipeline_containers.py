"""Containers, end to end: a real Docker Engine, the agent, the real Collector and Prometheus, with the engine's own word beside it."""

import pytest
from e2e.engine import IMAGE, NoEngineError, run_engine
from e2e.stack import promql
from processes import agent
from waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A Docker Engine of its own."""
    try:
        with run_engine(tmp_path_factory.mktemp("engine")) as running:
            yield running
    except NoEngineError as error:
        pytest.skip(f"no Docker Engine: {error}")


@pytest.fixture(scope="module")
def busy(engine, stack, tmp_path_factory):
    """A container that keeps a CPU busy, watched by an agent that sends to the stack."""
    container = engine.client.containers.run(
        IMAGE, ["sh", "-c", "while true; do :; done"], name="busy", detach=True, mem_limit="96m"
    )
    with agent(
        "run",
        **engine.host,
        OTEL_SERVICE_NAME="container-agent",
        OTEL_LLM_SOURCES="containers",
        METRICS_INTERVAL_LIVE=1,
        OTEL_METRIC_EXPORT_INTERVAL=1000,
        OTEL_EXPORTER_OTLP_ENDPOINT=stack.ports.url("otlp_http"),
        OTEL_LLM_DATA_DIR=tmp_path_factory.mktemp("agent"),
    ):
        yield container


def value(stack, query):
    [(_, found)] = until(lambda: promql(stack, query), query)
    return found


def test_memory_and_limit_are_what_the_engine_says(stack, busy):
    stats = busy.stats(stream=False)["memory_stats"]

    assert value(stack, 'otel_llm_container_memory_limit_bytes{container_name="busy"}') == 96 * 2**20 == stats["limit"]
    assert value(stack, 'container_memory_usage_bytes{container_name="busy"}') == pytest.approx(
        stats["usage"], abs=2**20
    )


def test_cpu_time_grows_with_the_engines(stack, busy):
    query = 'sum(container_cpu_time_seconds_total{container_name="busy"})'
    until(lambda: (found := promql(stack, query)) and found[0][1] > 2, query)
    engine_s = busy.stats(stream=False)["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9

    until(lambda: promql(stack, query)[0][1] >= engine_s * 0.9, f"CPU time of {engine_s:.1f} s in Prometheus")


def test_identity_is_joined_by_the_info_series(stack, busy):
    [(labels, found)] = until(
        lambda: promql(stack, f'otel_llm_container_info{{container_id="{busy.id}"}}'), "the info series"
    )

    name, _, tag = IMAGE.partition(":")
    assert found == 1
    assert (labels["container_name"], labels["container_image_name"], labels["otel_llm_container_image_tag"]) == (
        "busy",
        name,
        tag,
    )


@pytest.mark.usefixtures("busy")
def test_the_series_of_a_removed_container_end_at_once(stack, engine):
    gone = engine.client.containers.run(IMAGE, ["sleep", "600"], name="gone", detach=True)
    query = 'container_uptime_seconds{container_name="gone"}'
    until(lambda: promql(stack, query), query)

    gone.remove(force=True)
    until(lambda: promql(stack, query) == [], "the end of the series", deadline_s=10)
    assert value(stack, 'container_uptime_seconds{container_name="busy"}') > 0
