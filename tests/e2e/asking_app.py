"""An application that asks an LLM again and again until its standard input is closed: a reply, a stream, and a call that fails.

It knows nothing of what watches it. Usage: asking_app.py BASE-URL
"""

import contextlib
import logging
import select
import sys

import litellm

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
logger = logging.getLogger("app")


def ask(base, model, **how):
    return litellm.completion(
        model=f"openai/{model}", messages=QUESTION, api_base=base, api_key="none", max_retries=0, **how
    )


def main(base):
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        logger.warning("asking")
        ask(base, "plain")
        list(ask(base, "plain", stream=True, stream_options={"include_usage": True}))
        with contextlib.suppress(litellm.InternalServerError):
            ask(base, "error500")


main(sys.argv[1])
