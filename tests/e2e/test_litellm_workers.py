"""The LiteLLM proxy with several worker processes: each is instrumented, and each call is one connected trace."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2e.sink import plain
from e2e.test_litellm_proxy import SERVER, Rig, run
from waiting import until

pytestmark = pytest.mark.e2e

AT_ONCE = 8
DEADLINE_S = 120.0  # the second worker imports LiteLLM while the first already answers


def workers(rig: Rig) -> set[int]:
    """The processes that recorded calls to a model."""
    return {
        plain(resource.resource.attributes)["process.pid"]
        for request in list(rig.sink.requests["traces"])
        for resource in request.resource_spans
        for scope in resource.scope_spans
        if scope.scope.name.startswith("otel_llm")
    }


def test_the_calls_of_every_worker_are_one_connected_trace_each(tmp_path: Path) -> None:
    answers = []
    with (
        run(
            # uvicorn ends a worker that is busy importing LiteLLM for longer than that
            tmp_path, {}, NUM_WORKERS="2", TIMEOUT_WORKER_HEALTHCHECK="120", OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="process",
            OTEL_LLM_TRACE_RESPONSE_HEADER="X-Trace-Id",
        ) as rig,
        ThreadPoolExecutor(AT_ONCE) as callers,
    ):  # fmt: skip

        def ask_at_once() -> bool:
            answers.extend(callers.map(lambda number: rig.ask(stream=number % 2 == 0), range(AT_ONCE)))
            return len(workers(rig)) == 2

        until(ask_at_once, "calls of both workers", DEADLINE_S)
        traces = [answer.headers["X-Trace-Id"] for answer in answers]
        calls = [rig.calls(trace_id) for trace_id in traces]
        ways = [rig.way(number) for number in range(len(rig.engine.requests))]

    assert {answer.status_code for answer in answers} == {200}
    assert len(set(traces)) == len(answers)
    assert [[span.name for span in found] for found in calls] == [["chat plain"]] * len(answers)
    assert ways == [["POST", "chat plain", SERVER]] * len(answers)
