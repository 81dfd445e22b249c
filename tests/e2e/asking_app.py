"""An application that asks an LLM again and again until its standard input is closed: a reply, a stream, a call that fails.

It also asks through a Router: a group of two deployments, one of which fails; a group that falls back to it; and a lost one.
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


def deployment(base, group, identity, model, weight=1):
    return {
        "model_name": group,
        "litellm_params": {
            "model": f"hosted_vllm/{model}",
            "api_base": base,
            "api_key": "none",
            "max_retries": 0,
            "weight": weight,
        },
        "model_info": {"id": identity},
    }


def router(base):
    return litellm.Router(
        [
            deployment(base, "pair", "failing", "error500", weight=10**9),  # asked first unless it is cooling down
            deployment(base, "pair", "sound", "plain"),
            deployment(base, "broken", "broken-1", "error500"),
            deployment(base, "lost", "lost-1", "error500"),
        ],
        fallbacks=[{"broken": ["pair"]}],
        num_retries=2,
        retry_after=0,
        allowed_fails=0,
        cooldown_time=1,
    )


def main(base):
    routes = router(base)
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        logger.warning("asking")
        ask(base, "plain")
        list(ask(base, "plain", stream=True, stream_options={"include_usage": True}))
        with contextlib.suppress(litellm.InternalServerError):
            ask(base, "error500")
        routes.completion("pair", QUESTION)
        routes.completion("broken", QUESTION)
        with contextlib.suppress(litellm.InternalServerError, litellm.RateLimitError):  # the latter while it cools down
            routes.completion("lost", QUESTION)


main(sys.argv[1])
