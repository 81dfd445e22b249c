"""Alerts on vLLM's engines, each with the setting of vLLM to change; from the metrics that the board of engines shows.

Alerts on the pipeline itself stand in compose/prometheus/rules; compose/prometheus/tests shows both on both sides of their thresholds.
"""

import json
from dataclasses import dataclass

from dashboards.engine_series import ENGINE, MODEL
from dashboards.engine_state import PREEMPTIONS_A_SECOND, STATE
from dashboards.names import fill, listed
from otel_llm import semconv
from otel_llm.vllm.stats.limits import Limit

HEAD = "# Built by `python -m dashboards` from dashboards/engine_alerts.py; change that, not this file.\n"
GROUP = "vllm"
SERVER = ("host.name", "service.name", MODEL)

MOSTLY = 0.8  # of the last five minutes: a state is that of one step, and now and then another one is seen
ROOM = 0.7  # of the KV cache in use, up to which more requests find a place in it
ABORTED_SHARE = 0.1
ABORTED_LEAST = 10  # in the same time: one request of three is no trend
ACCEPTED_SHARE = 0.3


@dataclass(frozen=True)
class Alert:
    """One alert: `template` is true of an engine or a server that has what `summary` says; `remedy` names the setting."""

    name: str
    template: str
    wait: str
    summary: str
    remedy: str


def _label(attribute: str) -> str:
    return f"{{{{ $labels.<{attribute}> }}}}"


def _grown(series: str, window: str, *by: str) -> str:
    return f"sum by ({listed(by)}) (increase({series}[{window}]))"


def _mean(series: str) -> str:
    return f"max by ({listed(ENGINE)}) (avg_over_time({series}[5m]))"


def _mostly(limit: Limit) -> str:
    state = f'<{semconv.VLLM_ENGINE_LIMIT}{{{STATE}="{limit}"}}>'
    return f"{_mean(state)} >= {MOSTLY}"


AN_ENGINE = (
    f"Engine {_label(semconv.VLLM_ENGINE_INDEX)} of {_label(MODEL)} ({_label('service.name')}, {_label('host.name')})"
)
A_SERVER = f"{_label(MODEL)} ({_label('service.name')}, {_label('host.name')})"
PERCENT = "{{ $value | humanizePercentage }}"

# Exactly counted where the server runs under the instrumentation; else the plug-in's balance, which is at least so many.
_GIVEN_UP = (
    f"({_grown(f'<{semconv.VLLM_REQUESTS_ABORTED}>', '15m', *SERVER)}"
    f" or {_grown(f'<{semconv.VLLM_REQUESTS_UNACCOUNTED}>', '15m', *SERVER)})"
)
_FINISHED = f"({_grown(f'<{semconv.VLLM_REQUESTS_FINISHED}>', '15m', *SERVER)} or 0 * {_GIVEN_UP})"
_DRAFTED = _grown(f"<{semconv.VLLM_SPECULATIVE_DRAFT_TOKENS}>", "30m", *ENGINE)
_ACCEPTED = _grown(f"<{semconv.VLLM_SPECULATIVE_ACCEPTED_TOKENS}>", "30m", *ENGINE)

ALERTS: tuple[Alert, ...] = (
    Alert(
        "VLLMWaitsForKVCache",
        _mostly(Limit.KV_PRESSURE),
        "10m",
        f"{AN_ENGINE} has had requests waiting for KV cache for ten minutes",
        "More cache: --gpu-memory-utilization, --kv-cache-dtype fp8, --kv-offloading-size, more GPUs (--tensor-parallel-size). "
        "Or fewer requests in it at a time: --max-num-seqs, more replicas.",
    ),
    Alert(
        "VLLMPreempts",
        f"sum by ({listed(ENGINE)}) (rate(<{semconv.VLLM_PREEMPTIONS}>[5m])) >= {PREEMPTIONS_A_SECOND}",
        "5m",
        f'{AN_ENGINE} preempts {{{{ printf "%.2f" $value }}}} requests a second',
        "Each is computed again from its start. Fewer requests in the KV cache at a time: --max-num-seqs. Or more cache: "
        "--gpu-memory-utilization, --kv-cache-dtype fp8.",
    ),
    Alert(
        "VLLMAtSequenceCap",
        f"{_mostly(Limit.SEQUENCE_CAP)} and {_mean(f'<{semconv.VLLM_KV_CACHE_UTILIZATION}>')} < {ROOM}",
        "10m",
        f"{AN_ENGINE} has had requests waiting for a place for ten minutes, with room in its KV cache",
        "Raise --max-num-seqs; the time per output token rises with it.",
    ),
    Alert(
        "VLLMAtTokenBudget",
        _mostly(Limit.TOKEN_BUDGET),
        "10m",
        f"{AN_ENGINE} has had prompts waiting for a step that has tokens left for ten minutes",
        "Raise --max-num-batched-tokens: the first token comes sooner, and the time per output token rises. Or add replicas.",
    ),
    Alert(
        "VLLMRequestsAborted",
        f"{_GIVEN_UP} / ({_FINISHED} + {_GIVEN_UP}) >= {ABORTED_SHARE} and {_GIVEN_UP} >= {ABORTED_LEAST}",
        "0m",
        f"{PERCENT} of the requests to {A_SERVER} were given up within 15 minutes",
        "Where time to first token is near what clients wait for: raise their timeouts, add replicas, or refuse early with "
        "--max-num-queued-reqs, for what was generated for them is lost.",
    ),
    Alert(
        "VLLMRequestsRejected",
        f"sum by ({listed((*SERVER, semconv.VLLM_REJECTION_REASON))}) (rate(<{semconv.VLLM_REQUESTS_REJECTED}>[5m])) > 0",
        "5m",
        f'{A_SERVER} rejects {{{{ printf "%.2f" $value }}}} requests a second: {_label(semconv.VLLM_REJECTION_REASON)}',
        "The limit of that name is met all the time: add replicas, or raise --max-num-queued-reqs or --max-num-queued-tokens, and "
        "requests wait longer.",
    ),
    Alert(
        "VLLMSpeculationMisses",
        f"{_ACCEPTED} / {_DRAFTED} < {ACCEPTED_SHARE}",
        "10m",
        f"{AN_ENGINE} accepts {PERCENT} of the tokens that speculative decoding proposes",
        "Fewer tokens a draft (num_speculative_tokens in --speculative-config), another draft model, or none: what is not accepted "
        "was computed for nothing.",
    ),
)


def render_rules() -> str:
    """Return the text of the rules file."""
    lines = [f"{HEAD}groups:\n  - name: {GROUP}\n    rules:\n"]
    # A JSON string is a YAML string, whatever it holds.
    lines += [
        f"      - alert: {alert.name}\n"
        f"        expr: {json.dumps(fill(alert.template))}\n"
        f"        for: {alert.wait}\n"
        "        labels: { severity: warning }\n"
        "        annotations:\n"
        f"          summary: {json.dumps(fill(alert.summary))}\n"
        f"          description: {json.dumps(alert.remedy)}\n"
        for alert in ALERTS
    ]
    return "".join(lines)
