"""Text as the stand-in sees it: a token is four bytes, prompts are cut into them, answers are made of a passage.

Prefixes stay prefixes, every list of tokens can be turned back into its text, and an answer counts as many tokens as it was
generated with. Real tokenizers come to about four bytes a token as well.
"""

import math
import random
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

WIDTH = 4
_MARK = 1 << 32  # keeps leading zero bytes apart, and every id above the ids of bytes that were cut short

_PASSAGE = (
    "A request arrives, waits for its turn, and is read whole before the first word of its answer is written. "
    "From then on the engine writes one word for everybody it serves, and then the next, and the next. "
    "When many wait, each step takes a little longer; when memory runs out, the one who came last gives up its place, "
    "comes back later and is read again from the start. What two prompts have in common is read only once. "
    "The clock on the wall says when somebody asked, the clock of the engine says how long it took. "
    "Some leave before the end; nobody tells the statistics, yet the words that were written for them are counted. "
    "Some ask for more than there is room for and are cut short in the middle of a "
)
PASSAGE = _PASSAGE + "." * (-len(_PASSAGE) % WIDTH)
PIECES = tuple(PASSAGE[at : at + WIDTH] for at in range(0, len(PASSAGE), WIDTH))


def tokenize(text: str) -> list[int]:
    """Return the tokens of a text."""
    data = text.encode()
    return [_token(data[at : at + WIDTH]) for at in range(0, len(data), WIDTH)]


def count_tokens(text: str) -> int:
    """Return how many tokens a text has."""
    return -(-len(text.encode()) // WIDTH)


def detokenize(tokens: Iterable[int]) -> str:
    """Return the text of tokens; what was never a token reads as the replacement character."""
    return b"".join(_bytes(token) for token in tokens).decode(errors="replace")


def _token(piece: bytes) -> int:
    return int.from_bytes(piece, "big") + (_MARK >> (8 * (WIDTH - len(piece))))


def _bytes(token: int) -> bytes:
    length = max((token.bit_length() - 1) // 8, 0)
    exact = token.bit_length() == 8 * length + 1 and 0 < length <= WIDTH
    return token.to_bytes(length + 1, "big")[1:] if exact else "\N{REPLACEMENT CHARACTER}".encode()


PIECE_TOKENS = tuple(_token(piece.encode()) for piece in PIECES)


def render_chat(messages: Sequence[Mapping[str, Any]], *, answer_follows: bool = True) -> str:
    """Return messages as one prompt, as a chat template would; images and sounds take the place of their type's name."""
    lines = [f"{message.get('role')}: {_content(message.get('content'))}\n" for message in messages]
    return "".join(lines) + ("assistant: " if answer_follows else "")


def _content(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", f"<{part.get('type')}>")) for part in content if isinstance(part, Mapping))
    return "" if content is None else str(content)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model is going to say: known from the start, handed out a token at a time."""

    start: int  # the piece of the passage that it begins with
    tokens: int  # how many there are
    reason: Literal["stop", "length"]  # why it ends there
    stop: str | None = None  # the stop string that ended it
    shown: int | None = None  # characters that are shown of it, where a stop string hides the end

    def token(self, index: int) -> int:
        """Return one token."""
        return PIECE_TOKENS[(self.start + index) % len(PIECES)]

    def text(self, begin: int, end: int) -> str:
        """Return the text of the tokens from `begin` up to `end`."""
        if self.shown is None:
            if end - begin == 1:
                return PIECES[(self.start + begin) % len(PIECES)]
            return "".join(PIECES[(self.start + index) % len(PIECES)] for index in range(begin, end))
        whole = "".join(PIECES[(self.start + index) % len(PIECES)] for index in range(end))
        return whole[begin * WIDTH : self.shown]


def make_answer(
    prompt: Sequence[int],
    most: int,
    *,
    usual: int,
    seed: object = 0,
    least: int = 0,
    endless: bool = False,
    stops: Sequence[str] = (),
    keep_stop: bool = False,
) -> Answer:
    """Return the answer to a prompt: the same one for the same prompt and seed.

    `most` is where it is cut; `endless` is vLLM's ignore_eos, `least` its min_tokens, `keep_stop` its include_stop_str_in_output.
    """
    chance = random.Random(f"{seed}:{crc32(array('Q', prompt))}")  # noqa: S311 # made up, not secret
    start = chance.randrange(len(PIECES))
    wanted = max(1, least, round(usual * math.exp(chance.gauss(0, 0.5))))
    stops_by_itself = wanted <= most and not endless
    tokens = wanted if stops_by_itself else most
    answer = Answer(start, tokens, "stop" if stops_by_itself else "length")
    if not stops:
        return answer
    text = answer.text(0, tokens)
    found = [(at, stop) for stop in stops if stop and (at := text.find(stop, max(0, least * WIDTH - len(stop)))) >= 0]
    if not found:
        return answer
    at, stop = min(found)
    end = at + len(stop)
    return Answer(start, -(-end // WIDTH), "stop", stop, end if keep_stop else at)
