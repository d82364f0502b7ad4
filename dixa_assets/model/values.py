"""Typed values of the API as values of DuckDB, without loss.

Types have DuckDB's names. Dixa's catalogue gives fields no type, but each value has one. The type
of a column is the `widest` type of its values so far.
"""

import json
import re
from datetime import UTC, datetime
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
    """A value of the API for its column: DuckDB type, content as in JSON, label."""

    type: str | None
    content: Any
    label: str | list[str | None] | None = None


NOTHING = Value(None, None)

# The vendor's names of types. Content in the place of a type has another form.
_TYPE_NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,50}(Field|Value)")


def type_name(declared: str) -> str:
    """The name of an undocumented type, for notes; `unknown` if it may be content."""
    return declared if _TYPE_NAME.fullmatch(declared) else "unknown"


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


# By `_type`: the Python type of usual content in a staged row.
PLAIN: dict[str, type] = {
    "BooleanField": bool,
    "IntField": int,
    "LongField": int,
    "DoubleField": float,
    "StringField": str,
    "UUIDField": str,
    "InstantField": str,
}
# The types of values that Dixa documents.
FIELD_TYPES = frozenset({*PLAIN, "ListField", "TimestampField"})
# The keys of content that is not in `value`.
_CONTENT_KEYS: dict[str | None, str] = {"ListField": "values", "TimestampField": "timestamp"}
# The column types of content, except instants, by its Python type.
_TYPES: dict[type, str] = {bool: BOOLEAN, int: BIGINT, float: DOUBLE, str: VARCHAR}


def read_value(typed: Any) -> Value:
    """A typed value of the API, `{_type, value, label?}` or similar, as a `Value`.

    The content decides the type, with two exceptions: an instant is a string in JSON, and a whole
    number in a DoubleField is a DOUBLE. A value of an unknown type is kept whole, as JSON.
    """
    if not isinstance(typed, dict):
        return _from_content(typed)
    kind, label = typed.get("_type"), typed.get("label")
    if not isinstance(kind, str | None):
        return Value(JSON, typed)
    is_unknown = kind is not None and kind not in FIELD_TYPES
    content_key = _CONTENT_KEYS.get(kind)
    if content_key and content_key not in typed and typed.keys() - {"_type", "label", "name"}:
        # The content has another key than the documented one.
        return Value(JSON, typed)
    if kind == "ListField" or (kind is None and "values" in typed):
        return _read_list(typed.get("values"))
    if kind == "TimestampField" or (kind is None and "timestamp" in typed):
        value, label = _from_instant(typed.get("timestamp")), typed.get("name")
    elif is_unknown or "value" not in typed:
        return Value(JSON, typed) if is_unknown or typed.keys() - {"_type"} else NOTHING
    elif kind == "InstantField":
        value = _from_instant(typed["value"])
    else:
        value = _from_content(typed["value"])
        if kind == "DoubleField" and value.type == BIGINT and abs(value.content) <= EXACT_IN_DOUBLE:
            value = Value(DOUBLE, float(value.content))
    return Value(value.type, value.content, label if isinstance(label, str) else None)


def parse_instant(text: Any) -> datetime | None:
    """Parse an instant; None if it is not one. Without an offset, it is read as UTC.

    Dixa's endpoints write `…Z`, `…Z[GMT]`, or no zone at all.
    """
    if not isinstance(text, str):
        return None
    try:
        instant = datetime.fromisoformat(text.partition("[")[0])
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def instant_text(content: Any) -> str | None:
    """The text that stores an instant; None if the content is not one."""
    instant = parse_instant(content)
    return instant.isoformat() if instant else None


def _from_instant(content: Any) -> Value:
    return Value(TIMESTAMPTZ, text) if (text := instant_text(content)) else _from_content(content)


def _from_content(content: Any) -> Value:
    if content is None:
        return NOTHING
    if type(content) is int and not -INT64 <= content < INT64:
        return Value(VARCHAR, str(content))
    return Value(_TYPES.get(type(content), JSON), content)


def _read_list(items: Any) -> Value:
    if not isinstance(items, list):
        return _from_content(items)
    if any(map(_is_list, items)):
        # Lists in lists can be nested more deeply than Python can recurse.
        return Value(JSON, items)
    values = [read_value(item) for item in items]
    exact = all(abs(value.content) <= EXACT_IN_DOUBLE for value in values if value.type == BIGINT)
    element: str | None = None
    for value in values:
        element = widest(element, value.type, exact=exact)
    if element == JSON:
        return Value(JSON, items)
    contents = [
        json.dumps(value.content)
        if element == VARCHAR and value.content is not None and not isinstance(value.content, str)
        else value.content
        for value in values
    ]
    labels = [value.label if isinstance(value.label, str) else None for value in values]
    return Value(f"{element or VARCHAR}[]", contents, labels if any(labels) else None)


def _is_list(item: Any) -> bool:
    """True for a list, plain or typed."""
    if isinstance(item, dict):
        return item.get("_type") == "ListField" or (item.get("_type") is None and "values" in item)
    return isinstance(item, list)
