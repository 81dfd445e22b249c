"""What a look at something comes to."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `note` is for what is absent and was not asked for."""

    subject: str
    verdict: Verdict
    said: str
    remedy: str = ""
