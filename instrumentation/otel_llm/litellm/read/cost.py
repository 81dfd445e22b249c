"""What a call cost: by the price a user configured for the model, else as LiteLLM has computed it.

Only tokens that a server reported are priced, and only where both counts are known. LiteLLM's zero is the price of a model it
has no price for; it and the reply of a mock or of the cache have no cost here. LiteLLM is asked to compute only where a stream
ended before it did.
"""

from typing import Final

from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read.fields import field, hidden_params
from otel_llm.pricing import cost_of
from otel_llm.records import Cost, Usage

CONFIGURED: Final = "configured"
LITELLM: Final = "litellm"
_MOST_DOLLARS: Final = 10**9  # more than this is no cost of one call


def read_cost(
    usage: Usage | None, asked: Asked, provider: str | None, computed: object, *, has_output: bool = True
) -> Cost | None:
    """Return the cost of a call; `provider` is LiteLLM's name of it, `computed` what LiteLLM made the cost out to be.

    `has_output` is false for operations whose output is not counted in tokens, embeddings for one.
    """
    if usage is None or usage.is_estimated:
        return None
    prices = asked.telemetry.prices
    request = asked.request
    if prices and request.model is not None:
        price = prices.find(provider or request.provider, request.model)
        if price is not None:
            dollars = cost_of(usage, price, has_output=has_output)
            return None if dollars is None else Cost(dollars, CONFIGURED)
    # For a count that was not reported LiteLLM took zero, or an estimate.
    if usage.input_tokens is None or (has_output and usage.output_tokens is None):
        return None
    dollars = money(computed)
    return None if dollars is None else Cost(dollars, LITELLM)


def money(value: object) -> float | None:
    """Return an amount LiteLLM computed; None for its zero and for what is no amount."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 < value <= _MOST_DOLLARS else None


def of_stream(last: object) -> object:
    """Return the cost LiteLLM noted with the last chunk it handed out, at the end of a stream; None before."""
    hidden = hidden_params(last)
    usage = hidden.get("usage")
    if usage is None:
        usage = field(last, "usage")
    cost = field(usage, "cost") if usage is not None else None
    return hidden.get("response_cost") if cost is None else cost


def of_part(usage: Usage | None, provider: str | None, model: str | None) -> object:
    """Return what LiteLLM's price list makes of the usage known when a stream was left; None for a model not on it."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None or model is None:
        return None
    import litellm  # long imported: it made the stream

    if model not in litellm.model_cost and f"{provider}/{model}" not in litellm.model_cost:
        return None
    parts = usage.by_modality
    counted = litellm.Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details={
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": parts.get("audio.input_tokens"),
            "image_tokens": parts.get("image.input_tokens"),
            "text_tokens": parts.get("text.input_tokens"),
        },
        completion_tokens_details={
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": parts.get("audio.output_tokens"),
            "image_tokens": parts.get("image.output_tokens"),
            "text_tokens": parts.get("text.output_tokens"),
        },
    )
    return sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, usage_object=counted))
