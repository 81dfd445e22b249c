"""Token counts as the server reported them, told apart from what LiteLLM fills in where it reported none."""

from collections.abc import Mapping, Sequence
from typing import Final

from otel_llm.records import Usage

from .fields import field, whole

_COUNTED_BY_LITELLM: Final = frozenset(
    # The servers report no tokens and LiteLLM counts them itself.
    ("a2a", "aleph_alpha", "langflow", "langgraph", "petals", "predibase", "replicate", "sagemaker")
)
_ROUTES_COUNTED_BY_LITELLM: Final = frozenset(("agentcore", "agent_engine", "agents"))  # `bedrock/agentcore/...`
_REASONING_COUNTED_BY_LITELLM: Final = frozenset(("anthropic", "aws.bedrock", "gcp.vertex_ai", "azure.ai.inference"))


def is_reported(hidden: Mapping[str, object]) -> bool:
    """Whether a reply with these hidden parameters came from a server that counts: not from the cache, not from a route LiteLLM counts for."""
    name = hidden.get("litellm_model_name")
    route = name.split("/")[1:2] if isinstance(name, str) else []
    return not hidden.get("cache_hit") and not _ROUTES_COUNTED_BY_LITELLM.intersection(route)


def read_usage(replies: Sequence[object], provider: str | None, has_output: bool) -> Usage | None:
    """Take the largest of each count: servers that report as they go report totals so far, or input first and output last."""
    if provider in _COUNTED_BY_LITELLM:
        return None
    found = Usage()
    for reply in replies:
        usage = field(reply, "usage")
        if usage is None:
            continue
        prompt, completion = field(usage, "prompt_tokens_details"), field(usage, "completion_tokens_details")
        found.input_tokens = _larger(found.input_tokens, field(usage, "prompt_tokens"))
        found.output_tokens = _larger(found.output_tokens, field(usage, "completion_tokens"))
        if prompt is not None:
            found.cache_read_tokens = _larger(found.cache_read_tokens, field(prompt, "cached_tokens"))
            found.cache_write_tokens = _larger(found.cache_write_tokens, field(prompt, "cache_write_tokens"))
        if completion is not None and provider not in _REASONING_COUNTED_BY_LITELLM:
            found.reasoning_tokens = _larger(found.reasoning_tokens, field(completion, "reasoning_tokens"))
    # LiteLLM writes 0 for a count it was not given. No request has an empty prompt, and text is made of tokens.
    if not found.input_tokens:
        found.input_tokens = None
    if not found.output_tokens and (has_output or found.input_tokens is None):
        found.output_tokens = None
    return None if found.input_tokens is None and found.output_tokens is None else found


def _larger(known: int | None, reported: object) -> int | None:
    count = whole(reported)
    if count is None:
        return known
    return count if known is None else max(known, count)
