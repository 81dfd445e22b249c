"""Traces in a real Tempo, where TEMPO_BIN names one: found by id, and by what TraceQL asks of an LLM call."""

import pytest
from e2e.emit import application
from e2e.stack import get_json
from waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def tempo(stack):
    """The address of the Tempo of this run."""
    if stack.plan.tempo_bin is None:
        pytest.skip("TEMPO_BIN names no binary of Tempo")
    return stack.ports.url("tempo")


def test_a_call_is_found_by_its_id_and_by_what_it_was(stack, tempo):
    with application(stack.ports.url("otlp_http"), {"service.name": "tempo-app"}) as app:
        with app.tracers.get_tracer("app").start_as_current_span("chat tiny") as span:
            span.set_attribute("gen_ai.request.model", "tiny")
            span.set_attribute("gen_ai.usage.output_tokens", 7)
        app.flush()
    trace_id = f"{span.get_span_context().trace_id:032x}"

    # An unknown id is answered by 200 and an empty body.
    found = until(lambda: get_json(f"{tempo}/api/v2/traces/{trace_id}").get("trace"), "the trace by its id")
    [resource] = found["resourceSpans"]
    assert [span["name"] for scope in resource["scopeSpans"] for span in scope["spans"]] == ["chat tiny"]

    query = '{ span.gen_ai.request.model = "tiny" && span.gen_ai.usage.output_tokens > 6 }'
    hits = until(lambda: get_json(f"{tempo}/api/search", q=query)["traces"], "the trace by TraceQL")
    assert trace_id in {hit["traceID"].rjust(32, "0") for hit in hits}
