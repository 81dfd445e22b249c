"""OTLP attribute values to Python and to the JSON text that the store keeps.

`MessageToDict` would do the same at four times the cost.
"""

import json
from base64 import b64encode
from collections.abc import Iterable
from math import isfinite
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
EMPTY = "{}"
INT64_MAX = 2**63 - 1


def value_of(value: AnyValue) -> Any:
    """Return one value: bytes as base64, numbers that JSON cannot hold as text, an empty value as None."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return value.int_value
    if kind == "double_value":
        number = value.double_value
        return number if isfinite(number) else str(number)
    if kind == "bool_value":
        return value.bool_value
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    if kind == "bytes_value":
        return b64encode(value.bytes_value).decode("ascii")
    return None


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as a dict; where a key comes twice, the last one counts."""
    # Most values are texts: asking for one first saves a call and a look at the kind.
    return {pair.key: (value := pair.value).string_value or value_of(value) for pair in pairs}


def signed(number: int) -> int:
    """Return an unsigned integer of 64 bits as one that SQLite can hold; the upper half becomes its largest."""
    return min(number, INT64_MAX)
