"""What a model is called: as vLLM serves it and labels its own metrics with."""

from typing import Any


def model_of(config: Any) -> str | None:
    """Return the name a `ModelConfig` serves under, which is the one it was loaded by where no other was given."""
    name = getattr(config, "served_model_name", None) or getattr(config, "model", None)
    if isinstance(name, list | tuple):  # several names for one model: the first is the one vLLM labels with
        name = name[0] if name else None
    return name if isinstance(name, str) else None
