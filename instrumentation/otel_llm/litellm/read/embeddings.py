"""Reading embedding calls: texts in, vectors out. The vectors are not looked at.

LiteLLM fills token counts in: zero where a reply has none, and counts of its own for servers that report none.
"""

from collections.abc import Mapping
from typing import Final

from otel_llm import semconv
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read.fields import field, hidden_params, text, whole
from otel_llm.litellm.read.inputs import text_length
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.read.noted import note
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.records import Reply, Request, Usage

_COUNTED_BY_LITELLM: Final = frozenset(
    # Always or sometimes, and the reply does not tell which.
    ("gemini", "huggingface", "sagemaker", "triton")
)
_NOT_COUNTED_BY_LITELLM: Final[Mapping[str, str]] = {
    # Of a provider that reports for some models only: the word in the name of those for which it does.
    "bedrock": "titan",
    "vertex_ai": "text",
}


def read_request(arguments: Mapping[str, object], names: Names) -> Request:
    """Read an embedding call from its arguments by name."""
    request = read_common(semconv.OPERATION_EMBEDDINGS, arguments, names)
    parameters = request.parameters
    dimensions = whole(arguments.get("dimensions"))
    if dimensions is not None:
        parameters[semconv.EMBEDDINGS_DIMENSION_COUNT] = dimensions
    encoding = text(arguments.get("encoding_format"))
    if encoding is not None:
        parameters[semconv.REQUEST_ENCODING_FORMATS] = (encoding,)
    length = text_length(arguments.get("input"))
    if length is not None:
        parameters[semconv.PROMPT_LENGTH] = length
    return request


def read_reply(response: object, asked: Asked) -> Reply:
    """Read a complete reply."""
    if not isinstance(getattr(response, "data", None), list):
        return Reply()
    provider = text(hidden_params(response).get("custom_llm_provider"))
    tokens = whole(field(getattr(response, "usage", None), "prompt_tokens"))
    is_reported = tokens and _reports(provider, asked.arguments.get("model"))
    reply = Reply(
        model=text(getattr(response, "model", None)), usage=Usage(input_tokens=tokens) if is_reported else None
    )
    return note(reply, response, asked)


def _reports(provider: str | None, model: object) -> bool:
    if provider is None:
        return True
    word = _NOT_COUNTED_BY_LITELLM.get(provider)
    return provider not in _COUNTED_BY_LITELLM if word is None else isinstance(model, str) and word in model
