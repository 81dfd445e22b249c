"""Which model a command line says it serves, for the engines that say so. A guess is never made: no known flag, no model."""

import shlex
from collections.abc import Sequence

MODEL_LENGTH = 256
# What clients call the model wins over where its weights are.
_SERVED = ("--served-model-name", "--served_model_name", "--alias")
_WEIGHTS = ("--model", "--model-path", "--model_path", "--model-id", "--model-name-or-path", "-hf", "--hf-repo")
# Words after which the model stands without a flag: `vllm serve NAME`, `trtllm-serve serve NAME`, `lmdeploy serve api_server NAME`.
_BEFORE = (("vllm", "serve"), ("trtllm-serve", "serve"), ("trtllm-serve",), ("serve", "api_server"))
_LLAMA = ("llama-server", "llama.cpp")


def declared_model(command: Sequence[str], *, depth: int = 2) -> str | None:
    """Return the model that a command line names; None where it names none, or one that only a shell would know."""
    words = list(command)
    if depth and (script := _script(words)):
        return declared_model(script, depth=depth - 1)
    return _sound(_flag(words, _SERVED) or _flag(words, _WEIGHTS) or _llama(words) or _positional(words))


def _script(words: Sequence[str]) -> list[str] | None:
    """Return the words of `sh -c '...'`."""
    if not words or words[0].rpartition("/")[2] not in ("sh", "bash", "dash", "ash", "zsh"):
        return None
    position = next((at for at, word in enumerate(words[1:], 1) if word.startswith("-") and word.endswith("c")), None)
    if position is None or position + 1 >= len(words):
        return None
    try:
        return shlex.split(words[position + 1])
    except ValueError:
        return None


def _flag(words: Sequence[str], flags: Sequence[str]) -> str | None:
    for flag in flags:
        for at, word in enumerate(words):
            if word.startswith(flag + "="):
                return word[len(flag) + 1 :]
            if word == flag and at + 1 < len(words) and not words[at + 1].startswith("-"):
                return words[at + 1]
    return None


def _llama(words: Sequence[str]) -> str | None:
    """Only llama.cpp calls the model `-m`; for Python the same flag names a module."""
    return _flag(words, ("-m",)) if any(word.rpartition("/")[2] in _LLAMA for word in words[:2]) else None


def _positional(words: Sequence[str]) -> str | None:
    bare = [word.rpartition("/")[2] if at < 3 else word for at, word in enumerate(words)]
    for before in _BEFORE:
        for at in range(len(bare) - len(before)):
            after = words[at + len(before)]
            if tuple(bare[at : at + len(before)]) == before and not after.startswith("-"):
                return after
    return None


def _sound(name: str | None) -> str | None:
    return None if not name or "$" in name else name[:MODEL_LENGTH]
