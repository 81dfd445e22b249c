"""`vllm serve --api-server-count 2`: two processes share the requests, and together tell all of it once.

The model is one that sees, and what is asked has images in it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.sink import plain
from waiting import until

from otel_agent.checks.servers import read_servers
from otel_agent.checks.serving import judge
from otel_llm import semconv
from otel_llm.vllm.stats.metrics import STATE
from tests.e2e_vllm.model_multimodal import AROUND, IMAGE_TOKENS, data_url, multimodal_folder
from tests.e2e_vllm.serving import Served, samples, serve_watched

CHAT = "/v1/chat/completions"
BOTH = [0, 1]
TOKENS = 5
Points = dict[tuple[str, int | None], list[Any]]


class Asked:
    """Both servers after they have answered, with nothing left to do."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.answers: list[dict[str, Any]] = []
        self.ask(0)
        until(lambda: self.ask(len(self.answers)) and self.servers() == BOTH, "an answer of either server", 120)
        with served.stream(CHAT, messages=content(0), max_tokens=8000, ignore_eos=True) as answer:
            next(answer.iter_lines())
        until(lambda: self.total(semconv.VLLM_REQUESTS_ABORTED) == 1, "the abort")
        until(
            lambda: (
                self.total(semconv.VLLM_REQUESTS_FINISHED) == len(self.answers)
                and self.total(semconv.VLLM_TOKENS_GENERATED) == self.own("vllm:generation_tokens_total")
            ),
            "the last points",
        )

    def ask(self, number: int) -> bool:
        """Ask once, over a connection of its own: the kernel gives it to either server."""
        answer = self.served.ask(CHAT, messages=content(number), max_tokens=TOKENS, ignore_eos=True)
        assert answer.status_code == 200, answer.text
        self.answers.append(answer.json())
        return True

    def last(self) -> Points:
        """The last points of each metric by API server; each server is a process and exports on its own."""
        return {
            (metric.name, plain(point.attributes).get(semconv.VLLM_API_SERVER_INDEX)): points
            for export in list(self.served.sink.requests["metrics"])
            for resource in export.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for points in [list(getattr(metric, metric.WhichOneof("data")).data_points)]
            for point in points[:1]
        }

    def servers(self) -> list[int]:
        """Which servers have told of requests that they finished."""
        return sorted(
            index for name, index in self.last() if name == semconv.VLLM_REQUESTS_FINISHED and index is not None
        )

    def total(self, name: str) -> float:
        """The sum of all that both say."""
        return sum(
            float(point.count) if hasattr(point, "bucket_counts") else point.as_int + point.as_double
            for (known, _), points in self.last().items()
            if known == name
            for point in points
        )

    def own(self, family: str) -> float:
        """What the server's own page says, which has the sum of both."""
        return sum(value for (name, _), value in samples(self.served.page()).items() if name == family)


def content(number: int) -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": data_url(number % 200)}}
    return [{"role": "user", "content": [{"type": "text", "text": "a lion"}, image]}]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("two-servers")
    with serve_watched(folder, multimodal_folder(), ("--api-server-count", "2"), own_tracing=False) as served:
        yield Asked(served)


def test_totals_add_up_over_both_to_what_the_server_s_own_page_says(asked: Asked) -> None:
    assert asked.total(semconv.VLLM_REQUESTS_FINISHED) == asked.own("vllm:request_success_total") == len(asked.answers)
    assert asked.total(semconv.SERVER_REQUEST_DURATION) == len(asked.answers)
    assert asked.total(semconv.VLLM_TOKENS_PROMPT) == asked.own("vllm:prompt_tokens_total")
    assert asked.total(semconv.VLLM_TOKENS_GENERATED) == asked.own("vllm:generation_tokens_total")
    assert asked.total(semconv.VLLM_PREFIX_CACHE_QUERIES) == asked.own("vllm:prefix_cache_queries_total")
    assert asked.total(semconv.VLLM_MULTIMODAL_CACHE_QUERIES) == asked.own("vllm:mm_cache_queries_total")


def test_gauges_are_the_first_server_s_and_counters_both_servers(asked: Asked) -> None:
    told: dict[str, list[int | None]] = {}
    for name, index in asked.last():
        told.setdefault(name, []).append(index)
    state = {row.name: row.kind for row in STATE if row.name in told}
    assert {name: told[name] for name, kind in state.items() if kind != "counter"} == {
        name: [0] for name, kind in state.items() if kind != "counter"
    }
    assert sorted(told[semconv.VLLM_TOKENS_GENERATED], key=str) == BOTH
    assert semconv.VLLM_REQUESTS_RUNNING in state


def test_what_a_client_left_is_counted_once_over_both(asked: Asked) -> None:
    assert asked.total(semconv.VLLM_REQUESTS_ABORTED) == 1
    assert asked.total(semconv.VLLM_REQUESTS_UNACCOUNTED) <= 1


def test_every_request_is_one_span_with_the_tokens_that_its_client_was_told(asked: Asked) -> None:
    def found() -> list[dict[str, Any]] | None:
        engine = [plain(span.attributes) for span in asked.served.spans() if span.name == "chat tiny"]
        return engine if len(engine) > len(asked.answers) else None

    told = until(found, "the spans of both servers")
    by_id = {one[semconv.REQUEST_ID]: one for one in told}
    assert len(by_id) == len(told) == len(asked.answers) + 1
    for answer in asked.answers:
        one, usage = by_id[answer["id"]], answer["usage"]
        assert (one["gen_ai.usage.input_tokens"], one["gen_ai.usage.output_tokens"]) == (
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        assert usage["prompt_tokens"] > IMAGE_TOKENS + AROUND
    assert [one for one in told if "base64" in str(one) or "lion" in str(one)] == []


def test_the_doctor_names_them_and_what_follows(asked: Asked) -> None:
    port = os.fsencode(asked.served.base.rpartition(":")[2])

    def is_ours(pid: int) -> bool:
        try:
            return port in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # one of somebody else's that has ended
            return False

    (server,) = [one for one in read_servers(Path("/proc")) if is_ours(one.pid)]
    said = [(one.verdict, one.said, one.remedy) for one in judge(server)]
    assert (
        "note",
        "2 API servers: each has a part of the statistics; totals add up over them, gauges come from the first and may lag",
        "--api-server-count 1 where one keeps up",
    ) in said
    assert (
        "note",
        "the last metrics are lost: vLLM kills its API servers at its end",
        "--shutdown-timeout 5",
    ) in said
    assert [one for one in said if one[0] == "problem"] == []
