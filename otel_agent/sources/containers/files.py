"""Small files of the kernel: reading one without being held up, and taking single numbers out of it. What is no number is None."""

import contextlib
import os
import resource
from collections.abc import Iterable

FILE_CAP = 2**18  # bytes; the longest, io.stat on a host with hundreds of disks, stays far below
FIRST = 8192  # bytes asked for at first; for much more, memory is mapped and unmapped each time, which costs more than the reading
MORE = 65536
SHORT = 2048  # bytes
DESCRIPTORS = 65536  # what the agent asks for; half of what it gets is for files that stay open


def read(path: str) -> bytes | None:
    """Return a file's bytes, None where it cannot be read; O_NONBLOCK keeps what is no file from holding up the reader."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return _content(file)
    except OSError:
        return None
    finally:
        os.close(file)


def _content(file: int) -> bytes:
    text = os.pread(file, FIRST, 0)
    return text if len(text) < SHORT else _rest(file, text)


def _rest(file: int, text: bytes) -> bytes:
    # The kernel ends a read early only where the next line does not fit into its page: what is shorter is whole.
    while len(text) < FILE_CAP and (more := os.pread(file, MORE, len(text))):
        text += more
    return text


class Room:
    """How many files may stay open, of all containers together; a file that stays open costs a third of one that is opened each time."""

    def __init__(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The soft limit is what old programs can count to, not what is sensible; the hard one is the administrator's word.
        most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
        self.left = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


class Kept:
    """Files that are read over and over, by a short name; they stay open where there is room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._files: dict[str, int] = {}

    def read(self, folder: str, name: str) -> bytes | None:
        """Return the bytes of a file of a folder; `name` is its own among the files kept here."""
        if (file := self._files.get(name)) is not None:
            try:
                text = os.pread(file, FIRST, 0)
                return text if len(text) < SHORT else _rest(file, text)
            except OSError:  # its cgroup is gone; one of the same name may be there by now
                self._forget([name])
        if self._room.left <= 0:
            return read(f"{folder}/{name}")
        try:
            file = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        self._files[name] = file
        self._room.left -= 1
        try:
            return _content(file)
        except OSError:
            self._forget([name])
            return None

    def close(self) -> None:
        """Let all files go."""
        self._forget(list(self._files))

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            os.close(self._files.pop(name))
            self._room.left += 1


def named(*names: str) -> tuple[bytes, ...]:
    """Return what `fields` looks for: the beginnings of the lines with these names."""
    return tuple(f"\n{name} ".encode() for name in names)


def fields(text: bytes | None, beginnings: tuple[bytes, ...]) -> list[int | None]:
    """Return some numbers of a table of names and numbers, without parsing the rest."""
    if text is None:
        return [None] * len(beginnings)
    text = b"\n" + text
    found: list[int | None] = []
    for beginning in beginnings:
        if (start := text.find(beginning)) < 0:
            found.append(None)
            continue
        start += len(beginning)
        end = text.find(b"\n", start)
        digits = text[start:] if end < 0 else text[start:end]
        found.append(int(digits) if digits.isdigit() else None)
    return found


def number(text: bytes | None) -> int | None:
    """Return the number that is all of a file."""
    return int(text) if text and (text[:-1] if text.endswith(b"\n") else text).isdigit() else None


def whole(text: bytes | None) -> int | None:
    """Return a whole number without a sign."""
    return int(text) if text and text.isdigit() else None


def scaled(value: int | None, per_unit: float) -> float | None:
    """Return a number in another unit."""
    return None if value is None else value / per_unit
