"""What can be set for the instrumentation, as rows; the standard OTEL_* variables are the SDK's and not repeated here.

Read once, when an instrumentor starts. A value that cannot be understood is named in one warning and the default is
used: an application must not fail to start for the sake of its telemetry.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_LOG = logging.getLogger(__name__)
_WORDS: Final = {**dict.fromkeys(("true", "1", "yes", "on"), True), **dict.fromkeys(("false", "0", "no", "off"), False)}


@dataclass(frozen=True)
class Switch:
    """One row: a variable that is on or off."""

    variable: str
    default: bool
    help: str


CAPTURE_ERROR_MESSAGE: Final = Switch(
    "OTEL_LLM_CAPTURE_ERROR_MESSAGE",
    False,
    "Record the message of a failed call on its span (status and exception event). Off by default: servers quote the "
    "prompt, and parts of keys, in their error messages. Type, HTTP status and stack trace are always recorded.",
)

SETTINGS: Final[tuple[Switch, ...]] = (CAPTURE_ERROR_MESSAGE,)


@dataclass(frozen=True)
class Settings:
    """The values in force."""

    capture_error_message: bool = CAPTURE_ERROR_MESSAGE.default


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read all settings from the environment."""
    return Settings(capture_error_message=_switch(CAPTURE_ERROR_MESSAGE, environ))


def _switch(row: Switch, environ: Mapping[str, str]) -> bool:
    text = environ.get(row.variable, "").strip()
    value = _WORDS.get(text.lower())
    if text and value is None:
        _LOG.warning("%s=%r is neither true nor false; using %s", row.variable, text, str(row.default).lower())
    return row.default if value is None else value
