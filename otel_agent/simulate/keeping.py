"""The routes around the model: whether it is there, what it is called, what it counts as tokens, how it sleeps, what it has counted."""

import time
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from otel_agent.simulate.asked import check_model, read_body
from otel_agent.simulate.families import VERSION
from otel_agent.simulate.live import LiveEngine
from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.page import CONTENT_TYPE
from otel_agent.simulate.refusal import invalid, missing
from otel_agent.simulate.tallies import EngineTallies, HttpTallies, page
from otel_agent.simulate.text import detokenize, render_chat, tokenize

MODES = ("abort", "wait", "keep")


class Keeping:
    """Everything that a server answers besides generating and pooling."""

    def __init__(self, options: EngineOptions, live: LiveEngine, tallies: EngineTallies, http: HttpTallies) -> None:
        self._options, self._live, self._tallies, self._http = options, live, tallies, http

    async def health(self, _: Request) -> Response:
        """Answer /health and /ping: 503 once the engine has died."""
        return Response(status_code=503 if self._live.dead else 200)

    async def metrics(self, _: Request) -> Response:
        """Answer /metrics."""
        self._tallies.show(self._live.engine)
        return PlainTextResponse(page(self._tallies, self._http), headers={"content-type": CONTENT_TYPE})

    async def models(self, _: Request) -> Response:
        """Answer /v1/models."""
        now = int(time.time())
        permission = {
            "id": f"modelperm-{uuid4().hex[:16]}",
            "object": "model_permission",
            "created": now,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        card = {
            "id": self._options.model,
            "object": "model",
            "created": now,
            "owned_by": "vllm",
            "root": self._options.model,
            "parent": None,
            "max_model_len": self._options.max_model_len,
            "permission": [permission],
        }
        return JSONResponse({"object": "list", "data": [card]})

    async def version(self, _: Request) -> Response:
        """Answer /version with the version of vLLM that is stood in for."""
        return JSONResponse({"version": VERSION})

    async def load(self, _: Request) -> Response:
        """Answer /load: requests in flight."""
        return JSONResponse({"server_load": self._live.calls})

    async def tokenize(self, request: Request) -> Response:
        """Answer /tokenize, for a text or for messages."""
        body = await read_body(request)
        check_model(body, self._options)
        if isinstance(messages := body.get("messages"), list):
            text = render_chat(messages, answer_follows=bool(body.get("add_generation_prompt", True)))
        elif isinstance(body.get("prompt"), str):
            text = body["prompt"]
        else:
            raise missing("prompt")
        tokens = tokenize(text)
        pieces = [detokenize([token]) for token in tokens] if body.get("return_token_strs") else None
        said: dict[str, Any] = {"count": len(tokens), "max_model_len": self._options.max_model_len, "tokens": tokens}
        return JSONResponse({**said, "token_strs": pieces})

    async def detokenize(self, request: Request) -> Response:
        """Answer /detokenize."""
        body = await read_body(request)
        check_model(body, self._options)
        tokens = body.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, int) and token >= 0 for token in tokens):
            raise missing("tokens")
        return JSONResponse({"prompt": detokenize(tokens)})

    async def sleep(self, request: Request) -> Response:
        """Answer /sleep?level=&mode=."""
        level, mode = request.query_params.get("level", "1"), request.query_params.get("mode", "abort")
        if level not in ("0", "1", "2"):
            raise invalid("level", "level must be 0, 1 or 2", level)
        if mode not in MODES:
            raise invalid("mode", f"mode must be one of {', '.join(MODES)}", mode)
        with self._tallies.operation("sleep"):
            await self._live.sleep(int(level), mode)
        return JSONResponse({"status": "sleeping", "level": int(level)})

    async def wake_up(self, request: Request) -> Response:
        """Answer /wake_up; all is woken, whatever the tags."""
        with self._tallies.operation("wake"):
            self._live.wake_up()
        return JSONResponse({"status": "awake", "tags": request.query_params.getlist("tags") or None})

    async def is_sleeping(self, _: Request) -> Response:
        """Answer /is_sleeping."""
        return JSONResponse({"is_sleeping": self._live.sleeping is not None})

    async def reset_prefix_cache(self, _: Request) -> Response:
        """Answer /reset_prefix_cache: it is not reset while somebody uses it."""
        return JSONResponse({"success": self._live.engine.blocks.forget()})
