"""The families of vLLM's /metrics page, version 0.32: names, types, labels and bucket edges as the real wheel has them.

A test holds them to a recording of the real page. The order is that of the real page.
"""

from otel_agent.simulate.page import Row

VERSION = "0.32.0"
ENGINE = ("model_name", "engine")

# fmt: off
LATENCY = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)
FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)
BETWEEN_TOKENS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
HTTP_FINE = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60)
# fmt: on
HTTP_COARSE = (0.1, 0.5, 1)
STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
SLEEPING = (0.01, 0.1, 1, 10, 30, 60, 120, 300, 600)
CHOICES = (1, 2, 5, 10, 20)
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
REQUEST_TOKENS: tuple[float, ...] = ()  # depends on the model: `token_edges`


def token_edges(max_model_len: int) -> tuple[float, ...]:
    """Return the bucket edges of token counts of a request: 1, 2, 5, 10 and so on, up to what the model can take."""
    edges = (step * 10**power for power in range(len(str(max_model_len))) for step in (1, 2, 5))
    return tuple(edge for edge in edges if edge <= max_model_len)


ENGINE_ROWS = (
    Row(
        "vllm:estimated_flops_per_gpu",
        "counter",
        "Estimated number of floating point operations per GPU (for Model Flops Utilization calculations).",
        ENGINE,
    ),
    Row(
        "vllm:estimated_read_bytes_per_gpu",
        "counter",
        "Estimated number of bytes read from memory per GPU (for Model Flops Utilization calculations).",
        ENGINE,
    ),
    Row(
        "vllm:estimated_write_bytes_per_gpu",
        "counter",
        "Estimated number of bytes written to memory per GPU (for Model Flops Utilization calculations).",
        ENGINE,
    ),
    Row("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.", ENGINE),
    Row("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.", ENGINE),
    Row(
        "vllm:num_requests_waiting_by_reason",
        "gauge",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
        "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of "
        "all reasons equals vllm:num_requests_waiting.",
        (*ENGINE, "reason"),
    ),
    Row(
        "vllm:engine_sleep_state",
        "gauge",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
        "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        (*ENGINE, "sleep_state"),
    ),
    Row("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", ENGINE),
    Row("vllm:prefix_cache_queries", "counter", "Prefix cache queries, in terms of number of queried tokens.", ENGINE),
    Row("vllm:prefix_cache_hits", "counter", "Prefix cache hits, in terms of number of cached tokens.", ENGINE),
    Row(
        "vllm:external_prefix_cache_queries",
        "counter",
        "External prefix cache queries from KV connector cross-instance cache sharing, in terms of number of "
        "queried tokens.",
        ENGINE,
    ),
    Row(
        "vllm:external_prefix_cache_hits",
        "counter",
        "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of "
        "cached tokens.",
        ENGINE,
    ),
    Row("vllm:mm_cache_queries", "counter", "Multi-modal cache queries, in terms of number of queried items.", ENGINE),
    Row("vllm:mm_cache_hits", "counter", "Multi-modal cache hits, in terms of number of cached items.", ENGINE),
    Row("vllm:num_preemptions", "counter", "Cumulative number of preemption from the engine.", ENGINE),
    Row("vllm:prompt_tokens", "counter", "Number of prefill tokens processed.", ENGINE),
    Row("vllm:prompt_tokens_by_source", "counter", "Number of prompt tokens by source.", (*ENGINE, "source")),
    Row("vllm:prompt_tokens_cached", "counter", "Number of cached prompt tokens (local + external).", ENGINE),
    Row(
        "vllm:prompt_tokens_cached_by_source",
        "counter",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded "
        "to DRAM), disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at "
        "admission; sums to vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        (*ENGINE, "source"),
    ),
    Row("vllm:generation_tokens", "counter", "Number of generation tokens processed.", ENGINE),
    Row("vllm:request_success", "counter", "Count of successfully processed requests.", (*ENGINE, "finished_reason")),
    Row(
        "vllm:admission_rejections",
        "counter",
        "Number of admission attempts rejected by a queue limit, by reason.",
        ("model_name", "reason"),
    ),
    Row("vllm:request_prompt_tokens", "histogram", "Number of prefill tokens processed.", ENGINE, REQUEST_TOKENS),
    Row(
        "vllm:request_generation_tokens", "histogram", "Number of generation tokens processed.", ENGINE, REQUEST_TOKENS
    ),
    Row(
        "vllm:iteration_tokens_total",
        "histogram",
        "Histogram of number of tokens per engine_step.",
        ENGINE,
        STEP_TOKENS,
    ),
    Row(
        "vllm:request_max_num_generation_tokens",
        "histogram",
        "Histogram of maximum number of requested generation tokens.",
        ENGINE,
        REQUEST_TOKENS,
    ),
    Row("vllm:request_params_n", "histogram", "Histogram of the n request parameter.", ENGINE, CHOICES),
    Row(
        "vllm:request_params_max_tokens",
        "histogram",
        "Histogram of the max_tokens request parameter.",
        ENGINE,
        REQUEST_TOKENS,
    ),
    Row(
        "vllm:time_to_first_token_seconds",
        "histogram",
        "Histogram of time to first token in seconds.",
        ENGINE,
        FIRST_TOKEN,
    ),
    Row(
        "vllm:inter_token_latency_seconds",
        "histogram",
        "Histogram of inter-token latency in seconds.",
        ENGINE,
        BETWEEN_TOKENS,
    ),
    Row(
        "vllm:request_time_per_output_token_seconds",
        "histogram",
        "Histogram of time_per_output_token_seconds per request.",
        ENGINE,
        BETWEEN_TOKENS,
    ),
    Row(
        "vllm:e2e_request_latency_seconds", "histogram", "Histogram of e2e request latency in seconds.", ENGINE, LATENCY
    ),
    Row(
        "vllm:request_queue_time_seconds",
        "histogram",
        "Histogram of time spent in WAITING phase for request.",
        ENGINE,
        LATENCY,
    ),
    Row(
        "vllm:request_inference_time_seconds",
        "histogram",
        "Histogram of time spent in RUNNING phase for request.",
        ENGINE,
        LATENCY,
    ),
    Row(
        "vllm:request_prefill_time_seconds",
        "histogram",
        "Histogram of time spent in PREFILL phase for request.",
        ENGINE,
        LATENCY,
    ),
    Row(
        "vllm:request_decode_time_seconds",
        "histogram",
        "Histogram of time spent in DECODE phase for request.",
        ENGINE,
        LATENCY,
    ),
    Row(
        "vllm:request_num_preemptions",
        "histogram",
        "Histogram of the number of times a request was preempted.",
        ENGINE,
        PREEMPTIONS,
    ),
    Row(
        "vllm:request_prefill_kv_computed_tokens",
        "histogram",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        ENGINE,
        REQUEST_TOKENS,
    ),
)

HTTP_ROWS = (
    Row(
        "http_requests",
        "counter",
        "Total number of requests by method, status and handler.",
        ("handler", "status", "method"),
    ),
    Row(
        "http_request_size_bytes",
        "summary",
        "Content length of incoming requests by handler. Only value of header is respected. Otherwise "
        "ignored. No percentile calculated. ",
        ("handler",),
    ),
    Row(
        "http_response_size_bytes",
        "summary",
        "Content length of outgoing responses by handler. Only value of header is respected. Otherwise "
        "ignored. No percentile calculated. ",
        ("handler",),
    ),
    Row(
        "http_request_duration_highr_seconds",
        "histogram",
        "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. ",
        (),
        HTTP_FINE,
    ),
    Row(
        "http_request_duration_seconds",
        "histogram",
        "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. ",
        ("handler", "method"),
        HTTP_COARSE,
    ),
)

SLEEP_ROWS = (
    Row(
        "vllm:sleep_mode_operation_duration_seconds",
        "histogram",
        "Duration of one sleep-mode operation.",
        ("operation",),
        SLEEPING,
    ),
    Row("vllm:sleep_mode_operations_in_flight", "gauge", "Sleep-mode operations currently awaited.", ("operation",)),
)

CACHE_ROW = Row("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig", ())
# As a server says that was told nothing about its cache; what this engine has of its own is added to it.
CACHE_CONFIG = {
    "_block_size_resolved": "True",
    "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "enable_prefix_caching": "True",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "auto",
    "num_cpu_blocks": "None",
    "num_gpu_blocks_override": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "False",
}
