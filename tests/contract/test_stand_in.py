"""The stand-in engine is what a real vLLM is, on the wire: held to recordings of the real wheel.

The recordings are made anew by `python tests/e2e_vllm/record.py`, in an environment with that vLLM; where one of them changes, what is
compared here says what has to follow.
"""

import json
import re
from base64 import b64encode
from pathlib import Path

import pytest
from agent.simulate.serving import events, series_of, standing_in
from e2e.sink import Sink
from google.protobuf.json_format import MessageToDict
from waiting import until

from otel_agent.simulate.families import SLEEP_ROWS, VERSION

RECORDED = Path(__file__).resolve().parents[1] / "fixtures" / "vllm"
# Families of the real page that the stand-in leaves out, and why.
LEFT_OUT = {
    "process_": "tells of the process that serves, which is another one here",
    "python_": "the same",
}
# Families of the stand-in that the recorded page has not, and why.
NOT_RECORDED = {row.name: "appears once the engine was put to sleep; the recorded one never was" for row in SLEEP_ROWS}
# Labels whose values are those of one engine or machine, and for which only the names are compared.
OWN_VALUES = {"model_name", "engine", "handler", "method", "status"}
OWN_CACHE = {
    "block_size", "effective_attention_block_size", "num_gpu_blocks", "kv_cache_size_tokens", "kv_cache_max_concurrency",
    "gpu_memory_utilization", "kv_cache_memory_bytes",
}  # fmt: skip


def read_page(text):
    """Return each family's type, help, label names, bucket edges, and the values of the labels that are a fixed choice."""
    families = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, said = line.split(" ", 3)
            families[name] = {"help": said, "labels": set(), "edges": [], "values": set()}
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            families[name]["type"] = kind
    for (series, labels), _ in series_of(text):
        name = next(known for known in (series, re.sub(r"_(bucket|count|sum)$", "", series)) if known in families)
        family = families[name]
        if (edge := labels.pop("le", None)) and edge not in family["edges"]:
            family["edges"].append(edge)
        family["labels"] |= labels.keys()
        family["values"] |= {(key, value) for key, value in labels.items() if key not in OWN_VALUES | OWN_CACHE}
    return families


@pytest.fixture(scope="module")
def recorded_page():
    return read_page((RECORDED / f"{VERSION}.prom").read_text())


@pytest.fixture(scope="module")
def recorded_answers():
    return json.loads((RECORDED / f"{VERSION}-answers.json").read_text())


@pytest.fixture(scope="module")
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def server(sink):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with standing_in(otlp_endpoint=f"http://127.0.0.1:{sink.grpc_port}", step_s=0.001) as server:
            yield server


def test_every_family_of_the_real_page_is_there_with_its_type_labels_and_bucket_edges(server, recorded_page):
    server.post("/v1/chat/completions", messages=[{"role": "user", "content": "hello"}], max_tokens=3)
    ours = read_page(server.get("/metrics").text)
    real = {name: family for name, family in recorded_page.items() if not name.startswith(tuple(LEFT_OUT))}

    assert ours.keys() - NOT_RECORDED.keys() == real.keys()
    assert {name: ours[name] for name in real} == real
    assert [name for name in ours if name in real] == list(real)


def test_what_appears_with_sleep_is_as_the_sleep_metrics_of_vllm_are(recorded_page):
    assert not NOT_RECORDED.keys() & recorded_page.keys()  # recorded meanwhile: compare them above
    with standing_in() as server:
        assert not NOT_RECORDED.keys() & read_page(server.get("/metrics").text).keys()
        server.post("/sleep")
        server.post("/wake_up")
        assert read_page(server.get("/metrics").text).keys() >= NOT_RECORDED.keys()


ASKED = sorted(json.loads((RECORDED / f"{VERSION}-answers.json").read_text()))


@pytest.mark.parametrize("name", ASKED)
def test_every_recorded_question_is_answered_in_the_same_shape(server, recorded_answers, name):
    real = recorded_answers[name]
    if "asked" in real:
        answer = server.post(real["path"], **{"model": "tiny", **real["asked"]})
    else:
        answer = server.get(real["path"])
    assert (answer.status_code, answer.headers.get("content-type", "")) == (real["status"], real["type"])
    if real["type"].startswith("text/event-stream"):
        said = [
            json.loads(line.removeprefix("data: ")) for line in real["body"] if line and not line.endswith("[DONE]")
        ]
        ours = events(answer)
        assert [shape_of(event) for event in chunks_once(ours)] == [shape_of(event) for event in chunks_once(said)]
    elif real["body"]:
        assert shape_of(answer.json()) == shape_of(real["body"])
    else:
        assert answer.text == ""


def chunks_once(said):
    """The chunks between the first and the last two differ by nothing but their number."""
    return [said[0], said[1], *said[-2:]]


def shape_of(value, key=""):
    """Return the keys and the kinds of values; for what is fixed (objects, types, reasons), the value itself."""
    if isinstance(value, dict):
        return {name: shape_of(inner, name) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape_of(value[0], key)] if value else []
    if key in ("object", "type", "role", "owned_by", "version", "code") or isinstance(value, bool) or value is None:
        return value
    return "number" if isinstance(value, (int, float)) else re.split(r"[-\s]", value)[0] if key == "id" else "text"


def test_the_spans_are_those_of_vllms_own_tracing(server, sink, recorded_answers):
    """The requests of the recording, under the trace of the recording: the same spans, attribute by attribute."""
    sent = json.loads((RECORDED / f"{VERSION}-llm_request.json").read_text())["resourceSpans"]
    recorded = [one for one in spans_of(sent) if one[2]["name"] == "llm_request"]
    trace, parent = recorded[0][2]["traceId"], recorded[0][2]["parentSpanId"]
    for name, real in recorded_answers.items():
        if "asked" in real:
            headers = {
                "x-request-id": name.replace(" ", "-").replace(",", ""),
                "traceparent": f"00-{trace}-{parent}-01",
            }
            server.post(real["path"], headers, **{"model": "tiny", **real["asked"], "ignore_eos": True})
    id_bytes = bytes.fromhex(trace)
    until(lambda: sum(span.trace_id == id_bytes for span in sink.spans()) >= len(recorded), "the spans")

    plain = [MessageToDict(one) for request in sink.requests["traces"] for one in request.resource_spans]
    in_base64 = {
        name: b64encode(bytes.fromhex(value)).decode() for name, value in (("trace", trace), ("parent", parent))
    }
    ours = [one for one in spans_of(plain) if one[2]["traceId"] == in_base64["trace"]]
    assert {span["parentSpanId"] for _, _, span in ours} == {in_base64["parent"]}
    assert sorted(map(told, ours), key=str) == sorted(map(told, recorded), key=str)
    assert all(int(span["startTimeUnixNano"]) < int(span["endTimeUnixNano"]) for _, _, span in ours)


def spans_of(resource_spans):
    """Return each span with its resource and scope."""
    return [
        (resource, scope, span)
        for resource in resource_spans
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def told(one):
    """Return what does not differ from run to run: names and kinds of values, and the values that are no measurement."""
    resource, scope, span = one
    attributes = {}
    for attribute in span["attributes"]:
        [(kind, value)] = attribute["value"].items()
        fixed = attribute["key"].startswith("gen_ai.request.") or attribute["key"].endswith("completion_tokens")
        attributes[attribute["key"]] = (kind, value) if fixed else kind
    keys = sorted(attribute["key"] for attribute in resource["resource"]["attributes"])
    return (
        keys,
        scope["scope"],
        span["name"],
        span["kind"] in (2, "SPAN_KIND_SERVER"),
        span.get("status"),
        span.get("flags"),
        sorted(attributes.items()),
    )
