"""The series of vLLM's engines on their board: how they are narrowed to what the reader chose, and what an engine is called.

Engines are told apart by host, service, model and engine index, which is the data-parallel rank.
"""

from dashboards.names import listed
from dashboards.shapes import shown
from otel_llm import semconv

MODEL = semconv.REQUEST_MODEL
INDEX = semconv.VLLM_ENGINE_INDEX
ENGINE = ("host.name", "service.name", MODEL, INDEX)
WHO = listed(ENGINE)
LEGEND = " ".join(f"{{{{<{attribute}>}}}}" for attribute in ENGINE)
BY_MODEL = shown(MODEL)

# Beside the board's scope and not in it: what the front end refuses or gives up is of a server, whichever engine it has.
OF_ENGINE = f'{INDEX}=~"$engine"'

# What the reader chose, in TraceQL; several values come joined by |. Spans are the server's, whoever writes them.
CHOSEN = f'resource.service.name =~ "${{server:pipe}}" && span.{MODEL} =~ "${{model:pipe}}"'


def of(metric: str, matcher: str = "") -> str:
    """Return the series of a metric, of the engines that the reader chose."""
    return f"<{metric}{{{f'{OF_ENGINE}, {matcher}' if matcher else OF_ENGINE}}}>"


DURATION = semconv.SERVER_REQUEST_DURATION
FIRST_TOKEN = semconv.SERVER_TIME_TO_FIRST_TOKEN
REQUESTS = of(f"{DURATION}_count")
GENERATED = of(semconv.VLLM_TOKENS_GENERATED)
