"""Typed values of the API as values of DuckDB, without loss.

Types are DuckDB's names. The vendor's catalogue gives fields no type, but each value has one. The
type of a column is the `widest` of the types of its values so far.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

BOOLEAN = "BOOLEAN"
BIGINT = "BIGINT"
DOUBLE = "DOUBLE"
VARCHAR = "VARCHAR"
TIMESTAMPTZ = "TIMESTAMPTZ"
DATE = "DATE"
JSON = "JSON"

# The measure of an aggregate without one: presence durations are a list of statuses.
PRESENCE = "AgentPresenceDuration"

INT64 = 2**63
# Integers up to here are the same number as a DOUBLE.
EXACT_IN_DOUBLE = 2**53


class Value(NamedTuple):
    """A vendor value ready for its column: DuckDB type, content as JSON has it, label."""

    type: str | None
    content: Any
    label: str | list[str | None] | None = None


NOTHING = Value(None, None)


@lru_cache(10_000)
def speakable(text: str) -> str:
    """`text` with escapes for characters that JSON allows, but SQL or UTF-8 does not.

    Different texts stay different.
    """
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def widest(first: str | None, second: str | None, *, exact: bool = True) -> str | None:
    """The narrowest type that holds values of both types without loss.

    Args:
        first: A type, or None if there was no value.
        second: Another type.
        exact: True if a DOUBLE can hold every integer among the values exactly.
    """
    if first == second or second is None:
        return first
    if first is None:
        return second
    if {first, second} == {BIGINT, DOUBLE}:
        return DOUBLE if exact else VARCHAR
    if JSON in (first, second) or first.endswith("[]") != second.endswith("[]"):
        return JSON
    return "VARCHAR[]" if first.endswith("[]") else VARCHAR


def read_value(typed: Any) -> Value:
    """A typed value of the API, `{_type, value, label?}` or similar, as a `Value`.

    A known type decides if the content agrees with it; otherwise the content decides. A value of an
    unknown type is kept whole, as JSON.
    """
    if not isinstance(typed, dict):
        return _from_content(typed)
    kind = typed.get("_type")
    # A short cut for plain values of the type that they claim: nearly all are.
    if type(kind) is str and kind in PLAIN:
        expected, type_ = PLAIN[kind]
        content, label = typed.get("value"), typed.get("label")
        if type(content) is expected and (type_ != BIGINT or _integer(content)):
            return Value(type_, content, label if isinstance(label, str) else None)
    if not isinstance(kind, str | None):
        return Value(JSON, typed)
    label = typed.get("label")
    label = label if isinstance(label, str) else None
    if kind == "ListField" or (kind is None and "values" in typed):
        return _read_list(typed.get("values"))
    if kind == "TimestampField" or (kind is None and "timestamp" in typed):
        name = typed.get("name")
        value = _instant(typed.get("timestamp")) or _from_content(typed.get("timestamp"))
        return Value(value.type, value.content, name if isinstance(name, str) else None)
    if kind in _READERS and not typed.keys() - {"_type"}:
        return NOTHING
    if kind not in _READERS or "value" not in typed:
        return Value(JSON, typed)
    content = typed["value"]
    reader = _READERS[kind]
    value = (reader(content) if reader else None) or _from_content(content)
    return value if label is None else Value(value.type, value.content, label)


# Types whose values are stored unchanged if the content has the expected Python type.
PLAIN: dict[str, tuple[type, str]] = {
    "BooleanField": (bool, BOOLEAN),
    "IntField": (int, BIGINT),
    "LongField": (int, BIGINT),
    "DoubleField": (float, DOUBLE),
    "StringField": (str, VARCHAR),
    "UUIDField": (str, VARCHAR),
}


def parse_instant(text: Any) -> datetime | None:
    """The instant that a text names, or None. A text without an offset is read as UTC.

    Dixa's endpoints write `…Z`, `…Z[GMT]`, or no zone at all.
    """
    if not isinstance(text, str):
        return None
    try:
        instant = datetime.fromisoformat(text.partition("[")[0])
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _boolean(content: Any) -> Value | None:
    return Value(BOOLEAN, content) if isinstance(content, bool) else None


def _integer(content: Any) -> Value | None:
    if isinstance(content, int) and not isinstance(content, bool) and -INT64 <= content < INT64:
        return Value(BIGINT, content)
    return None


def _double(content: Any) -> Value | None:
    if isinstance(content, float):
        return Value(DOUBLE, content)
    if _integer(content) and abs(content) <= EXACT_IN_DOUBLE:
        return Value(DOUBLE, float(content))
    return None


def _string(content: Any) -> Value | None:
    return Value(VARCHAR, content) if isinstance(content, str) else None


def _instant(content: Any) -> Value | None:
    instant = parse_instant(content)
    return Value(TIMESTAMPTZ, instant.isoformat()) if instant else None


_READERS: dict[str | None, Callable[[Any], Value | None] | None] = {
    "BooleanField": _boolean,
    "IntField": _integer,
    "LongField": _integer,
    "DoubleField": _double,
    "StringField": _string,
    "UUIDField": _string,
    "InstantField": _instant,
    None: None,
}


# The types of values that the vendor documents.
FIELD_TYPES = frozenset({*filter(None, _READERS), "ListField", "TimestampField"})


def _from_content(content: Any) -> Value:
    if content is None:
        return NOTHING
    if isinstance(content, int) and not isinstance(content, bool) and not _integer(content):
        return Value(VARCHAR, str(content))
    for reader in (_boolean, _integer, _double, _string):
        if value := reader(content):
            return value
    return Value(JSON, content)


def _read_list(items: Any) -> Value:
    if items is None:
        return NOTHING
    if not isinstance(items, list):
        return _from_content(items)
    values = [read_value(item) for item in items]
    exact = all(abs(value.content) <= EXACT_IN_DOUBLE for value in values if value.type == BIGINT)
    element: str | None = None
    for value in values:
        element = widest(element, value.type, exact=exact)
    if element == JSON or any(value.type and value.type.endswith("[]") for value in values):
        return Value(JSON, items)
    contents = [
        json.dumps(value.content)
        if element == VARCHAR and value.content is not None and not isinstance(value.content, str)
        else value.content
        for value in values
    ]
    labels = [value.label if isinstance(value.label, str) else None for value in values]
    return Value(f"{element or VARCHAR}[]", contents, labels if any(labels) else None)
