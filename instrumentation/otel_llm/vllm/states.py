"""What vLLM's front end keeps of a request while it is open (`RequestState`), as plain facts; read by attribute.

One request has a state for each of its choices. They know more than the outputs: what was generated, though it was never
handed over, and the statistics of every choice and of pooling, of which outputs carry one or none.
"""

from collections.abc import Sequence
from typing import Any

from .outputs import Facts, phases_of, phases_of_pooling

State = Any
"""A `RequestState` of vLLM."""


def facts_of_states(states: Sequence[State]) -> Facts:
    """Sum up a request from the states of its choices; its phases are those of the choice that took longest."""
    first = states[0]
    stats = [state.stats for state in states if state.stats is not None]
    read = [state for state in states if not state.is_prefilling]
    handed = [count for state in states if (count := _handed(state)) is not None]
    read_phases = phases_of if handed else phases_of_pooling
    return Facts(
        request_id=first.external_req_id,
        input_tokens=first.prompt_len,
        output_tokens=sum(handed) if handed else None,
        cached_tokens=read[0].num_cached_tokens if read else None,
        cache_write_tokens=read[0].num_cache_creation_tokens if read else None,
        lora=first.lora_name,
        phases=read_phases(max(stats, key=lambda one: one.last_token_ts)) if stats else None,
    )


def tokens_of(state: State) -> tuple[int, int]:
    """Return prompt and generated tokens of one choice as vLLM's counters have counted them by now."""
    prompt = 0 if state.is_prefilling else state.prompt_len  # counted with the first output
    if state.stats is not None:
        return prompt, state.stats.num_generation_tokens  # with those behind a stop string
    return prompt, _handed(state) or 0


def _handed(state: State) -> int | None:
    """Return the generated tokens that make up the reply; None for pooling, which generates nothing."""
    return None if state.detokenizer is None else state.detokenizer.num_output_tokens()
