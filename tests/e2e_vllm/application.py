"""An application that asks a model through a LiteLLM proxy: a plain call, a stream, a stream that it leaves, a prompt that is
too long. It knows nothing of what watches it; the spans of its own stand for the requests that it serves, each a trace.

Usage: application.py BASE-URL     prints {"plain": "<trace id>", ...}
"""

import asyncio
import json
import sys

import litellm
from opentelemetry import baggage, context, trace

QUESTION = {"model": "litellm_proxy/tiny", "api_base": sys.argv[1], "api_key": "sk-laptop", "max_retries": 0}
SHORT = [{"role": "user", "content": "the quick brown fox"}]
LONG = [{"role": "user", "content": "a lion " * 20000}]
EXACTLY = {"extra_body": {"ignore_eos": True}}


def plain():
    litellm.completion(**QUESTION, messages=SHORT, max_tokens=7, **EXACTLY)


async def stream():
    async for _ in await litellm.acompletion(**QUESTION, messages=SHORT, max_tokens=7, stream=True, **EXACTLY):
        pass
    await litellm.close_litellm_async_clients()


def left():
    answer = litellm.completion(**QUESTION, messages=SHORT, max_tokens=8000, stream=True, **EXACTLY)
    next(iter(answer))
    answer.close()


def too_long():
    try:
        litellm.completion(**QUESTION, messages=LONG, max_tokens=7)
    except litellm.BadRequestError:
        return
    raise SystemExit("a prompt that is too long was answered")


def main():
    context.attach(baggage.set_baggage("session.id", "session-of-the-application"))
    found = {}
    for name, ask in {
        "plain": plain,
        "stream": lambda: asyncio.run(stream()),
        "left": left,
        "too long": too_long,
    }.items():
        with trace.get_tracer("application").start_as_current_span(name) as span:
            ask()
            found[name] = f"{span.get_span_context().trace_id:032x}"
    print(json.dumps(found))


main()
