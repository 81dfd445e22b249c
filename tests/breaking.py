"""Breaking a package on purpose, one part at a time: each function, and each function inside one, by one that raises.

Code is replaced in place, so that references which others took before are broken as well. Which part runs when is found
out by looking on, not by a list that somebody would have to keep.
"""

import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any


class Broken(RuntimeError):
    """What a broken part raises; `raised` counts how often."""

    raised = 0

    def __init__(self) -> None:
        super().__init__("a part of ours is broken")
        Broken.raised += 1


def _raiser(*_: Any, **__: Any) -> None:
    raise "here"  # type: ignore[misc]  # noqa: B016 - becomes Broken: names of this module are not at hand in another


RAISER = _raiser.__code__.replace(
    co_consts=tuple(Broken if const == "here" else const for const in _raiser.__code__.co_consts)
)


def functions(package: str) -> set[FunctionType]:
    """Every function and method of what is imported of a package."""
    found: set[FunctionType] = set()
    for name, module in _modules(package):
        for thing in vars(module).copy().values():
            for member in (thing, *(vars(thing).values() if isinstance(thing, type) else ())):
                function = getattr(member, "__func__", getattr(member, "fget", member))
                function = inspect.unwrap(function) if callable(function) else function
                if isinstance(function, FunctionType) and function.__module__ == name:
                    found.add(function)
    return found


def parts(code: CodeType) -> Iterator[CodeType]:
    """The code itself, and that of all functions inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from parts(const)


@contextmanager
def breaking(function: FunctionType, part: CodeType) -> Iterator[None]:
    """Let `part`, which is the function's code or some inside it, raise for the length of the block."""
    for _, module in _modules(function.__module__.partition(".")[0]):
        for thing in vars(module).copy().values():
            if hasattr(thing, "cache_clear"):  # or the part might not be called again
                thing.cache_clear()
    whole = function.__code__
    function.__code__ = _broken(whole, part)
    try:
        yield
    finally:
        function.__code__ = whole


@contextmanager
def noted(package: ModuleType, into: set[CodeType]) -> Iterator[None]:
    """Note the code of a package that runs in the block, in whichever thread."""
    folder = str(Path(str(package.__file__)).parent)

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(folder):
            into.add(frame.f_code)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _broken(code: CodeType, part: CodeType) -> CodeType:
    if code is part:
        return RAISER.replace(co_freevars=code.co_freevars)
    return code.replace(
        co_consts=tuple(_broken(const, part) if isinstance(const, CodeType) else const for const in code.co_consts)
    )


def _modules(package: str) -> list[tuple[str, ModuleType]]:
    return [(name, module) for name, module in sys.modules.copy().items() if name.partition(".")[0] == package]
