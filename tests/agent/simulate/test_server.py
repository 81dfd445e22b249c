"""The stand-in as its clients see it: over HTTP, whole and in streams, with errors and with leaving."""

import base64
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from agent.simulate.serving import events, standing_in
from waiting import until

from otel_agent.errors import Unavailable
from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.server import serve_engine

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
LONG = {"max_model_len": 4096, "kv_blocks": 512}
HELLO = [{"role": "user", "content": "hello there"}]


def test_a_chat_is_answered_with_the_clients_id(quick):
    said = quick.post(CHAT, {"x-request-id": "abc"}, messages=HELLO, max_tokens=5, ignore_eos=True).json()
    assert said["id"] == "chatcmpl-abc"
    [choice] = said["choices"]
    assert (choice["finish_reason"], len(choice["message"]["content"])) == ("length", 20)
    tokens = quick.post("/tokenize", messages=HELLO).json()["count"]
    assert said["usage"] == {
        "prompt_tokens": tokens,
        "completion_tokens": 5,
        "total_tokens": tokens + 5,
        "prompt_tokens_details": {"cached_tokens": 0, "created_cache_tokens": 0, "multimodal_tokens": None},
        "completion_tokens_details": None,
    }


def test_a_stream_says_the_same_as_the_whole_and_ends_with_its_usage(quick):
    asked = {"messages": HELLO, "max_tokens": 9, "seed": 3}
    whole = quick.post(CHAT, **asked).json()
    answer = quick.post(CHAT, **asked, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    first, *middle, last = events(answer)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (
        "".join(event["choices"][0]["delta"]["content"] for event in middle)
        == whole["choices"][0]["message"]["content"]
    )
    assert [event["choices"][0]["finish_reason"] for event in middle][-1] == whole["choices"][0]["finish_reason"]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert last["metrics"].keys() >= {"time_to_first_token_ms", "queue_time_ms", "tokens_per_second"}


def test_a_stream_without_usage_has_none(quick):
    said = events(quick.post(CHAT, messages=HELLO, max_tokens=3, stream=True))
    assert all("usage" not in event for event in said)
    assert said[-1]["choices"][0]["finish_reason"]


def test_usage_in_every_chunk_counts_up(quick):
    options = {"include_usage": True, "continuous_usage_stats": True}
    said = events(quick.post(CHAT, messages=HELLO, max_tokens=3, ignore_eos=True, stream=True, stream_options=options))
    counts = [event["usage"]["completion_tokens"] for event in said]
    assert (counts[0], counts[-2:], counts) == (0, [3, 3], sorted(counts))


def test_prompts_and_choices_are_all_answered_in_their_order(quick):
    asked = {"prompt": ["one", [11, 12, 13]], "n": 2, "max_tokens": 4, "ignore_eos": True}
    whole = quick.post(COMPLETIONS, **asked).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert whole["usage"] | {"prompt_tokens_details": None} == {
        "prompt_tokens": 1 + 3,
        "completion_tokens": 16,
        "total_tokens": 20,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
    assert whole["metrics"] is None  # times of several have nothing in common
    texts = ["", "", "", ""]
    for event in events(quick.post(COMPLETIONS, **asked, stream=True)):
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_echo_and_token_ids_give_the_prompt_back(quick):
    said = quick.post(COMPLETIONS, prompt="to be read", max_tokens=2, echo=True, return_token_ids=True).json()[
        "choices"
    ][0]
    assert said["text"].startswith("to be read")
    assert said["prompt_token_ids"] == quick.post("/tokenize", prompt="to be read").json()["tokens"]
    answered = quick.post("/detokenize", tokens=said["token_ids"]).json()["prompt"]
    assert said["text"] == "to be read" + answered


def test_a_stop_string_ends_an_answer(quick):
    asked = {"messages": HELLO, "max_tokens": 50, "ignore_eos": True}
    whole = quick.post(CHAT, **asked).json()["choices"][0]["message"]["content"]
    stopped = quick.post(CHAT, **asked, stop=[whole[30:36]]).json()["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"], stopped["stop_reason"]) == (
        whole[: whole.index(whole[30:36])],
        "stop",
        whole[30:36],
    )


def test_a_repeated_prompt_is_found_in_the_cache(quick):
    said = [
        quick.post(COMPLETIONS, prompt="x" * 256, max_tokens=1).json()["usage"]["prompt_tokens_details"]
        for _ in range(2)
    ]
    assert [one["cached_tokens"] for one in said] == [0, 48]
    assert quick.post("/reset_prefix_cache").json() == {"success": True}
    again = quick.post(COMPLETIONS, prompt="x" * 256, max_tokens=1).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_embeddings_are_the_same_for_the_same_text_and_come_as_numbers_or_base64(quick):
    plain = quick.post("/v1/embeddings", {"x-request-id": "abc"}, input=["the fox", "the dog"]).json()
    packed = quick.post("/v1/embeddings", input=["the fox", "the dog"], encoding_format="base64").json()
    assert (plain["id"], [one["index"] for one in plain["data"]]) == ("embd-abc", [0, 1])
    for one, other in zip(plain["data"], packed["data"], strict=True):
        raw = base64.b64decode(other["embedding"])
        assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(one["embedding"], abs=1e-6)
    assert plain["usage"]["prompt_tokens"] == plain["usage"]["total_tokens"] == 4
    assert plain["usage"]["completion_tokens"] == 0


def test_reranking_puts_the_likest_first_and_scores_agree(quick):
    documents = ["stars and planets", "the lazy dog", "a lazy dog sleeps"]
    ranked = quick.post("/rerank", query="the lazy dog", documents=documents, top_n=2).json()
    assert [result["index"] for result in ranked["results"]] == [1, 2]
    assert ranked["results"][0]["document"] == {"text": "the lazy dog", "multi_modal": None}
    scores = quick.post("/score", text_1="the lazy dog", text_2=documents).json()["data"]
    assert ranked["results"][1]["relevance_score"] == pytest.approx(scores[2]["score"])
    assert scores[1]["score"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (CHAT, {"messages": []}, 400, None),
        (CHAT, {"messages": "hello"}, 400, "body.messages"),
        (CHAT, {"messages": HELLO, "model": "other"}, 404, "model"),
        (CHAT, {"messages": HELLO, "temperature": "hot"}, 400, "temperature"),
        (CHAT, {"messages": HELLO, "stream_options": {"include_usage": True}}, 400, "stream_options"),
        (COMPLETIONS, {}, 400, "prompt"),
        (COMPLETIONS, {"prompt": ["a", 3]}, 400, "prompt"),
        (COMPLETIONS, {"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
        (COMPLETIONS, {"prompt": "a", "max_tokens": 257}, 400, "max_tokens"),
        (COMPLETIONS, {"prompt": "a", "n": 129}, 400, "n"),
        (COMPLETIONS, {"prompt": "a", "stop": [7]}, 400, "stop"),
        (COMPLETIONS, {"prompt": "a" * 1024}, 400, "input_tokens"),
        (COMPLETIONS, {"prompt": "a", "simulate_error": "burn"}, 400, "simulate_error"),
        ("/v1/embeddings", {"input": []}, 400, None),
        ("/v1/embeddings", {"input": "x", "dimensions": 8}, 400, None),
        ("/rerank", {"query": "x"}, 400, "body.documents"),
        ("/tokenize", {}, 400, "body.prompt"),
        ("/detokenize", {"tokens": "x"}, 400, "body.tokens"),
        ("/sleep?level=9", {}, 400, "level"),
    ],
)
def test_what_cannot_be_done_is_refused_in_vllms_words(quick, path, body, status, param):
    answer = quick.post(path, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, status, param)
    assert error.keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"{bad", b"[1]", b""])
def test_a_body_that_is_no_object_is_refused(quick, body):
    answer = httpx.post(f"{quick.url}{CHAT}", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "Bad Request")


def test_unknown_paths_and_methods_are_told_as_fastapi_does(quick):
    assert (quick.get("/nothing").status_code, quick.get("/nothing").json()) == (404, {"detail": "Not Found"})
    assert (quick.get(CHAT).status_code, quick.get(CHAT).json()) == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize("by", ["header", "body"])
def test_errors_come_on_demand(quick, by):
    def ask(error, **body):
        headers, fields = ({"x-simulate-error": error}, {}) if by == "header" else ({}, {"simulate_error": error})
        return quick.post(CHAT, headers, messages=HELLO, max_tokens=20, ignore_eos=True, **fields, **body)

    assert ask("503").json()["error"]["type"] == "ServiceUnavailableError"
    assert ask("429").status_code == 429
    before = quick.value("vllm:request_success_total", finished_reason="error")
    assert (ask("500@3").status_code, ask("500@3").json()["error"]["message"]) == (500, "Internal server error")
    *said, error = events(ask("500@3", stream=True))
    assert error["error"] == {
        "message": "Internal server error",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }
    assert len("".join(event["choices"][0]["delta"]["content"] for event in said)) in (8, 12)
    assert quick.value("vllm:request_success_total", finished_reason="error") == before + 3


def test_a_share_of_requests_fails_where_that_is_set():
    with standing_in(error_rate=0.5, seed=1) as server:
        statuses = [server.post(CHAT, messages=HELLO, max_tokens=1).status_code for _ in range(40)]
    assert 8 < statuses.count(500) < 32
    assert set(statuses) == {200, 500}


def test_an_engine_that_dies_takes_everything_with_it():
    with standing_in(step_s=0.01, **LONG) as server, ThreadPoolExecutor(2) as others:
        long = {"messages": HELLO, "max_tokens": 3000, "ignore_eos": True}
        running = others.submit(server.post, CHAT, **long)
        streaming = others.submit(server.post, CHAT, **long, stream=True)
        server.until_value(2, "vllm:num_requests_running")
        assert server.post(CHAT, {"x-simulate-error": "dead"}, messages=HELLO).status_code == 500
        assert running.result().status_code == 500
        assert "EngineCore" in events(streaming.result())[-1]["error"]["message"]
        assert server.get("/health").status_code == 503
        assert "EngineCore" in server.post(COMPLETIONS, prompt="a").json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_forgotten_and_its_tokens_are_not(stream):
    """As in vLLM: no finished request of any kind, but the tokens that were made for it are in the count."""
    with standing_in(step_s=0.005, **LONG) as server:
        body = {"model": "tiny", "messages": HELLO, "max_tokens": 3000, "ignore_eos": True, "stream": stream}
        with socket.create_connection(("127.0.0.1", server.client.base_url.port)) as connection:
            text = json.dumps(body)
            head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}"
            connection.sendall(f"{head}\r\n\r\n{text}".encode())
            until(lambda: server.value("vllm:generation_tokens_total") > 3, "tokens")
        server.until_value(0, "vllm:num_requests_running")
        assert server.value("vllm:generation_tokens_total") > 0
        assert server.value("vllm:request_generation_tokens_count") == 0
        assert server.value("vllm:request_success_total", finished_reason="abort") == 0
        assert server.value("vllm:kv_cache_usage_perc") == 0
        assert server.get("/load").json() == {"server_load": 0}


def test_who_finds_no_seat_waits_and_is_seen_waiting():
    with standing_in(step_s=0.005, max_num_seqs=2) as server, ThreadPoolExecutor(5) as others:
        server.post("/sleep?level=0")  # so that all five are there before the first is let in
        asked = [others.submit(server.post, CHAT, messages=HELLO, max_tokens=60, ignore_eos=True) for _ in range(5)]
        server.until_value(5, "vllm:num_requests_waiting_by_reason", reason="capacity")
        assert server.value("vllm:num_requests_running") == 0
        server.post("/wake_up")
        queued = sorted(one.result().json()["metrics"]["queue_time_ms"] for one in asked)
    answered_ms = 60 * 5
    assert queued[2] - queued[1] > answered_ms / 2
    assert queued[2] - queued[0] >= answered_ms
    assert queued[4] - queued[0] >= 2 * answered_ms


def test_a_full_queue_turns_away_and_counts_it():
    with standing_in(max_num_queued_reqs=3) as server:
        asked = {"prompt": "a", "max_tokens": 1}
        full = server.post(COMPLETIONS, **asked, n=4)
        assert (full.status_code, full.json()["error"]["type"]) == (503, "Service Unavailable")
        assert server.post(COMPLETIONS, **asked, n=3).status_code == 200
        assert server.value("vllm:admission_rejections_total", reason="max_num_queued_reqs") == 1


def test_a_body_beyond_all_measure_is_not_read(quick):
    assert quick.post(COMPLETIONS, prompt="a" * (17 << 20)).status_code == 413


def test_a_full_cache_preempts_and_everybody_is_answered_all_the_same():
    with standing_in(kv_blocks=16, max_num_seqs=8) as server, ThreadPoolExecutor(8) as others:
        asked = [
            others.submit(server.post, COMPLETIONS, prompt=f"{n} of eight", max_tokens=200, ignore_eos=True)
            for n in range(8)
        ]
        assert {one.result().json()["usage"]["completion_tokens"] for one in asked} == {200}
        assert server.value("vllm:num_preemptions_total") > 0
        assert server.value("vllm:generation_tokens_total") == 1600
        assert server.value("vllm:request_num_preemptions_sum") == server.value("vllm:num_preemptions_total")


def test_a_sleeping_engine_ends_what_runs_and_keeps_what_comes_until_it_wakes():
    with standing_in(step_s=0.01, **LONG) as server, ThreadPoolExecutor(2) as others:
        running = others.submit(server.post, CHAT, messages=HELLO, max_tokens=3000, ignore_eos=True)
        server.until_value(1, "vllm:num_requests_running")
        assert server.post("/sleep?level=1").json() == {"status": "sleeping", "level": 1}
        assert running.result().json()["choices"][0]["finish_reason"] == "abort"
        assert server.value("vllm:request_success_total", finished_reason="abort") == 1
        assert server.value("vllm:engine_sleep_state", sleep_state="weights_offloaded") == 1
        assert server.get("/is_sleeping").json() == {"is_sleeping": True}
        waiting = others.submit(server.post, CHAT, messages=HELLO, max_tokens=2)
        server.until_value(1, "vllm:num_requests_waiting")
        assert server.post("/wake_up").json() == {"status": "awake", "tags": None}
        assert waiting.result().status_code == 200
        assert server.value("vllm:engine_sleep_state", sleep_state="awake") == 1
        assert server.value("vllm:sleep_mode_operation_duration_seconds_count", operation="sleep") == 1


@pytest.mark.parametrize(("mode", "ended"), [("wait", True), ("keep", False)])
def test_sleep_can_wait_for_what_runs_or_keep_it(mode, ended):
    with standing_in(step_s=0.02) as server, ThreadPoolExecutor(1) as others:
        running = others.submit(server.post, CHAT, messages=HELLO, max_tokens=100, ignore_eos=True)
        server.until_value(1, "vllm:num_requests_running")
        server.post(f"/sleep?level=0&mode={mode}")
        assert (server.value("vllm:num_requests_running") == 0) is ended
        server.post("/wake_up")
        assert running.result().json()["choices"][0]["finish_reason"] == "length"


def test_the_key_is_asked_for_under_v1_only():
    with standing_in(api_key="secret") as server:
        assert (server.get("/v1/models").status_code, server.get("/v1/models").json()) == (
            401,
            {"error": "Unauthorized"},
        )
        assert httpx.get(f"{server.url}/v1/models", headers={"authorization": "Bearer secret"}).status_code == 200
        assert server.get("/health").status_code == 200


def test_it_is_served_until_it_is_told_to_end(root):
    code = (
        "from otel_agent.simulate.options import EngineOptions; from otel_agent.simulate.server import serve_engine\n"
        "serve_engine(EngineOptions(port=0), lambda port: print(port, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline())
            until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200, "health")
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(10) in (0, -signal.SIGTERM)
        finally:
            process.kill()


def test_a_port_that_is_taken_is_named(quick):
    port = int(quick.url.rpartition(":")[2])
    with pytest.raises(Unavailable, match=f"port {port} on 127.0.0.1"):
        serve_engine(EngineOptions(port=port))
