"""Embeddings, scores and reranking: prompts that are read and answered with numbers.

Numbers are made up of the text, the same for the same text; texts that share words lie nearer to each other.
"""

import base64
import math
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from otel_agent.simulate import shapes
from otel_agent.simulate.asked import (
    Body,
    Prompt,
    check_model,
    read_body,
    read_prompts,
    request_id,
    trace_headers,
    wanted_error,
)
from otel_agent.simulate.leaving import while_there
from otel_agent.simulate.live import Call, LiveEngine
from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.refusal import Refused, missing
from otel_agent.simulate.sequence import Sequence
from otel_agent.simulate.text import detokenize

DIMENSIONS = 64


class Pooling:
    """The routes of pooling models, in the same engine as the others."""

    def __init__(self, options: EngineOptions, live: LiveEngine) -> None:
        self._options = options
        self._live = live

    async def embeddings(self, request: Request) -> Response:
        """Answer /v1/embeddings."""
        body = await self._body(request)
        form = body.get("encoding_format") or "float"
        if form not in ("float", "base64"):
            raise Refused("encoding_format must be float or base64", param="encoding_format")
        if body.get("dimensions") is not None:
            raise Refused(
                f"Model '{self._options.model}' does not support Matryoshka embeddings; dimensions must be unset "
                f"(received dimensions={body['dimensions']})."
            )
        prompts = read_prompts(body, "input", self._options)
        if not prompts:
            raise Refused("You must pass at least one prompt")
        reply = f"embd-{request_id(request)}"
        await self._read(request, body, reply, prompts)
        vectors = [embedding(prompt) for prompt in prompts]
        data = [
            {"index": index, "object": "embedding", "embedding": vector if form == "float" else _as_base64(vector)}
            for index, vector in enumerate(vectors)
        ]
        return JSONResponse(
            {**shapes.head(reply, self._options), "object": "list", "data": data, "usage": _usage(prompts)}
        )

    async def score(self, request: Request) -> Response:
        """Answer /score."""
        body = await self._body(request)
        reply = f"score-{request_id(request)}"
        queries, documents = read_prompts(body, "text_1", self._options), read_prompts(body, "text_2", self._options)
        if len(queries) not in (1, len(documents)):
            raise Refused("Input lengths must be either 1:1, 1:N or N:N")
        await self._read(request, body, reply, [*queries, *documents])
        pairs = zip(queries * len(documents) if len(queries) == 1 else queries, documents, strict=True)
        data = [
            {"index": index, "object": "score", "score": likeness(one, other)}
            for index, (one, other) in enumerate(pairs)
        ]
        used = _usage([*queries, *documents])
        return JSONResponse({**shapes.head(reply, self._options), "object": "list", "data": data, "usage": used})

    async def rerank(self, request: Request) -> Response:
        """Answer /rerank: documents by their likeness to the query, the likest first, `top_n` of them where that is set."""
        body = await self._body(request)
        reply = f"score-{request_id(request)}"
        if not isinstance(body.get("query"), str):
            raise missing("query")
        [query] = read_prompts(body, "query", self._options)
        given = body.get("documents")
        texts = (
            [one.get("text") if isinstance(one, Mapping) else one for one in given]
            if isinstance(given, list)
            else given
        )
        documents = read_prompts({"documents": texts}, "documents", self._options)
        await self._read(request, body, reply, [query, *documents])
        results: list[dict[str, Any]] = [
            {
                "index": index,
                "document": {"text": detokenize(document), "multi_modal": None},
                "relevance_score": likeness(query, document),
            }
            for index, document in enumerate(documents)
        ]
        results.sort(key=lambda result: result["relevance_score"], reverse=True)
        tokens = sum(len(prompt) for prompt in (query, *documents))
        most = body.get("top_n")
        return JSONResponse(
            {
                "id": reply,
                "model": self._options.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                "results": results[:most] if isinstance(most, int) and most > 0 else results,
            }
        )

    async def _body(self, request: Request) -> Body:
        body = await read_body(request)
        check_model(body, self._options)
        return body

    async def _read(self, request: Request, body: Body, id: str, prompts: list[Prompt]) -> None:
        error = wanted_error(request, body)
        if error and error.status:
            raise Refused(f"The error that was asked for: {error.status}.", error.status)
        if error and not error.after:
            self._live.die()
        sequences = [Sequence(f"{id}-{index}", prompt, None) for index, prompt in enumerate(prompts)]
        call = Call(id, sequences, headers=trace_headers(request))
        self._live.submit(call)
        async with while_there(self._live, call, request.receive):
            await call.end()


def embedding(prompt: Prompt) -> list[float]:
    """Return the vector of a text, of length one: the sum of one for each of its words."""
    sums = [0.0] * DIMENSIONS
    for word in detokenize(prompt).lower().split():
        for dimension, byte in enumerate(blake2b(word.encode(), digest_size=DIMENSIONS).digest()):
            sums[dimension] += byte - 127.5
    length = math.hypot(*sums) or 1.0
    return [one / length for one in sums]


def likeness(one: Prompt, other: Prompt) -> float:
    """Return how near two texts are, as the cosine of their vectors."""
    return sum(a * b for a, b in zip(embedding(one), embedding(other), strict=True))


def _as_base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _usage(prompts: list[Prompt]) -> dict[str, Any]:
    counts = shapes.usage(sum(len(prompt) for prompt in prompts), 0)
    return {**counts, "prompt_tokens_details": None, "completion_tokens_details": None}
