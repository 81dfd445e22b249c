"""Which generation of the GenAI conventions is spoken, and where their names differ.

`OTEL_SEMCONV_STABILITY_OPT_IN` chooses. Released: what released OpenTelemetry packages emit today (schema 1.37). Older:
1.36, with `gen_ai.system`. Latest: the conventions' own repository, which counts tokens with counters by modality and
calls the metrics of a call `gen_ai.client.inference.*`. Spans differ between older and released only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from . import semconv
from .records import Value

LATEST: Final = "gen_ai_latest_experimental"
OLDER: Final = "gen_ai_1_36"
DUP: Final = "/dup"  # behind a word: beside the released generation instead of in its place

_OLDER_NAMES: Final = {
    semconv.PROVIDER_NAME: semconv.SYSTEM_1_36,
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: semconv.USAGE_CACHE_CREATION_INPUT_TOKENS_1_36,
}


@dataclass(frozen=True)
class Generations:
    """Those in force; at least one is."""

    older: bool = False
    released: bool = True
    latest: bool = False

    def rename(self, attributes: dict[str, Value]) -> dict[str, Value]:
        """Put attributes of spans and points under the names in force; the very dictionary, where nothing changes."""
        if not self.older:
            return attributes
        renamed: dict[str, Value] = {}
        for name, value in attributes.items():
            older = _OLDER_NAMES.get(name)
            if older is not None:
                renamed[older] = value
            if older is None or self.released or self.latest:
                renamed[name] = value
        return renamed


def generations(opt_in: Iterable[str]) -> Generations:
    """Read the words of the variable; words of other domains say nothing here."""
    words = frozenset(opt_in)
    older, latest = not words.isdisjoint((OLDER, OLDER + DUP)), not words.isdisjoint((LATEST, LATEST + DUP))
    beside = not words.isdisjoint((OLDER + DUP, LATEST + DUP))
    return Generations(older, beside or not (older or latest), latest)
