"""Reading rerank calls: a query and documents in, an order of the documents out. The conventions know no such operation."""

from collections.abc import Mapping
from typing import Final

from otel_llm import semconv
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read.fields import field, text, whole
from otel_llm.litellm.read.inputs import text_length
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.read.noted import note
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.records import Reply, Request, Usage

_COUNTED_BY_LITELLM: Final = frozenset(("huggingface", "nvidia_nim"))  # the second by the documents, where it must
_REPORTS_SEARCH_UNITS: Final = frozenset(("azure_ai", "cohere"))  # LiteLLM computes them for others


def read_request(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a rerank call from its arguments by name."""
    request = read_common(semconv.OPERATION_RERANK, arguments, names)
    parameters, documents = request.parameters, arguments.get("documents")
    lengths = [text_length(arguments.get("query")), text_length(documents)]
    if any(length is not None for length in lengths):
        parameters[semconv.PROMPT_LENGTH] = sum(length or 0 for length in lengths)
    if isinstance(documents, list | tuple):
        parameters[semconv.RERANK_DOCUMENTS] = len(documents)
    top_n = whole(arguments.get("top_n"))
    if top_n is not None:
        parameters[semconv.RERANK_TOP_N] = top_n
    return request


def read_reply(response: object, asked: Asked) -> Reply:
    """Read a complete reply."""
    results = getattr(response, "results", None)
    if not isinstance(results, list):
        return Reply()
    reply = Reply(id=text(getattr(response, "id", None)), attributes={semconv.RERANK_RESULTS: len(results)})
    meta = getattr(response, "meta", None)
    if meta is None:
        return note(reply, response, asked)
    provider = _provider(asked.arguments)
    tokens, billed = field(meta, "tokens"), field(meta, "billed_units")
    if provider not in _COUNTED_BY_LITELLM:
        # A reranker writes nothing, so that its total is its input. LiteLLM writes 0 for a count it was not given.
        counts = (field(tokens, "input_tokens"), field(billed, "input_tokens"), field(billed, "total_tokens"))
        count = next((count for count in map(whole, counts) if count), None)
        reply.usage = Usage(input_tokens=count) if count is not None else None
    units = whole(field(billed, "search_units"))
    if units is not None and provider in _REPORTS_SEARCH_UNITS:
        reply.attributes[semconv.RERANK_SEARCH_UNITS] = units
    return note(reply, response, asked, is_by_piece=units is not None)


def _provider(arguments: Mapping[str, object]) -> object:
    model = arguments.get("model")
    return arguments.get("custom_llm_provider") or (model.partition("/")[0] if isinstance(model, str) else None)
