"""Reading moderation calls: a text in, a verdict out; no tokens are counted. The conventions know no such operation."""

from collections.abc import Mapping

from otel_llm import semconv
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read.fields import text
from otel_llm.litellm.read.inputs import text_length
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.records import Reply, Request


def read_request(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a moderation call from its arguments by name; LiteLLM asks OpenAI unless told otherwise."""
    request = read_common(semconv.OPERATION_MODERATION, arguments, names)
    if request.provider is None:
        request.provider = "openai"
    length = text_length(arguments.get("input"))
    if length is not None:
        request.parameters[semconv.PROMPT_LENGTH] = length
    return request


def read_reply(response: object, asked: Asked) -> Reply:  # noqa: ARG001 - the shape of all readers
    """Read a complete reply."""
    results = getattr(response, "results", None)
    if not isinstance(results, list):
        return Reply()
    return Reply(
        id=text(getattr(response, "id", None)),
        model=text(getattr(response, "model", None)),
        attributes={semconv.MODERATION_FLAGGED: any(getattr(result, "flagged", None) is True for result in results)},
    )
