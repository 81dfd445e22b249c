"""Records what a real vLLM says, for tests that have none: its page of metrics, its own spans, its answers.

    .venv-vllm/bin/python tests/e2e_vllm/record.py     writes tests/fixtures/vllm/<version>.prom, <version>-llm_request.json,
                                                   <version>-answers.json

Times and sizes differ from run to run; families, labels, bucket edges, names of attributes and keys are what readers hold to.
"""

import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # as pytest does for the tests

import httpx  # noqa: E402
from e2e.sink import Sink  # noqa: E402
from google.protobuf.json_format import MessageToDict  # noqa: E402
from waiting import until  # noqa: E402

from tests.e2e_vllm.model import NAME, model_folder  # noqa: E402
from tests.e2e_vllm.serving import Server, serve  # noqa: E402

FOLDER = ROOT / "tests" / "fixtures" / "vllm"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SPAN_IDS = ("traceId", "spanId", "parentSpanId")
MAX_TOKENS = 256  # edges of buckets of tokens depend on it
CHAT = [{"role": "user", "content": "the quick brown fox"}]
PROMPT = "the lazy dog jumps over"
LONG = "the quick brown fox jumps over the lazy dog " * 20  # more than a block of the KV cache
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": CHAT, "max_tokens": 12, "temperature": 0.5, "seed": 1}),
    "chat, a stream with usage": (
        "/v1/chat/completions",
        {"messages": CHAT, "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "completion": ("/v1/completions", {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "ignore_eos": True}),
    "completion of two choices": ("/v1/completions", {"prompt": PROMPT, "max_tokens": 6, "n": 2, "seed": 1}),
    "completion of two prompts": ("/v1/completions", {"prompt": [PROMPT, "a lion"], "max_tokens": 4, "temperature": 0}),
    "completion, a stream": ("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "stream": True}),
    "a long prompt": ("/v1/completions", {"prompt": LONG, "max_tokens": 2, "temperature": 0, "ignore_eos": True}),
    "the same again, cached": (
        "/v1/completions",
        {"prompt": LONG, "max_tokens": 2, "temperature": 0, "ignore_eos": True},
    ),
    "a prompt that is too long": ("/v1/completions", {"prompt": "a " * 2 * MAX_TOKENS, "max_tokens": 4}),
    "an unknown model": ("/v1/completions", {"model": "unknown", "prompt": PROMPT}),
    "tokenize": ("/tokenize", {"prompt": PROMPT}),
}
FINISHED = 10  # requests to the engine in what is asked: two choices and two prompts are two each


def main() -> None:
    """Start a server with its own tracing and its per-request metrics, ask each kind once, and write what came."""
    version = importlib.metadata.version("vllm").partition("+")[0]
    telling = ("--enable-per-request-metrics", "--enable-prompt-tokens-details")
    with (
        tempfile.TemporaryDirectory() as folder,
        Sink() as sink,
        serve(
            Path(folder),
            model_folder(),
            (
                "--max-model-len",
                str(MAX_TOKENS),
                "--otlp-traces-endpoint",
                f"http://127.0.0.1:{sink.grpc_port}",
                *telling,
            ),
            OTEL_EXPORTER_OTLP_TRACES_INSECURE="true",
            OTEL_BSP_SCHEDULE_DELAY="100",
        ) as server,
    ):
        answers = dict(_answers(server))
        _abandon_a_stream(server)
        until(lambda: sum(span.name == "llm_request" for span in sink.spans()) >= FINISHED, "the spans of all requests")
        page = server.page()
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{version}.prom").write_text(page)
    _write(
        f"{version}-llm_request.json",
        {"resourceSpans": [one for sent in sink.requests["traces"] for one in _plain(sent)]},
    )
    _write(f"{version}-answers.json", answers)


def _answers(server: Server) -> Iterator[tuple[str, Any]]:
    for name, (path, body) in ASKED.items():
        headers = {"X-Request-Id": name.replace(" ", "-").replace(",", ""), "traceparent": TRACEPARENT}
        answer = httpx.post(f"{server.base}{path}", json={"model": NAME, **body}, headers=headers, timeout=60)
        yield name, {"path": path, "asked": body, "status": answer.status_code, **_said(answer)}
    for path in ("/v1/models", "/health", "/version"):
        answer = httpx.get(f"{server.base}{path}", timeout=10)
        yield path, {"path": path, "status": answer.status_code, **_said(answer)}


def _said(answer: httpx.Response) -> dict[str, Any]:
    kind = answer.headers.get("content-type", "")
    said: Any = answer.json() if kind.startswith("application/json") else answer.text
    return {"type": kind, "body": said.splitlines() if "event-stream" in kind else said}


def _abandon_a_stream(server: Server) -> None:
    body = {"model": NAME, "prompt": PROMPT, "max_tokens": 240, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.base}/v1/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
    until(
        lambda: "vllm:num_requests_running{" in (page := server.page()) and _running(page) == 0, "the engine to abort"
    )


def _running(page: str) -> float:
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("vllm:num_requests_running{"))


def _plain(sent: Any) -> list[dict[str, Any]]:
    """Return a request as OTLP's JSON has it: ids as hexadecimal, where protobuf's own JSON writes base64."""
    resources: list[dict[str, Any]] = MessageToDict(sent, use_integers_for_enums=True)["resourceSpans"]
    for raw, resource in zip(sent.resource_spans, resources, strict=True):
        for raw_scope, scope in zip(raw.scope_spans, resource["scopeSpans"], strict=True):
            for raw_span, span in zip(raw_scope.spans, scope["spans"], strict=True):
                ids = (raw_span.trace_id, raw_span.span_id, raw_span.parent_span_id)
                span.update({name: value.hex() for name, value in zip(SPAN_IDS, ids, strict=True)})
    return resources


def _write(name: str, content: Any) -> None:
    (FOLDER / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
