"""Versions of installed distributions."""

from importlib.metadata import PackageNotFoundError, version


def version_of(distribution: str) -> str | None:
    """Return the version of a distribution, None where it is not installed: a source tree, or a stand-in."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def own_version() -> str:
    """Return the version of this package, `0` where it runs from a source tree."""
    return version_of("otel-llm") or "0"
