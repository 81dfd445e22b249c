"""The stat-logger plug-in in a stock `vllm serve`: no instrumentation, two variables; what arrives against vLLM's own words."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.sink import Sink, plain
from waiting import until

from otel_llm import semconv
from tests.e2e_vllm.model import NAME
from tests.e2e_vllm.serving import Server, serve

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NAMED = f"00-{TRACE}-{SPAN}-01"
ASKED, TOGETHER, ABANDONED = 6, 12, 3
TIMES = 5


class Asked:
    """A server that was asked things, how many of them it finished, what it told, and its own page from before it was stopped."""

    def __init__(self, sink: Sink, page: str, finished: int) -> None:
        self.page, self.finished = page, finished
        self.spans = [span for span in sink.spans() if span.name == "llm_request"]
        self.exports = list(sink.requests["metrics"])

    def points(self, export: Any) -> dict[str, list[Any]]:
        """The points of one export by metric."""
        return {
            metric.name: list(getattr(metric, metric.WhichOneof("data")).data_points)
            for resource in export.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def last(self, name: str, **attributes: str) -> Any:
        """The sum, over all points that have the attributes, of what the last export said."""
        chosen = [
            point
            for point in self.points(self.exports[-1]).get(name, ())
            if attributes.items() <= plain(point.attributes).items()
        ]
        assert chosen, f"{name} {attributes}"
        return sum(point.sum if hasattr(point, "bucket_counts") else point.as_int + point.as_double for point in chosen)

    def running(self) -> list[int]:
        """What each export said of the requests running."""
        return [
            point.as_int
            for export in self.exports
            for point in self.points(export).get(semconv.VLLM_REQUESTS_RUNNING, ())
        ]

    def limits(self) -> set[str]:
        """Every state that an export said the engine was in."""
        return {
            plain(point.attributes)[semconv.VLLM_LIMIT_STATE]
            for export in self.exports
            for point in self.points(export).get(semconv.VLLM_ENGINE_LIMIT, ())
            if point.as_int
        }

    def own(self, family: str, label: str = "") -> float:
        """The sum of the samples of a family on vLLM's own page."""
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.page.splitlines()
            if line.startswith(f"{family}{{") and label in line
        )


@pytest.fixture(scope="module")
def asked(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with Sink() as sink:
        with serve(
            tmp_path_factory.mktemp("stock"),
            model_dir,
            ("--max-num-seqs", "4", "--otlp-traces-endpoint", f"http://127.0.0.1:{sink.grpc_port}"),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{sink.http_port}",
            OTEL_SERVICE_NAME="stock",
            OTEL_METRIC_EXPORT_INTERVAL="100",
            OTEL_EXPORTER_OTLP_TRACES_INSECURE="true",
            OTEL_BSP_SCHEDULE_DELAY="100",
        ) as server:
            _ask(server)
            finished = ASKED
            for _ in range(
                TIMES
            ):  # on a busy machine exports are seconds apart, and all twelve may come and go between two
                _fill(server)
                finished += TOGETHER
                told = Asked(sink, "", finished)
                if "sequence_cap" in told.limits() and 4 in told.running():
                    break
            for _ in range(ABANDONED):
                _abandon(server)
            until(
                lambda: sum(span.name == "llm_request" for span in sink.spans()) >= finished, "the spans of vLLM's own"
            )
            page = server.page()
            until(
                lambda: Asked(sink, page, 0).running()[-1:] == [0], "an export while the engine is idle and still there"
            )
        yield Asked(sink, page, finished)


def _post(server: Server, path: str, headers: dict[str, str] | None = None, **body: Any) -> None:
    answer = httpx.post(f"{server.base}{path}", json={"model": NAME, **body}, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


def _ask(server: Server) -> None:
    """So many requests of the engine as `ASKED` says, for each choice and each prompt is one."""
    headers = {"X-Request-Id": NAMED, "traceparent": NAMED}
    chat = [{"role": "user", "content": "the quick brown fox"}]
    _post(server, "/v1/chat/completions", headers, messages=chat, max_tokens=12, ignore_eos=True)
    _post(server, "/v1/chat/completions", messages=chat, max_tokens=1)
    _post(server, "/v1/completions", headers, prompt="the lazy dog", max_tokens=9, n=2, ignore_eos=True)
    _post(server, "/v1/completions", prompt=["a lion", "a tiger"], max_tokens=5, ignore_eos=True)


def _fill(server: Server) -> None:
    """Twelve requests at a time, of which the engine runs four."""
    with (
        httpx.Client(timeout=60) as client,
        ThreadPoolExecutor(TOGETHER) as pool,
    ):  # to make a client takes longer than to ask
        asked = [
            pool.submit(
                client.post,
                f"{server.base}/v1/completions",
                json={"model": NAME, "prompt": f"{number} bears", "max_tokens": 300, "ignore_eos": True},
            )
            for number in range(TOGETHER)
        ]
        assert {answer.result().status_code for answer in asked} == {200}


def _abandon(server: Server) -> None:
    body = {"model": NAME, "prompt": "a bear", "max_tokens": 8000, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.base}/v1/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
    until(lambda: 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0' in server.page(), "the abort")


def test_totals_are_the_ones_of_the_server_s_own_page(asked: Asked) -> None:
    assert asked.last(semconv.VLLM_TOKENS_GENERATED) == asked.own("vllm:generation_tokens_total")
    assert asked.last(semconv.VLLM_TOKENS_PROMPT) == asked.own("vllm:prompt_tokens_total")
    for source, own in (("computed", "local_compute"), ("local_cache_hit", "local_cache_hit")):
        told = asked.last(semconv.VLLM_TOKENS_PROMPT, **{semconv.VLLM_PROMPT_SOURCE: source})
        assert told == asked.own("vllm:prompt_tokens_by_source_total", f'source="{own}"')
    assert asked.last(semconv.VLLM_PREFIX_CACHE_QUERIES) == asked.own("vllm:prefix_cache_queries_total")
    assert asked.last(semconv.VLLM_PREFIX_CACHE_HITS) == asked.own("vllm:prefix_cache_hits_total")
    assert asked.last(semconv.VLLM_PREEMPTIONS) == asked.own("vllm:num_preemptions_total")
    assert asked.last(semconv.VLLM_REQUESTS_FINISHED) == asked.own("vllm:request_success_total") == asked.finished
    assert asked.last(semconv.SERVER_REQUEST_DURATION) == pytest.approx(
        asked.own("vllm:e2e_request_latency_seconds_sum")
    )
    for phase in ("queue", "prefill", "decode"):
        told = asked.last(semconv.VLLM_REQUEST_PHASE_TIME, **{semconv.VLLM_PHASE: phase})
        assert told == pytest.approx(asked.own(f"vllm:request_{phase}_time_seconds_sum"))


def test_time_to_first_token_is_what_vllm_s_own_span_calls_queue_and_prefill(asked: Asked) -> None:
    """And no longer than what the front end measures itself, which has its own way to the engine in it."""
    queued, prefill, first = (
        sum(plain(span.attributes)[f"gen_ai.latency.{name}"] for span in asked.spans)
        for name in ("time_in_queue", "time_in_model_prefill", "time_to_first_token")
    )
    assert asked.last(semconv.SERVER_TIME_TO_FIRST_TOKEN) == pytest.approx(queued + prefill)
    assert queued + prefill <= first


def test_exemplars_lead_to_the_trace_that_the_request_s_id_names(asked: Asked) -> None:
    found = {
        (name, plain(point.attributes)[semconv.OPERATION_NAME]): (exemplar.trace_id.hex(), exemplar.span_id.hex())
        for export in asked.exports
        for name, points in asked.points(export).items()
        for point in points
        for exemplar in getattr(point, "exemplars", ())
    }
    assert found == {
        (name, operation): (TRACE, SPAN)
        for name in (
            semconv.SERVER_REQUEST_DURATION,
            semconv.SERVER_TIME_TO_FIRST_TOKEN,
            semconv.SERVER_TIME_PER_OUTPUT_TOKEN,
        )
        for operation in ("chat", "text_completion")
    }
    assert {span.trace_id.hex() for span in asked.spans} > {TRACE}  # vLLM's own spans are in the same one


def test_requests_abandoned_by_their_clients_are_what_is_missing(asked: Asked) -> None:
    assert asked.own("vllm:request_success_total", 'finished_reason="abort"') == 0  # its own statistics forget them
    assert asked.last(semconv.VLLM_REQUESTS_UNACCOUNTED) == ABANDONED
    finished = asked.own("vllm:request_generation_tokens_sum")
    assert asked.last(semconv.VLLM_TOKENS_UNACCOUNTED) == asked.own("vllm:generation_tokens_total") - finished > 0


def test_the_engine_is_limited_by_its_sequences_while_more_ask_and_idle_in_the_end(asked: Asked) -> None:
    assert {"sequence_cap", "idle"} <= asked.limits() <= {"sequence_cap", "idle", "none"}
    assert (max(asked.running()), asked.running()[-1]) == (4, 0)


def test_what_is_sent_names_the_service_and_ends_with_the_process(asked: Asked) -> None:
    resource = plain(asked.exports[-1].resource_metrics[0].resource.attributes)
    assert resource["service.name"] == "stock"
    assert resource["service.instance.id"]
    # The last export is made as the process ends: it has what the server's page had before.
    assert asked.last(semconv.VLLM_TOKENS_GENERATED) == asked.own("vllm:generation_tokens_total")
