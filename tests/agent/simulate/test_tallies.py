"""What the page of metrics says after requests whose times are known to the millisecond, because the test moves the clock."""

import pytest
from agent.simulate.serving import series_of

from otel_agent.simulate.engine import Engine
from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.sequence import Sequence, Siblings
from otel_agent.simulate.tallies import EngineTallies, HttpTallies, page
from otel_agent.simulate.text import Answer

OPTIONS = EngineOptions(
    model='a "model"', max_model_len=256, kv_blocks=16, max_num_seqs=2, step_s=0.5, sequence_s=0, prefill_tokens_per_s=0
)


def numbers(tallies, http=None):
    """Return every number of the page that is not 0, by name and the labels that tell series of a family apart; no buckets."""
    found = {}
    for (name, labels), value in series_of(page(tallies, http or HttpTallies())):
        kept = tuple(text for key, text in labels.items() if key not in ("model_name", "engine"))
        if value and not name.endswith(("_bucket", "_created", "_info")):
            found[name.removeprefix("vllm:"), *kept] = value
    return found


def test_a_page_tells_what_three_requests_for_two_seats_came_to():
    engine, tallies = Engine(OPTIONS), EngineTallies(OPTIONS, wall=lambda: 1000.0)
    pair = Siblings(2, 2)
    prompt = tuple(range(40))
    engine.add(Sequence("cmpl-1-0", prompt, Answer(0, 3, "stop"), 9, pair), 0.0)
    engine.add(Sequence("cmpl-1-0", prompt, Answer(9, 4, "length"), 4, pair), 0.0)
    engine.add(Sequence("embd-1", prompt, None), 0.0)
    now = 0.0
    while step := engine.step(now):
        now = step.ended_s
        tallies.record(step)
        if now == 0.5:
            tallies.show(engine)
            shown = numbers(tallies)
            assert (shown["num_requests_running",], shown["num_requests_waiting",]) == (2, 1)
            assert shown["kv_cache_usage_perc",] == pytest.approx(6 / 16)  # nothing is shared by those let in together
    tallies.show(engine)

    # The first two are read in half a second and answered in 1.5 and 2; the third is let in at 1.5 and read by 2.
    assert numbers(tallies) == {
        ("engine_sleep_state", "awake"): 1,
        ("prefix_cache_queries_total",): 120,
        ("prefix_cache_hits_total",): 32,
        ("prompt_tokens_total",): 120,
        ("prompt_tokens_by_source_total", "local_compute"): 88,
        ("prompt_tokens_by_source_total", "local_cache_hit"): 32,
        ("prompt_tokens_cached_total",): 32,
        ("prompt_tokens_cached_by_source_total", "device"): 32,
        ("generation_tokens_total",): 7,
        ("request_success_total", "stop"): 2,
        ("request_success_total", "length"): 1,
        ("request_prompt_tokens_count",): 3,
        ("request_prompt_tokens_sum",): 120,
        ("request_generation_tokens_count",): 3,
        ("request_generation_tokens_sum",): 7,
        ("iteration_tokens_total_count",): 4,
        ("iteration_tokens_total_sum",): 88 + 7,
        ("request_max_num_generation_tokens_count",): 2,
        ("request_max_num_generation_tokens_sum",): 4 + 0,
        ("request_params_n_count",): 2,
        ("request_params_n_sum",): 3,
        ("request_params_max_tokens_count",): 2,
        ("request_params_max_tokens_sum",): 13,
        ("time_to_first_token_seconds_count",): 3,
        ("time_to_first_token_seconds_sum",): 0.5 + 0.5 + 2.0,
        ("inter_token_latency_seconds_count",): 5,
        ("inter_token_latency_seconds_sum",): 2.5,
        ("request_time_per_output_token_seconds_count",): 3,
        ("request_time_per_output_token_seconds_sum",): 1.0,
        ("e2e_request_latency_seconds_count",): 3,
        ("e2e_request_latency_seconds_sum",): 1.5 + 2.0 + 2.0,
        ("request_queue_time_seconds_count",): 3,
        ("request_queue_time_seconds_sum",): 1.5,
        ("request_inference_time_seconds_count",): 3,
        ("request_inference_time_seconds_sum",): 1.5 + 2.0 + 0.5,
        ("request_prefill_time_seconds_count",): 3,
        ("request_prefill_time_seconds_sum",): 1.5,
        ("request_decode_time_seconds_count",): 3,
        ("request_decode_time_seconds_sum",): 1.0 + 1.5,
        ("request_num_preemptions_count",): 3,
        ("request_prefill_kv_computed_tokens_count",): 3,
        ("request_prefill_kv_computed_tokens_sum",): 88,
    }


def test_values_fall_into_the_bucket_whose_edge_they_reach_and_names_are_escaped():
    tallies = EngineTallies(OPTIONS, wall=lambda: 1000.0)
    one = Sequence("cmpl-1", (1, 2), Answer(0, 5, "length"), 5, queued_s=0.0, scheduled_s=0.3, first_s=0.4, last_s=1e5)
    one.generated, one.finish = 5, "length"
    tallies.ended(one)
    text = page(tallies, HttpTallies())
    waited = [line for line in text.splitlines() if line.startswith("vllm:request_queue_time_seconds_")]
    assert waited[0] == r'vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="a \"model\""} 1.0'
    assert waited[-1].endswith("} 1000.0")  # when its counting began
    lasted = [
        line.rpartition(" ")[2]
        for line in text.splitlines()
        if line.startswith("vllm:e2e_request_latency_seconds_bucket")
    ]
    assert lasted == ["0.0"] * 21 + ["1.0"]  # beyond the last edge


def test_requests_to_the_server_are_counted_by_route_and_kind_of_status():
    http = HttpTallies()
    http.record("/v1/completions", "POST", 404, 20, 100, 0.2)
    http.record("/v1/completions", "POST", 400, 30, 100, 0.7)
    assert numbers(EngineTallies(OPTIONS), http) == {
        ("engine_sleep_state", "awake"): 1,
        ("http_requests_total", "/v1/completions", "POST", "4xx"): 2,
        ("http_request_size_bytes_count", "/v1/completions"): 2,
        ("http_request_size_bytes_sum", "/v1/completions"): 50,
        ("http_response_size_bytes_count", "/v1/completions"): 2,
        ("http_response_size_bytes_sum", "/v1/completions"): 200,
        ("http_request_duration_highr_seconds_count",): 2,
        ("http_request_duration_highr_seconds_sum",): pytest.approx(0.9),
        ("http_request_duration_seconds_count", "/v1/completions", "POST"): 2,
        ("http_request_duration_seconds_sum", "/v1/completions", "POST"): pytest.approx(0.9),
    }
