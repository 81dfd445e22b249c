"""On whose behalf a request is made, as far as the caller's W3C baggage says: the keys that were asked for, no others."""

from opentelemetry import baggage
from opentelemetry.context import Context

from otel_llm.records import Value
from otel_llm.settings import Settings


def carried(settings: Settings, context: Context | None = None) -> dict[str, Value]:
    """Return the attributes that `OTEL_LLM_BAGGAGE_ATTRIBUTES` names, from the baggage of a context (None: the current)."""
    if not settings.baggage_attributes:
        return {}
    found = baggage.get_all(context)
    return {name: value for name in settings.baggage_attributes if isinstance(value := found.get(name), str) and value}
