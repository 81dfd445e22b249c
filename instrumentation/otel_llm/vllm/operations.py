"""What a request to the engine is for, in one word: from the id the server gave it, which begins with the route's prefix.

An application that calls the engine itself chooses its own ids. What it asks of `generate` is to continue a text (chat
templates are applied before), hence a text completion; what it asks of `encode` stands in the pooling parameters.
"""

from collections.abc import Mapping
from typing import Any, Final

from otel_llm import semconv

_PREFIXES: Final[Mapping[str, str]] = {
    "chatcmpl": semconv.OPERATION_CHAT,
    "resp_": semconv.OPERATION_CHAT,  # the Responses API; the id goes on without a dash
    "cmpl": semconv.OPERATION_TEXT_COMPLETION,
    "embd": semconv.OPERATION_EMBEDDINGS,
    "score": semconv.OPERATION_SCORE,  # and rerank, which scores documents
    "generative": semconv.OPERATION_SCORE,  # generative-scoring
    "classify": semconv.OPERATION_CLASSIFY,
    "pooling": semconv.OPERATION_POOLING,
    "transcribe": semconv.OPERATION_TRANSCRIPTION,
    "translate": semconv.OPERATION_TRANSCRIPTION,
    "rt": semconv.OPERATION_TRANSCRIPTION,  # over a WebSocket
}
_TASKS: Final[Mapping[str, str]] = {
    "embed": semconv.OPERATION_EMBEDDINGS,
    "token_embed": semconv.OPERATION_EMBEDDINGS,
    "classify": semconv.OPERATION_CLASSIFY,
    "token_classify": semconv.OPERATION_CLASSIFY,
}


def operation_of_id(request_id: Any) -> str | None:
    """Name the operation of a request by the prefix of its id; None for an id that no route of the server made."""
    if not isinstance(request_id, str):
        return None
    return _PREFIXES.get("resp_" if request_id.startswith("resp_") else request_id.partition("-")[0])


def operation_of(request_id: Any, params: Any, otherwise: str) -> str:
    """Name the operation of a request by its id, else by its parameters, else as told."""
    found = operation_of_id(request_id)
    if found is not None:
        return found
    return _TASKS.get(str(getattr(params, "task", None)), otherwise)
