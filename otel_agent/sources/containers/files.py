"""Small files of the kernel: reading one without being held up, and taking single numbers out of it. What is no number is None."""

import os

FILE_CAP = 2**18  # bytes; the longest, io.stat on a host with hundreds of disks, stays far below
SHORT = 2048  # bytes


def read(path: str) -> bytes | None:
    """Return a file's bytes, None where it cannot be read; O_NONBLOCK keeps what is no file from holding up the reader."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        text = os.read(file, FILE_CAP)
        # The kernel ends a read early only where the next line does not fit into its page: what is shorter is whole.
        while SHORT <= len(text) < FILE_CAP and (more := os.read(file, FILE_CAP)):
            text += more
    except OSError:
        return None
    finally:
        os.close(file)
    return text


def field(text: bytes | None, name: bytes) -> int | None:
    """Return one number of a table of names and numbers, without parsing the rest."""
    if text is None:
        return None
    if text.startswith(name + b" "):
        start = 0
    elif (start := text.find(b"\n" + name + b" ") + 1) == 0:
        return None
    start += len(name) + 1
    end = text.find(b"\n", start)
    return whole(text[start:] if end < 0 else text[start:end])


def number(text: bytes | None) -> int | None:
    """Return the number that is all of a file."""
    return whole(text.strip()) if text else None


def whole(text: bytes | None) -> int | None:
    """Return a whole number without a sign."""
    return int(text) if text and text.isdigit() else None


def scaled(value: int | None, per_unit: float) -> float | None:
    """Return a number in another unit."""
    return None if value is None else value / per_unit
