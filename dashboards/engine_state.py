"""Rows of the board of vLLM engines: what the engines are doing, what holds them back, and their caches."""

from dashboards.board import Row
from dashboards.engine_series import (
    BY_MODEL,
    ENGINE,
    FIRST_TOKEN,
    GENERATED,
    INDEX,
    LEGEND,
    MODEL,
    OF_ENGINE,
    WHO,
    of,
)
from dashboards.names import listed
from dashboards.panels import Panel, Query
from dashboards.shapes import number, quantile, share, shown, total
from otel_llm import semconv
from otel_llm.vllm.stats.limits import KV_PRESSURE, Limit

STATE = semconv.VLLM_LIMIT_STATE
PROCESS = (*ENGINE, "service.instance.id")
PREEMPTIONS_A_SECOND = 0.05  # from here on an alert tells of them

RUNNING = of(semconv.VLLM_REQUESTS_RUNNING)
WAITING = of(semconv.VLLM_REQUESTS_WAITING)
SEQUENCES = of(semconv.VLLM_ENGINE_MAX_SEQUENCES)
KV_CACHE = of(semconv.VLLM_KV_CACHE_UTILIZATION)
LIMIT = of(semconv.VLLM_ENGINE_LIMIT)
# Something waits that other settings would let run.
HELD_BACK = of(semconv.VLLM_ENGINE_LIMIT, f'{STATE}=~"{Limit.SEQUENCE_CAP}|{Limit.KV_PRESSURE}|{Limit.TOKEN_BUDGET}"')


def _of_process(series: str, *by: str) -> str:
    return f"max by ({listed((*PROCESS, *by))}) ({series})"


def _found(hits: str, queries: str, legend: str) -> Query:
    return Query(share(of(hits), of(queries), MODEL), f"{BY_MODEL} · {legend}")


OVERVIEW = Row(
    "Overview",
    (
        number("Running", "Requests in the engines' batches.", "short", f"sum({RUNNING})", width=4, low=0),
        number(
            "Waiting",
            "Requests that wait in the engines, for whatever reason.",
            "short",
            f"sum({WAITING})",
            width=4,
            low=0,
        ),
        Panel(
            "KV cache",
            "Share of the KV cache in use, of the engine that has most of it in use; orange from where requests that wait are taken to wait for it.",
            "percentunit",
            (Query(f"max({KV_CACHE})"),),
            kind="stat",
            width=4,
            height=4,
            low=0,
            high=1,
            limits=((KV_PRESSURE, "orange"),),
        ),
        number(
            "Tokens out",
            "Tokens generated a second, those of aborted requests included.",
            "short",
            total(GENERATED),
            width=4,
        ),
        number(
            "First token, p95",
            "95 of 100 finished requests had their first token by then, from their arrival in the engine's queue.",
            "s",
            quantile(0.95, FIRST_TOKEN, matcher=OF_ENGINE),
            width=4,
        ),
        Panel(
            "Held back",
            "Engines in which something waits for room: for a place, for KV cache, or for a step's budget of tokens; below is which.",
            "short",
            (Query(f"sum({HELD_BACK})"),),
            kind="stat",
            width=4,
            height=4,
            low=0,
            limits=((1, "orange"),),
        ),
        Panel(
            "Engines",
            "Every engine with what limits it now: a place (sequence_cap), KV cache (kv_pressure) or a step's tokens (token_budget); none is that nothing waits. Asleep is 0 for one that is awake.",
            "short",
            (
                Query(f"{_of_process(LIMIT, STATE)} == 1"),
                Query(_of_process(RUNNING), "Running", "short"),
                Query(_of_process(SEQUENCES), "of", "short"),
                Query(f"sum by ({listed(PROCESS)}) ({WAITING})", "Waiting", "short"),
                Query(_of_process(KV_CACHE), "KV cache", "percentunit"),
                Query(_of_process(of(semconv.VLLM_KV_CACHE_LIMIT)), "of tokens", "short"),
                Query(_of_process(of(semconv.VLLM_ENGINE_MAX_BATCHED_TOKENS)), "Tokens a step", "short"),
                Query(_of_process(of(semconv.VLLM_ENGINE_SLEEP_LEVEL)), "Asleep", "none"),
            ),
            kind="table",
            width=24,
            height=6,
            columns={
                "host.name": "Host",
                "service.name": "Service",
                MODEL: "Model",
                INDEX: "Engine",
                STATE: "Limit",
                "service.instance.id": "Process",
            },
        ),
    ),
)

LOAD = Row(
    "Load",
    (
        Panel(
            "Requests running",
            "Requests in the engine's batches, and how many it may have in them at a time (`--max-num-seqs`).",
            "short",
            (
                Query(f"sum by ({WHO}) ({RUNNING})", LEGEND),
                Query(f"sum by ({WHO}) ({SEQUENCES})", f"{LEGEND} at most"),
            ),
            low=0,
        ),
        Panel(
            "Requests waiting",
            "Requests that wait for capacity, or deferred by something else: a LoRA slot, a KV transfer, a grammar being compiled.",
            "short",
            (
                Query(
                    f"sum by ({WHO}, <{semconv.VLLM_WAITING_REASON}>) ({WAITING})",
                    f"{LEGEND} {{{{<{semconv.VLLM_WAITING_REASON}>}}}}",
                ),
            ),
            low=0,
        ),
        Panel(
            "What holds the engines back",
            "Share of the engines in each state, as of their last step; of a single engine, the state it was in.",
            "percentunit",
            (Query(f"avg by (<{STATE}>) ({LIMIT})", shown(STATE)),),
            stacked=True,
            low=0,
            high=1,
        ),
    ),
)

CACHE = Row(
    "Cache and speculation",
    (
        Panel(
            "KV cache in use",
            "Share of the KV cache in use; from the line on, requests that wait are taken to wait for it.",
            "percentunit",
            (Query(f"max by ({WHO}) ({KV_CACHE})", LEGEND),),
            low=0,
            high=1,
            limits=((KV_PRESSURE, "red"),),
        ),
        Panel(
            "Found in caches",
            "Share found of what was looked up: prompt tokens in the prefix cache and, only with a KV connector, in that of others; images and the like, only with a multimodal model.",
            "percentunit",
            (
                _found(semconv.VLLM_PREFIX_CACHE_HITS, semconv.VLLM_PREFIX_CACHE_QUERIES, "prefix"),
                _found(
                    semconv.VLLM_EXTERNAL_PREFIX_CACHE_HITS, semconv.VLLM_EXTERNAL_PREFIX_CACHE_QUERIES, "of others"
                ),
                _found(semconv.VLLM_MULTIMODAL_CACHE_HITS, semconv.VLLM_MULTIMODAL_CACHE_QUERIES, "images"),
            ),
            low=0,
            high=1,
        ),
        Panel(
            "Preemptions",
            "Requests a second that were put back to waiting for want of KV cache, to be computed again from their start; from the line on an alert tells of it.",
            "ops",
            (Query(total(of(semconv.VLLM_PREEMPTIONS), *ENGINE), LEGEND),),
            low=0,
            limits=((PREEMPTIONS_A_SECOND, "red"),),
        ),
        Panel(
            "Speculation: accepted share",
            "Share of the tokens proposed by speculative decoding that the model accepted; empty where it is off.",
            "percentunit",
            (
                Query(
                    share(
                        of(semconv.VLLM_SPECULATIVE_ACCEPTED_TOKENS),
                        of(semconv.VLLM_SPECULATIVE_DRAFT_TOKENS),
                        MODEL,
                    ),
                    BY_MODEL,
                ),
            ),
            width=12,
            low=0,
            high=1,
        ),
        Panel(
            "Speculation: tokens accepted per draft",
            "Tokens that a step gave beyond the one it would have given anyway; empty where speculative decoding is off.",
            "short",
            (
                Query(
                    share(of(semconv.VLLM_SPECULATIVE_ACCEPTED_TOKENS), of(semconv.VLLM_SPECULATIVE_DRAFTS), MODEL),
                    BY_MODEL,
                ),
            ),
            width=12,
            low=0,
        ),
    ),
)
