"""What can be set on the stand-in engine, checked where it is made."""

from dataclasses import dataclass

BLOCK_TOKENS = 16


@dataclass(frozen=True)
class EngineOptions:
    """How large the engine is, how fast, what it is called, and where it listens and reports."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: one that is free
    model: str = "stand-in"
    api_key: str | None = None  # where set, /v1 asks for it as vLLM's --api-key does

    max_model_len: int = 4096  # tokens of a prompt and its answer
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048  # of one step: what prefills may take is what decodes leave
    max_num_queued_reqs: int = 4096  # sequences that run or wait; more are turned away with 503
    kv_blocks: int = 4096  # of 16 tokens each

    step_s: float = 0.010  # one decode step of one sequence
    sequence_s: float = 0.0001  # what each further sequence adds to it
    prefill_tokens_per_s: float = 20_000.0  # 0: at once
    answer_tokens: int = (
        120  # about as long are answers that are not cut; each prompt has its own length, always the same
    )
    seed: int = 0
    error_rate: float = 0.0  # the share of requests that is answered with status 500

    request_metrics: bool = True  # as --enable-per-request-metrics: a `metrics` object in replies
    prompt_details: bool = True  # as --enable-prompt-tokens-details: cached tokens in the usage
    otlp_endpoint: str | None = None  # as --otlp-traces-endpoint: an `llm_request` span per finished request goes there
    otlp_protocol: str = "grpc"  # or http/protobuf, with the whole URL in the endpoint

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least {low}"
            for name, low in (
                ("max_model_len", 1),
                ("max_num_seqs", 1),
                ("max_num_batched_tokens", 1),
                ("max_num_queued_reqs", 1),
                ("answer_tokens", 1),
            )
            if getattr(self, name) < low
        ]
        problems += [
            f"{name} must not be negative"
            for name in ("step_s", "sequence_s", "prefill_tokens_per_s")
            if getattr(self, name) < 0
        ]
        if not 0 <= self.error_rate <= 1:
            problems.append("error_rate must lie between 0 and 1")
        if (
            self.kv_blocks * BLOCK_TOKENS < self.max_model_len
        ):  # vLLM refuses to start too: such a request would wait for ever
            problems.append(f"kv_blocks must hold max_model_len: at least {-(-self.max_model_len // BLOCK_TOKENS)}")
        if self.otlp_protocol not in ("grpc", "http/protobuf"):
            problems.append("otlp_protocol must be grpc or http/protobuf")
        if problems:
            raise ValueError("; ".join(problems))
