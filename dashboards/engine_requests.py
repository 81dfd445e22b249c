"""Rows of the board of vLLM engines: what became of the requests; how long they took, their tokens, how they ended."""

from dashboards.board import Row
from dashboards.engine_series import (
    BY_MODEL,
    CHOSEN,
    DURATION,
    ENGINE,
    FIRST_TOKEN,
    GENERATED,
    LEGEND,
    MODEL,
    OF_ENGINE,
    REQUESTS,
    of,
)
from dashboards.panels import Panel, Query
from dashboards.shapes import quantile, quantiles, share, shown, total
from otel_llm import semconv

ERROR = semconv.ERROR_TYPE
OUTPUT_TOKEN = semconv.SERVER_TIME_PER_OUTPUT_TOKEN
PROMPT = of(semconv.VLLM_TOKENS_PROMPT)
PHASES = of(semconv.VLLM_REQUEST_PHASE_TIME)
REJECTED = f"<{semconv.VLLM_REQUESTS_REJECTED}>"
ABORTED = f"<{semconv.VLLM_REQUESTS_ABORTED}>"
ABORTED_OUTPUT = f'<{semconv.VLLM_TOKENS_ABORTED}{{{semconv.TOKEN_TYPE}="{semconv.TOKEN_OUTPUT}"}}>'


def _p95_by_model(histogram: str) -> tuple[Query, ...]:
    return (Query(quantile(0.95, histogram, MODEL, matcher=OF_ENGINE), BY_MODEL, exemplars=True),)


LATENCY = Row(
    "Time of finished requests (a dot is one request: follow it to its trace)",
    (
        Panel(
            "Duration",
            "From a request's arrival at the front end until its last token; half, 95 and 99 of 100 took no longer. Aborted ones are not in it.",
            "s",
            quantiles(DURATION, OF_ENGINE),
            low=0,
            traces=f"{{ {CHOSEN} }}",
        ),
        Panel(
            "Time to first token",
            "From a request's arrival in the engine's queue until its first token: queue and prefill, without the front end's own time.",
            "s",
            quantiles(FIRST_TOKEN, OF_ENGINE),
            low=0,
            traces=f"{{ {CHOSEN} && span.{semconv.ENGINE_QUEUE_TIME} >= 0 }}",
        ),
        Panel(
            "Time per output token",
            "Mean time per output token of a request, the first one excepted.",
            "s",
            quantiles(OUTPUT_TOKEN, OF_ENGINE),
            low=0,
        ),
        Panel(
            "Duration by model, p95",
            "95 of 100 requests to a model took no longer.",
            "s",
            _p95_by_model(DURATION),
            low=0,
        ),
        Panel(
            "First token by model, p95",
            "95 of 100 requests to a model had their first token by then.",
            "s",
            _p95_by_model(FIRST_TOKEN),
            low=0,
        ),
        Panel(
            "Output token by model, p95",
            "95 of 100 requests to a model took no longer per output token, as their mean.",
            "s",
            _p95_by_model(OUTPUT_TOKEN),
            low=0,
        ),
        Panel(
            "Where the time goes",
            "Share of the requests' time in the engine by phase: in the queue, in prefill (until the first token), in decode.",
            "percentunit",
            (
                Query(
                    f"{total(PHASES, semconv.VLLM_PHASE)} / on () group_left () ({total(PHASES)} > 0)",
                    shown(semconv.VLLM_PHASE),
                ),
            ),
            width=12,
            stacked=True,
            low=0,
            high=1,
        ),
        Panel(
            "Mean time by phase",
            "Mean time of a finished request in each phase, by the engine's clock; the phases together are its time in the engine.",
            "s",
            (
                Query(
                    f"{total(PHASES, semconv.VLLM_PHASE)} / on () group_left () ({total(REQUESTS)} > 0)",
                    shown(semconv.VLLM_PHASE),
                ),
            ),
            width=12,
            stacked=True,
            low=0,
        ),
    ),
)

TOKENS = Row(
    "Tokens",
    (
        Panel(
            "Prompt tokens by source",
            "Prompt tokens a second: computed, or read from the cache of this engine or of others.",
            "short",
            (Query(total(PROMPT, semconv.VLLM_PROMPT_SOURCE), shown(semconv.VLLM_PROMPT_SOURCE)),),
            stacked=True,
            low=0,
        ),
        Panel(
            "Tokens generated",
            "Generated tokens a second, those of aborted requests included.",
            "short",
            (Query(total(GENERATED, *ENGINE), LEGEND),),
            low=0,
        ),
        Panel(
            "Cached share of prompts",
            "Share of the prompt tokens that were read from a cache and not computed; a gap where there were no prompts.",
            "percentunit",
            (
                Query(
                    share(
                        of(semconv.VLLM_TOKENS_PROMPT, f'{semconv.VLLM_PROMPT_SOURCE}!="computed"'),
                        PROMPT,
                        MODEL,
                    ),
                    BY_MODEL,
                ),
            ),
            low=0,
            high=1,
        ),
    ),
)

ENDS = Row(
    "Ends",
    (
        Panel(
            "Finished by reason",
            "Requests a second that ended, in vLLM's words: stop, length (`max_tokens`, or the model's), error.",
            "reqps",
            (
                Query(
                    total(of(semconv.VLLM_REQUESTS_FINISHED), semconv.VLLM_FINISH_REASON),
                    shown(semconv.VLLM_FINISH_REASON),
                ),
            ),
            low=0,
        ),
        Panel(
            "Failed share by model",
            "Share of the finished requests that ended by an error of the engine; aborted ones are not finished. A gap where there were none.",
            "percentunit",
            (Query(share(of(f"{DURATION}_count", f'{ERROR}!=""'), REQUESTS, MODEL), BY_MODEL),),
            low=0,
            high=1,
            limits=((0.05, "red"),),
            traces=f"{{ {CHOSEN} && status = error }}",
        ),
        Panel(
            "Rejected by reason",
            "Requests a second that the front end did not admit, by the limit they met; empty where neither limit is set.",
            "reqps",
            (
                Query(
                    total(REJECTED, MODEL, semconv.VLLM_REJECTION_REASON),
                    shown(MODEL, semconv.VLLM_REJECTION_REASON),
                ),
            ),
            low=0,
        ),
        Panel(
            "Aborted by reason",
            "Requests a second that were given up before their end; counted where the server runs under the instrumentation, empty elsewhere.",
            "reqps",
            (Query(total(ABORTED, MODEL, semconv.ABORT_REASON), shown(MODEL, semconv.ABORT_REASON)),),
            low=0,
            traces=f'{{ {CHOSEN} && span.{semconv.ABORT_REASON} =~ ".+" }}',
        ),
        Panel(
            "Unaccounted",
            "Requests a second that vLLM has lost sight of, which are aborted ones: the plug-in's own balance, at least so many, and noticed late while the engine is busy.",
            "reqps",
            (Query(total(of(semconv.VLLM_REQUESTS_UNACCOUNTED), *ENGINE), LEGEND),),
            low=0,
        ),
        Panel(
            "Tokens generated for nobody",
            "Tokens a second of requests that were given up: as counted under the instrumentation, and by the plug-in's balance, which is at least so many.",
            "short",
            (
                Query(total(ABORTED_OUTPUT, MODEL), f"{BY_MODEL} · counted"),
                Query(total(of(semconv.VLLM_TOKENS_UNACCOUNTED), MODEL), f"{BY_MODEL} · by balance"),
            ),
            low=0,
        ),
    ),
)
