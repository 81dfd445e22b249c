"""The Collector's words for vLLM's spans are those of the instrumentation, and no name that vLLM is known to write was overlooked."""

import json
import re
from pathlib import Path

import pytest
import yaml

from otel_llm.attributes import ATTRIBUTES

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "collector-config" / "collector.yaml").read_text())
(GROUP,) = CONFIG["processors"]["transform/vllm"]["trace_statements"]
DECLARED = {row.name for row in ATTRIBUTES}
RECORDED = sorted((ROOT / "tests" / "fixtures" / "vllm").glob("*-llm_request.json"))


def test_it_writes_no_name_that_the_instrumentation_does_not_declare() -> None:
    written = {name for line in GROUP["statements"] for name in re.findall(r'^set\(span\.attributes\["(.+?)"\]', line)}
    assert len(written) > 8
    assert written - DECLARED == set()


@pytest.mark.parametrize("recording", RECORDED, ids=lambda path: path.stem)
def test_every_name_of_a_recording_is_todays_or_deleted(recording: Path) -> None:
    (deleted,) = re.findall(r'delete_matching_keys\(span\.attributes, "(.+?)"\)', GROUP["statements"][-1])
    told = json.loads(recording.read_text())["resourceSpans"]
    spans = [span for r in told for s in r["scopeSpans"] for span in s["spans"] if span["name"] == "llm_request"]
    names = {attribute["key"] for span in spans for attribute in span["attributes"]}
    assert len(names) > 8
    assert {name for name in names if not re.search(deleted, name)} - DECLARED == set()


def test_names_are_brought_up_to_date_before_anything_is_kept() -> None:
    processors = CONFIG["service"]["pipelines"]["traces"]["processors"]
    assert processors == ["memory_limiter", "resource_detection", "transform/vllm", "redaction/content"]
