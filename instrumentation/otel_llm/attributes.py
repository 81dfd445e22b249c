"""Every attribute a span of an instrumented process may have, as rows for the reference; nothing here runs in a call."""

from dataclasses import dataclass
from typing import Final, Literal

from . import semconv


@dataclass(frozen=True)
class Attribute:
    """One row: the name, the type of its values, and what they say."""

    name: str
    type: str
    help: str
    spans: Literal["client", "engine", "both"] = "client"  # of a client's calls, of requests in vLLM's engine


ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute(
        semconv.OPERATION_NAME,
        "string",
        "What was asked for: `chat`, `text_completion`, `embeddings`, and, where the conventions have no word, `rerank`, `image_generation`, `image_edit`, `image_variation`, `transcription`, `speech`, `moderation`; in vLLM also `classify`, `score`, `pooling`.",
        spans="both",
    ),
    Attribute(
        semconv.PROVIDER_NAME,
        "string",
        "Who serves it, in the conventions' words where they have one, else as LiteLLM calls it (`hosted_vllm`).",
        spans="both",
    ),
    Attribute(
        semconv.SERVER_ADDRESS, "string", "Host of the server, from `api_base` or from the request that was sent."
    ),
    Attribute(semconv.SERVER_PORT, "int", "Its port."),
    Attribute(semconv.ERROR_TYPE, "string", "The class of the exception the call raised.", spans="both"),
    Attribute(semconv.REQUEST_MODEL, "string", "The model, without LiteLLM's provider prefix.", spans="both"),
    Attribute(semconv.REQUEST_TEMPERATURE, "double", "As given.", spans="both"),
    Attribute(semconv.REQUEST_TOP_P, "double", "As given.", spans="both"),
    Attribute(semconv.REQUEST_TOP_K, "int", "As given.", spans="both"),
    Attribute(
        semconv.REQUEST_MAX_TOKENS,
        "int",
        "As given (`max_tokens`, `max_completion_tokens` or `max_output_tokens`).",
        spans="both",
    ),
    Attribute(semconv.REQUEST_FREQUENCY_PENALTY, "double", "As given.", spans="both"),
    Attribute(semconv.REQUEST_PRESENCE_PENALTY, "double", "As given.", spans="both"),
    Attribute(
        semconv.REQUEST_REPETITION_PENALTY,
        "double",
        "As given; vLLM's parameter, neither of OpenAI's two.",
        spans="both",
    ),
    Attribute(semconv.REQUEST_STOP_SEQUENCES, "string[]", "As given.", spans="both"),
    Attribute(semconv.REQUEST_SEED, "int", "As given.", spans="both"),
    Attribute(semconv.REQUEST_CHOICE_COUNT, "int", "How many choices were asked for, if not one.", spans="both"),
    Attribute(semconv.REQUEST_STREAM, "boolean", "True for a streamed call.", spans="both"),
    Attribute(semconv.REQUEST_REASONING_LEVEL, "string", "As given (`reasoning_effort`)."),
    Attribute(semconv.REQUEST_ENCODING_FORMATS, "string[]", "Of embeddings, as given."),
    Attribute(semconv.REQUEST_PREVIOUS_RESPONSE_ID, "string", "Of the Responses API, as given."),
    Attribute(semconv.EMBEDDINGS_DIMENSION_COUNT, "int", "Dimensions asked for.", spans="both"),
    Attribute(
        semconv.OUTPUT_TYPE, "string", "`text`, `json`, `image` or `speech`, where the request says so.", spans="both"
    ),
    Attribute(semconv.OPENAI_REQUEST_SERVICE_TIER, "string", "As given."),
    Attribute(semconv.OPENAI_API_TYPE, "string", "`responses` for calls of the Responses API."),
    Attribute(semconv.CONVERSATION_ID, "string", "The conversation, where the caller names it.", spans="both"),
    Attribute(semconv.SESSION_ID, "string", "The session, where the caller names it.", spans="both"),
    Attribute(
        semconv.USER_ID,
        "string",
        "The user, where the caller names one; a pseudonym where the proxy does.",
        spans="both",
    ),
    Attribute(semconv.AGENT_ID, "string", "The agent, where the caller names it."),
    Attribute(semconv.AGENT_NAME, "string", "The agent, where the caller names it."),
    Attribute(semconv.PROMPT_NAME, "string", "The prompt's template, where the caller names it."),
    Attribute(semconv.PROMPT_VERSION, "string", "Its version."),
    Attribute(
        semconv.TEAM, "string", "The team of the proxy's key: a pseudonym by `OTEL_LLM_HMAC_KEY`, absent without one."
    ),
    Attribute(
        semconv.KEY_ALIAS,
        "string",
        "The alias of the proxy's key: a pseudonym by `OTEL_LLM_HMAC_KEY`, absent without one.",
    ),
    Attribute(semconv.RESPONSE_ID, "string", "The server's id of its reply."),
    Attribute(semconv.RESPONSE_MODEL, "string", "The model that answered, by the server's word."),
    Attribute(
        semconv.RESPONSE_FINISH_REASONS,
        "string[]",
        "One a choice; none is invented for a stream that told none.",
        spans="both",
    ),
    Attribute(
        semconv.RESPONSE_TIME_TO_FIRST_CHUNK,
        "double",
        "Seconds from the call to the first chunk handed to the caller.",
        spans="both",
    ),
    Attribute(semconv.OPENAI_RESPONSE_SERVICE_TIER, "string", "As the server says."),
    Attribute(semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, "string", "As the server says."),
    Attribute(semconv.USAGE_INPUT_TOKENS, "int", "Reported by the server; cached ones included.", spans="both"),
    Attribute(semconv.USAGE_OUTPUT_TOKENS, "int", "Reported by the server; reasoning included.", spans="both"),
    Attribute(
        semconv.USAGE_CACHE_READ_INPUT_TOKENS,
        "int",
        "Part of the input that came from the server's cache.",
        spans="both",
    ),
    Attribute(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, "int", "Part of the input that was written to it.", spans="both"),
    Attribute(semconv.USAGE_REASONING_OUTPUT_TOKENS, "int", "Part of the output spent on reasoning."),
    Attribute(
        semconv.USAGE_PREFIX + "text.input_tokens",
        "int",
        "Part of the input that is text; the same for `image` and `audio`, and for `output_tokens`.",
    ),
    Attribute(
        semconv.USAGE_SOURCE,
        "string",
        "Whose counts these are: `reported` by the server, `estimated` by LiteLLM's tokenizer, or `unknown`: then there are none.",
    ),
    Attribute(
        semconv.USAGE_ESTIMATED_INPUT_TOKENS,
        "int",
        "LiteLLM's estimate where the server reports none; with `OTEL_LLM_ESTIMATE_USAGE`.",
    ),
    Attribute(semconv.USAGE_ESTIMATED_OUTPUT_TOKENS, "int", "The same for the output."),
    Attribute(semconv.COST, "double", "US dollars, for calls whose tokens were reported."),
    Attribute(semconv.COST_SOURCE, "string", "`litellm`: by its price list; `configured`: by `OTEL_LLM_PRICES`."),
    Attribute(
        semconv.CHUNK_COUNT,
        "int",
        "Of a stream from vLLM's engine: how many outputs its consumer took.",
        spans="engine",
    ),
    Attribute(
        semconv.CHUNK_INTERVAL_MEAN,
        "double",
        "Seconds from one of them to the next, the mean; it includes the consumer's own time.",
        spans="engine",
    ),
    Attribute(semconv.CHUNK_INTERVAL_MAX, "double", "The longest of these.", spans="engine"),
    Attribute(semconv.PROMPT_LENGTH, "int", "Characters of text in the prompt; the text itself is not recorded."),
    Attribute(semconv.RESPONSE_LENGTH, "int", "Characters of text in the reply, over all choices."),
    Attribute(
        semconv.STREAM_END,
        "string",
        "How a stream ended: `exhausted`, `closed`, `abandoned`, `failed`, `exit` (still open when the process ended), `uninstrumented`, `unobserved` (handed out in a form that cannot be followed).",
    ),
    Attribute(
        semconv.ENGINE_QUEUE_TIME,
        "double",
        "Seconds the request waited in the engine, by the engine's clock, as its reply says.",
        spans="both",
    ),
    Attribute(
        semconv.ENGINE_TIME_TO_FIRST_TOKEN,
        "double",
        "Seconds from its arrival at the engine to the first token, by the engine's clock.",
        spans="both",
    ),
    Attribute(
        semconv.ENGINE_GENERATION_TIME,
        "double",
        "Seconds from the first token to the last, by the engine's clock.",
        spans="both",
    ),
    Attribute(
        semconv.ENGINE_PREFILL_TIME,
        "double",
        "Seconds from the request's first step in the engine to its first token, by the engine's clock.",
        spans="engine",
    ),
    Attribute(
        semconv.ENGINE_PREEMPTIONS,
        "int",
        "How often the engine put the request back for want of KV cache; absent for never.",
        spans="engine",
    ),
    Attribute(semconv.REQUEST_ID, "string", "The engine's id of the request.", spans="engine"),
    Attribute(semconv.LORA_NAME, "string", "The LoRA adapter that was used.", spans="engine"),
    Attribute(semconv.ABORT_REASON, "string", "Why a request was given up from outside.", spans="engine"),
    Attribute(semconv.BATCH_SIZE, "int", "Requests of one call of offline vLLM.", spans="engine"),
    Attribute(
        semconv.BATCH_FOLDED,
        "int",
        "Those of them without a span of their own: beyond `OTEL_LLM_VLLM_MAX_REQUEST_SPANS`. What they used stands under `gen_ai.usage` of the batch, so that no token is on two spans.",
        spans="engine",
    ),
    Attribute(semconv.BATCH_INPUT_TOKENS, "int", "Input tokens of all requests of the call.", spans="engine"),
    Attribute(semconv.BATCH_OUTPUT_TOKENS, "int", "Output tokens of all requests of the call.", spans="engine"),
    Attribute(
        semconv.OUTSIDE_ENGINE_TIME,
        "double",
        "Seconds of the call that were not the engine's: network, gateway, client.",
    ),
    Attribute(semconv.LITELLM_OVERHEAD, "double", "Seconds LiteLLM spent itself, by its own word."),
    Attribute(
        semconv.INPUT_MESSAGES,
        "string (JSON)",
        "The prompt, only with `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`; masked.",
    ),
    Attribute(semconv.OUTPUT_MESSAGES, "string (JSON)", "The reply, likewise."),
    Attribute(semconv.SYSTEM_INSTRUCTIONS, "string (JSON)", "Instructions given apart from the messages, likewise."),
    Attribute(semconv.TOOL_DEFINITIONS, "string (JSON)", "The tools offered, likewise."),
    Attribute(semconv.RERANK_DOCUMENTS, "int", "Documents given."),
    Attribute(semconv.RERANK_TOP_N, "int", "Results asked for."),
    Attribute(semconv.RERANK_RESULTS, "int", "Results that came back."),
    Attribute(semconv.RERANK_SEARCH_UNITS, "int", "What Cohere bills."),
    Attribute(semconv.IMAGE_SIZE, "string", "As asked for, `1024x1024`."),
    Attribute(semconv.IMAGE_QUALITY, "string", "As asked for."),
    Attribute(semconv.IMAGE_COUNT, "int", "Images that came back."),
    Attribute(semconv.AUDIO_VOICE, "string", "As asked for."),
    Attribute(semconv.AUDIO_SIZE, "int", "Bytes of the recording to transcribe."),
    Attribute(semconv.AUDIO_DURATION, "double", "Seconds of it, by the server's word."),
    Attribute(semconv.MODERATION_FLAGGED, "boolean", "Whether anything was flagged."),
    Attribute(
        semconv.ROUTER_MODEL_GROUP,
        "string",
        "Of a Router's request: the group asked for; of an attempt: the group it was made in.",
    ),
    Attribute(semconv.ROUTER_STRATEGY, "string", "How the Router chooses deployments."),
    Attribute(
        semconv.ROUTER_DEPLOYMENT_ID,
        "string",
        "Of a request: the deployment that answered; of an attempt: the one it was made on.",
    ),
    Attribute(semconv.ROUTER_DEPLOYMENT_ORDER, "int", "The order set for that deployment."),
    Attribute(semconv.ROUTER_ATTEMPT, "int", "The attempt within its request, from 1."),
    Attribute(semconv.ROUTER_ATTEMPTS, "int", "Attempts of the request."),
    Attribute(semconv.ROUTER_RETRIES, "int", "Those that repeated one that failed."),
    Attribute(semconv.ROUTER_FALLBACKS, "int", "Fallbacks to another group."),
    Attribute(semconv.ROUTER_FALLBACK_GROUPS, "string[]", "The groups fallen back to, in the order they were asked."),
    Attribute(semconv.ROUTER_FALLBACK_GROUP, "string", "The group fallen back to."),
    Attribute(semconv.ROUTER_COOLING, "string[]", "Deployments passed over because they were cooling down."),
    Attribute(
        semconv.ROUTER_MID_STREAM, "boolean", "True for the routing of a stream that broke after it was handed out."
    ),
    Attribute(
        semconv.SYSTEM_1_36,
        "string",
        "The provider, under its name before 1.37; with `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_1_36`.",
        spans="both",
    ),
    Attribute(
        semconv.USAGE_CACHE_CREATION_INPUT_TOKENS_1_36,
        "int",
        "The cache write count, under its name before 1.37; likewise.",
        spans="both",
    ),
)

RESOURCE_ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute(
        semconv.HOST_ID,
        "string",
        "The machine's own machine-id, as the agent gives it; in a container only where `/etc/machine-id` is mounted into it.",
    ),
    Attribute(
        semconv.CONTAINER_ID, "string", "The container's id; absent in a pod whose cgroup namespace and mounts hide it."
    ),
    Attribute(
        semconv.GPU_IDS,
        "string[]",
        "UUIDs of the NVIDIA GPUs that the process can see, along the PCI bus; each is the `hw.id` of the agent's series. Absent where it is not certain which.",
    ),
)
"""What the resource detector `otel_llm` tells of a process."""
