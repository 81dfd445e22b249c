"""The web console: its sources in web/, what is built of them in dist/, which travels in the wheel."""

from importlib.resources import files as _resources
from importlib.resources.abc import Traversable


def files() -> dict[str, bytes]:
    """Return the built files by their path below dist/; empty where nothing was built."""
    root = _resources(__name__) / "dist"
    return dict(_walk(root, "")) if root.is_dir() else {}


def _walk(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        name = f"{path}{entry.name}"
        found.extend(_walk(entry, f"{name}/") if entry.is_dir() else [(name, entry.read_bytes())])
    return found
