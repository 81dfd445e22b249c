"""Where content is recorded, in what form, and what never leaves the process: with a real SDK."""

import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from instrumentation.captured import ANSWERED, MAIN, RECORDED, SAID, Run, settings
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_llm import fault, semconv
from otel_llm.content import open_content
from otel_llm.litellm.content.capture import capture_chunks, capture_events, capture_input, capture_output
from otel_llm.litellm.content.said import read_input
from otel_llm.plain import dumps, fitted, plain
from otel_llm.records import Content, Reply, Request
from otel_llm.settings import CaptureContent, Settings

MODES = (CaptureContent.SPAN_ONLY, CaptureContent.EVENT_ONLY, CaptureContent.SPAN_AND_EVENT)


def test_off_there_is_no_recorder() -> None:
    assert open_content(Settings()) is None


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_records_where_it_says(mode: CaptureContent) -> None:
    run = Run(settings(mode), SAID, ANSWERED)
    assert run.on_span == (RECORDED if mode is not CaptureContent.EVENT_ONLY else {})
    if mode is CaptureContent.SPAN_ONLY:
        assert run.events == []
        return
    assert run.on_event == {**MAIN, **RECORDED}
    (event,) = run.events
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert (event.trace_id, event.span_id) == (run.span_context.trace_id, run.span_context.span_id)
    assert event.timestamp


def test_nothing_said_is_no_attribute_and_an_unsampled_span_still_has_its_event() -> None:
    run = Run(settings(), None, Content())
    assert run.on_span == {}
    assert run.on_event == MAIN
    run = Run(settings(), SAID, ANSWERED, sampler=ALWAYS_OFF)
    assert run.on_span == {}
    assert run.on_event == {**MAIN, **RECORDED}
    recorder = open_content(settings(CaptureContent.SPAN_ONLY))
    assert recorder is not None
    assert not recorder.wants(
        TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("t").start_span("x")
    )


def test_no_canary_leaves_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of a call a secret is in, and wherever content goes: the span, the event, the hook."""
    patterns = tmp_path / "patterns"
    patterns.write_text("staff=EMP-[0-9]+")
    user_hooks = ModuleType("user_hooks")
    monkeypatch.setitem(sys.modules, "user_hooks", user_hooks)
    seen: list[str] = []
    user_hooks.hook = lambda **given: seen.append(
        json.dumps({k: v for k, v in given.items() if k not in ("span", "log_record")})
    )  # type: ignore[attr-defined]
    canaries = [
        "sk-canary0123456789",
        "canary@example.com",
        "4111111111111111",
        "EMP-4711",
        "+49 170 7654321",
        "hunter2canary",
    ]
    call = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": f"the {canary} of"} for canary in canaries]},
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "c",
                        "function": {
                            "name": "pay",
                            "arguments": json.dumps(
                                {"card": 4111111111111111, "password": "hunter2canary", "to": canaries, canaries[1]: 1}
                            ),
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": json.dumps(canaries)},
        ],
        "tools": [{"type": "function", "function": {"name": "pay", "description": " ".join(canaries)}}],
    }
    call["messages"][0]["content"].pop()  # a password in running text is known by nothing
    call["messages"][2]["content"] = json.dumps(canaries[:-1])
    call["tools"][0]["function"]["description"] = " ".join(canaries[:-1])
    request = read_input("chat", call)
    parts = (request.input_messages or [])[1]["parts"]
    parts[0]["arguments"]["to"].pop()
    reply = Content(
        output_messages=[
            {"role": "assistant", "parts": [{"type": "text", "content": f"I saw {c}!"}]} for c in canaries[:-1]
        ]
    )
    for most in (200, 700, 1500, 100_000):
        run = Run(
            settings(mask_patterns_file=str(patterns), upload_hook="user_hooks:hook", content_max_characters=most),
            request,
            reply,
        )
        everything = json.dumps([run.texts, run.on_event, seen], ensure_ascii=False)
        for canary in canaries:
            assert canary not in everything
            assert canary[:12] not in everything
    for mask in ("key", "email", "card", "staff", "phone", "secret"):
        assert f"[masked:{mask}]" in everything


def test_attributes_stay_json_and_within_their_length_whatever_was_said() -> None:
    choose = random.Random(11)
    alphabet = 'ab "\\\n\t{}[]é日😀\x00\x1f\ud800/'

    def words(most: int) -> str:
        return "".join(choose.choices(alphabet, k=choose.randrange(most)))

    for most in (1, 2, 20, 80, 150, 300, 1000, 5000):
        for _ in range(6):
            messages = [
                {
                    "role": "user",
                    "parts": [
                        choose.choice(
                            (
                                {"type": "text", "content": words(choose.choice((5, 50, 4000)))},
                                {
                                    "type": "tool_call",
                                    "name": words(10),
                                    "arguments": {
                                        words(8): [words(30)] * choose.randrange(40) for _ in range(choose.randrange(9))
                                    },
                                },
                            )
                        )
                        for _ in range(choose.randrange(5))
                    ],
                }
                for _ in range(choose.choice((1, 3, 60)))
            ]
            run = Run(settings(content_max_characters=most), Content(input_messages=messages))
            for text in run.texts.values():
                assert len(text) <= most
                assert all(set(message) >= {"role", "parts"} for message in json.loads(text))
                text.encode()
            assert len(dumps(run.on_event.get(semconv.INPUT_MESSAGES, ""))) <= max(2, most)


def test_the_longest_texts_are_shortened_first_and_say_by_how_much() -> None:
    said = Content(
        input_messages=[
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "x" * 100_000}]},
            {"role": "user", "parts": [{"type": "text", "content": "What is it?"}]},
        ]
    )
    run = Run(settings(content_max_characters=1000), said)
    system, long, short = run.on_span[semconv.INPUT_MESSAGES]
    assert system == said.input_messages[0]  # type: ignore[index]
    assert short == said.input_messages[2]  # type: ignore[index]
    head, _, left = long["parts"][0]["content"].partition("…[+")
    assert len(head) + int(left.removesuffix(" characters]")) == 100_000
    assert 900 < len(run.texts[semconv.INPUT_MESSAGES]) <= 1000


def test_too_many_messages_leave_the_first_and_the_last() -> None:
    said = Content(
        input_messages=[{"role": "user", "parts": [{"type": "text", "content": f"message {n}"}]} for n in range(500)]
    )
    first, mark, *last = Run(settings(content_max_characters=1000), said).on_span[semconv.INPUT_MESSAGES]
    assert first["parts"][0]["content"] == "message 0"
    assert last[-1]["parts"][0]["content"] == "message 499"
    assert mark == {"role": "…", "parts": [{"type": "text", "content": f"…[+{499 - len(last)} messages]"}]}
    assert len(last) > 5


def test_what_is_no_json_or_has_no_end_is_bounded() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 1
    for _ in range(100_000):
        deep = {"x": deep}
    said = plain(
        {
            "loop": loop,
            "deep": deep,
            "wide": list(range(1_000_000)),
            7: {1},
            "b": b"123",
            "o": object(),
            "n": float("nan"),
            "i": 10**5000,
        }
    )
    assert len(dumps(said)) < 200_000
    assert said["wide"][-1].endswith("items]")
    read = plain({"b": b"123", "o": object(), "n": float("nan"), "i": 10**5000, None: ValueError})
    assert read == {
        "b": "[3 bytes]",
        "o": "[builtins.object]",
        "n": "nan",
        "i": "[integer of 16610 bits]",
        "None": "[builtins.type]",
    }
    inline = f"see ![x](data:image/png;base64,{'A' * 400}) there"
    assert plain(inline) == "see ![x]([image/png, 300 bytes]) there"
    assert fitted([{"role": "user", "parts": []}], 5, lambda count: count) == ([1], "[1]")
    assert fitted([{"role": "user", "parts": []}], 2, lambda count: count) is None


def test_the_sdks_own_limit_does_not_break_the_json() -> None:
    said = Content(input_messages=[{"role": "user", "parts": [{"type": "text", "content": "x" * 5000}]}])
    run = Run(settings(), said, environ={"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "300"})
    assert len(run.texts[semconv.INPUT_MESSAGES]) <= 300
    assert run.on_span[semconv.INPUT_MESSAGES][0]["role"] == "user"
    assert run.on_event[semconv.INPUT_MESSAGES] == said.input_messages


def test_a_recorder_that_fails_is_a_fault_and_not_the_applications() -> None:
    faults: list[str] = []
    before = fault.set_on_fault(lambda place, error: faults.append(place))
    try:
        Run(settings(), Content(input_messages=7))  # type: ignore[arg-type]
    finally:
        fault.set_on_fault(before)
    assert faults == ["content of a call"]


def test_content_is_attached_only_where_it_is_wanted_and_a_fault_costs_the_content_alone() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("test").start_span("x")
    recorder = open_content(settings(CaptureContent.SPAN_ONLY))
    said = {"messages": [{"role": "user", "content": "Hi"}]}
    for there, span in ((None, tracer.start_span("x")), (recorder, unsampled)):
        request, reply = Request("chat", "m"), Reply()
        capture_input(there, span, request, said)
        capture_output(reply, {"content": [{"type": "text", "text": "Ho"}]}, request)
        assert (request.content, reply.content) == (None, None)

    request, reply = Request("chat", "m"), Reply()
    capture_input(recorder, tracer.start_span("x"), request, said)
    assert request.content == Content(input_messages=[{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}])
    message = {"role": "assistant", "parts": [{"type": "text", "content": "Ho"}]}
    capture_output(reply, {"status": "in_progress", "output": []}, request, ["H", "o"])
    assert reply.content == Content(output_messages=[message])
    capture_chunks(reply, [{"choices": [{"index": 0, "delta": {"content": "Ho"}}]}], request)
    assert reply.content == Content(output_messages=[message])
    started = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Ho"}}
    capture_events(reply, [started], request)
    assert reply.content == Content(output_messages=[message])

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    faults: list[str] = []
    before = fault.set_on_fault(lambda place, error: faults.append(place))
    try:
        request, reply = Request("chat", "m"), Reply(id="r")
        capture_input(recorder, tracer.start_span("x"), request, {"messages": [Broken()]})
        capture_output(reply, Broken(), request)
    finally:
        fault.set_on_fault(before)
    assert faults == ["content of a LiteLLM call", "content of a LiteLLM reply"]
    assert (request.content, reply) == (Content(), Reply(id="r"))
