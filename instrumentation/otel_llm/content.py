"""Recording what was said, where that is switched on: masked, cut to length, on the span, on an event, through a hook.

Reading it out of a library's arguments and replies is for that library's module; what is handed over here may be of any
size and hold anything. Nothing in here raises, and where content is off there is no recorder at all.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Any, Final

from opentelemetry._logs import Logger, LoggerProvider, LogRecord, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import Span

from . import fault, semconv
from .masks import Masks, read_masks
from .plain import fitted, masked, plain_items
from .records import Content, Value
from .settings import CaptureContent, Settings
from .upload import Said, UploadHook, load_hook

_MAX_UPLOAD: Final = 1 << 20  # characters of each of the four that a hook is given
_SPAN_MODES: Final = (CaptureContent.SPAN_ONLY, CaptureContent.SPAN_AND_EVENT)
_EVENT_MODES: Final = (CaptureContent.EVENT_ONLY, CaptureContent.SPAN_AND_EVENT)


def open_content(
    settings: Settings,
    logger_provider: LoggerProvider | None = None,
    *,
    masks: Masks | None = None,
    name: str = "otel_llm",
    version: str = "",
    environ: Mapping[str, str] = os.environ,
) -> "ContentRecorder | None":
    """Make what records content as it is set; None where content is off and no hook asks for it."""
    hook = load_hook(settings.upload_hook) if settings.upload_hook is not None else None
    if settings.capture_content is CaptureContent.NO_CONTENT and hook is None:
        return None
    return ContentRecorder(
        masks=read_masks(settings) if masks is None else masks,
        hook=hook,
        logger=get_logger(name, version, logger_provider) if settings.capture_content in _EVENT_MODES else None,
        is_on_span=settings.capture_content in _SPAN_MODES,
        most_on_span=min(settings.content_max_characters, _sdk_limit(environ)),
        most=settings.content_max_characters,
    )


@dataclass(frozen=True, slots=True)
class ContentRecorder:
    """What to do with the content of calls. Used from any thread."""

    masks: Masks
    hook: UploadHook | None
    logger: Logger | None  # None: no events
    is_on_span: bool
    most_on_span: int  # characters of an attribute
    most: int

    def wants(self, span: Span) -> bool:
        """Whether the content of this span's call is recorded anywhere, hence worth reading."""
        return self.hook is not None or self.logger is not None or span.is_recording()

    def record(
        self,
        span: Span,
        context: Context,
        attributes: Mapping[str, Value],
        request: Content | None,
        reply: Content | None,
    ) -> None:
        """Record what was said in the call of this span, which has not ended; `attributes` are the span's main ones."""
        try:
            self._record(span, context, attributes, _lists(request, reply))
        except Exception as own:
            fault.report("content of a call", own)

    def _record(self, span: Span, context: Context, attributes: Mapping[str, Value], content: Said) -> None:
        event = self._event(context, attributes)
        if event is None and self.hook is None and not span.is_recording():
            return
        most = _MAX_UPLOAD if self.hook is not None else self.most
        said = {name: masked(plain_items(items), self.masks, most) for name, items in content.items()}
        if event is not None:
            event.attributes = {**(event.attributes or {}), **self._structured(said)}
        if self.hook is not None:
            said = self._after_hook(self.hook, said, span, event)
        if self.is_on_span and span.is_recording():
            for name, items in said.items():
                cut = fitted(items, self.most_on_span, _LEFT_OUT[name])
                if cut is not None:
                    span.set_attribute(name, cut[1])
        if event is not None and self.logger is not None:
            self.logger.emit(event)

    def _event(self, context: Context, attributes: Mapping[str, Value]) -> LogRecord | None:
        name = semconv.INFERENCE_DETAILS_EVENT
        if self.logger is None or not self.logger.enabled(context=context, event_name=name):
            return None
        return LogRecord(timestamp=time_ns(), context=context, event_name=name, attributes=dict(attributes))

    def _structured(self, said: Said) -> dict[str, Any]:
        cuts = {name: fitted(items, self.most, _LEFT_OUT[name]) for name, items in said.items()}
        return {name: cut[0] for name, cut in cuts.items() if cut is not None}

    def _after_hook(self, hook: UploadHook, said: Said, span: Span, event: LogRecord | None) -> Said:
        before = frozenset(said)
        try:
            left = {name: plain_items(items) for name, items in hook(said, span, event).items()}
        except Exception as error:
            fault.report("the upload hook", error)
            return said
        if event is not None:
            # What it took off the event stays off; the rest is written as the hook left it.
            kept = event.attributes or {}
            written = {name: items for name, items in left.items() if name in kept or name not in before}
            others = {name: value for name, value in kept.items() if name not in _LEFT_OUT}
            event.attributes = {**others, **self._structured(written)}
        return left


def _lists(*contents: Content | None) -> Said:
    lists: Said = {}
    for content in contents:
        if content is not None:
            for name, items in (
                (semconv.INPUT_MESSAGES, content.input_messages),
                (semconv.OUTPUT_MESSAGES, content.output_messages),
                (semconv.SYSTEM_INSTRUCTIONS, content.system_instructions),
                (semconv.TOOL_DEFINITIONS, content.tool_definitions),
            ):
                if items:
                    lists[name] = items
    return lists


def _message_left_out(count: int) -> dict[str, Any]:
    return {"role": "…", "parts": [{"type": "text", "content": f"…[+{count} messages]"}]}


def _part_left_out(count: int) -> dict[str, Any]:
    return {"type": "text", "content": f"…[+{count} parts]"}


def _tool_left_out(count: int) -> dict[str, Any]:
    return {"type": "…", "name": f"…[+{count} tools]"}


_LEFT_OUT: Final = {
    semconv.INPUT_MESSAGES: _message_left_out,
    semconv.OUTPUT_MESSAGES: _message_left_out,
    semconv.SYSTEM_INSTRUCTIONS: _part_left_out,
    semconv.TOOL_DEFINITIONS: _tool_left_out,
}


def _sdk_limit(environ: Mapping[str, str]) -> int:
    """The length at which the SDK itself would cut an attribute of a span, in the middle of its JSON."""
    for name in ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"):
        text = environ.get(name, "").strip()
        if text.isdecimal():
            return int(text)
    return 1 << 31
