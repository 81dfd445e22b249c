"""Reading text completions, the older sibling of chat: one prompt in, text out. Their streams are followed here as well.

LiteLLM hands the caller a wrapper around its chat stream object, made by a generator that runs only with the first
chunk. The wrapper is what is followed; what the server sent, usage chunks included, is in the object inside, which is
noticed when it is made.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from otel_llm import fault, semconv
from otel_llm.invocation import Invocation, current
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import chat
from otel_llm.litellm.read.fields import field, hidden_params, text
from otel_llm.litellm.read.inputs import text_length
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.read.noted import note
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.litellm.read.usage import combine
from otel_llm.litellm.streams import chat as stream
from otel_llm.records import Reply, Request
from otel_llm.streams import StreamRecorder

Function = Callable[..., Any]


def read_request(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a text completion from its arguments by name."""
    if arguments.get("model") is None and "engine" in arguments:  # OpenAI's first name for it
        arguments = {**arguments, "model": arguments["engine"]}
    request = read_common(semconv.OPERATION_TEXT_COMPLETION, arguments, names)
    length = text_length(arguments.get("prompt"))
    if length is not None:
        request.parameters[semconv.PROMPT_LENGTH] = length
    return request


def read_reply(response: object, asked: Asked) -> Reply:
    """Read a complete reply; `text_completion(acompletion=True)` gives one of chat for most providers."""
    choices = getattr(response, "choices", None)
    if not isinstance(choices, list):
        return Reply()
    if any(getattr(choice, "message", None) is not None for choice in choices):
        return chat.read_reply(response, asked)
    reasons = (getattr(choice, "finish_reason", None) for choice in choices)
    texts = (getattr(choice, "text", None) for choice in choices)
    length = sum(len(one) for one in texts if isinstance(one, str))
    reply = Reply(
        id=text(getattr(response, "id", None)),
        model=text(getattr(response, "model", None)),
        finish_reasons=tuple(reason for reason in reasons if isinstance(reason, str)),
        usage=combine((field(response, "usage"),), None, length > 0),
        response_length=length,
    )
    return note(reply, response, asked, has_output=True)


class _Inside:
    """What is kept of a chat stream object inside a text stream, by its names; not the object, whose collection ends streams."""

    def __init__(self, stream: Any) -> None:
        self.chunks: Sequence[object] = stream.chunks  # the very list that LiteLLM appends to
        self.model = stream.model
        self.custom_llm_provider = stream.custom_llm_provider
        self.is_mock = getattr(stream, "is_mock", False)
        self._hidden_params = hidden_params(stream)


_insides: Final[WeakKeyDictionary[Invocation, _Inside]] = WeakKeyDictionary()


def follow(result: Any, invocation: Invocation, asked: Asked) -> bool:
    """Follow a stream of text to its end; `text_completion(acompletion=True)` gives one of chat."""
    from litellm import TextCompletionStreamWrapper  # long imported: it made the stream

    if not isinstance(result, TextCompletionStreamWrapper):
        return stream.follow(result, invocation, asked)
    stream.attach(result, StreamRecorder(invocation, _reader(invocation, asked)))
    return True


def _reader(invocation: Invocation, asked: Asked) -> Callable[[], Reply]:
    def read() -> Reply:
        inside = _insides.pop(invocation, None)
        return chat.Arrived(inside, asked, invocation).read() if inside is not None else Reply()  # no chunk was taken

    return read


def _init(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            invocation = current()
            if invocation is not None and invocation.request.operation == semconv.OPERATION_TEXT_COMPLETION:
                _insides[invocation] = _Inside(self)
        except Exception as own:
            fault.report("the inside of a text stream", own)

    return wrapper


INSIDE_METHODS: Final[Mapping[str, Callable[[Function], Function]]] = {"__init__": _init}
"""To be put on LiteLLM's chat stream class: by name of the method, what makes its wrapper."""
