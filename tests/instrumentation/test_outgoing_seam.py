"""The seam by which every request passes, with each client of httpx: what leaves, and that the request is handed back as it was."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from instrumentation.recording import Recording

from otel_llm import fault
from otel_llm.invocation import Invocation, open_telemetry
from otel_llm.litellm import LiteLLMInstrumentor, outgoing
from otel_llm.records import Request
from otel_llm.settings import Settings

Send = Callable[..., Any]


@pytest.fixture(params=["httpx sync", "httpx async", "httpx2 sync", "httpx2 async"])
def send(request: pytest.FixtureRequest) -> Send:
    """Send by one of the clients; `answer` stands for the network."""
    name, kind = request.param.split()
    module: Any = {"httpx": httpx, "httpx2": httpx2}[name]

    def sending(answer: Callable[[Any], Any], make: Callable[[Any], Any]) -> Any:
        def handle(asked: Any) -> Any:
            status = answer(asked)
            if isinstance(status, Exception):
                raise getattr(module, str(status))("broken", request=asked)
            return module.Response(status, text="done")

        if kind == "sync":
            with module.Client(transport=module.MockTransport(handle)) as client:
                return client.send(make(client))

        async def main() -> Any:
            async with module.AsyncClient(transport=module.MockTransport(handle)) as client:
                return await client.send(make(client))

        return asyncio.run(main())

    return sending


@pytest.fixture
def in_a_call(recording: Recording) -> Iterator[None]:
    """Be inside an open call, a streamed one, as LiteLLM's own code is."""
    telemetry = open_telemetry("test", "0", Settings(), recording.tracer_provider, recording.meter_provider)
    invocation = Invocation(telemetry, Request("chat", "m", is_stream=True))
    token = invocation.enter()
    yield
    invocation.leave(token)


def stream_of(client: Any) -> Any:
    return client.build_request("POST", "http://vllm/v1/chat/completions", json={"stream": True}, headers={"a": "b"})


@pytest.mark.parametrize("answers", [[200], [400, 200], [422, 500], [503]])
@pytest.mark.usefixtures("in_a_call")
def test_the_request_is_handed_back_as_it_was(send: Send, answers: list[int]) -> None:
    requests, seen, status = [], [], iter(answers)

    def make(client: Any) -> Any:
        requests.append(stream_of(client))
        return requests[0]

    def answer(asked: Any) -> int:
        seen.append((dict(asked.headers), asked.read()))
        return next(status)

    response = send(answer, make)

    (request,) = requests
    assert response.request is request
    assert response.status_code == answers[-1]
    assert (sorted(request.headers)[:3], request.content) == (["a", "accept", "accept-encoding"], b'{"stream":true}')
    assert not {"traceparent", "x-request-id"}.intersection(request.headers)
    asking = b'{"stream":true, "stream_options": {"include_usage": true}}'
    assert [body for _, body in seen] == [asking, b'{"stream":true}'][: len(answers)]
    assert [headers["content-length"] for headers, _ in seen] == [str(len(body)) for _, body in seen]
    assert all("traceparent" in headers for headers, _ in seen)


@pytest.mark.usefixtures("in_a_call")
def test_an_error_names_the_request_of_the_application(send: Send) -> None:
    requests = []

    def make(client: Any) -> Any:
        requests.append(stream_of(client))
        return requests[0]

    with pytest.raises(Exception, match="broken") as caught:
        send(lambda asked: Exception("ReadTimeout"), make)

    assert caught.value.request is requests[0]  # type: ignore[attr-defined]
    assert "traceparent" not in requests[0].headers


@pytest.mark.parametrize(
    ("method", "url", "content"),
    [
        ("POST", "http://vllm/v1/chat/completions", {"json": {"stream": False}}),
        ("POST", "http://vllm/v1/chat/completions", {"json": {"stream": True, "stream_options": None}}),
        ("POST", "http://vllm/v1/chat/completions", {"json": {"text": '"stream": true'}}),
        ("POST", "http://vllm/v1/responses", {"json": {"stream": True}}),
        ("POST", "http://vllm/v1/audio/transcriptions", {"files": {"file": b"RIFF" * 9}, "data": {"model": "whisper"}}),
        ("POST", "http://vllm/v1/chat/completions", {"content": b"\xff{}"}),
        ("POST", "http://vllm/v1/chat/completions", {"content": b""}),
        ("GET", "http://vllm/v1/models", {}),
        ("POST", "https://api.openai.com/v1/chat/completions", {"json": {"stream": True}}),
    ],
)
@pytest.mark.usefixtures("in_a_call")
def test_any_other_body_goes_out_as_it_is(send: Send, method: str, url: str, content: dict[str, Any]) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"} if "files" in content else {}
    plain = httpx.Request(method, url, headers=headers, **content)
    seen = []

    def answer(asked: Any) -> int:
        seen.append(asked.read())
        return 200

    send(answer, lambda client: client.build_request(method, url, headers=headers, **content))

    assert seen == [plain.read()]


@pytest.mark.parametrize("place", ["trace_headers", "is_target", "asking", "_request", "_with_trace"])
@pytest.mark.usefixtures("in_a_call")
def test_a_fault_of_ours_sends_the_request_as_it_was_made(
    send: Send, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(place)

    monkeypatch.setattr(outgoing, place, broken)
    faults: list[tuple[str, str]] = []
    before = fault.set_on_fault(lambda where, error: faults.append((where, str(error))))
    seen = []

    def answer(asked: Any) -> int:
        seen.append(("traceparent" in asked.headers, asked.read()))
        return 200

    try:
        assert send(answer, stream_of).status_code == 200
    finally:
        fault.set_on_fault(before)

    assert seen == [(False, b'{"stream":true}')]
    assert faults == [("a request of a LiteLLM call", place)]


@pytest.mark.usefixtures("recording")
def test_outside_a_call_nothing_is_added(send: Send) -> None:
    seen = []

    def answer(asked: Any) -> int:
        seen.append(("traceparent" in asked.headers, asked.read()))
        return 200

    send(answer, stream_of)

    assert seen == [(False, b'{"stream":true}')]


@pytest.mark.usefixtures("recording")
def test_the_wrappers_come_off() -> None:
    owners = (httpx.Client, httpx.AsyncClient, httpx2.Client, httpx2.AsyncClient)

    def wrapped() -> list[bool]:
        return [hasattr(owner._send_single_request, "__otel_llm_original__") for owner in owners]

    assert wrapped() == [True] * 4
    LiteLLMInstrumentor().uninstrument()
    assert wrapped() == [False] * 4
