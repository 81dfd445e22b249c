"""A folder that takes some seconds to make, kept beside the environment of the real vLLM and made once."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def made_once(name: str, make: Callable[[Path], None], *made_of: Path) -> Path:
    """Return the folder, made now where it is not there; it is another where the files that make it have changed."""
    base = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "otel-llm"
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in made_of)).hexdigest()[:12]
    target = cache / f"{name}-{digest}"
    with (cache / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at a time make it once
        if not target.is_dir():
            half_made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=cache))
            try:
                make(half_made)
                half_made.rename(target)
            finally:
                shutil.rmtree(half_made, ignore_errors=True)
    return target
