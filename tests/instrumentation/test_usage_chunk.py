"""Streams that are asked for their usage: the span has it, the caller sees what he would have seen."""

import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.asking import ask, every_stream, without_identity
from instrumentation.picky_server import USAGE, PickyServer, serve
from instrumentation.recording import Recording

from otel_llm.litellm import LiteLLMInstrumentor
from otel_llm.litellm.usage_chunk import Refusals, asking


@pytest.fixture
def server() -> Iterator[PickyServer]:
    with serve() as running:
        yield running


@every_stream
@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("plain", {}),
        ("plain", {"n": 2}),
        ("plain", {"prompt": "hi"}),
        ("plain", {"prompt": "hi", "n": 2}),
        ("plain", {"prompt": "hi", "stream_options": {"include_usage": True}}),
        ("refuses400", {"prompt": "hi"}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]}),
        ("plain", {"stream_options": {"include_usage": False}}),
        ("plain", {"stream_options": {"include_usage": True}}),
        ("refuses400", {}),
        ("refuses422", {}),
    ],
)
def test_the_caller_sees_the_chunks_he_would_have_seen(
    litellm: ModuleType, server: PickyServer, way: str, provider: str, model: str, arguments: dict[str, Any]
) -> None:
    seen = ask(litellm, way, f"{provider}/{model}", server.url, **arguments)
    LiteLLMInstrumentor().uninstrument()
    expected = ask(litellm, way, f"{provider}/{model}", server.url, **arguments)

    assert without_identity(seen) == without_identity(expected)
    options = arguments.get("stream_options")
    asked = server.received[0].json["stream_options"]
    assert asked == (options or {"include_usage": True})
    assert server.received[-1].json.get("stream_options") == options


@every_stream
@pytest.mark.parametrize("model", ["plain", "refuses400"])
def test_the_span_has_what_the_server_reports_and_nothing_where_it_refuses(
    litellm: ModuleType, recording: Recording, server: PickyServer, way: str, provider: str, model: str
) -> None:
    ask(litellm, way, f"{provider}/{model}", server.url)

    attributes = recording.span().attributes or {}
    found = [attributes.get(f"gen_ai.usage.{name}_tokens") for name in ("input", "output")]
    reported = [USAGE["prompt_tokens"], USAGE["completion_tokens"]]
    assert found == (reported if model == "plain" else [None, None])


@pytest.mark.parametrize("way", ["sync stream", "async stream", "async httpx stream"])
def test_a_server_that_refuses_the_question_is_asked_once(
    litellm: ModuleType, recording: Recording, server: PickyServer, way: str
) -> None:
    for _ in range(2):
        ask(litellm, way, "hosted_vllm/refuses400", server.url)

    first, again, second = server.received
    assert [received.status for received in server.received] == [400, 200, 200]
    assert again.body == second.body
    assert json.loads(first.body) == {**again.json, "stream_options": {"include_usage": True}}
    assert first.headers["traceparent"] == again.headers["traceparent"] != second.headers["traceparent"]
    assert [span.status.status_code.name for span in recording.spans()] == ["UNSET", "UNSET"]


@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize("way", ["sync stream", "async stream", "async httpx stream"])
def test_a_request_that_is_refused_for_another_reason_fails_as_it_would_have(
    litellm: ModuleType, server: PickyServer, way: str
) -> None:
    """And proves nothing about the server, which is asked again."""

    def failure() -> str:
        with pytest.raises(litellm.BadRequestError) as caught:
            ask(litellm, way, "hosted_vllm/error400", server.url)
        return str(caught.value)

    with_us = [failure(), failure()]
    LiteLLMInstrumentor().uninstrument()

    assert with_us == [failure()] * 2
    assert ["stream_options" in received.json for received in server.received] == [True, False, True, False, False]


ASKING = '"stream_options": {"include_usage": true}}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"stream":true}', '{"stream":true, ' + ASKING),
        ('{"stream" : true, "n": 2} \n', '{"stream" : true, "n": 2, ' + ASKING),
        ('{"stream": true, "own": {"stream": false}}', '{"stream": true, "own": {"stream": false}, ' + ASKING),
        ('{"p": "stream_options", "stream": true}', None),  # not told from a field of this name, and so left alone
        ('{"p": "\\"stream_options\\"", "stream": true}', '{"p": "\\"stream_options\\"", "stream": true, ' + ASKING),
        ('{"p": "\\"stream\\": true"}', None),
        ('{"stream": false}', None),
        ('{"stream": "true"}', None),
        ('{"stream": true, "stream_options": null}', None),
        ('[{"stream": true}]', None),
        ('{"stream": true', None),
        ("{}", None),
        ("", None),
        ("  ", None),
    ],
)
def test_only_a_stream_that_says_nothing_of_stream_options_is_asked(body: str, expected: str | None) -> None:
    found = asking(body.encode())

    assert found == (expected.encode() if expected is not None else None)
    if found is not None:
        assert json.loads(found) == {**json.loads(body), "stream_options": {"include_usage": True}}


def test_the_latest_servers_that_refused_are_remembered_and_no_more() -> None:
    refusals = Refusals()
    for number in range(1000):
        refusals.add(number)

    assert [number for number in range(1000) if number in refusals] == list(range(744, 1000))
