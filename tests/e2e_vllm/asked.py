"""What the tests of the offline API ask, and what the spans of it say then."""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from vllm import SamplingParams

from tests.e2e_vllm.scripted_llm import CACHED, TOKENS

PARAMS = SamplingParams(max_tokens=8, temperature=0.5, detokenize=False)
IN = {
    "gen_ai.operation.name": "text_completion",
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "tiny",
    "gen_ai.request.max_tokens": 8,
    "gen_ai.request.temperature": 0.5,
}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def used(request_id: str, tokens_in: int, tokens_out: int = TOKENS, reason: str = "length") -> dict[str, Any]:
    return {
        "otel_llm.request.id": request_id,
        "gen_ai.usage.input_tokens": tokens_in,
        "gen_ai.usage.output_tokens": tokens_out,
        "gen_ai.usage.cache_read.input_tokens": CACHED,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "gen_ai.response.finish_reasons": (reason,),
    }


def generate(llm: Any, *prompts: Any, params: Any = PARAMS, **given: Any) -> Any:
    return llm.generate(list(prompts), params, use_tqdm=False, **given)
