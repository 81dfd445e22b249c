"""Requests, traces and log records come back from the store as they were sent."""

import time
from pathlib import Path

import pytest
from agent.store import otlp
from agent.store.opened import opened

from otel_agent.history.model import HistoryError, LogRow, RequestRow, SpanEvent, SpanLink, SpanRow
from otel_agent.history.sql import SqlHistory

NOW = 1_800_000_000.0
NOW_NS = 1_800_000_000_000_000_000
RESOURCE = {"service.name": "app"}
WINDOW = {"since_s": NOW - 100, "until_s": NOW + 100}


def clock() -> float:
    return NOW


def test_a_request_tells_everything_that_its_span_told(tmp_path: Path) -> None:
    trace_id, span_id = otlp.ids()
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m1",
        "gen_ai.response.model": "m1-2026",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 8,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "c-7",
        "otel_llm.prompt.length": 120,
        "server.address": "127.0.0.1",
        "server.port": 8000,
    }
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", otlp.chat(NOW, duration_s=2.0, trace_id=trace_id, span_id=span_id, attributes=attributes))
        (found,) = it.history.requests(**WINDOW)

    assert found == RequestRow(
        request_id="chatcmpl-1",
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        start_ns=NOW_NS,
        duration_ns=2_000_000_000,
        service="app",
        name="chat m1",
        operation="chat",
        provider="openai",
        model_name="m1-2026",
        request_model="m1",
        response_model="m1-2026",
        success=True,
        finish_reasons=("stop", "length"),
        streamed=True,
        server_address="127.0.0.1",
        server_port=8000,
        prompt_tokens=10,
        completion_tokens=40,
        cached_tokens=4,
        reasoning_tokens=8,
        prompt_length=120,
        time_to_first_chunk_s=0.25,
        temperature=0.5,
        max_tokens=100,
        top_p=1,
        stop_sequences=("END",),
        conversation_id="c-7",
        attributes=attributes,
        resource=RESOURCE,
    )
    assert (found.total_tokens, found.tokens_per_second) == (50, 20.0)


def test_what_a_span_does_not_tell_is_unknown_and_never_zero(tmp_path: Path) -> None:
    _, span_id = otlp.ids()
    wrong = {"gen_ai.usage.input_tokens": "ten", "gen_ai.usage.output_tokens": True, "gen_ai.response.id": 5}
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", otlp.chat(NOW, span_id=span_id, attributes=wrong))
        (found,) = it.history.requests(**WINDOW)

    numbers = (found.prompt_tokens, found.completion_tokens, found.cached_tokens, found.time_to_first_chunk_s)
    assert numbers == (None, None, None, None)
    assert (found.total_tokens, found.tokens_per_second, found.cost_usd, found.queue_s) == (None, None, None, None)
    assert (found.request_id, found.provider, found.finish_reasons) == (span_id.hex(), None, ())


def test_zero_tokens_that_were_reported_are_zero(tmp_path: Path) -> None:
    told = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", otlp.chat(NOW, attributes=told))
        (found,) = it.history.requests(**WINDOW)
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (0, 0, 0)


def test_a_failed_request_tells_its_error_from_the_status_or_else_from_the_exception(tmp_path: Path) -> None:
    by_status, by_event = otlp.chat(NOW + 1), otlp.chat(NOW, attributes={"error.type": "RateLimitError"})
    otlp.span_of(by_status).status.code = 2
    otlp.span_of(by_status).status.message = "upstream is down"
    event = otlp.span_of(by_event).events.add(name="exception", time_unix_nano=NOW_NS)
    event.attributes.extend(otlp.pairs({"exception.message": "slow down"}))
    with opened(tmp_path, clock=clock) as it:
        for message in (by_status, by_event, otlp.chat(NOW - 1)):
            it.keep("traces", message)
        failed = it.history.requests(failed=True, **WINDOW)
        fine = it.history.requests(failed=False, **WINDOW)

    assert [(row.success, row.error_type, row.error_message) for row in failed] == [
        (False, None, "upstream is down"),
        (False, "RateLimitError", "slow down"),
    ]
    assert [(row.success, row.error_type, row.error_message) for row in fine] == [(True, None, None)]


def test_a_request_inside_another_one_is_a_layer_of_it(tmp_path: Path) -> None:
    """Client, proxy and engine each make a span of one call, with spans of HTTP in between, and they arrive in any order."""
    trace_id, client = otlp.ids()
    http, proxy, engine, second = (otlp.ids()[1] for _ in range(4))
    spans = [
        otlp.one_span(
            NOW + 2,
            name="llm_request",
            trace_id=trace_id,
            span_id=engine,
            parent_id=proxy,
            attributes={"gen_ai.request.id": "r", "gen_ai.usage.prompt_tokens": 3},
        ),
        otlp.chat(NOW + 1, trace_id=trace_id, span_id=proxy, parent_id=http),
        otlp.one_span(NOW + 0.5, name="POST", trace_id=trace_id, span_id=http, parent_id=client),
        otlp.chat(NOW, trace_id=trace_id, span_id=client),
        otlp.chat(NOW + 5, trace_id=trace_id, span_id=second, parent_id=otlp.ids()[1]),  # its parent never came
    ]
    with opened(tmp_path, clock=clock) as it:
        for message in spans:
            it.keep("traces", message)
        found = it.history.requests(**WINDOW)
    assert [row.span_id for row in found] == [second.hex(), client.hex()]


def test_the_span_of_the_engine_alone_is_a_request_too(tmp_path: Path) -> None:
    told = {
        "gen_ai.request.id": "r-1",
        "gen_ai.usage.prompt_tokens": 3,
        "gen_ai.usage.completion_tokens": 5,
        "gen_ai.latency.time_in_queue": 0.5,
        "gen_ai.latency.time_to_first_token": 0.75,
        "gen_ai.latency.time_in_model_prefill": 0.125,
        "gen_ai.latency.time_in_model_decode": 2.0,
    }
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", otlp.one_span(NOW, name="llm_request", attributes=told))
        (found,) = it.history.requests(**WINDOW)
    assert (found.request_id, found.prompt_tokens, found.completion_tokens) == ("r-1", 3, 5)
    assert (found.queue_s, found.time_to_first_chunk_s, found.prefill_s, found.decode_s) == (0.5, 0.75, 0.125, 2.0)


def test_the_engine_s_own_span_under_today_s_names_is_one_as_well(tmp_path: Path) -> None:
    told = {
        "otel_llm.request.id": "cmpl-1",
        "otel_llm.engine.queue_time": 0.5,
        "otel_llm.engine.prefill_time": 0.125,
        "otel_llm.engine.generation_time": 2.0,
        "otel_llm.engine.time_to_first_token": 0.75,
    }
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", otlp.one_span(NOW, attributes={"gen_ai.operation.name": "text_completion", **told}))
        (found,) = it.history.requests(**WINDOW)
    assert found.request_id == "cmpl-1"
    assert (found.queue_s, found.time_to_first_chunk_s, found.prefill_s, found.decode_s) == (0.5, 0.75, 0.125, 2.0)


def test_a_batch_is_no_request_and_those_below_it_are(tmp_path: Path) -> None:
    trace_id, batch = otlp.ids()
    asked = {"gen_ai.operation.name": "text_completion", "gen_ai.usage.input_tokens": 3}
    with opened(tmp_path, clock=clock) as it:
        it.keep(
            "traces",
            otlp.one_span(NOW, trace_id=trace_id, span_id=batch, attributes={**asked, "otel_llm.batch.size": 2}),
        )
        for _ in range(2):
            below = otlp.one_span(NOW, trace_id=trace_id, span_id=otlp.ids()[1], parent_id=batch, attributes=asked)
            it.keep("traces", below)
        assert [row.prompt_tokens for row in it.history.requests(**WINDOW)] == [3, 3]


def test_what_the_application_says_of_money_engine_and_caller_is_in_the_request(tmp_path: Path) -> None:
    told = {
        "otel_llm.cost": 0.25,
        "otel_llm.engine.queue_time": 0.5,
        "otel_llm.engine.time_to_first_token": 0.75,
        "otel_llm.engine.generation_time": 2.0,
        "otel_llm.team": "t",
        "otel_llm.key_alias": "k",
        "user.id": "u",
        "gen_ai.conversation.id": "c",
        "gen_ai.prompt.name": "greeting",
        "gen_ai.prompt.version": "3",
    }
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", otlp.chat(NOW, attributes=told))
        (found,) = it.history.requests(**WINDOW)
    assert (found.cost_usd, found.queue_s, found.prefill_s, found.decode_s) == (0.25, 0.5, 0.25, 2.0)
    assert (found.team_id, found.api_key_id, found.user_id, found.conversation_id) == ("t", "k", "u", "c")
    assert (found.prompt_template_name, found.prompt_template_version) == ("greeting", "3")


def test_tools_and_agents_are_no_requests(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock) as it:
        for operation in ("execute_tool", "invoke_agent"):
            it.keep("traces", otlp.one_span(NOW, attributes={"gen_ai.operation.name": operation}))
        assert it.history.requests(**WINDOW) == []
        assert it.history.stats().signals["traces"].rows == 2


def test_requests_are_found_by_time_model_and_id_newest_first(tmp_path: Path) -> None:
    _, by_span = otlp.ids()
    with opened(tmp_path, clock=clock) as it:
        for age_s in range(5):
            it.keep(
                "traces", otlp.chat(NOW - age_s, model=f"m{age_s % 2}", attributes={"gen_ai.response.id": f"r{age_s}"})
            )
        it.keep("traces", otlp.chat(NOW - 5, span_id=by_span))

        def ids(**question: object) -> list[str]:
            return [row.request_id for row in it.history.requests(**WINDOW | question)]  # type: ignore[arg-type]

        assert ids() == ["r0", "r1", "r2", "r3", "r4", by_span.hex()]
        assert ids(limit=2) == ["r0", "r1"]
        assert ids(since_s=NOW - 3, until_s=NOW - 1) == ["r1", "r2", "r3"]
        assert ids(model="m1") == ["r1", "r3", by_span.hex()]
        assert ids(request_id="r3") == ["r3"]
        assert ids(request_id=by_span.hex()) == [by_span.hex()]
        assert ids(request_id="nothing") == []


def test_a_trace_comes_back_whole_in_the_order_of_its_starts(tmp_path: Path) -> None:
    trace_id, root_id = otlp.ids()
    _, child_id = otlp.ids()
    child = otlp.one_span(
        NOW + 1,
        name="child",
        trace_id=trace_id,
        span_id=child_id,
        parent_id=root_id,
        service="other",
        attributes={
            "list": [1, "a", None],
            "map": {"deep": {"x": 1.5}},
            "bytes": b"\x00\xff",
            "nan": float("nan"),
            "é": "ü\u0000",
        },
    )
    otlp.span_of(child).events.add(name="chunk", time_unix_nano=NOW_NS + 1, attributes=otlp.pairs({"n": 1}))
    otlp.span_of(child).links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    otlp.span_of(child).status.code = 2
    otlp.span_of(child).status.message = "broke"
    with opened(tmp_path, clock=clock) as it:
        it.keep("traces", child)
        it.keep("traces", otlp.one_span(NOW, name="root", trace_id=trace_id, span_id=root_id))
        it.keep("traces", otlp.one_span(NOW))
        found = it.history.trace(trace_id.hex().upper())

    root = SpanRow(
        trace_id=trace_id.hex(),
        span_id=root_id.hex(),
        parent_id=None,
        name="root",
        kind="client",
        service="app",
        scope="test",
        start_ns=NOW_NS,
        duration_ns=1_000_000_000,
        status="unset",
        status_message="",
        attributes={},
        events=(),
        links=(),
        resource=RESOURCE,
    )
    assert found == [
        root,
        SpanRow(
            trace_id=trace_id.hex(),
            span_id=child_id.hex(),
            parent_id=root_id.hex(),
            name="child",
            kind="client",
            service="other",
            scope="test",
            start_ns=NOW_NS + 1_000_000_000,
            duration_ns=1_000_000_000,
            status="error",
            status_message="broke",
            attributes={
                "list": [1, "a", None],
                "map": {"deep": {"x": 1.5}},
                "bytes": "AP8=",
                "nan": "nan",
                "é": "ü\u0000",
            },
            events=(SpanEvent(NOW_NS + 1, "chunk", {"n": 1}),),
            links=(SpanLink("74" * 16, "73" * 8, {}),),
            resource={"service.name": "other"},
        ),
    ]


def test_an_unknown_trace_is_empty_and_what_is_no_id_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        assert it.history.trace("0" * 32) == []
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            it.history.trace("nonsense")
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            it.history.logs(trace_id="nonsense", **WINDOW)


def test_log_records_are_found_by_time_trace_text_and_severity(tmp_path: Path) -> None:
    trace_id, span_id = otlp.ids()
    with opened(tmp_path, clock=clock) as it:
        it.keep("logs", otlp.one_log(NOW, "Model LOADED 100%", severity=9))
        it.keep("logs", otlp.one_log(NOW - 1, "out of memory", severity=17, trace_id=trace_id, span_id=span_id))
        it.keep("logs", otlp.one_log(NOW - 2, {"event": "x"}, severity=0, attributes={"a": 1}, service="other"))
        without_time = otlp.one_log(0, "no time")
        it.keep("logs", without_time)

        def bodies(**question: object) -> list[object]:
            return [row.body for row in it.history.logs(**WINDOW | question)]  # type: ignore[arg-type]

        rows = it.history.logs(**WINDOW)
        assert bodies(text="loaded 100%") == ["Model LOADED 100%"]
        assert bodies(text="%") == ["Model LOADED 100%"]
        assert bodies(text="_") == []
        assert bodies(min_severity=13) == ["out of memory"]
        assert bodies(trace_id=trace_id.hex()) == ["out of memory"]
        assert bodies(limit=1) == ["no time"]

    assert [row.body for row in rows] == ["no time", "Model LOADED 100%", "out of memory", {"event": "x"}]
    assert rows[2] == LogRow(
        time_ns=NOW_NS - 1_000_000_000,
        severity=17,
        severity_text="INFO",
        service="app",
        scope="",
        event_name=None,
        body="out of memory",
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        attributes={},
        resource=RESOURCE,
    )
    assert (rows[3].severity, rows[3].attributes, rows[3].service) == (None, {"a": 1}, "other")


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock) as it:
        whole = otlp.one_log(NOW, "x" * 100)
        for _ in range(20_000):
            whole.resource_logs[0].scope_logs[0].log_records.append(whole.resource_logs[0].scope_logs[0].log_records[0])
        it.keep("logs", whole)
        hurried = SqlHistory(it.store.path, limit_s=0.0)
        before = time.monotonic()
        with pytest.raises(HistoryError, match="the answer would take longer than 0 s; ask for less time"):
            hurried.logs(text="absent", **WINDOW)
        assert time.monotonic() - before < 5
        hurried.close()
        assert it.history.logs(text="absent", **WINDOW) == []


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    history = SqlHistory(tmp_path / "store.db")
    with pytest.raises(HistoryError, match="cannot be read: unable to open database file"):
        history.requests(**WINDOW)
    history.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_limit_has_limits(tmp_path: Path, limit: int) -> None:
    with opened(tmp_path) as it, pytest.raises(ValueError, match="between 1 and 10000"):
        it.history.requests(limit=limit, **WINDOW)
