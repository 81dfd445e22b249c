"""Requests handed to the engine by one call and waited for by another."""

import pytest
from opentelemetry.trace import StatusCode

from otel_llm.vllm.enqueued import _waiting
from tests.e2e_vllm.asked import IN, PARAMS, attributes, generate, used
from tests.e2e_vllm.recorded import recorded
from tests.e2e_vllm.scripted_llm import Core, scripted


def test_what_was_enqueued_is_told_by_the_call_that_waits_for_it() -> None:
    llm = scripted()
    with recorded() as recording:
        ids = llm.enqueue(["a", "b c"], PARAMS, use_tqdm=False)
        outputs = llm.wait_for_completion(use_tqdm=False)

    enqueue, first, second, wait = recording.spans()
    assert (len(ids), len(outputs)) == (2, 2)
    assert enqueue.name == "enqueue tiny"
    assert attributes(enqueue) == {**IN, "gen_ai.operation.name": "enqueue", "otel_llm.batch.size": 2}
    assert attributes(first) == {**IN, **used("0", 1)}
    assert first.parent == second.parent == wait.get_span_context()
    assert (enqueue.start_time or 0) < (first.start_time or 0) < (enqueue.end_time or 0)  # when it was added
    assert [link.context for link in wait.links] == [enqueue.get_span_context()]
    assert wait.name == "text_completion tiny"
    assert recording.counts() == {"gen_ai.client.token.usage": 2, "gen_ai.client.operation.duration": 1}
    assert not _waiting


def test_completions_and_chats_enqueued_together_keep_their_kinds() -> None:
    llm = scripted()
    with recorded() as recording:
        llm.enqueue(["a"], PARAMS, use_tqdm=False)
        llm.enqueue_chat([{"role": "user", "content": "b"}], PARAMS, use_tqdm=False)
        llm.wait_for_completion(use_tqdm=False)

    *_, first, second, wait = recording.spans()
    assert [span.name for span in (first, second, wait)] == [
        "text_completion tiny",
        "chat tiny",
        "generate_content tiny",
    ]
    assert len(wait.links) == 2


def test_requests_that_nobody_waits_for_are_kept_up_to_a_bound_and_go_with_their_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("otel_llm.vllm.enqueued._MAX", 5)
    llm = scripted()
    with recorded():
        for _ in range(4):
            llm.enqueue(["a", "b", "c"], PARAMS, use_tqdm=False)
        (kept,) = _waiting.values()
        assert list(kept) == ["7", "8", "9", "10", "11"]
        del llm
        assert not _waiting


def test_an_enqueue_that_fails_is_told_at_once() -> None:
    with recorded() as recording, pytest.raises(ValueError, match="empty"):
        scripted().enqueue(["a", ""], PARAMS, use_tqdm=False)

    assert recording.batch().status.status_code is StatusCode.ERROR
    assert not _waiting


def test_requests_an_interrupted_wait_left_unfinished_are_told_by_the_next() -> None:
    core = Core()
    llm = scripted(core)
    core.dies_after, core.raises = 2, KeyboardInterrupt()
    with recorded() as recording:
        llm.enqueue(["a", "b c"], PARAMS, use_tqdm=False)
        with pytest.raises(KeyboardInterrupt):
            llm.wait_for_completion(use_tqdm=False)
        core.dies_after = None
        llm.wait_for_completion(use_tqdm=False)

    _, first, interrupted, second, wait = recording.spans()
    assert [attributes(span)["otel_llm.request.id"] for span in (first, second)] == ["0", "1"]
    assert [attributes(span).get("error.type") for span in (first, interrupted, second, wait)] == [
        None, "KeyboardInterrupt", None, None
    ]  # fmt: skip
    assert not _waiting


def test_a_call_that_runs_the_engine_meanwhile_gets_what_was_enqueued() -> None:
    """As vLLM has it: whichever call runs the engine is handed the outputs of all requests."""
    llm = scripted()
    with recorded() as recording:
        llm.enqueue(["a"], PARAMS, use_tqdm=False)
        outputs = generate(llm, "b c")

    enqueue, *requests, batch = recording.spans()
    assert len(outputs) == len(requests) == attributes(batch)["otel_llm.batch.size"] == 2
    assert [link.context for link in batch.links] == [enqueue.get_span_context()]
