"""Reads one small file of the kernel whole; a file that is not there is no error but an unknown fact."""

import os

LIMIT = 8 << 20  # bytes; the largest of these files, /proc/stat of a machine with a thousand CPUs, stays under 1 MB


def read_file(path: str) -> bytes | None:
    """Return what a file of the kernel holds, or None where it cannot be opened or read.

    Opening it anew costs 3 to 8 us more than keeping it open, and holds no descriptor of a file that is replaced or a namespace that ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        left = LIMIT
        # Files that list things answer one page a call, so only an empty answer is the end.
        while left > 0 and (part := os.read(descriptor, min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return b"".join(parts)


def read_text(path: str) -> str | None:
    """Return the stripped text of a file that holds one short value, or None."""
    content = read_file(path)
    return None if content is None else content.decode("utf-8", "replace").strip()


def read_number(path: str) -> int | None:
    """Return the whole number that a file holds, or None where it holds none."""
    content = read_file(path)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


def link_target(path: str) -> str | None:
    """Return what a symbolic link says, without following it, or None where it is no link."""
    try:
        return os.readlink(path)  # noqa: PTH115 - asked of every interface at each reading, and a Path costs more than the call
    except OSError:
        return None


def entries(path: str) -> list[str]:
    """Return the sorted names in a folder; none where there is no such folder."""
    try:
        return sorted(os.listdir(path))  # noqa: PTH208 - a Path for each of a thousand processes costs more than reading them
    except OSError:
        return []


def fact(content: bytes | None, name: bytes) -> int | None:
    """Return the number behind a name at the start of a line, as in /proc/vmstat, or None where there is no such line."""
    lines = b"\n" + (content or b"")
    start = lines.find(b"\n" + name + b" ")
    if start < 0:
        return None
    words = lines[start + len(name) + 2 : start + len(name) + 40].split(None, 1)
    try:
        return int(words[0])
    except (ValueError, IndexError):
        return None
