"""What LiteLLM notes beside a reply, whatever the operation: who was asked, what it cost, what LiteLLM itself took."""

from typing import Any

from otel_llm import semconv
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import cost, engine
from otel_llm.litellm.read.fields import field, text
from otel_llm.litellm.read.names import well_known
from otel_llm.records import Cost, Reply


def note(reply: Reply, response: object, asked: Asked, *, has_output: bool = False, is_by_piece: bool = False) -> Reply:
    """Add to what was read of a reply what LiteLLM notes beside it.

    `has_output` says that its output is counted in tokens, `is_by_piece` that its cost may be one of pieces, images for
    one, which LiteLLM knows without a usage. A reply out of LiteLLM's cache, or made up by it, keeps neither usage nor cost.
    """
    hidden: Any = getattr(response, "_hidden_params", None)
    if hidden is None:
        return reply
    provider = text(field(hidden, "custom_llm_provider"))
    if provider is not None:
        reply.provider = well_known(provider)
    overhead = engine.seconds(field(hidden, "litellm_overhead_time_ms"))
    if overhead is not None:
        reply.attributes[semconv.LITELLM_OVERHEAD] = overhead
    if not asked.is_server or field(hidden, "cache_hit"):
        reply.usage = None
        return reply
    computed = field(hidden, "response_cost")
    reply.cost = cost.read_cost(reply.usage, asked, provider, computed, has_output=has_output)
    if reply.usage is None and is_by_piece:
        dollars = cost.money(computed)
        reply.cost = Cost(dollars, cost.LITELLM) if dollars is not None else None
    return reply
