"""LiteLLM's public functions, one row each: the operation, and how its calls, replies and streams are read."""

from typing import Final

from . import chat, stream
from .entry import Entry

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry("completion", chat.read_request, chat.read_reply, stream.follow, "acompletion"),
    Entry("acompletion", chat.read_request, chat.read_reply, stream.follow),
)
