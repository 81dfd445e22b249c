"""NVML, the driver's own library, asked one question at a time: its errors in three kinds instead of thirty, and what is not known here.

This and the modules that prepare whole batches (`calls`, `fields`, `monitor`, `samples`) are all that touches pynvml, and only once a driver is
opened. What is asked, and what the answers mean, is left to `device`.
"""

from collections.abc import Hashable
from ctypes import byref, c_ulonglong
from time import perf_counter
from typing import Any

from otel_agent.errors import Unavailable

# Error codes by what they are about; any other costs the one fact that was asked for.
LOST = frozenset({15, 16})  # GPU is lost, GPU requires restart
GONE = frozenset({1, 9, 18})  # uninitialised, driver not loaded, library and kernel module differ
OUTDATED = frozenset(
    {13, 25, 26}
)  # function not found, version of an argument unknown, deprecated: another way to ask may exist
REFUSED = 4
LASTING = OUTDATED | {3, REFUSED}  # not supported, not allowed: the answer will be the same next time
UNKNOWN = frozenset({2**32 - 1, 2**64 - 1})  # NVML_VALUE_NOT_AVAILABLE, as 32 and as 64 bits
_NO_FUNCTION = 13


class DeviceLostError(Exception):
    """This one GPU answers no more."""


class DriverGoneError(Exception):
    """The driver as a whole answers no more; it has to be opened anew."""


class Inquiry:
    """Questions about one device, or about the driver where there is no handle; used by one thread at a time.

    What is answered with "not supported" or "not allowed" is not asked again until `forget`. `waited_s` is the time spent in the
    driver, by `group`; `answers` and `fault` are those since `begin`.
    """

    def __init__(self, library: Any, handle: object = None, *, fatal: bool = True) -> None:
        self.library, self.handle, self._fatal = library, handle, fatal
        self._subject = () if handle is None else (handle,)
        self.group = "calls"
        self.waited_s: dict[str, float] = {}
        self._lasting: dict[Hashable, int] = {}
        self._named: tuple[int, tuple[tuple[str, ...], tuple[str, ...]]] = (0, ((), ()))
        self._functions: dict[Hashable, Any] = {}  # of the library, by question
        self._number = c_ulonglong()
        self._reference = byref(self._number)
        self.begin()

    def begin(self) -> None:
        """Start to count answers and faults anew."""
        self.answers = 0
        self._fault: int | str = 0
        self.code = 0

    def forget(self) -> None:
        """Ask everything again: another driver, or another mode, may know more."""
        self._lasting.clear()
        self._named = (0, ((), ()))

    def ask(self, function: str, *arguments: object, key: Hashable = None) -> Any:
        """Return the answer of a function of the bindings, None where there is none; `key` names a question whose arguments move.

        Raises DeviceLostError or DriverGoneError where nothing else will be answered either.
        """
        question = key or (function, *arguments)
        if question in self._lasting:
            self.code = self._lasting[question]
            return None
        began = perf_counter()
        try:
            answer = getattr(self.library, function)(*self._subject, *arguments)
        except AttributeError:  # bindings older than the function
            self.note(question, _NO_FUNCTION)
            return None
        except (UnicodeDecodeError, ValueError, TypeError) as error:  # what the bindings cannot read
            self._fault = self._fault or str(error)
            self.code = 999
            return None
        except self.library.NVMLError as error:
            self.note(question, error.value)
            return None
        finally:
            self.waited(began)
        self.answers += 1
        self.code = 0
        return answer

    def call(self, function: str, *arguments: object, key: Hashable = None) -> bool:
        """Call a function of the library itself, with buffers of our own; tells whether they are filled.

        The bindings make objects for each call, which costs several times what the call does.
        """
        question = key or function
        called = self._functions.get(question) or self.function(function, question)
        if called is None:
            return False
        group, waited_s = self.group, self.waited_s
        began = perf_counter()
        code = called(*arguments)
        waited_s[group] = waited_s.get(group, 0.0) + perf_counter() - began
        if code:
            self.note(question, code)
            return False
        self.answers += 1
        self.code = 0
        return True

    def function(self, name: str, question: Hashable) -> Any:
        """Return the function of the library for a question; None where that is not to be asked, with `code` saying why."""
        if question in self._lasting:
            self.code = self._lasting[question]
            return None
        try:
            called = self._functions[question] = getattr(self.library.nvmlLib, name)
        except AttributeError:  # a driver older than the function
            self.note(question, _NO_FUNCTION)
            return None
        return called

    def number(self, *ways: tuple[Any, ...]) -> int | None:
        """Ask for a whole number, of 32 or 64 bits, in the newest way first; None where it is the one that stands for "not available"."""
        for way in ways:
            self._number.value = 0
            if self.call(way[0], *self._subject, *way[1:], self._reference, key=way):
                value = self._number.value
                return None if value in UNKNOWN else value
            if self.code not in OUTDATED:
                return None
        return None

    def first(self, *ways: tuple[Any, ...]) -> Any:
        """Ask in the newest way, and in the next older one where library or bindings do not know it."""
        for function, *arguments in ways:
            answer = self.ask(function, *arguments)
            if answer is not None or self.code not in OUTDATED:
                return answer
        return None

    def note(self, question: Hashable, code: int) -> None:
        """Take note that a question was answered with an error."""
        self.code = code
        self._fault = self._fault or code
        if self._fatal and code in GONE:
            raise DriverGoneError(self._text(code))
        if self._fatal and code in LOST:
            raise DeviceLostError(self._text(code))
        if code in LASTING:
            self._lasting[question] = code
            self._functions.pop(question, None)

    @property
    def fault(self) -> str:
        """The first error since `begin` in words, empty where there was none."""
        return self._fault if isinstance(self._fault, str) else self._text(self._fault) if self._fault else ""

    def _text(self, code: int) -> str:
        return str(self.library.NVMLError(code))

    def lasting(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the questions that are not asked again: those not supported, and those not allowed."""
        if len(self._lasting) != self._named[0]:
            names: tuple[set[str], set[str]] = (set(), set())
            for question, code in self._lasting.items():
                names[code == REFUSED].add(_name(question))
            self._named = len(self._lasting), (tuple(sorted(names[0])), tuple(sorted(names[1])))
        return self._named[1]

    def waited(self, began: float) -> None:
        """Count the time since then as spent in the driver."""
        self.waited_s[self.group] = self.waited_s.get(self.group, 0.0) + perf_counter() - began

    def settled(self, *question: object) -> int | None:
        """Return the code with which a question was answered for good, None where it is still asked."""
        return self._lasting.get(question)


def _name(question: Hashable) -> str:
    return (
        str(question)
        if isinstance(question, str)
        else " ".join(map(str, question))
        if isinstance(question, tuple)
        else repr(question)
    )


def known(value: int | None) -> int | None:
    """Return a number, None for the one that stands for "not available"."""
    return None if value is None or value in UNKNOWN else value


def load() -> Any:
    """Start NVML and return the bindings; raises Unavailable with the reason and the remedy."""
    try:
        import pynvml
    except ImportError as error:
        raise Unavailable("the package nvidia-ml-py is not installed", "pip install 'otel-llm[agent]'") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise unavailable(error.value, str(error)) from error
    return pynvml


def shut_down(library: Any) -> None:
    """Let the library go; what the driver says to that does not matter."""
    Inquiry(library, fatal=False).ask("nvmlShutdown")


def unavailable(code: int, text: str) -> Unavailable:
    """Say in words, with what to do about it, why NVML did not start."""
    told = {
        4: (
            "no permission to talk to the NVIDIA driver",
            "let this user read and write /dev/nvidiactl and /dev/nvidia*",
        ),
        9: (
            "the NVIDIA driver is installed but not loaded",
            "load it with 'modprobe nvidia'; in a container, start it with --gpus all",
        ),
        12: (
            "no NVIDIA driver: libnvidia-ml.so.1 not found",
            "install the NVIDIA driver; in a container, install the NVIDIA Container Toolkit on the host and start it with --gpus all",
        ),
        13: (
            "libnvidia-ml.so.1 is too old or not NVIDIA's: it lacks the function that starts it",
            "install a current NVIDIA driver",
        ),
        18: (
            "libnvidia-ml.so.1 and the loaded NVIDIA kernel module differ in version",
            "the driver was updated while in use: reboot, or unload and load the module, then start this again",
        ),
        999: (
            "NVML does not start: Unknown Error",
            "in a container, its GPUs may have been taken away, as 'systemctl daemon-reload' does: restart it; else see 'dmesg | grep NVRM'",
        ),
    }
    return Unavailable(
        *told.get(code, (f"NVML does not start: {text}", "see what nvidia-smi and 'dmesg | grep NVRM' say"))
    )
