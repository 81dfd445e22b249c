"""The parameters of a request as attributes, read from vLLM's own parameter objects.

Those objects do not tell what the caller gave and what is a default. Written are the values that change something: a
temperature of 1, a `top_p` of 1, penalties that penalise nothing and a single choice leave the model as it is, and their
absence says the same. `max_tokens` always changes something (vLLM's own default is 16), so it is written whenever it is set.
"""

from typing import Any, Final

from otel_llm import semconv
from otel_llm.records import Value

# The attribute, vLLM's field, and the values that change nothing.
_ROWS: Final[tuple[tuple[str, str, tuple[Any, ...]], ...]] = (
    (semconv.REQUEST_MAX_TOKENS, "max_tokens", ()),
    (semconv.REQUEST_TEMPERATURE, "temperature", (1.0,)),
    (semconv.REQUEST_TOP_P, "top_p", (1.0,)),
    (semconv.REQUEST_TOP_K, "top_k", (0, -1)),
    (semconv.REQUEST_FREQUENCY_PENALTY, "frequency_penalty", (0.0,)),
    (semconv.REQUEST_PRESENCE_PENALTY, "presence_penalty", (0.0,)),
    (semconv.REQUEST_REPETITION_PENALTY, "repetition_penalty", (1.0,)),
    (semconv.REQUEST_SEED, "seed", ()),
    (semconv.REQUEST_CHOICE_COUNT, "n", (1,)),
    (semconv.REQUEST_CHOICE_COUNT, "beam_width", (1,)),
    (semconv.EMBEDDINGS_DIMENSION_COUNT, "dimensions", ()),
)


def parameters_of(params: Any) -> dict[str, Value]:
    """Read a `SamplingParams`, `BeamSearchParams` or `PoolingParams`."""
    found: dict[str, Value] = {}
    for name, field, neutral in _ROWS:
        value = getattr(params, field, None)
        if value is not None and value not in neutral:
            found[name] = value
    stop = getattr(params, "stop", None)
    if stop:
        found[semconv.REQUEST_STOP_SEQUENCES] = (stop,) if isinstance(stop, str) else tuple(stop)
    structure = getattr(params, "structured_outputs", None)
    if structure is not None and (structure.json is not None or structure.json_object):
        found[semconv.OUTPUT_TYPE] = semconv.OUTPUT_JSON
    return found
