"""Reading calls for images, speech and transcripts: sizes and counts. Images and sound themselves are never looked at."""

import io
import os
from collections.abc import Mapping
from typing import Final

from otel_llm import semconv
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read.fields import field, text, whole
from otel_llm.litellm.read.inputs import text_length
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.read.noted import note
from otel_llm.litellm.read.request import read_request as read_common
from otel_llm.records import Reply, Request, Usage

_DETAILS: Final = {
    "input_tokens": ("input_tokens_details", "input_token_details", "prompt_tokens_details"),
    "output_tokens": ("output_tokens_details", "completion_tokens_details"),
}
"""By which way the tokens go: the names under which replies split them by modality."""


def read_image_generation(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a call that has images made from its arguments by name."""
    return _image_request(semconv.OPERATION_IMAGE, arguments, names)


def read_image_edit(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a call that has images changed from its arguments by name."""
    return _image_request(semconv.OPERATION_IMAGE_EDIT, arguments, names)


def read_image_variation(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a call that has variations of an image made from its arguments by name."""
    return _image_request(semconv.OPERATION_IMAGE_VARIATION, arguments, names)


def _image_request(operation: str, arguments: Mapping[str, object], names: Names) -> Request:
    request = read_common(operation, arguments, names)
    parameters = request.parameters
    parameters[semconv.OUTPUT_TYPE] = semconv.OUTPUT_IMAGE
    length = text_length(arguments.get("prompt"))
    if length is not None:
        parameters[semconv.PROMPT_LENGTH] = length
    for name, argument in ((semconv.IMAGE_SIZE, "size"), (semconv.IMAGE_QUALITY, "quality")):
        value = text(arguments.get(argument))
        if value is not None:
            parameters[name] = value
    return request


def read_images(response: object, asked: Asked) -> Reply:
    """Read a complete reply that holds images."""
    images = getattr(response, "data", None)
    if not isinstance(images, list):
        return Reply()
    usage = _usage(getattr(response, "usage", None), ("text", "image"))
    reply = Reply(usage=usage, attributes={semconv.IMAGE_COUNT: len(images)})
    return note(reply, response, asked, has_output=True, is_by_piece=True)


def read_speech(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a call that has text spoken from its arguments by name."""
    request = read_common(semconv.OPERATION_SPEECH, arguments, names)
    parameters = request.parameters
    parameters[semconv.OUTPUT_TYPE] = semconv.OUTPUT_SPEECH
    length = text_length(arguments.get("input"))
    if length is not None:
        parameters[semconv.PROMPT_LENGTH] = length
    voice = text(arguments.get("voice"))
    if voice is not None:
        parameters[semconv.AUDIO_VOICE] = voice
    return request


def read_spoken(response: object, asked: Asked) -> Reply:
    """Read a complete reply that holds sound; not the sound, which may still be on its way and is the caller's to take."""
    return note(Reply(), response, asked, is_by_piece=True)


def read_transcription(arguments: Mapping[str, object], names: Names) -> Request:
    """Read a call that has a recording written down from its arguments by name."""
    request = read_common(semconv.OPERATION_TRANSCRIPTION, arguments, names)
    size = _size(arguments.get("file"))
    if size is not None:
        request.parameters[semconv.AUDIO_SIZE] = size
    return request


def read_transcript(response: object, asked: Asked) -> Reply:
    """Read a complete reply that holds what was said in a recording."""
    said = getattr(response, "text", None)
    reply = Reply(response_length=len(said) if isinstance(said, str) else None)
    usage = field(response, "usage")
    seconds = field(usage, "seconds") or field(response, "duration")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
        reply.attributes[semconv.AUDIO_DURATION] = float(seconds)
    reply.usage = _usage(usage, ("text", "audio"))
    is_by_piece = semconv.AUDIO_DURATION in reply.attributes
    return note(reply, response, asked, has_output=True, is_by_piece=is_by_piece)


def _usage(usage: object, modalities: tuple[str, ...]) -> Usage | None:
    # LiteLLM has two sets of names for the counts, by the version of the reply and by who is told, and writes 0 for a
    # count it was not given.
    found = Usage(
        input_tokens=_count(usage, "input_tokens", "prompt_tokens"),
        output_tokens=_count(usage, "output_tokens", "completion_tokens"),
    )
    for direction, names in _DETAILS.items():
        details = next((one for one in (field(usage, name) for name in names) if one is not None), None)
        for modality in modalities:
            count = _count(details, f"{modality}_tokens")
            if count is not None:
                found.by_modality[f"{modality}.{direction}"] = count
    return None if found.input_tokens is None and found.output_tokens is None else found


def _size(file: object) -> int | None:
    """Bytes of a recording, where that is known without reading or moving in it."""
    if isinstance(file, tuple) and len(file) > 1:  # (name, content, ...)
        file = file[1]
    if isinstance(file, bytes | bytearray):
        return len(file)
    if isinstance(file, io.BytesIO):
        return file.getbuffer().nbytes
    if isinstance(file, io.BufferedReader):
        try:
            return os.fstat(file.fileno()).st_size
        except (OSError, ValueError):  # not of the file system, or closed
            return None
    return None


def _count(counts: object, *names: str) -> int | None:
    return next((count for count in (whole(field(counts, name)) for name in names) if count), None)
