"""The attributes a reply gives the span of its call; what is unknown is left out, and usage says whose count it is."""

from typing import Final

from . import semconv
from .records import Reply, Usage, Value

REPORTED: Final = "reported"
ESTIMATED: Final = "estimated"
UNKNOWN: Final = "unknown"
_WITHOUT_TOKENS: Final = frozenset((semconv.OPERATION_MODERATION, semconv.OPERATION_SPEECH))


def describe(reply: Reply, end: dict[str, Value], elapsed_s: float, *, operation: str, failed: bool) -> None:
    """Write what is known of a reply into `end`."""
    if reply.id is not None:
        end[semconv.RESPONSE_ID] = reply.id
    if reply.model is not None:
        end[semconv.RESPONSE_MODEL] = reply.model
    if reply.finish_reasons:
        end[semconv.RESPONSE_FINISH_REASONS] = reply.finish_reasons
    if reply.response_length is not None:
        end[semconv.RESPONSE_LENGTH] = reply.response_length
    usage = reply.usage
    if usage is None:
        if not failed and operation not in _WITHOUT_TOKENS:
            end[semconv.USAGE_SOURCE] = UNKNOWN
    elif usage.is_estimated:
        _estimated(usage, end)
    else:
        _reported(usage, end)
    if reply.cost is not None:
        end[semconv.COST] = reply.cost.usd
        end[semconv.COST_SOURCE] = reply.cost.source
    if reply.engine is not None:
        _engine(reply, end, elapsed_s)
    if reply.attributes:
        end.update(reply.attributes)


def _reported(usage: Usage, end: dict[str, Value]) -> None:
    end[semconv.USAGE_SOURCE] = REPORTED
    if usage.input_tokens is not None:
        end[semconv.USAGE_INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens is not None:
        end[semconv.USAGE_OUTPUT_TOKENS] = usage.output_tokens
    if usage.cache_read_tokens is not None:
        end[semconv.USAGE_CACHE_READ_INPUT_TOKENS] = usage.cache_read_tokens
    if usage.cache_write_tokens is not None:
        end[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS] = usage.cache_write_tokens
    if usage.reasoning_tokens is not None:
        end[semconv.USAGE_REASONING_OUTPUT_TOKENS] = usage.reasoning_tokens
    for name, count in usage.by_modality.items():
        end[semconv.USAGE_PREFIX + name] = count


def _estimated(usage: Usage, end: dict[str, Value]) -> None:
    end[semconv.USAGE_SOURCE] = ESTIMATED
    if usage.input_tokens is not None:
        end[semconv.USAGE_ESTIMATED_INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens is not None:
        end[semconv.USAGE_ESTIMATED_OUTPUT_TOKENS] = usage.output_tokens


def _engine(reply: Reply, end: dict[str, Value], elapsed_s: float) -> None:
    engine = reply.engine
    if engine is None:
        return
    if engine.queue_s is not None:
        end[semconv.ENGINE_QUEUE_TIME] = engine.queue_s
    if engine.first_token_s is not None:
        end[semconv.ENGINE_TIME_TO_FIRST_TOKEN] = engine.first_token_s
    if engine.generation_s is not None:
        end[semconv.ENGINE_GENERATION_TIME] = engine.generation_s
    if engine.first_token_s is not None and engine.generation_s is not None:
        # The engine's clock says how long it had the request, ours how long the caller waited; each is a length of time.
        outside = elapsed_s - engine.first_token_s - engine.generation_s
        if outside >= 0:
            end[semconv.OUTSIDE_ENGINE_TIME] = outside
