"""Every attribute and metric name this package emits, once.

`gen_ai.*`, `server.*` and `error.type` follow the OpenTelemetry conventions for generative AI. The constants are our
own because the packaged ones are all flagged as moved. What the conventions do not name is under `otel_llm.`.
"""

from enum import StrEnum
from typing import Final

# Who was asked to do what.
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

# The request, as the caller made it.
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
OUTPUT_TYPE: Final = "gen_ai.output.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_API_TYPE: Final = "openai.api.type"

# On whose behalf.
CONVERSATION_ID: Final = "gen_ai.conversation.id"
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"

# The response, as the server gave it.
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"  # cached ones included
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_PREFIX: Final = "gen_ai.usage."  # before `audio.input_tokens` and the like
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - tokens of text

# What was said, where it is captured: JSON on spans, structured on events.
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
INFERENCE_DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"

# Where a process runs: attributes of its resource, found by the resource detector.
HOST_ID: Final = "host.id"
CONTAINER_ID: Final = "container.id"
GPU_IDS: Final = "otel_llm.gpu.ids"  # UUIDs of the GPUs it can see; `hw.id` names one, and a process may see several

# The older generation's names, conventions 1.36.
SYSTEM_1_36: Final = "gen_ai.system"
USAGE_CACHE_CREATION_INPUT_TOKENS_1_36: Final = "gen_ai.usage.cache_creation.input_tokens"

# Ours: the conventions have no name for these.
REQUEST_REPETITION_PENALTY: Final = "otel_llm.request.repetition_penalty"  # vLLM's parameter, neither of OpenAI's two
PROMPT_LENGTH: Final = "otel_llm.prompt.length"  # characters of text in the messages: a size, without the content
CHUNK_COUNT: Final = "otel_llm.response.chunk.count"  # outputs handed to the consumer of a stream
CHUNK_INTERVAL_MEAN: Final = "otel_llm.response.chunk.interval.mean"  # seconds from one of them to the next
CHUNK_INTERVAL_MAX: Final = "otel_llm.response.chunk.interval.max"  # seconds
RESPONSE_LENGTH: Final = "otel_llm.response.length"  # characters of text over all choices
USAGE_SOURCE: Final = "otel_llm.usage.source"  # `reported` by the server, `estimated` by the client, or `unknown`
USAGE_ESTIMATED_INPUT_TOKENS: Final = "otel_llm.usage.estimated.input_tokens"  # never under gen_ai.usage
USAGE_ESTIMATED_OUTPUT_TOKENS: Final = "otel_llm.usage.estimated.output_tokens"
COST: Final = "otel_llm.cost"  # US dollars
COST_SOURCE: Final = "otel_llm.cost.source"  # `litellm`: its price list, `configured`: OTEL_LLM_PRICES
ENGINE_QUEUE_TIME: Final = "otel_llm.engine.queue_time"  # seconds by the engine's clock, as its reply says
ENGINE_TIME_TO_FIRST_TOKEN: Final = "otel_llm.engine.time_to_first_token"  # seconds  # noqa: S105 - tokens of text
ENGINE_GENERATION_TIME: Final = "otel_llm.engine.generation_time"  # seconds, first token to last
ENGINE_PREFILL_TIME: Final = "otel_llm.engine.prefill_time"  # seconds, from the first step to the first token
ENGINE_PREEMPTIONS: Final = "otel_llm.engine.preemptions"  # how often the request was put back for want of KV cache
REQUEST_ID: Final = "otel_llm.request.id"  # the engine's, or the caller's X-Request-Id behind the server's prefix
LORA_NAME: Final = "otel_llm.lora.name"
ABORT_REASON: Final = "otel_llm.abort.reason"  # of a request given up from outside, an AbortReason
BATCH_SIZE: Final = "otel_llm.batch.size"  # requests of one offline call
BATCH_FOLDED: Final = "otel_llm.batch.folded"  # those of them that have no span of their own
BATCH_INPUT_TOKENS: Final = "otel_llm.batch.input_tokens"  # of all of them; gen_ai.usage has those of the folded ones
BATCH_OUTPUT_TOKENS: Final = "otel_llm.batch.output_tokens"
OUTSIDE_ENGINE_TIME: Final = "otel_llm.outside_engine_time"  # seconds: network, gateway and client, not the engine
LITELLM_OVERHEAD: Final = "otel_llm.litellm.overhead"  # seconds LiteLLM spent itself, by its own word
TEAM: Final = "otel_llm.team"
KEY_ALIAS: Final = "otel_llm.key_alias"
RERANK_DOCUMENTS: Final = "otel_llm.rerank.documents"  # how many were given
RERANK_TOP_N: Final = "otel_llm.rerank.top_n"  # how many of them were asked for
RERANK_RESULTS: Final = "otel_llm.rerank.results"  # how many came back
RERANK_SEARCH_UNITS: Final = "otel_llm.rerank.search_units"  # what Cohere bills
IMAGE_SIZE: Final = "otel_llm.image.size"  # as asked for, `1024x1024`
IMAGE_QUALITY: Final = "otel_llm.image.quality"
IMAGE_COUNT: Final = "otel_llm.image.count"  # how many came back
AUDIO_VOICE: Final = "otel_llm.audio.voice"
AUDIO_SIZE: Final = "otel_llm.audio.size"  # bytes of the recording to transcribe
AUDIO_DURATION: Final = "otel_llm.audio.duration"  # seconds of it, by the server's word
MODERATION_FLAGGED: Final = "otel_llm.moderation.flagged"
STREAM_END: Final = "otel_llm.stream.end"  # how a stream ended, a StreamEnd

# A request to LiteLLM's Router, which is one attempt or several on the deployments of one model group or several.
ROUTER_MODEL_GROUP: Final = "otel_llm.router.model_group"  # what was asked for; of an attempt: the group it was made in
ROUTER_STRATEGY: Final = "otel_llm.router.strategy"
ROUTER_DEPLOYMENT_ID: Final = "otel_llm.router.deployment.id"  # of a request: the deployment that answered
ROUTER_DEPLOYMENT_ORDER: Final = "otel_llm.router.deployment.order"
ROUTER_ATTEMPT: Final = "otel_llm.router.attempt.number"  # within the request, from 1
ROUTER_ATTEMPTS: Final = "otel_llm.router.attempt.count"
ROUTER_RETRIES: Final = "otel_llm.router.retry.count"
ROUTER_FALLBACKS: Final = "otel_llm.router.fallback.count"
ROUTER_FALLBACK_GROUPS: Final = "otel_llm.router.fallback.model_groups"  # in the order in which they were asked
ROUTER_FALLBACK_GROUP: Final = "otel_llm.router.fallback.model_group"
ROUTER_COOLING: Final = "otel_llm.router.cooldown.deployment.ids"  # passed over because they were cooling down
ROUTER_MID_STREAM: Final = "otel_llm.router.mid_stream"  # the routing of a stream that broke after it was handed out

# Values.
OPERATION_CHAT: Final = "chat"
OPERATION_TEXT_COMPLETION: Final = "text_completion"
OPERATION_EMBEDDINGS: Final = "embeddings"
OPERATION_GENERATE_CONTENT: Final = "generate_content"
OPERATION_RERANK: Final = "rerank"  # the conventions have none for this and the following
OPERATION_CLASSIFY: Final = "classify"
OPERATION_SCORE: Final = "score"
OPERATION_POOLING: Final = "pooling"  # what a plug-in of vLLM makes of hidden states
OPERATION_IMAGE: Final = "image_generation"
OPERATION_IMAGE_EDIT: Final = "image_edit"
OPERATION_IMAGE_VARIATION: Final = "image_variation"
OPERATION_TRANSCRIPTION: Final = "transcription"
OPERATION_SPEECH: Final = "speech"
OPERATION_MODERATION: Final = "moderation"
OPENAI_API_RESPONSES: Final = "responses"
OUTPUT_TEXT: Final = "text"
OUTPUT_JSON: Final = "json"
OUTPUT_IMAGE: Final = "image"
OUTPUT_SPEECH: Final = "speech"
TOKEN_INPUT: Final = "input"  # noqa: S105 - tokens of text
TOKEN_OUTPUT: Final = "output"  # noqa: S105 - tokens of text

# Metrics.
CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - tokens of text
CLIENT_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
CLIENT_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"

CLIENT_INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"  # the newer generation from here on
CLIENT_EMBEDDINGS_DURATION: Final = "gen_ai.client.embeddings.duration"
CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.inference.time_per_output_chunk"
CLIENT_INFERENCE_USAGE: Final = "gen_ai.client.inference.usage."  # before `input_tokens` and the like
CLIENT_INFERENCE_INPUT_TOKENS: Final = "gen_ai.client.inference.operation.input_tokens"
CLIENT_INFERENCE_OUTPUT_TOKENS: Final = "gen_ai.client.inference.operation.output_tokens"
CLIENT_EMBEDDINGS_INPUT_TOKENS: Final = "gen_ai.client.embeddings.operation.input_tokens"
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - tokens of text
GRAFANA_TIME_TO_FIRST_TOKEN: Final = "gen_ai.client.time_to_first_token"  # noqa: S105 - what Grafana's agent plugin reads
GRAFANA_TOKEN_SEMANTICS: Final = "gen_ai.token.semantics"  # noqa: S105 - what Grafana's agent plugin reads
GRAFANA_TOOL_CALLS: Final = "gen_ai.client.tool_calls_per_operation"
CLIENT_COST: Final = "otel_llm.client.cost"
CLIENT_ESTIMATED_TOKENS: Final = "otel_llm.client.token.usage.estimated"
CLIENT_ENGINE_QUEUE_TIME: Final = "otel_llm.client.engine.queue_time"
CLIENT_ENGINE_TIME_TO_FIRST_TOKEN: Final = "otel_llm.client.engine.time_to_first_token"  # noqa: S105 - tokens of text
CLIENT_ENGINE_GENERATION_TIME: Final = "otel_llm.client.engine.generation_time"

ROUTER_REQUEST_DURATION: Final = "otel_llm.router.request.duration"
ROUTER_RETRIED: Final = "otel_llm.router.retries"
ROUTER_FELL_BACK: Final = "otel_llm.router.fallbacks"
ROUTER_COOLDOWNS: Final = "otel_llm.router.cooldowns"
ROUTER_REMAINING_REQUESTS: Final = "otel_llm.router.remaining_requests"
ROUTER_REMAINING_TOKENS: Final = "otel_llm.router.remaining_tokens"

# What vLLM's own statistics tell, by its stat-logger plug-in: attributes, then metrics.
VLLM_ENGINE_INDEX: Final = "otel_llm.vllm.engine.index"  # its data-parallel rank
VLLM_API_SERVER_INDEX: Final = "otel_llm.vllm.api_server.index"  # only where there are several
VLLM_WAITING_REASON: Final = "otel_llm.vllm.waiting.reason"
VLLM_FINISH_REASON: Final = "otel_llm.vllm.finish.reason"  # in vLLM's words
VLLM_REJECTION_REASON: Final = "otel_llm.vllm.rejection.reason"
VLLM_PROMPT_SOURCE: Final = "otel_llm.vllm.prompt.source"
VLLM_PHASE: Final = "otel_llm.vllm.phase"
VLLM_LIMIT_STATE: Final = "otel_llm.vllm.engine.limit.state"

SERVER_REQUEST_DURATION: Final = "gen_ai.server.request.duration"
SERVER_TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"  # noqa: S105 - tokens of text
SERVER_TIME_PER_OUTPUT_TOKEN: Final = "gen_ai.server.time_per_output_token"  # noqa: S105 - tokens of text
VLLM_REQUEST_PHASE_TIME: Final = "otel_llm.vllm.request.phase.time"
VLLM_REQUESTS_RUNNING: Final = "otel_llm.vllm.requests.running"
VLLM_REQUESTS_WAITING: Final = "otel_llm.vllm.requests.waiting"
VLLM_REQUESTS_FINISHED: Final = "otel_llm.vllm.requests.finished"
VLLM_REQUESTS_REJECTED: Final = "otel_llm.vllm.requests.rejected"
VLLM_REQUESTS_ABORTED: Final = "otel_llm.vllm.requests.aborted"  # by the wrappers, not by the plug-in
VLLM_REQUESTS_UNACCOUNTED: Final = "otel_llm.vllm.requests.unaccounted"
VLLM_TOKENS_ABORTED: Final = "otel_llm.vllm.tokens.aborted"
VLLM_TOKENS_UNACCOUNTED: Final = "otel_llm.vllm.tokens.unaccounted"
VLLM_TOKENS_PROMPT: Final = "otel_llm.vllm.tokens.prompt"
VLLM_TOKENS_GENERATED: Final = "otel_llm.vllm.tokens.generated"
VLLM_PREEMPTIONS: Final = "otel_llm.vllm.preemptions"
VLLM_KV_CACHE_UTILIZATION: Final = "otel_llm.vllm.kv_cache.utilization"
VLLM_KV_CACHE_LIMIT: Final = "otel_llm.vllm.kv_cache.limit"
VLLM_PREFIX_CACHE_QUERIES: Final = "otel_llm.vllm.prefix_cache.queries"
VLLM_PREFIX_CACHE_HITS: Final = "otel_llm.vllm.prefix_cache.hits"
VLLM_EXTERNAL_PREFIX_CACHE_QUERIES: Final = "otel_llm.vllm.external_prefix_cache.queries"
VLLM_EXTERNAL_PREFIX_CACHE_HITS: Final = "otel_llm.vllm.external_prefix_cache.hits"
VLLM_MULTIMODAL_CACHE_QUERIES: Final = "otel_llm.vllm.multimodal_cache.queries"
VLLM_MULTIMODAL_CACHE_HITS: Final = "otel_llm.vllm.multimodal_cache.hits"
VLLM_SPECULATIVE_DRAFTS: Final = "otel_llm.vllm.speculative.drafts"
VLLM_SPECULATIVE_DRAFT_TOKENS: Final = "otel_llm.vllm.speculative.draft_tokens"
VLLM_SPECULATIVE_ACCEPTED_TOKENS: Final = "otel_llm.vllm.speculative.accepted_tokens"
VLLM_ENGINE_LIMIT: Final = "otel_llm.vllm.engine.limit"
VLLM_ENGINE_MAX_SEQUENCES: Final = "otel_llm.vllm.engine.max_sequences"
VLLM_ENGINE_MAX_BATCHED_TOKENS: Final = "otel_llm.vllm.engine.max_batched_tokens"
VLLM_ENGINE_SLEEP_LEVEL: Final = "otel_llm.vllm.engine.sleep_level"
PROPOSED_STATE: Final = "state"  # this and the following as llm-d proposes them to OpenTelemetry: they may change
PROPOSED_PHASE: Final = "phase"
PROPOSED_REQUEST_COUNT: Final = "gen_ai.server.request.count"
PROPOSED_PHASE_DURATION: Final = "gen_ai.server.phase.duration"
PROPOSED_KV_CACHE_USAGE: Final = "gen_ai.server.kv_cache.usage"
PROPOSED_KV_CACHE_LIMIT: Final = "gen_ai.server.kv_cache.limit"
PROPOSED_KV_CACHE_UTILIZATION: Final = "gen_ai.server.kv_cache.utilization"
PROPOSED_PREFIX_CACHE_QUERIES: Final = "gen_ai.server.prefix_cache.queries"
PROPOSED_PREFIX_CACHE_HITS: Final = "gen_ai.server.prefix_cache.hits"

# An exception on a span, as the general conventions describe it.
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"


class StreamEnd(StrEnum):
    """How a stream ended, as `otel_llm.stream.end` says it."""

    EXHAUSTED = "exhausted"  # the last chunk was taken
    CLOSED = "closed"  # the caller closed it
    ABANDONED = "abandoned"  # the caller left it and it was collected
    FAILED = "failed"  # it raised, or the task that read it was cancelled: error.type says what
    EXIT = "exit"  # still open when the process ended
    UNINSTRUMENTED = "uninstrumented"  # still open when the instrumentation was taken off
    UNOBSERVED = "unobserved"  # handed to the caller in a form that cannot be followed; its times are unknown


class AbortReason(StrEnum):
    """Why a request was given up, as `otel_llm.abort.reason` says it."""

    CLIENT_DISCONNECTED = "client_disconnected"  # the HTTP client went away before its answer
    CANCELLED = "cancelled"  # the task that awaited it was cancelled in this process
    CLOSED = "closed"  # its consumer stopped reading before the end
    REQUESTED = "requested"  # somebody called `abort` with its id
    FAILED = "failed"  # an exception of the front end, or of the source of its input
    ENGINE = "engine"  # the engine itself gave it up, when it was paused or put to sleep
    ABANDONED = "abandoned"  # its consumer was collected
    EXIT = "exit"  # still open when the process ended
    UNINSTRUMENTED = "uninstrumented"  # still open when the instrumentation was taken off
