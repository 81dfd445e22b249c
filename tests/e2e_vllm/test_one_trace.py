"""An application, the LiteLLM proxy, `vllm serve`: one trace, each the parent of the next, with vLLM's own tracing off and on."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.proxy_process import environment, proxy
from e2e.sink import plain
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from processes import ENVIRONMENT
from waiting import until

from tests.e2e_vllm.serving import Served

HERE = Path(__file__).resolve().parent
ANSWER_S = 180.0  # the application imports LiteLLM, which is slow where others work too
ROUTE = "POST /v1/chat/completions"
ABOVE_ENGINE = [
    ("vllm", ROUTE),
    ("proxy", "POST"),
    ("proxy", "chat plain"),
    ("proxy", ROUTE),
    ("application", "POST"),
    ("application", "chat tiny"),
]


@dataclass(frozen=True)
class Step:
    """A span and the service that sent it."""

    service: str
    span: Span

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.span.attributes)


@dataclass(frozen=True)
class Story:
    """What came of one run of the application: its traces by name of what it did."""

    served: Served
    traces: dict[str, str]
    own_tracing: bool

    def steps(self, name: str) -> dict[str, Step]:
        """Return the spans of one trace by id."""
        return {
            span.span_id.hex(): Step(plain(resource.resource.attributes)["service.name"], span)
            for request in list(self.served.sink.requests["traces"])
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.trace_id.hex() == self.traces[name]
        }

    def one(self, name: str, service: str, span_name: str) -> Step:
        """Wait for the one span of this name that a service has in a trace."""

        def found() -> list[Step]:
            return [
                step for step in self.steps(name).values() if (step.service, step.span.name) == (service, span_name)
            ]

        (step,) = until(found, f"{span_name} of {service}")
        return step

    def way(self, name: str, step: Step) -> list[tuple[str, str]]:
        """Return services and names above a span, up to the application's own; what the proxy does inside is left out."""
        until(lambda: self.steps(name).get(self.root(name)), "the application's own span")
        steps, way = self.steps(name), []
        above = steps.get(step.span.parent_span_id.hex())
        while above is not None:
            if above.span.kind in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT) or not above.span.parent_span_id:
                way.append((above.service, above.span.name))
            above = steps.get(above.span.parent_span_id.hex())
        return way

    def root(self, name: str) -> str:
        steps = self.steps(name)
        return next((one for one, step in steps.items() if not step.span.parent_span_id), "")


@pytest.fixture(scope="module", params=[False, True], ids=["its own tracing off", "its own tracing on"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    served: Served = request.getfixturevalue("served_tracing" if request.param else "served")
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{served.sink.http_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    folder = tmp_path_factory.mktemp("proxy")
    with proxy(folder, f"{served.base}/v1", {}, OTEL_SERVICE_NAME="proxy", **telemetry) as base:
        programs = environment()
        done = subprocess.run(
            [programs / "opentelemetry-instrument", programs / "python", HERE / "application.py", f"{base}/v1"],
            env={
                **ENVIRONMENT,
                **telemetry,
                "OTEL_SERVICE_NAME": "application",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_S,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        yield Story(served, json.loads(done.stdout.splitlines()[-1]), request.param)


@pytest.mark.parametrize("name", ["plain", "stream"])
def test_every_span_is_below_the_one_before(story: Story, name: str) -> None:
    step = story.one(name, "vllm", "chat tiny")

    assert story.way(name, step) == [*ABOVE_ENGINE, ("application", name)]
    assert step.span.status.code == Status.STATUS_CODE_UNSET
    told = {key: step.attributes.get(key) for key in ("gen_ai.usage.output_tokens", "gen_ai.response.finish_reasons")}
    assert told == {"gen_ai.usage.output_tokens": 7, "gen_ai.response.finish_reasons": ["length"]}


@pytest.mark.parametrize("name", ["plain", "stream"])
def test_tokens_are_the_same_on_all_three_sides(story: Story, name: str) -> None:
    sides = (("application", "chat tiny"), ("proxy", "chat plain"), ("vllm", "chat tiny"))
    counts = [
        [attributes.get(f"gen_ai.usage.{kind}_tokens") for kind in ("input", "output")]
        for attributes in (story.one(name, *side).attributes for side in sides)
    ]

    assert counts[0] == counts[1] == counts[2]


def test_vllms_own_span_is_below_ours_and_only_where_it_is_asked_for(story: Story) -> None:
    ours = story.one("plain", "vllm", "chat tiny")
    if not story.own_tracing:
        assert [step for step in story.steps("plain").values() if step.span.name == "llm_request"] == []
        return

    own = story.one("plain", "vllm", "llm_request")
    assert own.span.parent_span_id == ours.span.span_id
    assert own.attributes["gen_ai.request.id"] == ours.attributes["otel_llm.request.id"]


def test_a_stream_that_is_left_is_told_by_all_three(story: Story) -> None:
    """vLLM's own tracing says nothing of it."""
    step = story.one("left", "vllm", "chat tiny")

    assert story.way("left", step) == [*ABOVE_ENGINE, ("application", "left")]
    assert "otel_llm.abort.reason" in step.attributes
    assert 0 < step.attributes["gen_ai.usage.output_tokens"] < 8000
    assert [one for one in story.steps("left").values() if one.span.name == "llm_request"] == []


@pytest.mark.parametrize("name", ["plain", "stream", "left"])
def test_no_message_of_an_answer_has_a_span(story: Story, name: str) -> None:
    """FastAPI's instrumentation makes one of each: of a stream, one of every chunk, in the proxy and in the server."""
    story.way(name, story.one(name, "vllm", "chat tiny"))

    named = [step.span.name for step in story.steps(name).values()]
    assert [one for one in named if one.endswith((" http send", " http receive"))] == []


def test_a_refused_prompt_ends_at_the_server_and_is_an_error_above(story: Story) -> None:
    """The server refuses it before there is a request to the engine."""
    step = story.one("too long", "vllm", ROUTE)

    assert story.way("too long", step) == [*ABOVE_ENGINE[1:], ("application", "too long")]
    calls = [one for one in story.steps("too long").values() if "gen_ai.operation.name" in one.attributes]
    assert {(one.service, one.span.name): (one.span.status.code, one.attributes["error.type"]) for one in calls} == {
        ("proxy", "chat plain"): (Status.STATUS_CODE_ERROR, "ContextWindowExceededError"),
        ("application", "chat tiny"): (Status.STATUS_CODE_ERROR, "ContextWindowExceededError"),
    }


def test_the_applications_baggage_arrives_at_the_engine(story: Story) -> None:
    assert story.one("plain", "vllm", "chat tiny").attributes["session.id"] == "session-of-the-application"


def test_a_process_has_one_tracer_provider(story: Story) -> None:
    """vLLM's own would say so: it names the module that made it in its resource."""
    resources = [
        plain(resource.resource.attributes)
        for request in list(story.served.sink.requests["traces"])
        for resource in request.resource_spans
    ]

    assert {resource["service.name"] for resource in resources} == {"application", "proxy", "vllm"}
    assert [one for one in resources if "vllm.instrumenting_module_name" in one] == []
