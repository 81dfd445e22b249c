"""One call, one span: the agreement between GenAI instrumentations about which of them records a call.

It is the one of the official packages (`opentelemetry-util-genai`): the outermost puts a data object into the context,
under a key for the kind of call; those further in make no span and no metric, and write what they know into the object.
Both sides of it are here, without importing that package: where nothing in the process has loaded it, nothing in the
process keeps the agreement. Calls inside our own calls are told by `invocation.current`.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan

from . import semconv
from .records import Value

_PACKAGE: Final = "opentelemetry.util.genai.invocation"
_INFERENCE: Final = ("opentelemetry.genai.client.inference.context", "InferenceData")
_CONTRACT: Final[Mapping[str, tuple[str, str]]] = {
    # By operation: the key, and the class of the official package that is found under it.
    semconv.OPERATION_CHAT: _INFERENCE,
    semconv.OPERATION_TEXT_COMPLETION: _INFERENCE,
    semconv.OPERATION_GENERATE_CONTENT: _INFERENCE,
    semconv.OPERATION_EMBEDDINGS: ("opentelemetry.genai.client.embedding.context", "EmbeddingData"),
}
_OUTER_S_OWN: Final = frozenset(
    # How the outer call ended, it knows better; content, it records itself or must not have.
    (
        "error_type",
        "input_messages",
        "operation_name",
        "output_messages",
        "prompt_variable",
        "system_instructions",
        "tool_definitions",
    )
)


class _Ended:
    """What a data object of ours becomes at the end of its call."""


def mark(context: Context, operation: str) -> Context:
    """Return `context` with the sign for the official packages that a call of this kind is being recorded already."""
    package, row = sys.modules.get(_PACKAGE), _CONTRACT.get(operation)
    if package is None or row is None:
        return context
    kind: Any = getattr(package, row[1], None)
    return context if kind is None else otel_context.set_value(row[0], _maker(kind)(), context)


def unmark(context: Context, operation: str) -> None:
    """End what `mark` began: a task left behind still carries the context, and what it calls is a call of its own.

    Only for a context that `mark` returned: in that of an `OuterCall` the sign is the outer one's.
    """
    row = _CONTRACT.get(operation)
    data = otel_context.get_value(row[0], context) if row is not None else None
    if data is not None:
        with contextlib.suppress(TypeError):  # a class with slots: nothing to be done about such a task then
            data.__class__ = _Ended  # the official packages ask for the class of what they find


def outer_call(operation: str) -> "OuterCall | None":
    """Return the open call of another instrumentation that this one is a part of, if there is one."""
    row = _CONTRACT.get(operation) if _PACKAGE in sys.modules else None
    data = otel_context.get_value(row[0]) if row is not None else None
    return None if data is None or type(data) is _Ended else OuterCall(data)


class OuterCall(NonRecordingSpan):
    """Stands where a span of our own would: what is set on it is handed to the outer instrumentation for its span.

    Not to be made current, for the outer one's span is. Status and events stay with the outer call as well: it may go
    on after a failure of ours.
    """

    def __init__(self, data: object) -> None:
        super().__init__(INVALID_SPAN.get_span_context())
        self._data = data
        self._attributes: dict[str, Value] = {}

    def is_recording(self) -> bool:
        """Whether attributes are worth setting: they are."""
        return True

    def set_attribute(self, key: str, value: Any) -> None:
        """Keep one attribute until the end."""
        self._attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Keep attributes until the end."""
        self._attributes.update(attributes)

    def end(self, end_time: int | None = None) -> None:
        """Hand over what was set: what the data object has a field for in that field, the rest as span attributes."""
        data: Any = self._data
        known = getattr(type(data), "__dataclass_fields__", {})
        for key, value in self._attributes.items():
            field = key.removeprefix("gen_ai.").replace(".", "_")
            if field in _OUTER_S_OWN:
                continue
            if field in known:
                setattr(data, field, list(value) if isinstance(value, tuple) else value)
            elif isinstance(getattr(data, "attributes", None), dict):
                data.attributes[key] = value


@lru_cache(maxsize=8)
def _maker(kind: type[Any]) -> Callable[[], Any]:
    """Return what makes an empty data object in a tenth of the time its constructor of fifty arguments takes."""
    rows = fields(kind)
    empty = {row.name: row.default_factory for row in rows if row.default_factory is not MISSING}
    if any(row.name not in empty and row.default is MISSING for row in rows) or hasattr(kind, "__slots__"):
        return kind

    def make() -> Any:
        data: Any = object.__new__(kind)  # the class itself has the defaults of the other fields
        for name, factory in empty.items():
            setattr(data, name, factory())
        return data

    return make
