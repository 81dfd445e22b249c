"""What vLLM's outputs say of a request, as plain facts: a pure reading, by attribute, that imports nothing of vLLM.

vLLM keeps two clocks. `arrival_time` is the front end's wall clock, and `first_token_latency` a length of time by it;
`queued_ts`, `scheduled_ts`, `first_token_ts` and `last_token_ts` are the engine's monotonic clock. A phase is a difference
between two of the latter. Nothing is ever taken from one and subtracted from the other; the first token is the one event
that both tell, and what lays phases out in time starts from there (`request_span`).
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Params = Any
"""A `SamplingParams`, `BeamSearchParams` or `PoolingParams` of vLLM, which is read by attribute."""


class Phases(NamedTuple):
    """Where the time of one request went; seconds, each None where the engine did not tell."""

    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None  # from the first token to the last
    first_token_s: float | None = None  # from its arrival at the front end, by the front end's clock
    arrived_s: float | None = None  # the front end's wall clock
    preemptions: int = 0
    generates: bool = True  # False for pooling: its result comes where a first token would, and nothing is decoded


class Facts(NamedTuple):
    """What is known of one request, or the sums of many; None means unknown."""

    request_id: str | None = None
    input_tokens: int | None = None  # cached ones included
    output_tokens: int | None = None  # over all choices
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    finish_reasons: tuple[str, ...] = ()  # one a choice, in vLLM's words: stop, length, abort, error, repetition
    lora: str | None = None
    phases: Phases | None = None
    error: str | None = None  # the engine's word for a failure that it hands over as an output


def facts_of(output: Any) -> Facts:
    """Read a `RequestOutput`, a `PoolingRequestOutput` or one of its kinds, or a `BeamSearchOutput`."""
    sequences = getattr(output, "sequences", None)
    if sequences is not None:
        return _beams(sequences)
    choices = output.outputs
    if not isinstance(choices, list):  # the one result of pooling
        error = getattr(output, "error", None)
        return Facts(
            output.request_id,
            input_tokens=_length(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens,
            error=None if error is None else str(error.code),
        )
    prompt = _length(output.prompt_token_ids)
    encoder = getattr(output, "encoder_prompt_token_ids", None)
    if encoder is not None:
        prompt = (prompt or 0) + len(encoder)
    produced = 0
    for choice in choices:
        produced += len(choice.token_ids)
    return Facts(
        output.request_id,
        prompt,
        produced,
        output.num_cached_tokens,
        getattr(output, "num_cache_creation_tokens", None),
        tuple([str(choice.finish_reason) for choice in choices if choice.finish_reason is not None]),
        lora_name(output.lora_request),
        phases_of(output.metrics),
    )


def phases_of(stats: Any) -> Phases | None:
    """Read a `RequestStateStats`; None where statistics are off. A timestamp of 0 is one that has not been taken."""
    if stats is None:
        return None
    queued, scheduled, first, last = stats.queued_ts, stats.scheduled_ts, stats.first_token_ts, stats.last_token_ts
    return Phases(
        _between(queued, scheduled),
        _between(scheduled, first),
        _between(first, last),
        stats.first_token_latency or None,
        stats.arrival_time or None,
        stats.num_preemptions,
    )


def phases_of_pooling(stats: Any) -> Phases | None:
    """Read the same of a request that generates nothing: its result comes where a first token would."""
    phases = phases_of(stats)
    return None if phases is None else phases._replace(decode_s=None, generates=False)


def lora_name(request: Any) -> str | None:
    """Return the name of an adapter, where a request uses one."""
    return None if request is None else str(request.lora_name)


def sum_of(requests: Iterable[Facts]) -> Facts:
    """Add up what requests used: a count that no request tells stays unknown, the others count as far as they are told."""
    counted = list(requests)
    return Facts(
        input_tokens=_total(facts.input_tokens for facts in counted),
        output_tokens=_total(facts.output_tokens for facts in counted),
        cached_tokens=_total(facts.cached_tokens for facts in counted),
        cache_write_tokens=_total(facts.cache_write_tokens for facts in counted),
    )


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _beams(sequences: Sequence[Any]) -> Facts:
    """Count the prompt once, and of each beam handed over what it adds; beams given up on the way are not told."""
    if not sequences:
        return Facts(output_tokens=0)
    prompt = sequences[0].orig_prompt
    prompt = prompt.get("decoder_prompt", prompt)
    length = len(prompt["prompt_token_ids"])
    return Facts(
        input_tokens=length,
        output_tokens=sum(len(beam.tokens) - length for beam in sequences),
        finish_reasons=tuple(str(beam.finish_reason) for beam in sequences if beam.finish_reason is not None),
        lora=lora_name(sequences[0].lora_request),
    )


def _between(earlier: float, later: float) -> float | None:
    return later - earlier if earlier and later and later >= earlier else None


def _length(token_ids: Sequence[int] | None) -> int | None:
    return None if token_ids is None else len(token_ids)
