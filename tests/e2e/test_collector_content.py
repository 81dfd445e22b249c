"""Prompts and answers pass the Collector only where its content overlay lets them."""

from pathlib import Path

import pytest
from e2e.collecting import APP, backend
from e2e.emit import application
from e2e.sink import Sink, plain
from e2e.stack import lone_collector, started
from waiting import until

from compose.native.ports import Ports, free

pytestmark = pytest.mark.e2e
SECRET = "canary-7f3a"


CONTENT = {
    "gen_ai.input.messages": SECRET,
    "gen_ai.output.messages": f"first line\n{SECRET}",
    "gen_ai.system_instructions": SECRET,
    "gen_ai.tool.call.arguments": SECRET,
    "gen_ai.prompt.0.content": SECRET,
    "llm.input_messages.0.message.content": SECRET,
    "input.value": SECRET,
    "traceloop.entity.output": SECRET,
}


def _send_content(ports: Ports) -> None:
    with application(ports.url("otlp_http"), APP) as app:
        with app.tracers.get_tracer("e2e").start_as_current_span("chat") as span:
            span.set_attributes({**CONTENT, "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7})
            span.add_event("gen_ai.content.prompt", {"gen_ai.prompt": SECRET})
            app.log({"content": SECRET, "role": "user"}, event_name="gen_ai.user.message")
            app.log(SECRET, {"event.name": "gen_ai.choice"})
            app.log("plain words", CONTENT)
        app.flush()


def test_prompts_and_answers_reach_no_backend_and_no_disk(tmp_path: Path) -> None:
    with Sink() as sink:
        ports = free()
        process = lone_collector(tmp_path, ports, backend(sink))
        with started(process):
            _send_content(ports)
            (span,) = until(sink.spans, "the span")
            until(lambda: sink.requests["logs"], "the logs")
    assert not [
        request
        for signal in ("traces", "logs")
        for request in sink.requests[signal]
        if SECRET.encode() in request.SerializeToString()
    ]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    kept = plain(span.attributes)
    assert kept.pop("gen_ai.request.model") == "m"
    assert kept.pop("gen_ai.usage.input_tokens") == 7
    assert set(kept) == set(CONTENT)
    assert {mark.replace("\n", "") for mark in kept.values()} <= {"****", "********"}, (
        "a mark says that there was something"
    )
    bodies = [
        record.body.string_value
        for request in sink.requests["logs"]
        for r in request.resource_logs
        for s in r.scope_logs
        for record in s.log_records
    ]
    assert sorted(bodies) == ["****", "****", "plain words"]


def test_the_content_overlay_lets_prompts_and_answers_through(tmp_path: Path) -> None:
    with Sink() as sink:
        ports = free()
        with started(lone_collector(tmp_path, ports, backend(sink), ["content"])):
            _send_content(ports)
            (span,) = until(sink.spans, "the span")
            (logs,) = until(lambda: sink.requests["logs"], "the logs")
    assert plain(span.attributes) == {**CONTENT, "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7}
    assert logs.SerializeToString().count(SECRET.encode()) == 2 + len(CONTENT)
