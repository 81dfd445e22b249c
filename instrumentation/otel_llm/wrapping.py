"""Putting wrappers in the place of a library's functions and methods, and the originals back."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

Function = Callable[..., Any]

_ORIGINAL: Final = "__otel_llm_original__"  # on a wrapper of ours: what it wraps


def is_wrapped(function: Any) -> bool:
    """Whether this is a wrapper of ours."""
    return hasattr(function, _ORIGINAL)


class Wrappers:
    """The wrappers that one instrumentation has put on; thread-safe."""

    def __init__(self) -> None:
        self.put_on: list[tuple[Any, str, Function]] = []  # owner, attribute, our wrapper
        self._putting = threading.Lock()

    def put(self, owner: Any, name: str, wrapper: Function, original: Function) -> None:
        """Put `wrapper` in the place of `original`, the attribute `name` of `owner`."""
        setattr(wrapper, _ORIGINAL, original)
        setattr(owner, name, wrapper)
        self.put_on.append((owner, name, wrapper))

    def put_methods(self, owner: type, methods: Mapping[str, Callable[[Function], Function]]) -> None:
        """Wrap methods of a class, by name, each by what makes its wrapper; one it lacks, or that is wrapped, is passed over."""
        with self._putting:  # the first objects of a class may be seen by several threads
            for name, make in methods.items():
                original: Any = getattr(owner, name, None)
                if original is not None and not is_wrapped(original):
                    self.put(owner, name, make(original), original)

    def take_off(self) -> None:
        """Put every original back; a wrapper that somebody else wrapped stays."""
        for owner, name, wrapper in reversed(self.put_on):
            if vars(owner).get(name) is wrapper:
                setattr(owner, name, getattr(wrapper, _ORIGINAL))
        self.put_on.clear()
