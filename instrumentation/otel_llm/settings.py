"""What can be set for the instrumentation, as rows; the standard OTEL_* variables of the SDK are not repeated here.

Read once, when an instrumentor starts. A value that cannot be understood is named in one warning and the default is
used: an application must not fail to start for the sake of its telemetry.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

_LOG = logging.getLogger(__name__)
_WORDS: Final = {**dict.fromkeys(("true", "1", "yes", "on"), True), **dict.fromkeys(("false", "0", "no", "off"), False)}


class Targets(StrEnum):
    """Which servers something is sent to."""

    SELF_HOSTED = "self_hosted"  # servers of one's own: see OTEL_LLM_SELF_HOSTED_HOSTS
    ALWAYS = "always"
    NEVER = "never"


class CaptureContent(StrEnum):
    """Where prompts and replies are recorded."""

    NO_CONTENT = "NO_CONTENT"
    SPAN_ONLY = "SPAN_ONLY"
    EVENT_ONLY = "EVENT_ONLY"
    SPAN_AND_EVENT = "SPAN_AND_EVENT"


class RequestSpans(StrEnum):
    """How the spans of a batch's requests belong to the batch."""

    CHILDREN = "children"
    LINKS = "links"


class Phases(StrEnum):
    """How the phases of a request in the engine are recorded."""

    ATTRIBUTES = "attributes"
    SPANS = "spans"


@dataclass(frozen=True)
class Setting:
    """One row: a variable, how its text is read (ValueError says what is wrong with it), and its default."""

    variable: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    is_secret: bool = False

    @property
    def shown_default(self) -> str:
        """The default as a user would write it."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, tuple | frozenset):
            return ",".join(sorted(self.default))
        return "" if self.default is None else str(self.default)


def _switch(text: str) -> bool:
    value = _WORDS.get(text.lower())
    if value is None:
        raise ValueError("is neither true nor false")
    return value


def _choice(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def parse(text: str) -> StrEnum:
        for member in kind:
            if member.value.lower() == text.lower():
                return member
        raise ValueError("is none of " + ", ".join(member.value for member in kind))

    return parse


def _capture_content(text: str) -> StrEnum:
    word = _WORDS.get(text.lower())  # the variable's older form: true meant the span
    if word is not None:
        return CaptureContent.SPAN_ONLY if word else CaptureContent.NO_CONTENT
    return _choice(CaptureContent)(text)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError("is not a whole number above 0")
    return number


def _text(text: str) -> str:
    return text


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))


def _row(variable: str, parse: Callable[[str], Any], default: Any, help: str, *, is_secret: bool = False) -> Any:
    row = Setting(variable, parse, default, help, is_secret)
    setting: Any = field(default=default, metadata={"row": row})
    return setting


@dataclass(frozen=True)
class Settings:
    """The values in force; each field is one row."""

    capture_content: CaptureContent = _row(
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", _capture_content, CaptureContent.NO_CONTENT,
        "Where prompts and replies are recorded: `NO_CONTENT`, `SPAN_ONLY`, `EVENT_ONLY` or `SPAN_AND_EVENT`. Masked and "
        "cut to length before they leave the process. Their lengths in characters are always recorded.",
    )  # fmt: skip
    content_max_characters: int = _row(
        "OTEL_LLM_CONTENT_MAX_CHARACTERS", _positive, 16_384,
        "The most characters of one recorded attribute of content; longer texts in it are shortened, the JSON stays valid.",
    )  # fmt: skip
    upload_hook: str | None = _row(
        "OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK", _text, None,
        "A function that is handed the content of every call, before it is recorded: `package.module:function`, or the name of "
        "an entry point of the group `opentelemetry_genai_completion_hook`.",
    )  # fmt: skip
    mask_content: bool = _row(
        "OTEL_LLM_MASK", _switch, True,
        "Mask keys, e-mail addresses, phone and card numbers in content and error messages before they leave the process.",
    )  # fmt: skip
    mask_patterns_file: str | None = _row(
        "OTEL_LLM_MASK_PATTERNS_FILE", _text, None,
        "A file of further regular expressions to mask, one a line (`name=expression`, or the expression alone).",
    )  # fmt: skip
    capture_error_message: bool = _row(
        "OTEL_LLM_CAPTURE_ERROR_MESSAGE", _switch, False,
        "Record the message of a failed call on its span (status and exception event), masked. Off by default: servers quote "
        "the prompt, and parts of keys, in their error messages. Type, HTTP status and stack trace are always recorded.",
    )  # fmt: skip
    self_hosted_hosts: tuple[str, ...] = _row(
        "OTEL_LLM_SELF_HOSTED_HOSTS", _list, (),
        "Hosts that are servers of one's own besides those known by their address (loopback, private and link-local addresses, "
        "names without a dot, `.local`, `.internal`, `.svc`): names, `*.suffix`, or networks like `100.64.0.0/10`; comma-separated.",
    )  # fmt: skip
    propagate_to: Targets = _row(
        "OTEL_LLM_PROPAGATE", _choice(Targets), Targets.SELF_HOSTED,
        "Which servers receive `traceparent` and, unless the caller gave one, an `X-Request-Id` that names the span: "
        "`self_hosted`, `always` or `never`.",
    )  # fmt: skip
    propagate_baggage: tuple[str, ...] = _row(
        "OTEL_LLM_PROPAGATE_BAGGAGE", _list, (),
        "Keys of W3C baggage that are sent on to the servers that receive `traceparent`; comma-separated, none by default.",
    )  # fmt: skip
    ask_usage: Targets = _row(
        "OTEL_LLM_ASK_USAGE", _choice(Targets), Targets.SELF_HOSTED,
        "Which servers are asked for the token counts of a stream where the caller does not ask (`stream_options.include_usage`); "
        "the caller sees the chunks he would have seen. `self_hosted`, `always` or `never`.",
    )  # fmt: skip
    estimate_usage: bool = _row(
        "OTEL_LLM_ESTIMATE_USAGE", _switch, False,
        "Record the tokens LiteLLM estimates where a server reports none, under names of their own (`otel_llm.usage.estimated.*`).",
    )  # fmt: skip
    prices: str | None = _row(
        "OTEL_LLM_PRICES", _text, None,
        "Prices of self-hosted models in US dollars per million tokens: JSON, or the path of a JSON file, by model pattern: "
        '`{"hosted_vllm/qwen*": {"input": 0.1, "output": 0.4, "cache_read": 0.02}}`.',
    )  # fmt: skip
    baggage_attributes: tuple[str, ...] = _row(
        "OTEL_LLM_BAGGAGE_ATTRIBUTES", _list, ("gen_ai.conversation.id", "session.id", "user.id"),
        "Keys of W3C baggage that are recorded on the span under the same name; comma-separated.",
    )  # fmt: skip
    metric_attributes: tuple[str, ...] = _row(
        "OTEL_LLM_METRIC_ATTRIBUTES", _list, (),
        "Attributes of the span that the metrics carry as well, `user.id` or `otel_llm.team` for one; comma-separated. Each has at "
        "most OTEL_LLM_MAX_METRIC_VALUES values.",
    )  # fmt: skip
    max_metric_values: int = _row(
        "OTEL_LLM_MAX_METRIC_VALUES", _positive, 100,
        "The most values that a model name or another open attribute takes on metrics; what comes later counts under `other`.",
    )  # fmt: skip
    stability_opt_in: tuple[str, ...] = _row(
        "OTEL_SEMCONV_STABILITY_OPT_IN", _list, (),
        "The generation of the GenAI conventions: the released one by default, `gen_ai_latest_experimental` for the newer, "
        "`gen_ai_1_36` for the older; `/dup` behind it emits it beside the released one. Words for other domains are passed over.",
    )  # fmt: skip
    grafana_names: bool = _row(
        "OTEL_LLM_GRAFANA_METRIC_NAMES", _switch, False,
        "Also record the metrics Grafana's agent plugin reads under names of its own: `gen_ai.client.time_to_first_token` and "
        "`gen_ai.client.tool_calls_per_operation`, and cached and reasoning tokens as types of their own in `gen_ai.client.token.usage`, "
        "so that a sum over all types counts them twice.",
    )  # fmt: skip
    callback_net: bool = _row(
        "OTEL_LLM_CALLBACK_NET", _switch, False,
        "Register a callback with LiteLLM that records calls of functions bound before the instrumentation started "
        "(`from litellm import completion`), after the fact: without context for the HTTP spans and without times of chunks.",
    )  # fmt: skip
    hmac_key: str | None = _row(
        "OTEL_LLM_HMAC_KEY", _text, None,
        "The key of the pseudonyms under which the proxy's key alias, team and user are recorded; without one they are left out.",
        is_secret=True,
    )  # fmt: skip
    hmac_key_file: str | None = _row(
        "OTEL_LLM_HMAC_KEY_FILE", _text, None, "A file that holds OTEL_LLM_HMAC_KEY.",
    )  # fmt: skip
    http_message_spans: bool = _row(
        "OTEL_LLM_HTTP_MESSAGE_SPANS", _switch, False,
        "Keep the spans `… http send` and `… http receive` that the ASGI and FastAPI instrumentations make in the vLLM server and "
        "the LiteLLM proxy: a streamed answer has one for every chunk.",
    )  # fmt: skip
    trace_response_header: str | None = _row(
        "OTEL_LLM_TRACE_RESPONSE_HEADER", _text, None,
        "The name of a response header in which the LiteLLM proxy hands its caller the trace id, `X-Trace-Id` for one.",
    )  # fmt: skip

    vllm_statistics: bool = _row(
        "OTEL_LLM_VLLM_STATISTICS", _switch, False,
        "Offline vLLM (`LLM(...)`) keeps no times of requests unless asked: ask for them, where the application did not say.",
    )  # fmt: skip
    vllm_request_spans: RequestSpans = _row(
        "OTEL_LLM_VLLM_REQUEST_SPANS", _choice(RequestSpans), RequestSpans.CHILDREN,
        "The spans of the requests of one offline batch: `children` of the batch's span, or `links`: traces of their own that link "
        "to it.",
    )  # fmt: skip
    vllm_max_request_spans: int = _row(
        "OTEL_LLM_VLLM_MAX_REQUEST_SPANS", _positive, 100,
        "The most requests of one offline batch that get a span of their own; the batch's span counts the others.",
    )  # fmt: skip
    vllm_phases: Phases = _row(
        "OTEL_LLM_VLLM_PHASES", _choice(Phases), Phases.ATTRIBUTES,
        "The times a request was queued, in prefill and in decode: `attributes` of its span, or `spans` below it as well.",
    )  # fmt: skip
    vllm_aborts: bool = _row(
        "OTEL_LLM_VLLM_ABORTS", _switch, True,
        "Count requests that vLLM gives up, by wrapping its `OutputProcessor`; without it spans lack what vLLM's front end knows.",
    )  # fmt: skip
    vllm_proposed_names: bool = _row(
        "OTEL_LLM_VLLM_PROPOSED_NAMES", _switch, False,
        "Also record the engine's state under the `gen_ai.server.*` names that are proposed to OpenTelemetry and may change.",
    )  # fmt: skip


SETTINGS: Final[tuple[Setting, ...]] = tuple(one.metadata["row"] for one in fields(Settings))


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read all settings from the environment."""
    found: dict[str, Any] = {}
    for one in fields(Settings):
        row: Setting = one.metadata["row"]
        text = environ.get(row.variable, "").strip()
        if not text:
            continue
        try:
            found[one.name] = row.parse(text)
        except ValueError as error:
            shown = "its value" if row.is_secret else repr(text)
            _LOG.warning("%s=%s %s; using %s", row.variable, shown, error, row.shown_default or "none")
    return Settings(**found)
