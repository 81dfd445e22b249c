"""Masking secrets and personal data in text before it leaves the process: keys, e-mail, phone and card numbers, own patterns.

What is found is replaced by `[masked:email]` and the like. Every built-in expression takes time linear in the text, for
texts come from anywhere: each begins only where a word begins, and repeats possessively or a bounded number of times.
Own expressions are the user's; those that repeat within a repetition are refused, for a text could make them take
forever. What text is masked, and how much of it is looked at, is for the callers to decide.
"""

import logging
import re
import re._constants as syntax  # type: ignore[import-not-found]  # ships no types; the public name is deprecated
import re._parser as parser  # type: ignore[import-not-found]  # the same
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from .settings import Settings

_LOG = logging.getLogger(__name__)
_MARGIN: Final = 256  # characters; no built-in mask needs to see more of a secret to know it for one
_SHORTEST: Final = 6  # no built-in mask finds anything in less
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_OWN: Final = 256
_MAX_BOUND: Final = 256  # a repetition that may go on for longer counts as one without a bound
_OWN_LINE: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]{0,31})\s*=\s*(?P<expression>.+)")

Own = tuple[str, re.Pattern[str]]

# What a key begins with, and how it goes on. A text that holds none of the beginnings is not searched.
_KEYS: Final = (
    ("sk-", r"(?:(?=[A-Za-z_-]{0,64}[0-9])[\w-]{4,}|[\w-]{16,})"),  # OpenAI, Anthropic, LiteLLM, Langfuse and others
    *((start, r"[A-Za-z0-9]{10,}") for start in ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "hf_")),
    *((start, r"[A-Z0-9]{16}") for start in ("AKIA", "ASIA")),
    *((start, r"\w{16,}") for start in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_")),
    *(
        (start, r"[A-Za-z0-9-]{8,}")
        for start in ("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-")
    ),
    *(
        (start, r"[\w-]{16,}")
        for start in ("AIza", "ya29.", "glpat-", "gsk_", "nvapi-", "pplx-", "xai-", "r8_", "tgp_")
    ),
    *((start, r"[\w-]{16,}") for start in ("npm_", "pypi-", "dckr_pat_", "lsv2_", "tvly-")),
    ("eyJ", r"[\w-]{8,}+(?:\.[\w-]*+){1,4}"),  # a JSON web token
)
_BEARER: Final = r"(?<=\b[Bb]earer )(?:(?=[A-Za-z._~+/=-]{0,64}[0-9])[\w.~+/=-]{6,}|[\w.~+/=-]{20,})"
_PRIVATE_KEY: Final = r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]{0,32}PRIVATE KEY-----|\Z)"
_SENSITIVE_WORDS: Final = ("key", "token", "secret", "password", "passwd", "pwd", "authorization", "x-amz-", "sig")
_SENSITIVE_NAME: Final = (
    r"(?:(?:x[_-])?api[_-]?key|(?:secret|private|access)[_-]?key|(?:access|auth|refresh|bearer|security)[_-]?token"
    r"|client[_-]?secret|password|passwd|pwd|authorization|x-amz-(?:signature|credential|security-token)|sig|signature)"
)
_SENSITIVE: Final = (
    r"(?<![a-z0-9])(" + _SENSITIVE_NAME + r"""["']?+\s{0,3}+[:=]\s{0,3}+["']?+(?:(?:bearer|basic)\s{1,3}+)?+)"""
    r"""(?!\[masked:)[^\s"',;&<>{}\[\]()]{4,}"""
)
_USERINFO: Final = r"(?<=://)[^/\s:@\[\]]++:[^/\s@]++(?=@)"
_EMAIL: Final = r"(?<![\w.+%-])[\w.+%-]++@[\w-]++(?:\.[\w-]++)++"
_CARD: Final = r"""(?x)
    (?<![0-9])(?:
        [2-6][0-9]{12,18}
      | [2-6][0-9]{3} ([ \u00a0-]) [0-9]{4} \1 [0-9]{4} \1 [0-9]{4} (?: \1 [0-9]{1,3} )?
      | 3[47][0-9]{2} ([ \u00a0-]) [0-9]{6} \2 [0-9]{5}
    )(?![0-9])
"""
_PHONE: Final = r"""(?x)
    (?<![\w+.-])(?:
        (?:\+|00)[1-9](?:[ \u00a0().\-/]{0,2}[0-9]){6,14}
      | \([0-9]{3}\)[ ]?[0-9]{3}[ .-]?[0-9]{4}
      | (?:1[ .-])?[0-9]{3}[ .-][0-9]{3}[ .-][0-9]{4}
      | \(?0[1-9][0-9]{1,4}\)?[ /-]{1,3}[0-9](?:[ -]?[0-9]){4,9}
      | 0[1-9][0-9]{8,10}
    )(?![\w-])
"""


class Masks:
    """What is masked: the built-in kinds, own ones, both or neither."""

    def __init__(self, own: tuple[Own, ...] = (), *, is_built_in: bool = True) -> None:
        """`own` are names and expressions; they go before the built-in ones."""
        self._own = own
        self._is_built_in = is_built_in

    def apply(self, text: str) -> str:
        """Return the text with all that is found in it masked."""
        for name, expression in self._own:
            text = expression.sub(_replacement(name), text)
        if self._is_built_in and len(text) >= _SHORTEST:
            for mask in _built_in():
                text = mask(text)
        return text

    def names_secret(self, name: str) -> bool:
        """Whether a field of this name holds a secret, whatever its text looks like: `password`, `api_key`."""
        return self._is_built_in and len(name) < 32 and _sensitive_name().fullmatch(name) is not None

    def head(self, text: str, most: int) -> tuple[str, int]:
        """Mask the beginning of a text, `most` characters at most, and tell how many of its characters are left out.

        The work does not grow with the text, and nothing is cut so that a half of it would escape its mask.
        """
        # Masks shorten, so more is looked at than is kept; and at the end of what is looked at, one may need more to match.
        seen = text if len(text) <= 2 * most + _MARGIN else text[: 2 * most + _MARGIN]
        masked = self.apply(seen)
        kept = masked[: most if len(seen) == len(text) else max(0, min(most, len(masked) - _MARGIN))]
        return kept, len(masked) - len(kept) + len(text) - len(seen)


def read_masks(settings: Settings) -> Masks:
    """Make the masks that are set; what cannot be used of the file of own ones is named in a warning."""
    file = settings.mask_patterns_file
    return Masks(tuple(_read_own(Path(file))) if file else (), is_built_in=settings.mask_content)


def _read_own(file: Path) -> Iterator[Own]:
    try:
        with file.open("rb") as opened:
            lines = opened.read(_MAX_FILE_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        _LOG.warning(
            "OTEL_LLM_MASK_PATTERNS_FILE=%s cannot be read (%s); its patterns are not masked: give the path of a UTF-8 text file",
            file,
            error,
        )
        return
    found = 0
    for number, line in enumerate(lines, 1):
        row = line.strip()
        if not row or row.startswith("#"):
            continue
        named = _OWN_LINE.fullmatch(row)
        name, source = (named["name"], named["expression"]) if named else ("own", row)
        try:
            if found == _MAX_OWN:
                raise ValueError(f"is one more than {_MAX_OWN}, the most there may be")
            yield name, _compile(source)
        except (ValueError, OverflowError, RecursionError) as error:
            _LOG.warning("%s:%d: the pattern %s; it is not masked, the others are", file, number, error)
        else:
            found += 1


def _compile(source: str) -> re.Pattern[str]:
    try:
        expression, tree = re.compile(source), parser.parse(source)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    if expression.search("") is not None:
        raise ValueError("matches the empty text")
    if _repeats_within(tree, False):
        raise ValueError(
            "repeats within a repetition, which can take forever: bound the inner one ({1,64}) or make it possessive (++)"
        )
    return expression


def _repeats_within(tree: Any, is_repeated: bool) -> bool:
    """Whether an expression's parse tree holds an unbounded repetition inside another one, both of which may give back."""
    for operator, argument in tree:
        if operator in (syntax.MAX_REPEAT, syntax.MIN_REPEAT):
            is_open = argument[1] > _MAX_BOUND
            if (is_open and is_repeated) or _repeats_within(argument[2], is_repeated or is_open):
                return True
        elif operator in (syntax.POSSESSIVE_REPEAT, syntax.ATOMIC_GROUP):
            inner = argument[2] if operator is syntax.POSSESSIVE_REPEAT else argument
            if _repeats_within(inner, False):
                return True
        elif operator is syntax.SUBPATTERN:
            if _repeats_within(argument[-1], is_repeated):
                return True
        elif operator is syntax.BRANCH:
            if any(_repeats_within(branch, is_repeated) for branch in argument[1]):
                return True
        elif operator in (syntax.ASSERT, syntax.ASSERT_NOT) and _repeats_within(argument[1], is_repeated):
            return True
    return False


def _replacement(name: str) -> Callable[[re.Match[str]], str]:
    mask = f"[masked:{name}]"
    return lambda match: mask if match[0] else ""  # what matches nothing at all masks nothing


@cache
def _sensitive_name() -> re.Pattern[str]:
    return re.compile(_SENSITIVE_NAME, re.IGNORECASE)


@cache
def _built_in() -> tuple[Callable[[str], str], ...]:
    # Made with the first text, not at import: compiling takes milliseconds. The more certain kinds go first. Looking for
    # what a mask cannot do without costs a tenth of searching.
    key = re.compile("(?<![A-Za-z0-9])(?:" + "|".join(re.escape(start) + rest for start, rest in _KEYS) + ")")
    bearer, private_key, secret = re.compile(_BEARER), re.compile(_PRIVATE_KEY), re.compile(_SENSITIVE, re.IGNORECASE)
    userinfo, email, card, phone = (re.compile(one) for one in (_USERINFO, _EMAIL, _CARD, _PHONE))
    seven_digits = re.compile("[0-9](?:[^0-9]{0,4}[0-9]){6}")

    def keys(text: str) -> str:
        if "PRIVATE KEY" in text:
            text = private_key.sub("[masked:key]", text)
        if any(start in text for start, _ in _KEYS):
            text = key.sub("[masked:key]", text)
        return bearer.sub("[masked:key]", text) if "earer " in text else text

    def secrets(text: str) -> str:
        if ":" in text or "=" in text:
            lower = text.lower()
            if any(word in lower for word in _SENSITIVE_WORDS):
                return secret.sub(r"\1[masked:secret]", text)
        return text

    def numbers(text: str) -> str:
        return phone.sub("[masked:phone]", _mask_cards(text, card)) if seven_digits.search(text) is not None else text

    return (
        keys,
        secrets,
        lambda text: userinfo.sub("[masked:secret]", text) if "://" in text else text,
        lambda text: email.sub("[masked:email]", text) if "@" in text else text,
        numbers,
    )


def _mask_cards(text: str, card: re.Pattern[str]) -> str:
    done, position, pieces = 0, 0, []
    while (match := card.search(text, position)) is not None:
        if _is_card(match[0]):
            pieces += [text[done : match.start()], "[masked:card]"]
            done = position = match.end()
        else:
            position = match.start() + 1  # a group of digits before a card may look like its beginning
    return "".join((*pieces, text[done:])) if pieces else text


def _is_card(text: str) -> bool:
    """Luhn's check, which nine of ten numbers that are no card fail."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
