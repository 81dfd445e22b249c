"""The upload hook: code of the user that is handed the content of every call before it is recorded, and may change it.

Two forms. A function gets the plain structures that are recorded, as lists of dicts, and changes them in place. An object
with `on_completion`, or the entry point of a package that makes one, is a `CompletionHook` of
`opentelemetry-util-genai` and gets that package's message classes. Either is called with the keywords `inputs`,
`outputs`, `system_instruction`, `tool_definitions`, `span` and `log_record` (None where no event is recorded), on the
thread of the application's call: what takes long belongs on a thread of the hook's own. Content is masked before.
"""

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields
from types import ModuleType
from typing import Any, Final

from opentelemetry._logs import LogRecord
from opentelemetry.trace import Span

from . import semconv

_LOG = logging.getLogger(__name__)
_GROUP: Final = "opentelemetry_genai_completion_hook"
_PARTS: Final = {
    "text": "TextPart",
    "reasoning": "ReasoningPart",
    "tool_call": "ToolCallRequestPart",
    "tool_call_response": "ToolCallResponsePart",
    "server_tool_call": "ServerToolCallPart",
    "server_tool_call_response": "ServerToolCallResponsePart",
    "blob": "BlobPart",
    "file": "FilePart",
    "uri": "UriPart",
}
_KEYWORDS: Final = {
    semconv.INPUT_MESSAGES: "inputs",
    semconv.OUTPUT_MESSAGES: "outputs",
    semconv.SYSTEM_INSTRUCTIONS: "system_instruction",
    semconv.TOOL_DEFINITIONS: "tool_definitions",
}

Said = dict[str, list[Any]]
"""Content by name of the attribute it is recorded under."""
UploadHook = Callable[[Said, Span, LogRecord | None], Said]
"""Calls the user's hook, and returns the content as the hook left it."""


def load_hook(name: str) -> UploadHook | None:
    """Load the hook that is named `package.module:function` or by an entry point; None, and one warning, where that fails."""
    try:
        found = _by_path(name) if ":" in name else _by_entry_point(name)
        if hasattr(found, "on_completion"):
            return _with_classes(found.on_completion, importlib.import_module("opentelemetry.util.genai.types"))
        if not callable(found) or inspect.iscoroutinefunction(found):
            raise TypeError("is neither a function, which no coroutine function is, nor has it `on_completion`")
    except Exception as error:  # whatever the user's module does when it is imported
        _LOG.warning(
            "OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK=%s cannot be loaded (%s: %s); content is not handed to it. Give "
            "`package.module:function`, or install the package with that entry point of the group %s; classes with "
            "`on_completion` need opentelemetry-util-genai",
            name,
            type(error).__name__,
            error,
            _GROUP,
        )
        return None
    return _with_plain(found)


def _by_path(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for step in path.split("."):
        found = getattr(found, step)
    return found() if isinstance(found, type) else found


def _by_entry_point(name: str) -> Any:
    from importlib.metadata import entry_points  # takes milliseconds to import

    matching = tuple(entry_points(group=_GROUP, name=name))
    if not matching:
        there = ", ".join(sorted(one.name for one in entry_points(group=_GROUP))) or "none"
        raise LookupError(f"no such entry point; there are: {there}")
    return matching[0].load()()


def _with_plain(function: Callable[..., Any]) -> UploadHook:
    def call(said: Said, span: Span, log_record: LogRecord | None) -> Said:
        given = {name: said.get(name, []) for name in _KEYWORDS}
        function(**{_KEYWORDS[name]: items for name, items in given.items()}, span=span, log_record=log_record)
        return {name: items for name, items in given.items() if items}

    return call


def _with_classes(on_completion: Callable[..., Any], types: ModuleType) -> UploadHook:
    def records(said: Said) -> Said:
        return {name: [_record(name, item, types) for item in said.get(name, ())] for name in _KEYWORDS}

    def call(said: Said, span: Span, log_record: LogRecord | None) -> Said:
        given, before = records(said), records(said)
        named: dict[str, Any] = {_KEYWORDS[name]: items for name, items in given.items()}
        if not said.get(semconv.TOOL_DEFINITIONS):
            named["tool_definitions"] = None
        on_completion(**named, span=span, log_record=log_record)
        # The classes hold less than the structures; only what the hook changed is taken back from them.
        left = {name: said.get(name, []) if given[name] == before[name] else _dicts(given[name]) for name in _KEYWORDS}
        return {name: items for name, items in left.items() if items}

    return call


def _record(name: str, item: Any, types: ModuleType) -> Any:
    if name == semconv.SYSTEM_INSTRUCTIONS:
        return _part(item, types)
    if name == semconv.TOOL_DEFINITIONS:
        is_function = item.get("type") == "function"
        return _make(types.FunctionToolDefinition if is_function else types.GenericToolDefinition, item)
    kind = types.InputMessage if name == semconv.INPUT_MESSAGES else types.OutputMessage
    return _make(kind, {**item, "parts": [_part(part, types) for part in item.get("parts", ())]})


def _part(item: Mapping[str, Any], types: ModuleType) -> Any:
    kind = getattr(types, _PARTS.get(item["type"], "GenericPart"))
    return _make(kind, {**item, "content": b""} if item["type"] == "blob" else item)


def _make(kind: Any, item: Mapping[str, Any]) -> Any:
    return kind(
        **{
            one.name: item.get(one.name)
            for one in fields(kind)
            if one.name in item or (one.default is MISSING and one.default_factory is MISSING)
        }
    )


def _dicts(items: list[Any]) -> list[Any]:
    return [_known(asdict(item) if not isinstance(item, dict) else item) for item in items]


def _known(value: Any) -> Any:
    """Leave out what is None, as in what is recorded without a hook, and the bytes a blob never has here."""
    if isinstance(value, dict):
        return {name: _known(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return "" if isinstance(value, bytes) else value
