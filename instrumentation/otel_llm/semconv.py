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
OUTPUT_TYPE: Final = "gen_ai.output.type"

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
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - tokens of text

# Ours: the conventions have no name for these.
REQUEST_REPETITION_PENALTY: Final = "otel_llm.request.repetition_penalty"  # vLLM's parameter, neither of OpenAI's two
PROMPT_LENGTH: Final = "otel_llm.prompt.length"  # characters of text in the messages: a size, without the content
RESPONSE_LENGTH: Final = "otel_llm.response.length"  # characters of text over all choices
STREAM_END: Final = "otel_llm.stream.end"  # how a stream ended, a StreamEnd

# Values.
OPERATION_CHAT: Final = "chat"
OUTPUT_TEXT: Final = "text"
OUTPUT_JSON: Final = "json"
TOKEN_INPUT: Final = "input"  # noqa: S105 - tokens of text
TOKEN_OUTPUT: Final = "output"  # noqa: S105 - tokens of text

# Metrics.
CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - tokens of text
CLIENT_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
CLIENT_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"

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
