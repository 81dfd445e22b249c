"""The JSON of replies, field by field as vLLM 0.32 writes it: chat and completions, whole and as streams."""

import time
from collections.abc import Sequence as Many
from typing import Any, Protocol
from zlib import crc32

from otel_agent.simulate.families import VERSION
from otel_agent.simulate.options import BLOCK_TOKENS, EngineOptions
from otel_agent.simulate.sequence import Sequence

Json = dict[str, Any]


class Shape(Protocol):
    """How one kind of reply is written."""

    prefix: str  # of its ids

    def whole(self, head: Json, choices: list[Json], usage: Json, metrics: Json | None) -> Json:
        """Return a reply in one piece."""
        ...

    def choice(self, index: int, text: str, sequence: Sequence, tokens: Many[int] | None) -> Json:
        """Return one choice of a reply in one piece."""
        ...

    def opening(self, head: Json, index: int, prompt: Many[int] | None) -> Json | None:
        """Return the chunk that comes before the first token of a choice, where there is one."""
        ...

    def chunk(
        self, head: Json, index: int, text: str, sequence: Sequence, tokens: Many[int] | None, *, last: bool
    ) -> Json:
        """Return the chunk of some tokens."""
        ...


class ChatShape:
    """/v1/chat/completions."""

    prefix = "chatcmpl"

    def whole(self, head: Json, choices: list[Json], usage: Json, metrics: Json | None) -> Json:
        """Return a reply in one piece."""
        return {
            **head,
            "object": "chat.completion",
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": fingerprint(head["model"]),
            "usage": usage,
            **dict.fromkeys(
                ("prompt_logprobs", "prompt_token_ids", "prompt_text", "kv_transfer_params", "ec_transfer_params")
            ),
            "metrics": metrics,
        }

    def choice(self, index: int, text: str, sequence: Sequence, tokens: Many[int] | None) -> Json:
        """Return one choice of a reply in one piece."""
        absent = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, **absent},
            "logprobs": None,
            "finish_reason": sequence.finish,
            "stop_reason": stop_reason(sequence),
            "token_ids": tokens,
            "routed_experts": None,
        }

    def opening(self, head: Json, index: int, prompt: Many[int] | None) -> Json | None:
        """Return the chunk with the role."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {
            **head,
            "object": "chat.completion.chunk",
            "choices": [choice],
            "prompt_token_ids": prompt,
            "prompt_text": None,
        }

    def chunk(
        self, head: Json, index: int, text: str, sequence: Sequence, tokens: Many[int] | None, *, last: bool
    ) -> Json:
        """Return the chunk of some tokens."""
        choice = {
            "index": index,
            "delta": {"content": text},
            "logprobs": None,
            "finish_reason": sequence.finish if last else None,
            **({"stop_reason": stop_reason(sequence)} if last else {}),
            "token_ids": tokens,
        }
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}


class CompletionShape:
    """/v1/completions."""

    prefix = "cmpl"

    def whole(self, head: Json, choices: list[Json], usage: Json, metrics: Json | None) -> Json:
        """Return a reply in one piece."""
        return {
            **head,
            "object": "text_completion",
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": fingerprint(head["model"]),
            "usage": usage,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": metrics,
        }

    def choice(self, index: int, text: str, sequence: Sequence, tokens: Many[int] | None) -> Json:
        """Return one choice of a reply in one piece."""
        return {
            "index": index,
            "text": text,
            "logprobs": None,
            "finish_reason": sequence.finish,
            "stop_reason": stop_reason(sequence),
            "token_ids": tokens,
            "prompt_logprobs": None,
            "prompt_token_ids": None if tokens is None else list(sequence.prompt),
            "routed_experts": None,
        }

    def opening(self, head: Json, index: int, prompt: Many[int] | None) -> Json | None:
        """Return nothing: the first chunk of a completion is its first token."""
        return None

    def chunk(
        self, head: Json, index: int, text: str, sequence: Sequence, tokens: Many[int] | None, *, last: bool
    ) -> Json:
        """Return the chunk of some tokens."""
        first = tokens is not None and len(tokens) == sequence.generated
        choice = {
            "index": index,
            "text": text,
            "logprobs": None,
            "finish_reason": sequence.finish if last else None,
            "stop_reason": stop_reason(sequence) if last else None,
            "prompt_token_ids": list(sequence.prompt) if first else None,
            "token_ids": tokens,
        }
        return {**head, "object": "text_completion", "choices": [choice]}


def head(id: str, options: EngineOptions) -> Json:
    """Return what every reply and chunk of one request begins with."""
    return {"id": id, "object": "", "created": int(time.time()), "model": options.model}


def fingerprint(model: str) -> str:
    """Return the system fingerprint: of what was started, not of who asks."""
    return f"vllm-{VERSION}-{crc32(model.encode()):08x}"


def stop_reason(sequence: Sequence) -> str | None:
    """Return the stop string that ended a sequence."""
    return sequence.answer.stop if sequence.answer and sequence.finish == "stop" else None


def usage(prompt: int, generated: int) -> Json:
    """Return the counts of tokens."""
    return {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}


def prompt_details(sequences: Many[Sequence], chat: bool) -> Json:
    """Return what of the prompts came from the cache; vLLM says it of the last prompt only, and of what was newly cached in chats."""
    cached = sequences[-1].cached or 0
    new = max(0, len(sequences[-1].prompt) // BLOCK_TOKENS * BLOCK_TOKENS - cached)
    return {"cached_tokens": cached, "created_cache_tokens": new if chat else None, "multimodal_tokens": None}


def timings(sequence: Sequence) -> Json:
    """Return the `metrics` object of a request, in milliseconds; None where a time it needs is not there."""
    queued, scheduled, first, last = sequence.queued_s, sequence.scheduled_s, sequence.first_s, sequence.last_s
    tokens = sequence.generated
    decode = None if first is None or last is None else last - first
    inference = None if scheduled is None or last is None else last - scheduled
    return {
        "time_to_first_token_ms": None if first is None or scheduled is None else (first - scheduled) * 1000,
        "generation_time_ms": None if decode is None else decode * 1000,
        "queue_time_ms": None if scheduled is None or queued is None else (scheduled - queued) * 1000,
        "mean_itl_ms": None if decode is None or tokens < 2 else decode / (tokens - 1) * 1000,
        "tokens_per_second": tokens / inference if inference else None,
        "speculative_decoding": None,
    }


def without_nulls(value: Json) -> Json:
    """Return an object without the fields that are null, as the usage chunk of a stream is written."""
    return {
        key: without_nulls(inner) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if inner is not None
    }
