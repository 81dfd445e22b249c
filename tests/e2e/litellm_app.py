"""A small application that asks an LLM, once in plain code and once as a stream, sync and async; it knows nothing of what watches it.

The one span of its own stands for the request that such an application serves; it prints that span's trace id.
"""

import asyncio
import logging
import sys

import litellm
from opentelemetry import trace

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
logger = logging.getLogger("app")


async def ask_async(target):
    answer = await litellm.acompletion(**target)
    chunks = [
        chunk
        async for chunk in await litellm.acompletion(**target, stream=True, stream_options={"include_usage": True})
    ]
    return answer, chunks


def main(base):
    target = {"model": "openai/tiny", "messages": QUESTION, "api_base": base, "api_key": "none"}
    with trace.get_tracer("app").start_as_current_span("answer") as span:
        logger.warning("asking %s", target["model"])
        litellm.completion(**target)
        list(litellm.completion(**target, stream=True, stream_options={"include_usage": True}))
        asyncio.run(ask_async(target))
        print(f"{span.get_span_context().trace_id:032x}")


main(sys.argv[1])
