"""The net for calls of functions that were bound before the instrumentation started (`from litellm import completion`).

A wrapper cannot be put on a name that other code holds. LiteLLM's callbacks hear of such calls none the less, after the
fact, and so they are recorded after the fact: with the times LiteLLM tells, below the span that was current when the
request was sent. It is off unless OTEL_LLM_CALLBACK_NET is set, for much is out of its reach: the span is not current while
the request is sent, chunks have no times but the first one, streams no token counts (LiteLLM hands callbacks its own count
where the server gave none, and does not tell) and content is never captured. Streams that are left or closed, calls that
are cancelled, refused streams of text, streams out of LiteLLM's cache and the sync `moderation` are not told to callbacks.

Calls that wrappers record are told apart by the call id that LiteLLM gives each call: the callback that runs before the
request is sent runs in the caller's context, and there the open invocation is seen. Nothing is written into LiteLLM's or
the caller's dictionaries.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_llm import fault
from otel_llm.invocation import Invocation, Telemetry, enclosing, may_start
from otel_llm.litellm.calls import Active, State, deferred
from otel_llm.litellm.entries import ENTRIES
from otel_llm.litellm.entry import Asked, Entry
from otel_llm.litellm.read.chat import read_error
from otel_llm.litellm.read.fields import field, text
from otel_llm.litellm.read.identity import read_identity
from otel_llm.litellm.read.names import well_known
from otel_llm.records import Streamed
from otel_llm.semconv import StreamEnd

_MAX_CALLS: Final = 4096  # remembered at a time; entries of calls that never end are pushed out
_MOCK_KEY: Final = "mock-key"  # what LiteLLM tells callbacks in place of a key where it makes a reply up
_LISTS: Final = (
    # Any one of them is replaced where an application assigns to it; LiteLLM fills the others from the first.
    "callbacks", "input_callback", "success_callback", "failure_callback", "_async_success_callback",
    "_async_failure_callback",
)  # fmt: skip
_BY_NAME: Final = {entry.name: entry for entry in ENTRIES}

Details = Mapping[str, Any]
"""LiteLLM's record of one call, which its callbacks are given."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What is known of a call when its request is sent."""

    entry: Entry
    asked: Asked
    parent: Context


class _Net:
    """What has been heard of calls so far. Heard from any thread, hence one atomic step of a dictionary at a time."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, _Sent] = OrderedDict()  # and not recorded by a wrapper
        self._done: OrderedDict[str, object] = OrderedDict()  # recorded, by a wrapper or from here

    def before(self, details: Details) -> None:
        """Hear that a request is about to be sent, in the context of the caller."""
        active, call = State.active, text(details.get("litellm_call_id"))
        if active is None or call is None:
            return
        if not may_start() or deferred.get():
            self._sent.pop(call, None)
            _remember(self._done, call, None)
            return
        sent = _read(details, active, is_server=details.get("api_key") != _MOCK_KEY)
        if sent is not None:
            self._done.pop(call, None)  # tried again, under the same id
            _remember(self._sent, call, sent)

    def after(self, details: Details, response: object, started: object, ended: object, error: object = None) -> None:
        """Hear how a call ended; once, though LiteLLM may tell it twice."""
        active, call, claim = State.active, text(details.get("litellm_call_id")), object()
        if active is None or call is None or _remember(self._done, call, claim) is not claim:
            return
        sent = self._sent.pop(call, None)
        if sent is None and enclosing() is None and is_instrumentation_enabled() and not details.get("stream"):
            sent = _read(details, active, is_server=False)  # out of the cache, or it failed before anything was sent
        if sent is not None and isinstance(started, datetime) and isinstance(ended, datetime):
            _record(sent, details, response, started, ended, error)


def _remember(calls: OrderedDict[str, Any], call: str, what: object) -> object:
    kept: object = calls.setdefault(call, what)
    if len(calls) > _MAX_CALLS:
        calls.popitem(last=False)
    return kept


def _read(details: Details, active: Active, *, is_server: bool) -> _Sent | None:
    entry = _BY_NAME.get(str(details.get("call_type")))
    if entry is None:
        return None
    arguments = _arguments(details)
    request = entry.read_request(arguments, active.names)
    request.parameters.update(read_identity(arguments, active.telemetry.settings))
    return _Sent(entry, Asked(arguments, is_server, request, active.telemetry), otel_context.get_current())


def _arguments(details: Details) -> dict[str, Any]:
    """The arguments by the names the functions have for them, as far as LiteLLM's record of the call has them."""
    optional, known = details.get("optional_params"), details.get("litellm_params")
    messages = details.get("messages")
    given = details.get("input") or messages
    if isinstance(given, list):  # texts are told as messages
        given = [item.get("content") if isinstance(item, dict) and "content" in item else item for item in given]
    sent = field(details.get("additional_args"), "complete_input_dict")
    return {
        **dict.fromkeys(("input", "prompt", "file"), given),
        "messages": messages,
        "voice": field(sent, "voice"),
        "metadata": field(known, "metadata"),
        **(optional if isinstance(optional, dict) else {}),
        "model": details.get("model"),
        "custom_llm_provider": details.get("custom_llm_provider"),
        "api_base": field(known, "api_base") or None,
    }


def _record(sent: _Sent, details: Details, response: object, started: datetime, ended: datetime, error: object) -> None:
    asked, streamed = sent.asked, None
    reply = read_error(error) if isinstance(error, BaseException) else sent.entry.read_reply(response, asked)
    if details.get("stream"):
        first = details.get("completion_start_time")
        first_s = (first - started).total_seconds() if isinstance(first, datetime) else None
        streamed = Streamed(StreamEnd.EXHAUSTED if error is None else StreamEnd.FAILED, first_s)
        reply.usage = reply.cost = None
    provider = text(details.get("custom_llm_provider"))  # known later than the request is read, of some operations
    if asked.request.provider is None and provider is not None:
        reply.provider = well_known(provider)
    if _is_redacted(details):
        reply.response_length = None
    token = otel_context.attach(sent.parent)
    try:
        invocation = Invocation(asked.telemetry, asked.request, _moment(started))
    finally:
        otel_context.detach(token)
    invocation.ended = _moment(ended)
    if error is None:
        invocation.complete(reply, streamed)
    else:
        invocation.fail(error if isinstance(error, BaseException) else Exception(error), reply, streamed)


def _moment(when: datetime) -> tuple[float, int]:
    seconds = when.timestamp()
    return seconds, int(seconds * 1e9)


def _is_redacted(details: Details) -> bool:
    """Whether LiteLLM was told to keep content from callbacks; it hands out words of its own then."""
    import litellm  # long imported: it calls

    of_call = field(details.get("standard_callback_dynamic_params"), "turn_off_message_logging")
    return of_call is True or (litellm.turn_off_message_logging is True and of_call is not False)


class _State:
    """What is registered with LiteLLM; made once in a process, for a list that is put away may come back with it."""

    litellm: ModuleType | None = None
    logger: Any = None
    is_on = False


def apply(litellm: ModuleType, telemetry: Telemetry) -> None:
    """Register the net with LiteLLM, if it is asked for."""
    if not telemetry.settings.callback_net:
        return
    if _State.logger is None:
        _State.litellm, _State.logger = litellm, _make_logger(_Net())
    _State.is_on = True
    _register()


def remove() -> None:
    """Take the net out of LiteLLM's lists of callbacks; where it is in others, it is idle."""
    _State.is_on = False
    for name in _LISTS:
        callbacks = getattr(_State.litellm, name, None)
        while isinstance(callbacks, list) and _State.logger in callbacks:
            callbacks.remove(_State.logger)


def _register() -> None:
    """Be in all lists, also where the application has assigned new ones to some of their names."""
    for name in _LISTS:
        callbacks = getattr(_State.litellm, name, None)
        if isinstance(callbacks, list) and _State.logger not in callbacks:
            callbacks.append(_State.logger)


def _make_logger(net: _Net) -> Any:
    from litellm.integrations.custom_logger import CustomLogger

    def guarded(place: str, work: Callable[[], None]) -> None:
        try:
            if _State.is_on:
                work()
        except Exception as own:
            fault.report(place, own)

    def ended(kwargs: Details, response: object, start: object, end: object, error: object = None) -> None:
        guarded("a call heard of by callback", lambda: net.after(kwargs, response, start, end, error))

    class OtelLLMNet(CustomLogger):
        """Hears of calls; LiteLLM prints its name where it lists its callbacks."""

        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            guarded("a request heard of by callback", lambda: net.before(kwargs))
            guarded("the lists of callbacks", _register)

        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            ended(kwargs, response_obj, start_time, end_time)

        def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            ended(kwargs, response_obj, start_time, end_time, _error_of(kwargs))

        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            ended(kwargs, response_obj, start_time, end_time)

        async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            ended(kwargs, response_obj, start_time, end_time, _error_of(kwargs))

    return OtelLLMNet()


def _error_of(details: Details) -> object:
    error = details.get("exception")
    return error if error is not None else "unknown"
