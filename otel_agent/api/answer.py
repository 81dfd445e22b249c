"""JSON as every route sends it."""

import json
import math
from typing import Any

from starlette.responses import Response


def encode(content: Any) -> bytes:
    """Return JSON in UTF-8. JSON has no NaN and no infinity: what an application sent as such is null."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content


def as_json(content: Any, status: int = 200) -> Response:
    """Return an answer with this content."""
    return Response(encode(content) + b"\n", status, media_type="application/json")
