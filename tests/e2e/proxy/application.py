"""An application that asks an LLM through a LiteLLM proxy, plain and as a stream, sync and async; it knows nothing of what watches it.

Usage: application.py BASE-URL
"""

import asyncio
import sys

import litellm
from opentelemetry import trace

arguments = {
    "model": "litellm_proxy/tiny",
    "messages": [{"role": "user", "content": "hi"}],
    "api_base": sys.argv[1],
    "api_key": "sk-laptop",
}


async def main() -> None:
    await litellm.acompletion(**arguments)
    async for _ in await litellm.acompletion(**arguments, stream=True):
        pass
    await litellm.close_litellm_async_clients()


with trace.get_tracer("application").start_as_current_span("application"):
    litellm.completion(**arguments)
    for _ in litellm.completion(**arguments, stream=True):
        pass
    asyncio.run(main())
