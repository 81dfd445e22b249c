"""The rows of what can be amiss with a server's telemetry: each holds where it should, is alone, and names nothing secret."""

import pytest

from otel_agent.checks.servers import Server
from otel_agent.checks.serving import judge
from otel_agent.checks.serving_rows import ROWS, api_servers

LAUNCHER = "/opt/lib/python3.12/site-packages/opentelemetry/instrumentation/auto_instrumentation"
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
PLUGIN = {**COLLECTOR, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel_llm"}
LAUNCHED = {**PLUGIN, "PYTHONPATH": LAUNCHER, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
PROXY = {**LAUNCHED, "OTEL_LLM_HMAC_KEY": "set"}
INSTALLED = dict.fromkeys(
    (
        "otel_llm",
        "opentelemetry_sdk",
        "opentelemetry_distro",
        "opentelemetry_exporter_otlp_proto_grpc",
        "opentelemetry_exporter_otlp_proto_http",
        "opentelemetry_instrumentation_fastapi",
        "opentelemetry_instrumentation_aiohttp_client",
    ),
    "1.45.1",
)
VLLM, LITELLM = {**INSTALLED, "vllm": "0.32.0"}, {**INSTALLED, "litellm": "1.109.1"}
TIMES = {"--enable-per-request-metrics": ""}
NO_LAUNCHER = ("note", "no spans of requests: not started under the launcher")


def vllm(environ, options=TIMES, packages=VLLM):
    return [(one.verdict, one.said) for one in judge(Server("vllm", 7, options, environ, packages))]


def litellm(environ, packages=LITELLM):
    return [(one.verdict, one.said) for one in judge(Server("litellm", 7, {}, environ, packages))]


def without(packages, *names):
    return {name: version for name, version in packages.items() if name not in names}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 1),
        ({"--api-server-count": "many"}, 1),
        ({"--data-parallel-size": "4"}, 4),
        ({"--data-parallel-size": "4", "--api-server-count": "2"}, 2),
        ({"--data-parallel-size": "4", "--headless": ""}, 1),
        ({"--data-parallel-size": "4", "--data-parallel-rank": "1"}, 1),
        ({"--data-parallel-size": "4", "--data-parallel-hybrid-lb": "", "--data-parallel-size-local": "2"}, 2),
    ],
)
def test_api_servers_are_counted_as_vllm_counts_them(options, count):
    assert api_servers(Server("vllm", 7, options, {}, None)) == count


def test_servers_that_are_set_up_say_where_telemetry_goes():
    assert vllm(LAUNCHED) == [
        (
            "ok",
            "vLLM 0.32.0 is set to send metrics to http://collector:4318 over http/protobuf, spans to http://collector:4318 over http/protobuf",
        )
    ]
    assert litellm({**PROXY, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}) == [
        (
            "ok",
            "LiteLLM proxy 1.109.1 is set to send metrics to http://localhost:4317 over grpc, spans to http://localhost:4317 over grpc",
        )
    ]
    assert vllm(PLUGIN) == [
        ("ok", "vLLM 0.32.0 is set to send metrics to http://collector:4318 over http/protobuf"),
        NO_LAUNCHER,
    ]
    assert vllm({**PLUGIN, "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"})[0] == (
        "ok",
        "vLLM 0.32.0 is set to send metrics to collector:4317 over grpc",
    )


@pytest.mark.parametrize(
    ("environ", "packages", "told"),
    [
        ({}, VLLM, ("note", "sends no metrics: no address is named")),
        ({**PLUGIN, "OTEL_SDK_DISABLED": "true"}, VLLM, ("note", "sends nothing: OTEL_SDK_DISABLED is true")),
        (
            {**PLUGIN, "OTEL_METRICS_EXPORTER": "none"},
            VLLM,
            ("note", "sends no metrics: OTEL_METRICS_EXPORTER is none"),
        ),
        (
            {"OTEL_METRICS_EXPORTER": "prometheus"},
            VLLM,
            (
                "problem",
                "sends no metrics: OTEL_METRICS_EXPORTER is prometheus, and the plug-in by itself exports OTLP alone",
            ),
        ),
        (
            {"OTEL_METRICS_EXPORTER": "\x1b[31mred"},
            VLLM,
            (
                "problem",
                "sends no metrics: OTEL_METRICS_EXPORTER is something else, and the plug-in by itself exports OTLP alone",
            ),
        ),
        (
            {**PLUGIN, "VLLM_PLUGINS": "lora"},
            VLLM,
            ("problem", "sends no metrics of the engine: VLLM_PLUGINS leaves otel_llm out"),
        ),
        (
            {**PLUGIN, "VLLM_PLUGINS": ""},
            VLLM,
            ("problem", "sends no metrics of the engine: VLLM_PLUGINS leaves otel_llm out"),
        ),
        (
            {**PLUGIN, "VLLM_USE_RUST_FRONTEND": "1"},
            VLLM,
            ("problem", "sends no metrics of the engine and no spans: vLLM's Rust front end loads no plug-ins"),
        ),
        (
            PLUGIN,
            without(VLLM, "otel_llm"),
            ("problem", "sends no metrics of the engine: otel-llm is not installed where it runs"),
        ),
        (
            PLUGIN,
            without(VLLM, "opentelemetry_sdk"),
            ("problem", "sends no metrics: the SDK is not installed where it runs"),
        ),
        (
            PLUGIN,
            without(VLLM, "opentelemetry_exporter_otlp_proto_http"),
            ("problem", "sends nothing: no exporter of OTLP over http/protobuf is installed where it runs"),
        ),
    ],
)
def test_metrics_that_do_not_go_out_have_one_reason(environ, packages, told):
    assert vllm(environ, packages=packages) == [told, NO_LAUNCHER]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": ""},
            "speaks grpc to http://collector:4318, by convention the port of http/protobuf",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:secret@collector:4317/token?key=secret"},
            "speaks http/protobuf to http://collector:4317, by convention the port of grpc",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://tempo:4317/v1/traces",
            },
            "speaks http/protobuf to http://tempo:4317, by convention the port of grpc",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "sends nothing: OpenTelemetry for Python does not know the protocol http/json",
        ),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://[::1]:4318"},
            "http://[::1]:4318 is the address of one signal and is used as it stands: it lacks its path",
        ),
    ],
)
def test_a_wrong_wire_is_a_problem(environ, said):
    assert vllm({**LAUNCHED, **environ}) == [("problem", said)]
    assert litellm({**PROXY, **environ}) == [("problem", said)]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://backend"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_METRICS_EXPORTER": "otlp_proto_http", "OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": ""},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[broken"},
    ],
)
def test_a_right_wire_is_none(environ):
    assert [verdict for verdict, _ in vllm({**LAUNCHED, **environ})] == ["ok"]


@pytest.mark.parametrize(
    ("address", "protocol", "told"),
    [
        ("http://jaeger:4317", None, None),
        ("http://jaeger:4318/v1/traces", "http/protobuf", None),
        (
            "http://jaeger:4318/v1/traces",
            None,
            "vLLM's own tracing speaks grpc to http://jaeger:4318, by convention the port of http/protobuf",
        ),
        (
            "http://jaeger:4317",
            "http/protobuf",
            "vLLM's own tracing speaks http/protobuf to http://jaeger:4317, by convention the port of grpc",
        ),
        (
            "http://jaeger:4318",
            "http/protobuf",
            "vLLM's own tracing uses --otlp-traces-endpoint as it stands, and http://jaeger:4318 lacks the path",
        ),
    ],
)
def test_the_tracing_of_vllm_itself_reads_one_variable_alone(address, protocol, told):
    """OTEL_EXPORTER_OTLP_PROTOCOL does not count there."""
    environ = {**LAUNCHED, **({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol} if protocol else {})}

    assert vllm(environ, {**TIMES, "--otlp-traces-endpoint": address})[0] == (
        ("problem", told)
        if told
        else (
            "ok",
            "vLLM 0.32.0 is set to send metrics to http://collector:4318 over http/protobuf, spans to http://collector:4318 over http/protobuf",
        )
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["its replies carry no times: spans of LiteLLM's calls lack the engine's share"]),
        ({"--config": "vllm.yaml"}, []),
        (
            {"--config": "vllm.yaml", "--no-enable-per-request-metrics": ""},
            ["its replies carry no times: spans of LiteLLM's calls lack the engine's share"],
        ),
        (
            {**TIMES, "--api-server-count": "2", "--shutdown-timeout": "5"},
            [
                "2 API servers: each has a part of the statistics; totals add up over them, gauges come from the first and may lag"
            ],
        ),
        (
            {**TIMES, "--api-server-count": "2", "--shutdown-timeout": "0"},
            [
                "2 API servers: each has a part of the statistics; totals add up over them, gauges come from the first and may lag",
                "the last metrics are lost: vLLM kills its API servers at its end",
            ],
        ),
        (
            {"--config": "vllm.yaml", "--disable-log-stats": ""},
            [
                "--disable-log-stats saves vLLM's log lines alone: with a plug-in installed vLLM keeps statistics all the same"
            ],
        ),
        ({"--headless": ""}, ["headless: its engines' statistics are sent by the node that has the API server"]),
    ],
)
def test_what_its_options_mean_for_statistics(options, said):
    assert [sentence for verdict, sentence in vllm(LAUNCHED, options) if verdict == "note"] == said


@pytest.mark.parametrize(
    ("environ", "packages", "told"),
    [
        ({}, LITELLM, [("note", "no telemetry of this package: not started under the launcher")]),
        (
            {"OTEL_LLM_HMAC_KEY": "set"},
            LITELLM,
            [("problem", "no telemetry of this package, whose settings it has: not started under the launcher")],
        ),
        (
            PROXY,
            without(LITELLM, "opentelemetry_distro"),
            [
                (
                    "problem",
                    "opentelemetry-instrument sets nothing up: opentelemetry-distro is not installed where it runs",
                )
            ],
        ),
        (
            PROXY,
            without(LITELLM, "otel_llm"),
            [("problem", "no span of a call to a model: otel-llm is not installed where it runs")],
        ),
    ],
)
def test_a_proxy_that_is_not_instrumented_says_why(environ, packages, told):
    assert litellm(environ, packages) == told


@pytest.mark.parametrize(
    ("environ", "packages", "said"),
    [
        (
            {**PROXY, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests, otel_llm_litellm"},
            LITELLM,
            "no spans of requests: OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names otel_llm_litellm",
        ),
        (
            PROXY,
            without(LITELLM, "opentelemetry_instrumentation_fastapi"),
            "no span of the HTTP request: no instrumentation of FastAPI or ASGI is installed where it runs",
        ),
        (
            PROXY,
            without(LITELLM, "opentelemetry_instrumentation_aiohttp_client"),
            "no span of LiteLLM's own HTTP requests: the instrumentation of aiohttp's client is not installed where it runs",
        ),
        (LAUNCHED, LITELLM, "team, key alias and user are left out of its spans"),
        (
            {**PROXY, "LITELLM_OTEL_V2": "true"},
            LITELLM,
            "LiteLLM's own OpenTelemetry callback seems to be on as well (LITELLM_OTEL_V2 is set): its span of a call is left out where both go to one place",
        ),
        (
            without(PROXY, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"),
            LITELLM,
            "its telemetry does not lead to its GPUs, container and node",
        ),
        (
            PROXY,
            {**LITELLM, "litellm": "1.200.3"},
            "LiteLLM proxy 1.200.3 is newer than the newest one tested, 1.109",
        ),
    ],
)
def test_what_a_proxy_lacks_is_a_note(environ, packages, said):
    assert [sentence for verdict, sentence in litellm(environ, packages) if verdict != "ok"] == [said]


def test_every_row_that_asks_for_a_hand_says_what_to_do():
    assert [row.said for row in ROWS if row.verdict == "problem" and not row.remedy] == []


def test_packages_that_cannot_be_told_are_not_missed():
    assert vllm(PLUGIN, packages=None) == [
        ("ok", "vLLM is set to send metrics to http://collector:4318 over http/protobuf"),
        NO_LAUNCHER,
    ]
