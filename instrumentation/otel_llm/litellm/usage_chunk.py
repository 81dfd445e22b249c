"""Asking a server for the token counts of a stream, in the bytes of a request that does not ask.

LiteLLM keeps the chunk in which they come from a caller who did not ask for it. How the bytes are sent, and what is done
where a server refuses the field, is left to the seam.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

REFUSED: Final = frozenset((400, 422))
"""Statuses by which servers refuse a field they do not know."""

_ASKING: Final = b', "stream_options": {"include_usage": true}}'
_GIVEN: Final = b'"stream_options"'
_STREAM: Final = b'"stream"'
_MAX_REMEMBERED: Final = 256


def asking(body: bytes) -> bytes | None:
    """Return the body with the question added; None where it is no stream or says something of stream options itself.

    Prompts can be large, hence a look at the bytes instead of a parse. Inside a JSON string a quote has a backslash before
    it: the words of a prompt are never taken for fields, and a field of that name elsewhere means that nothing is added.
    """
    end = len(body.rstrip()) - 1
    if not body.startswith(b"{") or not body.startswith(b"}", end) or not _is_stream(body) or _GIVEN in body:
        return None
    return b"".join((memoryview(body)[:end], _ASKING))  # one copy


def _is_stream(body: bytes) -> bool:
    at = body.rfind(_STREAM)  # clients write the prompt before it
    while at != -1:
        after = at + len(_STREAM)
        if body[after : after + 32].translate(None, b" \t\r\n").startswith(b":true"):
            return True
        at = body.rfind(_STREAM, 0, at)
    return False


class Refusals:
    """The servers that refused, the latest few hundred of them."""

    def __init__(self) -> None:
        self._servers: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, server: Hashable) -> bool:
        return server in self._servers

    def add(self, server: Hashable) -> None:
        """Remember a server."""
        self._servers[server] = None
        if len(self._servers) > _MAX_REMEMBERED:
            self._servers.popitem(last=False)
