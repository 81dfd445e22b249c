"""Token counts as the server reported them, told apart from what LiteLLM fills in where it reported none.

LiteLLM puts a usage on everything: zeros where a reply had none, counts of its own tokenizer in streams and for servers
that never count. Only what a server said becomes a reported usage; LiteLLM's own counts become one that says that it is
estimated, and only where that is asked for. Nothing is counted here.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from otel_llm.records import Usage

_MOST_TOKENS: Final = 10**9  # of one call; more than this is no count, and would not fit what carries it
_COUNTED_BY_LITELLM: Final = frozenset(
    # The servers report no tokens and LiteLLM counts them itself.
    ("a2a", "aleph_alpha", "langflow", "langgraph", "petals", "predibase", "replicate", "sagemaker")
)
_ROUTES_COUNTED_BY_LITELLM: Final = frozenset(("agentcore", "agent_engine", "agents"))  # `bedrock/agentcore/...`
_REASONING_COUNTED_BY_LITELLM: Final = frozenset(("anthropic", "aws.bedrock", "gcp.vertex_ai", "azure.ai.inference"))
_INPUT_PARTS: Final = tuple((f"{one}_tokens", f"{one}.input_tokens") for one in ("text", "image", "audio"))
_OUTPUT_PARTS: Final = tuple((f"{one}_tokens", f"{one}.output_tokens") for one in ("text", "image", "audio"))


def is_reported(hidden: Mapping[str, object]) -> bool:
    """Whether a reply with these hidden parameters came from a server that counts: not from the cache, not from a route LiteLLM counts for."""
    if hidden.get("cache_hit"):
        return False
    name = hidden.get("litellm_model_name")
    return not isinstance(name, str) or "/" not in name or name.split("/", 2)[1] not in _ROUTES_COUNTED_BY_LITELLM


def combine(usages: Iterable[object], provider: str | None, has_output: bool) -> Usage | None:
    """Take the largest of each count: servers that report as they go report totals so far, or input first and output last."""
    if provider in _COUNTED_BY_LITELLM:
        return None
    found = Usage()
    for usage in usages:
        own = _fields(usage)
        if own is None:
            continue
        found.input_tokens = _larger(found.input_tokens, own.get("prompt_tokens"))
        found.output_tokens = _larger(found.output_tokens, own.get("completion_tokens"))
        prompt, completion = _fields(own.get("prompt_tokens_details")), _fields(own.get("completion_tokens_details"))
        if prompt is not None:
            found.cache_read_tokens = _larger(found.cache_read_tokens, prompt.get("cached_tokens"))
            found.cache_write_tokens = _larger(found.cache_write_tokens, prompt.get("cache_write_tokens"))
            if found.cache_write_tokens is None:
                found.cache_write_tokens = _larger(None, prompt.get("cache_creation_tokens"))
            _read_parts(prompt, _INPUT_PARTS, found)
        beside = own if usage is own else getattr(usage, "__pydantic_extra__", None)
        if beside and (found.cache_read_tokens is None or found.cache_write_tokens is None):
            # Anthropic's names, which LiteLLM carries over but for usages it passes on as they are.
            found.cache_read_tokens = _larger(found.cache_read_tokens, beside.get("cache_read_input_tokens"))
            found.cache_write_tokens = _larger(found.cache_write_tokens, beside.get("cache_creation_input_tokens"))
        if completion is not None:
            if provider not in _REASONING_COUNTED_BY_LITELLM:
                found.reasoning_tokens = _larger(found.reasoning_tokens, completion.get("reasoning_tokens"))
            _read_parts(completion, _OUTPUT_PARTS, found)
    # LiteLLM writes 0 for a count it was not given. No request has an empty prompt, and an answer is made of tokens.
    if not found.input_tokens:
        found.input_tokens = None
    if not found.output_tokens and (has_output or found.input_tokens is None):
        found.output_tokens = None
    if found.input_tokens is None and found.output_tokens is None:
        return None
    if found.by_modality:
        _check_text(found, _INPUT_PARTS, found.input_tokens)
        _check_text(found, _OUTPUT_PARTS, found.output_tokens)
    return found


def read_estimate(usage: object) -> Usage | None:
    """Read LiteLLM's own count of a call for which no server reported one; its zeros say that it did not count."""
    own = _fields(usage)
    if own is None:
        return None
    given, made = _larger(None, own.get("prompt_tokens")), _larger(None, own.get("completion_tokens"))
    return Usage(given or None, made, is_estimated=True) if given or made else None


def _fields(thing: object) -> Mapping[str, Any] | None:
    if thing is None:
        return None
    own = thing if type(thing) is dict else getattr(thing, "__dict__", None)
    return own if type(own) is dict else None


def _read_parts(details: Mapping[str, Any], parts: tuple[tuple[str, str], ...], found: Usage) -> None:
    for field_name, name in parts:
        count = details.get(field_name)
        if count:  # a modality that was not used is not listed
            count = _larger(found.by_modality.get(name), count)
            if count is not None:
                found.by_modality[name] = count


def _check_text(found: Usage, parts: tuple[tuple[str, str], ...], total: int | None) -> None:
    # For some servers LiteLLM takes cached or reasoning tokens out of the text; then its count is not that of the convention.
    text = parts[0][1]
    if text in found.by_modality and sum(found.by_modality.get(name, 0) for _, name in parts) != total:
        del found.by_modality[text]


def _larger(known: int | None, reported: object) -> int | None:
    if reported is None or type(reported) is not int or not 0 <= reported <= _MOST_TOKENS:
        return known
    return reported if known is None or reported > known else known
