"""An application with an agent's name that asks an LLM again and again until its standard input is closed.

A reply, a tool call, a stream with its usage, and a call that fails. Usage: agent_app.py BASE-URL
"""

import contextlib
import select
import sys

import litellm

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def ask(base, model, **how):
    return litellm.completion(
        model=f"openai/{model}",
        messages=QUESTION,
        api_base=base,
        api_key="none",
        max_retries=0,
        metadata={"agent_name": "planner"},
        **how,
    )


def main(base):
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        ask(base, "plain")
        ask(base, "tools")
        list(ask(base, "plain", stream=True, stream_options={"include_usage": True}))
        with contextlib.suppress(litellm.InternalServerError):
            ask(base, "error500")


main(sys.argv[1])
