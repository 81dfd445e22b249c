"""What our code names in vLLM is there, in every version supported: read from sources, so that no version has to be installed."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from tests.e2e_vllm.shapes import RELIED, folder_source, missing, read_shapes, recorded

RECORDED = recorded()
SUPPORTED = ("0.32.0", "0.33.0")


def test_shapes_of_every_supported_version_are_recorded() -> None:
    assert tuple(RECORDED) == SUPPORTED


@pytest.mark.parametrize("version", SUPPORTED)
def test_a_supported_version_has_what_we_rely_on(version: str) -> None:
    assert missing(RECORDED[version]) == []


def test_the_installed_version_is_as_recorded() -> None:
    found = importlib.metadata.distribution("vllm")
    packages = Path(str(found.locate_file("")))

    assert read_shapes(folder_source(packages)) == RECORDED[found.version.partition("+")[0]]


def test_nothing_is_listed_that_our_code_does_not_name(root: Path) -> None:
    sources = (root / "instrumentation" / "otel_llm" / "vllm").rglob("*.py")
    words = {word for file in sources for word in re.findall(r"\w+", file.read_text().lower())}
    listed = {
        name.lower()
        for relied in RELIED
        for name in (*relied.fields, *relied.methods, *(one for taken in relied.methods.values() for one in taken))
    }

    assert listed - words == set()


def test_a_missing_name_is_told_in_words() -> None:
    shapes = {file: dict(shape) for file, shape in RECORDED[SUPPORTED[0]].items()}
    shapes["vllm/outputs.py"].pop("CompletionOutput")
    engine = shapes["vllm/v1/engine/async_llm.py"]["AsyncLLM"]
    shapes["vllm/v1/engine/async_llm.py"]["AsyncLLM"] = {
        **engine,
        "methods": {"generate": [], "_run_output_handler": []},
    }

    assert missing(shapes) == [
        "AsyncLLM.encode",
        "AsyncLLM.generate(prompt)",
        "AsyncLLM.generate(request_id)",
        "AsyncLLM.generate(sampling_params)",
        "AsyncLLM.generate(trace_headers)",
        "vllm/outputs.py: CompletionOutput",
    ]
