"""The board of vLLM engines over the real Prometheus: the plug-in's own engines and instruments, of which only vLLM's numbers are made up."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import pytest
from e2e.board_queries import BOARDS, answers_of, ask_all, board_queries, find_traces
from e2e.emit import Application, application
from e2e.stack import exemplars, promql
from waiting import until

from compose.native.stack import Stack
from dashboards.queries import choices, substitute
from otel_llm import semconv
from otel_llm.metrics import counter
from otel_llm.vllm.metrics import ABORTED, ABORTED_TOKENS
from otel_llm.vllm.stats.engine import Engine
from otel_llm.vllm.stats.limits import Capacity, Limit
from otel_llm.vllm.stats.observe import SCOPE, Instruments

pytestmark = pytest.mark.e2e

NODE = "a-node-with-two-engines"
SERVER = "a-vllm-of-the-boards"
MODEL = {semconv.REQUEST_MODEL: "tiny"}
ABORT = {semconv.PROVIDER_NAME: "vllm", **MODEL, semconv.ABORT_REASON: "client_disconnected"}
CHOSEN = choices(BOARDS["engine"]) | {"host": NODE, "server": SERVER}
TIMES_S = {"queued_time": 0.25, "prefill_time": 0.5, "decode_time": 0.5, "e2e_latency": 1.27}
TOKENS = 11  # of a reply


def idle() -> SimpleNamespace:
    return SimpleNamespace(num_running_reqs=0, num_waiting_reqs=0, num_skipped_waiting_reqs=0, kv_cache_usage=0.1)


def pressed() -> SimpleNamespace:
    """What a scheduler says that is short of KV cache, with a KV connector and speculative decoding on."""
    return SimpleNamespace(
        num_running_reqs=3,
        num_waiting_reqs=2,
        num_skipped_waiting_reqs=1,
        kv_cache_usage=0.95,
        prefix_cache_stats=SimpleNamespace(queries=80, hits=20),
        connector_prefix_cache_stats=SimpleNamespace(queries=60, hits=6),
        spec_decoding_stats=SimpleNamespace(num_drafts=10, num_draft_tokens=30, num_accepted_tokens=21),
    )


def ended(reason: str, request_id: str) -> SimpleNamespace:
    return SimpleNamespace(
        finish_reason=reason,
        request_id=request_id,
        num_generation_tokens=TOKENS,
        mean_time_per_output_token=0.05,
        **TIMES_S,
    )


class Served:
    """A server with two engines under the instrumentation: one short of KV cache, whose clients give up, and one that is idle."""

    def __init__(self, server: Application) -> None:
        self.server = server
        meter = server.meters.get_meter(SCOPE)
        self.instruments = Instruments(meter, proposed_names=False)
        self.aborted, self.aborted_tokens = counter(meter, ABORTED), counter(meter, ABORTED_TOKENS)
        self.tracer = server.tracers.get_tracer("otel_llm")
        self.traces: set[str] = set()
        capacity = Capacity(sequences=8, batched_tokens=2048, cached_tokens=4096, request_tokens=32)
        self.engines = [Engine({**MODEL, semconv.VLLM_ENGINE_INDEX: index}, capacity) for index in (0, 1)]
        for engine in self.engines:
            self.instruments.add(engine, self)

    def work(self) -> None:
        """Make one step of each engine: of five requests that began, three stop, one fails, one is given up."""
        finished = [ended(reason, self._asked()) for reason in ("stop", "stop", "stop", "error")]
        iteration = SimpleNamespace(
            num_generation_tokens=5 * TOKENS,
            num_preempted_reqs=1,
            time_to_first_tokens_iter=[0.01] * 5,
            prompt_token_stats=SimpleNamespace(computed=60, local_cache_hit=16, external_kv_transfer=4),
            finished_requests=finished,
        )
        images = SimpleNamespace(queries=4, hits=1)
        self.engines[0].step(pressed(), iteration, images)
        self.engines[1].step(idle(), None, None)
        for one in finished:
            self.instruments.requests.record(one, self.engines[0], None)
        self.instruments.rejected.add(1, {**MODEL, semconv.VLLM_REJECTION_REASON: "max_num_queued_reqs"})
        self.aborted.add(1, ABORT)
        self.aborted_tokens.add(TOKENS, {**ABORT, semconv.TOKEN_TYPE: semconv.TOKEN_OUTPUT})
        self.server.flush()

    def _asked(self) -> str:
        """Return the id of a request that a caller named after its span, by what was a span of the server as well."""
        attributes = {**MODEL, semconv.ENGINE_QUEUE_TIME: 0.25, semconv.ABORT_REASON: "client_disconnected"}
        with self.tracer.start_as_current_span("chat tiny", attributes=attributes) as span:
            named = span.get_span_context()
        self.traces.add(f"{named.trace_id:032x}")
        return f"chatcmpl-00-{named.trace_id:032x}-{named.span_id:016x}-01"


@pytest.fixture
def served(stack: Stack) -> Iterator[Served]:
    described = {"service.name": SERVER, "host.name": NODE, "service.instance.id": "one"}
    with application(stack.ports.url("otlp_http"), described) as server:
        yield Served(server)


def test_the_board_of_engines_shows_what_they_do_what_limits_them_and_leads_to_traces(
    stack: Stack, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = board_queries("engine")
    answers = partial(answers_of, stack, "engine", CHOSEN)

    assert ask_all(stack, asked, "engine", CHOSEN, served.work) == []

    def by(label: str, panel: str) -> dict[str, float]:
        return {labels[label]: value for labels, value in answers(panel)}

    def number(panel: str) -> float:
        [(_, value)] = answers(panel)
        return value

    assert {panel: number(panel) for panel in ("Running", "Waiting", "KV cache", "Held back")} == {
        "Running": 3,
        "Waiting": 3,
        "KV cache": 0.95,
        "Held back": 1,
    }
    states = {state.value: 0.0 for state in Limit} | {"kv_pressure": 0.5, "idle": 0.5}
    assert by("otel_llm_vllm_engine_limit_state", "What holds the engines back") == states
    assert by("otel_llm_vllm_engine_index", "KV cache in use") == {"0": 0.95, "1": 0.1}
    waits = {
        (row["otel_llm_vllm_engine_index"], row["otel_llm_vllm_waiting_reason"]): value
        for row, value in answers("Requests waiting")
    }
    assert waits == {("0", "capacity"): 2, ("0", "deferred"): 1, ("1", "capacity"): 0, ("1", "deferred"): 0}

    # Shares, of numbers that grow together.
    phases = pytest.approx({"queue": 0.2, "prefill": 0.4, "decode": 0.4})
    assert by("otel_llm_vllm_phase", "Where the time goes") == phases
    assert by("gen_ai_request_model", "Cached share of prompts") == pytest.approx({"tiny": 0.25})
    assert by("gen_ai_request_model", "Failed share by model") == pytest.approx({"tiny": 0.25})
    assert by("gen_ai_request_model", "Speculation: accepted share") == pytest.approx({"tiny": 0.7})
    assert by("gen_ai_request_model", "Speculation: tokens accepted per draft") == pytest.approx({"tiny": 2.1})

    for panel, low, high in (
        ("Duration by model, p95", 0.64, 1.28),
        ("First token by model, p95", 0.5, 0.75),
        ("Output token by model, p95", 0.025, 0.05),
    ):  # the buckets of what was recorded
        [(labels, value)] = answers(panel)
        assert labels == {"gen_ai_request_model": "tiny"}
        assert low < value <= high, panel

    dots = [query for query in asked if query.exemplars and query.panel == "Time to first token"]
    found = until(
        lambda: [exemplar for query in dots for exemplar in exemplars(stack, substitute(query.text, CHOSEN))],
        "exemplars",
    )
    assert {exemplar["labels"]["trace_id"] for exemplar in found} <= served.traces

    find_traces(stack, "engine", CHOSEN, capsys)


def test_the_table_of_engines_has_a_row_for_each_with_its_limit_and_what_it_may(stack: Stack, served: Served) -> None:
    columns = [query for query in board_queries("engine") if query.panel == "Engines"]

    assert ask_all(stack, columns, "engine", CHOSEN, served.work) == []

    rows: dict[str, list[object]] = {"0": [], "1": []}
    for column in columns:
        for labels, value in promql(stack, substitute(column.text, CHOSEN)):
            assert labels["service_instance_id"] == "one"
            rows[labels["otel_llm_vllm_engine_index"]].append(labels.get("otel_llm_vllm_engine_limit_state", value))
    assert rows == {
        "0": ["kv_pressure", 3, 8, 3, 0.95, 4096, 2048, 0],
        "1": ["idle", 0, 8, 0, 0.1, 4096, 2048, 0],
    }


def test_a_chosen_engine_narrows_what_is_of_an_engine_and_not_what_is_of_the_server(
    stack: Stack, served: Served
) -> None:
    chosen = CHOSEN | {"engine": "1"}
    narrowed = [query for query in board_queries("engine") if query.panel in ("KV cache in use", "Rejected by reason")]

    assert ask_all(stack, narrowed, "engine", chosen, served.work) == []

    [(engine, value)] = answers_of(stack, "engine", chosen, "KV cache in use")
    assert (engine["otel_llm_vllm_engine_index"], value) == ("1", 0.1)
    [(refused, _)] = answers_of(stack, "engine", chosen, "Rejected by reason")
    assert refused["otel_llm_vllm_rejection_reason"] == "max_num_queued_reqs"
