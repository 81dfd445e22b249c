"""Where the stat-logger plug-in's metrics go, and what it says where they go nowhere; in processes as a user starts them."""

import logging
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from e2e.sink import Sink, plain
from opentelemetry.metrics import get_meter_provider

from otel_llm.vllm.stats.provider import Unavailable, meter_provider

ROOT = Path(__file__).resolve().parents[2]
COUNT = """
    from otel_llm.vllm.stats.provider import meter_provider
    meter_provider().get_meter("test").create_counter("counted").add(3)
"""


def run(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "instrumentation"), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def counted(sink: Sink) -> list[tuple[dict[str, object], int]]:
    return [
        (plain(resource.resource.attributes), point.as_int)
        for request in sink.requests["metrics"]
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.sum.data_points
        if metric.name == "counted"
    ]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", ""])
def test_a_process_without_a_provider_sends_by_the_variables_and_once_more_at_its_end(protocol: str) -> None:
    with Sink() as sink:
        port = sink.grpc_port if protocol == "grpc" else sink.http_port
        ended = run(
            COUNT,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )
        ((resource, value),) = counted(sink)
    assert (ended.returncode, ended.stderr, value) == (0, "", 3)
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("vllm", "test")


def test_it_is_named_as_the_variable_says() -> None:
    with Sink() as sink:
        endpoint = f"http://127.0.0.1:{sink.http_port}/v1/metrics"
        run(COUNT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=endpoint, OTEL_SERVICE_NAME="qwen")
        ((resource, _),) = counted(sink)
    assert resource["service.name"] == "qwen"


def test_a_process_that_multiprocessing_started_sends_at_its_end_too() -> None:
    """vLLM's API servers, where there are several: they end without the handlers of `atexit`."""
    program = f"""
        import multiprocessing
        def main():
            {" ".join(line.strip() + ";" for line in COUNT.strip().splitlines())}
        if __name__ == "__main__":
            child = multiprocessing.get_context("fork").Process(target=main)
            child.start()
            child.join()
            assert child.exitcode == 0
    """
    with Sink() as sink:
        ended = run(program, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{sink.http_port}")
        assert (ended.returncode, [value for _, value in counted(sink)]) == (0, [3]), ended.stderr


def test_a_backend_that_is_gone_holds_the_end_up_for_a_bounded_time() -> None:
    with Sink() as sink:
        endpoint = f"http://127.0.0.1:{sink.http_port}"
    began = time.monotonic()
    ended = run(COUNT, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert ended.returncode == 0
    assert time.monotonic() - began < 20  # the flush is given three seconds; the rest is the interpreter's


def test_the_private_provider_is_not_the_process_s() -> None:
    ended = run(
        """
        from opentelemetry.metrics import get_meter_provider
        from otel_llm.vllm.stats.provider import meter_provider
        before = get_meter_provider()
        private = meter_provider()
        assert private is meter_provider(), "made twice"
        assert get_meter_provider() is before is not private
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_METRICS_EXPORTER="otlp",
    )
    assert ended.returncode == 0, ended.stderr


def test_the_process_s_own_provider_is_used_where_there_is_one() -> None:
    ended = run(
        """
        from opentelemetry.metrics import set_meter_provider
        from opentelemetry.sdk.metrics import MeterProvider
        from otel_llm.vllm.stats.provider import meter_provider
        own = MeterProvider()
        set_meter_provider(own)
        assert meter_provider() is own
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "nothing is configured; set OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "OTEL_SDK_DISABLED"),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "is none"),
        ({"OTEL_METRICS_EXPORTER": "console"}, "only otlp is made here"),
    ],
    ids=["nothing", "disabled", "none", "another exporter"],
)
def test_what_keeps_metrics_from_being_sent_is_said(environ: dict[str, str], reason: str) -> None:
    if type(get_meter_provider()).__name__ != "_ProxyMeterProvider" and "OTEL_SDK_DISABLED" not in environ:
        pytest.skip("another test of this run has set the process's provider")
    with pytest.raises(Unavailable, match=reason):
        meter_provider(environ)


@pytest.mark.parametrize("missing", ["opentelemetry.sdk.metrics", "opentelemetry.exporter.otlp.proto.http"])
def test_without_sdk_or_exporter_the_remedy_is_said(missing: str) -> None:
    ended = run(
        f"""
        import sys
        sys.modules[{missing!r}] = None
        from otel_llm.vllm.stats.provider import Unavailable, meter_provider
        try:
            meter_provider()
        except Unavailable as reason:
            print(reason)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert "run `pip install opentelemetry-sdk opentelemetry-exporter-otlp`" in ended.stdout, ended.stderr


def test_importing_the_plug_in_s_package_imports_neither_vllm_nor_the_sdk_and_wraps_nothing() -> None:
    ended = run(
        """
        import sys
        import otel_llm.vllm.stats, otel_llm.vllm.stats.metrics, otel_llm.vllm.stats.provider
        heavy = [name for name in sys.modules if name.partition(".")[0] in ("vllm", "torch", "litellm", "psutil", "grpc")]
        print(heavy + [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "otel_llm.vllm.patch"))])
        """
    )
    assert ended.stdout.strip() == "[]", ended.stderr


def test_a_protocol_that_is_not_known_is_said(caplog: pytest.LogCaptureFixture) -> None:
    from otel_llm.vllm.stats.provider import _protocol

    with caplog.at_level(logging.WARNING):
        assert _protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http://collector:4318") == "http/protobuf"
    assert "http/json is not known here" in caplog.text
    assert [_protocol({}, endpoint) for endpoint in ("http://a:4317", "a:4317", "http://a:4318", "https://a", "x:y")] == [
        "grpc", "grpc", "http/protobuf", "http/protobuf", "http/protobuf",
    ]  # fmt: skip
