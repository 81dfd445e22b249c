"""Names of people, teams and keys, told apart without being told: a keyed hash takes their place.

HMAC-SHA256 of the name, its first 16 hexadecimal digits: 64 bits keep a million names apart and fit a legend, and
whoever has the key finds a name again (`printf %s NAME | openssl dgst -sha256 -hmac KEY | cut -c..16` and the like).
Without a key there are no pseudonyms: an unkeyed hash of a team's name is undone by hashing a list of team names.
The key is read once, and is in no message, representation or attribute.
"""

import hmac
import logging
from functools import lru_cache
from pathlib import Path
from typing import Final

from .settings import Settings

_LOG = logging.getLogger(__name__)
_DIGITS: Final = 16
_MAX_KEY_BYTES: Final = 65_536  # a file longer than this is not a key
_MAX_NAMES: Final = 4096  # kept with their pseudonyms, those used last


class Pseudonyms:
    """The pseudonyms made with one key."""

    __slots__ = ("of",)

    def __init__(self, key: bytes) -> None:
        def of(name: str) -> str:
            return hmac.digest(key, name.encode(errors="surrogatepass"), "sha256").hex()[:_DIGITS]

        self.of = lru_cache(maxsize=_MAX_NAMES)(of)


def read_pseudonyms(settings: Settings) -> Pseudonyms | None:
    """Return the pseudonyms of the configured key; None without one, or where its file cannot be read."""
    return _read(settings.hmac_key, settings.hmac_key_file)


@lru_cache(maxsize=8)
def _read(key: str | None, path: str | None) -> Pseudonyms | None:
    if key:
        return Pseudonyms(key.encode())
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            found = file.read(_MAX_KEY_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte in it
        _warn(path, getattr(error, "strerror", None) or "not a path")
        return None
    found = found.strip()  # editors end a file with a line feed
    if not found or len(found) > _MAX_KEY_BYTES:
        _warn(path, "it is empty" if not found else "it is too long for a key")
        return None
    return Pseudonyms(found)


def _warn(path: str, reason: str) -> None:
    _LOG.warning(
        "OTEL_LLM_HMAC_KEY_FILE=%s cannot be read (%s): key alias, team and user of the proxy are left out; "
        "put a key there that this process may read and start it again",
        path,
        reason,
    )
