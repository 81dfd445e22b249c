"""The upload hook: what it is given, what it may change, and that one that fails harms nothing."""

import copy
import json
import logging
import sys
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import pytest
from instrumentation.captured import ANSWERED, MAIN, MASKED_INPUT, RECORDED, SAID, Run, settings
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_llm import fault, semconv
from otel_llm.content import open_content
from otel_llm.records import Content
from otel_llm.settings import CaptureContent, Settings


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's, by the name `user_hooks`."""
    module = ModuleType("user_hooks")
    monkeypatch.setitem(sys.modules, "user_hooks", module)
    return module


@pytest.mark.parametrize("mode", CaptureContent)
def test_a_hook_sees_every_call_whole_and_masked_and_may_change_it(hooks: ModuleType, mode: CaptureContent) -> None:
    """Also with content off, and for a span that is not sampled."""
    given: list[dict[str, Any]] = []

    def hook(**arguments: Any) -> None:
        given.append(
            {
                name: json.loads(json.dumps(arguments[name]))
                for name in ("inputs", "outputs", "system_instruction", "tool_definitions")
            }
        )
        arguments["inputs"][0]["parts"][0]["content"] = "changed"
        arguments["system_instruction"].clear()
        arguments["span"].set_attribute("ref", '"there"')
        assert (arguments["log_record"] is not None) is (
            mode in (CaptureContent.EVENT_ONLY, CaptureContent.SPAN_AND_EVENT)
        )

    hooks.hook = hook  # type: ignore[attr-defined]
    long = Content(
        input_messages=[*MASKED_INPUT, {"role": "user", "parts": [{"type": "text", "content": "x" * 90_000}]}]
    )
    run = Run(settings(mode, upload_hook="user_hooks:hook", content_max_characters=5000), SAID, long)
    Run(settings(mode, upload_hook="user_hooks:hook"), SAID, ANSWERED, sampler=ALWAYS_OFF)

    assert [call["inputs"] for call in given] == [long.input_messages, MASKED_INPUT]
    assert given[1] == {
        "inputs": MASKED_INPUT,
        "outputs": ANSWERED.output_messages,
        "system_instruction": SAID.system_instructions,
        "tool_definitions": SAID.tool_definitions,
    }
    assert run.on_span.pop("ref") == "there"
    changed = [
        recorded
        for recorded in (run.on_span, run.on_event if run.events else {})
        if recorded.get(semconv.INPUT_MESSAGES)
    ]
    assert len(changed) == {CaptureContent.NO_CONTENT: 0, CaptureContent.SPAN_AND_EVENT: 2}.get(mode, 1)
    for recorded in changed:
        assert recorded[semconv.INPUT_MESSAGES][0]["parts"][0]["content"] == "changed"
        assert semconv.SYSTEM_INSTRUCTIONS not in recorded


@dataclass
class _Text:
    content: str
    type: str = "text"


@dataclass
class _Call:
    arguments: Any
    name: str
    id: str | None
    type: str = "tool_call"


@dataclass
class _Generic:
    type: str


@dataclass
class _Function:
    name: str
    description: str | None
    parameters: Any
    type: str = "function"


@dataclass
class _Message:
    role: str
    parts: list[Any]
    finish_reason: str | None = None
    name: str | None = None


def test_a_completion_hook_of_the_official_package_gets_its_classes(
    hooks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = ModuleType("opentelemetry.util.genai.types")
    for name, kind in {
        "TextPart": _Text,
        "ToolCallRequestPart": _Call,
        "GenericPart": _Generic,
        "FunctionToolDefinition": _Function,
        "GenericToolDefinition": _Generic,
        "InputMessage": _Message,
        "OutputMessage": _Message,
    }.items():
        setattr(types, name, kind)
    monkeypatch.setitem(sys.modules, "opentelemetry.util.genai", ModuleType("opentelemetry.util.genai"))
    monkeypatch.setitem(sys.modules, "opentelemetry.util.genai.types", types)
    given: list[dict[str, Any]] = []

    class Hook:
        def on_completion(self, **arguments: Any) -> None:
            given.append(copy.deepcopy({n: a for n, a in arguments.items() if n not in ("span", "log_record")}))
            arguments["outputs"][0].parts[0] = _Text("changed")

    hooks.Hook = Hook  # type: ignore[attr-defined]
    said = Content(input_messages=[*MASKED_INPUT, {"role": "user", "parts": [{"type": "odd", "x": 1}]}])
    run = Run(settings(upload_hook="user_hooks:Hook"), said, ANSWERED)
    huge = Content(input_messages=[{"role": "user", "parts": [{"type": "text", "content": "x" * 2_000_000}]}])
    Run(settings(upload_hook="user_hooks:Hook"), huge, ANSWERED)
    (uploaded,) = asdict(given.pop()["inputs"][0])["parts"]
    assert 1_000_000 < len(uploaded["content"]) < 1_100_000

    assert given == [
        {
            "inputs": [_Message("user", [_Text("Hi, I am [masked:email]")]), _Message("user", [_Generic("odd")])],
            "outputs": [_Message("assistant", [_Call({"x": 1}, "f", "c")], "tool_call")],
            "system_instruction": [],
            "tool_definitions": None,
        }
    ]
    assert run.on_span == {
        semconv.INPUT_MESSAGES: said.input_messages,  # what the classes do not hold is not lost
        semconv.OUTPUT_MESSAGES: [
            {"role": "assistant", "parts": [{"type": "text", "content": "changed"}], "finish_reason": "tool_call"}
        ],
    }


def test_a_hook_that_raises_is_a_fault_and_recording_goes_on(hooks: ModuleType) -> None:
    faults: list[str] = []
    before = fault.set_on_fault(lambda place, error: faults.append(f"{place}: {error}"))
    try:
        hooks.hook = lambda **given: 1 / 0  # type: ignore[attr-defined]
        run = Run(settings(upload_hook="user_hooks:hook"), SAID, ANSWERED)
    finally:
        fault.set_on_fault(before)
    assert faults == ["the upload hook: division by zero"]
    assert run.on_span == RECORDED
    assert run.on_event == {**MAIN, **RECORDED}


@pytest.mark.parametrize(
    "name", ["no.such.module:hook", "user_hooks:none", "user_hooks:number", "user_hooks:later", "nobody"]
)
def test_a_hook_that_cannot_be_loaded_is_one_warning(
    hooks: ModuleType, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    async def later(**given: Any) -> None: ...

    hooks.number, hooks.later = 7, later  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        assert open_content(Settings(upload_hook=name)) is None
    (record,) = caplog.records
    assert f"OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK={name} cannot be loaded" in record.getMessage()
