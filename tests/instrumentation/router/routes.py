"""Asking a Router of LiteLLM over deployments of the scripted server, sync and async; reading what that gave is `trees`'."""

import asyncio
from types import ModuleType
from typing import Any

from instrumentation.openai_server import OpenAIServer

HELLO = [{"role": "user", "content": "hi"}]


class Asker:
    """Asks a Router in one of its two ways; async ones on one loop, as an application would."""

    def __init__(self, litellm: ModuleType, *, is_async: bool) -> None:
        self.litellm, self.is_async = litellm, is_async
        self._runner = asyncio.Runner() if is_async else None

    def run(self, awaitable: Any) -> Any:
        assert self._runner is not None
        return self._runner.run(_within(awaitable))

    def __call__(self, routes: Any, model: str, **arguments: Any) -> Any:
        if self.is_async:
            return self.run(routes.acompletion(model, HELLO, **arguments))
        return routes.completion(model, HELLO, **arguments)

    def text(self, stream: Any) -> str:
        async def collect() -> list[Any]:
            return [chunk async for chunk in stream]

        chunks = self.run(collect()) if self.is_async else list(stream)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    def finish(self) -> None:
        if self._runner is not None:
            self.run(self.litellm.close_litellm_async_clients())
            self._runner.close()


async def _within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 20)


def deployment(server: OpenAIServer, group: str, model: str, identity: str, **parameters: Any) -> dict[str, Any]:
    return {
        "model_name": group,
        "litellm_params": {
            "model": f"hosted_vllm/{model}",
            "api_base": server.url,
            "api_key": "sk-test",
            "max_retries": 0,
            **parameters,
        },
        "model_info": {"id": identity},
    }
