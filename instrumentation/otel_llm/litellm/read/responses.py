"""Reading calls of the Responses API and their replies into the core's records; nothing is consumed or changed.

Streams are read by `responses_stream`. LiteLLM writes its own routing into the ids of responses; what is recorded is the
id the server gave, and gets again as `previous_response_id`, by which its logs are searched.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from otel_llm import semconv
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import cost, engine
from otel_llm.litellm.read.fields import content_length, field, hidden_params, text
from otel_llm.litellm.read.names import Names, well_known
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.litellm.read.usage import combine, is_reported, read_estimate
from otel_llm.records import Reply, Request, Value

_PREFIX: Final = "resp_"
_LITELLM_S_ID: Final = "litellm:"
_SERVER_S_ID: Final = "response_id:"
_CALLS: Final = frozenset(("function_call", "custom_tool_call"))  # those the caller is to make; the server makes others
_INCOMPLETE: Final[Mapping[str, str]] = {"max_output_tokens": "length"}
_STATUS: Final[Mapping[str, str]] = {"completed": "stop", "failed": "error"}
_NO_END_YET: Final = frozenset(("in_progress", "queued"))


def read_request(arguments: Mapping[str, Any], names: Names) -> Request:
    """Read a call of the Responses API from its arguments by name."""
    request = read_common(semconv.OPERATION_CHAT, arguments, names)
    found: dict[str, Value | None] = {
        semconv.OPENAI_API_TYPE: semconv.OPENAI_API_RESPONSES,
        semconv.REQUEST_PREVIOUS_RESPONSE_ID: response_id(arguments.get("previous_response_id")),
        semconv.CONVERSATION_ID: _conversation(arguments.get("conversation")),
        semconv.REQUEST_REASONING_LEVEL: text(field(arguments.get("reasoning"), "effort")),
        semconv.OPENAI_REQUEST_SERVICE_TIER: text(arguments.get("service_tier")),
        semconv.OUTPUT_TYPE: _output_type(arguments),
        semconv.PROMPT_LENGTH: _prompt_length(arguments),
    }
    request.parameters.update((name, value) for name, value in found.items() if value is not None)
    return request


def read_reply(response: Any, asked: Asked) -> Reply:
    """Read a complete reply; what is not one of the Responses API gives an empty record."""
    hidden = hidden_params(response)
    provider = text(hidden.get("custom_llm_provider"))
    usage = field(response, "usage") if asked.is_server and is_reported(hidden) else None
    reply = read_response(response, asked, provider, usage)
    reply.cost = cost.read_cost(reply.usage, asked, provider, hidden.get("response_cost"))
    overhead = engine.seconds(hidden.get("litellm_overhead_time_ms"))
    if overhead is not None:
        reply.attributes[semconv.LITELLM_OVERHEAD] = overhead
    return reply


def read_response(
    response: Any,
    asked: Asked,
    provider: str | None,
    usage: object,
    *,
    is_reported: bool = True,
    streamed_length: int = 0,
) -> Reply:
    """Read a response, complete or not. `provider` is LiteLLM's name; `usage` None where there is none to speak of."""
    output = field(response, "output")
    length, calls = 0, 0
    for item in output if isinstance(output, list) else ():
        kind = field(item, "type")
        if kind == "message":
            length += content_length(field(item, "content"))
        elif kind in _CALLS:
            calls += 1
    length = max(length, streamed_length)
    name = well_known(provider) if provider is not None else None
    in_chat_s_words = {
        "prompt_tokens": field(usage, "input_tokens"),
        "completion_tokens": field(usage, "output_tokens"),
        "prompt_tokens_details": field(usage, "input_tokens_details"),
        "completion_tokens_details": field(usage, "output_tokens_details"),
    }
    if is_reported:
        counted = combine((in_chat_s_words,), name, length > 0 or calls > 0)
    else:
        counted = read_estimate(in_chat_s_words) if asked.settings.estimate_usage else None
    tier = text(field(response, "service_tier"))
    return Reply(
        id=response_id(field(response, "id")),
        model=text(hidden_params(response).get("provider_response_model")) or text(field(response, "model")),
        provider=name,
        finish_reasons=_finish_reasons(response, calls > 0),
        error=_error(response),
        usage=counted,
        response_length=length if response is not None or length else None,
        tool_calls=calls if response is not None else None,
        engine=engine.engine_times(field(response, "metrics")),
        attributes={semconv.OPENAI_RESPONSE_SERVICE_TIER: tier} if tier is not None else {},
    )


def response_id(value: object) -> str | None:
    """Return the server's own id of a response, also where LiteLLM has put it into one of its own."""
    given = text(value)
    if given is None or not given.startswith(_PREFIX):
        return given
    try:
        inside = base64.b64decode(given.removeprefix(_PREFIX), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):  # the server's, as it is
        return given
    _, found, server_s = inside.partition(_SERVER_S_ID)
    return server_s if found and server_s and inside.startswith(_LITELLM_S_ID) else given


def _finish_reasons(response: Any, has_calls: bool) -> tuple[str, ...]:
    """The words chat completions have for it, so that one query counts both."""
    status = text(field(response, "status"))
    if status is None or status in _NO_END_YET:
        return ()
    if status == "incomplete":
        reason = text(field(field(response, "incomplete_details"), "reason"))
        return (_INCOMPLETE.get(reason, reason),) if reason is not None else (status,)
    return ("tool_calls",) if has_calls and status == "completed" else (_STATUS.get(status, status),)


def _error(response: Any) -> str | None:
    """The code of a response that the server itself says has failed."""
    failed = field(response, "status") == "failed"
    return (text(field(field(response, "error"), "code")) or "failed") if failed else None


def _conversation(value: object) -> str | None:
    return text(value) or text(field(value, "id"))


def _output_type(arguments: Mapping[str, Any]) -> str | None:
    if arguments.get("text_format") is not None:  # a Pydantic model: structured output
        return semconv.OUTPUT_JSON
    kind = field(field(arguments.get("text"), "format"), "type")
    if kind in ("json_object", "json_schema"):
        return semconv.OUTPUT_JSON
    return semconv.OUTPUT_TEXT if kind == "text" else None


def _prompt_length(arguments: Mapping[str, Any]) -> int | None:
    given, instructions = arguments.get("input"), content_length(arguments.get("instructions"))
    if isinstance(given, str):
        return len(given) + instructions
    if not isinstance(given, list | tuple):  # not iterated lest it be consumed
        return None
    return instructions + sum(
        content_length(field(item, "content")) + content_length(field(item, "output")) for item in given
    )
