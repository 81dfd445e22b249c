"""One sequence of tokens that an engine works on, and when it got how far; all times on the engine's clock."""

from dataclasses import dataclass, field
from typing import Literal

from otel_agent.simulate.text import Answer

Reason = Literal["stop", "length", "abort", "error"]


@dataclass(slots=True)
class Siblings:
    """The sequences of one request, `n` of them, of which some are not finished yet."""

    n: int = 1
    unfinished: int = 1
    longest: int = 0


@dataclass(eq=False, slots=True)
class Sequence:
    """What a request asked of the engine, and what has come of it; with no answer it is a pooling request, done once it is read."""

    id: str
    prompt: tuple[int, ...]
    answer: Answer | None
    limit: int | None = None  # the max_tokens that holds for it
    siblings: Siblings = field(default_factory=Siblings)
    error_after: int | None = None  # tokens after which the engine fails with it

    blocks: list[int] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)  # of the full blocks, as far as they are known
    filled: int = 0  # blocks whose content the cache was told
    computed: int = 0  # tokens whose keys and values are in the blocks
    generated: int = 0
    cached: int | None = None  # tokens of the prompt that were in the cache when it was first admitted
    preemptions: int = 0
    finish: Reason | None = None

    queued_s: float | None = None
    scheduled_s: float | None = None  # for the first time
    first_s: float | None = None
    last_s: float | None = None

    @property
    def length(self) -> int:
        """How many tokens there are, read and written."""
        return len(self.prompt) + self.generated

    def tokens(self, begin: int, end: int) -> tuple[int, ...]:
        """Return a part of the prompt and its answer."""
        known = len(self.prompt)
        said = self.answer
        if end <= known or said is None:
            return self.prompt[begin:end]
        return self.prompt[begin:known] + tuple(said.token(index - known) for index in range(max(begin, known), end))
