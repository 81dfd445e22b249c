"""The metrics of a vLLM process that our wrappers record, as rows; those of the engine's own statistics are in `stats`."""

from typing import Final

from otel_llm import semconv
from otel_llm.metrics import ClientMetric

_REQUEST: Final = (semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.ABORT_REASON)

ABORTED: Final = ClientMetric(
    semconv.VLLM_REQUESTS_ABORTED,
    "counter",
    "{request}",
    "Requests given up before their end, one for each choice, by reason; vLLM's own statistics forget them.",
    _REQUEST,
)
ABORTED_TOKENS: Final = ClientMetric(
    semconv.VLLM_TOKENS_ABORTED,
    "counter",
    "{token}",
    "Tokens of requests given up: their prompts as far as they were read, and what was generated. With those of finished "
    "requests they make up vLLM's `prompt_tokens` and `generation_tokens`.",
    (*_REQUEST, semconv.TOKEN_TYPE),
)

METRICS: Final[tuple[ClientMetric, ...]] = (ABORTED, ABORTED_TOKENS)
