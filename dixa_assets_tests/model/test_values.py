"""Typed values, whatever they claim to be, and the type that holds several."""

import json
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.model.values import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    JSON,
    NOTHING,
    TIMESTAMPTZ,
    VARCHAR,
    Value,
    parse_instant,
    read_value,
    widest,
)
from dixa_assets_tests.support.simulator import Json

# Typed values.


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"_type": "BooleanField", "value": True}, Value(BOOLEAN, True)),
        ({"_type": "BooleanField", "value": False}, Value(BOOLEAN, False)),
        ({"_type": "IntField", "value": -3}, Value(BIGINT, -3)),
        ({"_type": "LongField", "value": 2**62 + 1}, Value(BIGINT, 2**62 + 1)),
        ({"_type": "DoubleField", "value": 0.1}, Value(DOUBLE, 0.1)),
        ({"_type": "StringField", "value": "a"}, Value(VARCHAR, "a")),
        ({"_type": "StringField", "value": ""}, Value(VARCHAR, "")),
        ({"_type": "StringField", "value": "a", "label": "A"}, Value(VARCHAR, "a", "A")),
        ({"_type": "UUIDField", "value": "11-22"}, Value(VARCHAR, "11-22")),
        ({"_type": "UUIDField", "value": "11-22", "label": "Q"}, Value(VARCHAR, "11-22", "Q")),
        (
            {"_type": "InstantField", "value": "2025-03-02T09:15:00.123Z"},
            Value(TIMESTAMPTZ, "2025-03-02T09:15:00.123000+00:00"),
        ),
        (
            {"_type": "TimestampField", "name": "at", "timestamp": "2025-03-02T09:15:00Z"},
            Value(TIMESTAMPTZ, "2025-03-02T09:15:00+00:00", "at"),
        ),
        (
            {
                "_type": "ListField",
                "values": [
                    {"_type": "UUIDField", "value": "1", "label": "One"},
                    {"_type": "UUIDField", "value": "2"},
                ],
            },
            Value("VARCHAR[]", ["1", "2"], ["One", None]),
        ),
        (
            {"_type": "ListField", "values": [{"_type": "LongField", "value": 1}]},
            Value("BIGINT[]", [1]),
        ),
        ({"_type": "ListField", "values": []}, Value("VARCHAR[]", [])),
    ],
)
def test_every_documented_type_is_read(typed: Json, value: Value) -> None:
    assert exactly(read_value(typed)) == exactly(value)


def exactly(value: Value) -> tuple[Any, ...]:
    """A value in a form in which 1, 1.0 and True differ."""
    return value.type, repr(value.content), value.label


@pytest.mark.parametrize(
    "typed",
    [
        None,
        {},
        {"_type": "LongField", "value": None},
        {"_type": "StringField"},
        {"_type": "LongField"},
        {"_type": "InstantField"},
        {"_type": "ListField"},
        {"_type": "ListField", "values": None},
        {"_type": "TimestampField", "timestamp": None},
        {"value": None},
    ],
)
def test_a_missing_value_is_null(typed: Any) -> None:
    assert read_value(typed) == NOTHING


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"_type": "LongField", "value": 1.5}, Value(DOUBLE, 1.5)),
        ({"_type": "LongField", "value": "17"}, Value(VARCHAR, "17")),
        ({"_type": "LongField", "value": True}, Value(BOOLEAN, True)),
        ({"_type": "LongField", "value": 2**63}, Value(VARCHAR, str(2**63))),
        ({"_type": "LongField", "value": -(2**63)}, Value(BIGINT, -(2**63))),
        ({"_type": "LongField", "value": -(2**63) - 1}, Value(VARCHAR, str(-(2**63) - 1))),
        ({"_type": "DoubleField", "value": 3}, Value(DOUBLE, 3.0)),
        ({"_type": "DoubleField", "value": 2**53 + 1}, Value(BIGINT, 2**53 + 1)),
        ({"_type": "BooleanField", "value": 1}, Value(BIGINT, 1)),
        ({"_type": "StringField", "value": 7}, Value(BIGINT, 7)),
        ({"_type": "StringField", "value": {"a": 1}}, Value(JSON, {"a": 1})),
        ({"_type": "UUIDField", "value": "a", "label": 7}, Value(VARCHAR, "a")),
        ({"_type": "InstantField", "value": "soon"}, Value(VARCHAR, "soon")),
        ({"_type": "InstantField", "value": 1700000000000}, Value(BIGINT, 1700000000000)),
        ({"_type": "TimestampField", "timestamp": "soon"}, Value(VARCHAR, "soon")),
        ({"_type": "ListField", "values": "a"}, Value(VARCHAR, "a")),
        ({"value": 5, "label": "five"}, Value(BIGINT, 5, "five")),
        ({"values": [{"value": 1}]}, Value("BIGINT[]", [1])),
        (
            {"name": "at", "timestamp": "2025-01-01T00:00:00Z"},
            Value(TIMESTAMPTZ, "2025-01-01T00:00:00+00:00", "at"),
        ),
        ("bare", Value(VARCHAR, "bare")),
        (5, Value(BIGINT, 5)),
        ([1], Value(JSON, [1])),
    ],
)
def test_content_that_contradicts_its_type_decides(typed: Any, value: Value) -> None:
    assert exactly(read_value(typed)) == exactly(value)


@pytest.mark.parametrize(
    "typed",
    [
        {"_type": "HologramField", "value": 3, "depth": 2},
        {"_type": "HologramField"},
        {"_type": 7, "value": 3},
        {"amount": 3, "currency": "DKK"},
    ],
)
def test_a_value_of_an_unknown_type_is_kept_whole(typed: Json) -> None:
    assert read_value(typed) == Value(JSON, typed)


@pytest.mark.parametrize(
    ("items", "value"),
    [
        ([1, 2.5], Value("DOUBLE[]", [1, 2.5])),
        ([2**53 + 1, 2.5], Value("VARCHAR[]", [str(2**53 + 1), "2.5"])),
        ([1, "a", None, True], Value("VARCHAR[]", ["1", "a", None, "true"])),
        ([None], Value("VARCHAR[]", [None])),
    ],
)
def test_items_of_several_types_share_the_narrowest_type_that_holds_them(
    items: list[Any], value: Value
) -> None:
    typed = {"_type": "ListField", "values": [{"value": item} for item in items]}
    assert read_value(typed) == value


def test_a_list_with_an_item_of_unknown_type_is_kept_whole() -> None:
    items = [{"_type": "LongField", "value": 1}, {"_type": "HologramField", "value": 2}]
    assert read_value({"_type": "ListField", "values": items}) == Value(JSON, items)


def test_a_list_within_a_list_is_kept_whole() -> None:
    items = [{"_type": "ListField", "values": [{"_type": "LongField", "value": 1}]}]
    assert read_value({"_type": "ListField", "values": items}) == Value(JSON, items)


# Any JSON, and JSON that looks like the vendor's.
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5)
any_json = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries(
            {},
            optional={
                "_type": inner
                | st.sampled_from(
                    ["BooleanField", "IntField", "LongField", "DoubleField", "StringField"]
                    + ["UUIDField", "InstantField", "TimestampField", "ListField", "NewField"]
                ),
                "value": inner | st.datetimes().map(datetime.isoformat),
                "values": inner,
                "timestamp": inner | st.datetimes().map(datetime.isoformat),
                "name": inner,
                "label": inner,
            },
        )
    ),
    max_leaves=12,
)
CONTENT: dict[str, type | tuple[type, ...]] = {
    BOOLEAN: bool,
    BIGINT: int,
    DOUBLE: (int, float),
    VARCHAR: str,
    TIMESTAMPTZ: str,
}


@given(any_json)
def test_any_json_is_read_as_a_value_its_column_can_hold(typed: Any) -> None:
    value = read_value(typed)
    json.dumps(value.content, allow_nan=False)
    assert (value.type is None) == (value.content is None)
    if value.type and value.type.endswith("[]"):
        held = CONTENT[value.type.removesuffix("[]")]
        assert all(item is None or isinstance(item, held) for item in value.content)
        assert value.label is None or len(value.label) == len(value.content)
    elif value.type and value.type != JSON:
        assert isinstance(value.content, CONTENT[value.type])
        assert value.label is None or isinstance(value.label, str)


@given(st.sampled_from(["IntField", "LongField", "DoubleField"]), st.integers())
def test_no_integer_loses_a_digit(kind: str, number: int) -> None:
    content = read_value({"_type": kind, "value": number}).content
    assert int(content) == number


@given(st.datetimes(timezones=st.timezones()))
def test_an_instant_with_an_offset_is_the_same_instant_in_utc(instant: datetime) -> None:
    text = instant.isoformat()
    value = read_value({"_type": "InstantField", "value": text})
    if value.type == TIMESTAMPTZ:
        assert datetime.fromisoformat(value.content) == datetime.fromisoformat(text)
        assert value.content.endswith("+00:00")
    else:
        # Within a day of the first or last instant there is.
        assert value == Value(VARCHAR, text)
        assert instant.year in (1, 9999)


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-02T09:15:00.123Z",
        "2025-03-02T10:15:00.123+01:00",
        "2025-03-02T09:15:00.123Z[GMT]",
        "2025-03-02T09:15:00.123",
        "2025-03-02 09:15:00.123",
        "2025-03-02T09:15:00.123000000Z",
    ],
)
def test_every_spelling_of_an_instant_is_read(text: str) -> None:
    assert parse_instant(text) == datetime(2025, 3, 2, 9, 15, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize("text", [None, 7, "", "soon", "2025-13-01T00:00:00Z", ["2025-01-01"]])
def test_a_text_that_names_no_instant_is_none(text: Any) -> None:
    assert parse_instant(text) is None


# The type that holds all.

SCALARS = [BOOLEAN, BIGINT, DOUBLE, VARCHAR, TIMESTAMPTZ]
TYPES = [None, *SCALARS, JSON, *(f"{one}[]" for one in SCALARS)]
# The types that hold each type's values without loss: the edges upwards.
HOLDS: dict[str | None, set[str | None]] = {
    None: {None},
    **{one: {None, one} for one in SCALARS},
    DOUBLE: {None, BIGINT, DOUBLE},
    VARCHAR: {None, *SCALARS},
    JSON: set(TYPES),
    **{f"{one}[]": {None, f"{one}[]"} for one in SCALARS},
    "DOUBLE[]": {None, "BIGINT[]", "DOUBLE[]"},
    "VARCHAR[]": {None, *(f"{one}[]" for one in SCALARS)},
}
types = st.sampled_from(TYPES)


@given(types, types, st.booleans())
def test_the_widest_of_two_holds_both(one: str | None, other: str | None, exact: bool) -> None:
    found = widest(one, other, exact=exact)
    assert {one, other} <= HOLDS[found]


@given(types, types, st.booleans())
def test_the_widest_of_two_does_not_depend_on_their_order(
    one: str | None, other: str | None, exact: bool
) -> None:
    assert widest(one, other, exact=exact) == widest(other, one, exact=exact)


@given(st.lists(types, min_size=3, max_size=3), st.booleans())
def test_the_widest_of_three_does_not_depend_on_their_order(
    three: list[str | None], exact: bool
) -> None:
    found = {
        widest(widest(one, other, exact=exact), third, exact=exact)
        for one, other, third in permutations(three)
    }
    assert len(found) == 1


@given(types, types)
def test_widening_by_a_type_again_changes_nothing(one: str | None, other: str | None) -> None:
    found = widest(one, other)
    assert widest(found, one) == widest(found, other) == widest(found, found) == found


@pytest.mark.parametrize(
    ("one", "other", "exact", "found"),
    [
        (None, BIGINT, True, BIGINT),
        (BIGINT, BIGINT, False, BIGINT),
        (BIGINT, DOUBLE, True, DOUBLE),
        (BIGINT, DOUBLE, False, VARCHAR),
        (BOOLEAN, BIGINT, True, VARCHAR),
        (TIMESTAMPTZ, VARCHAR, True, VARCHAR),
        (BIGINT, "BIGINT[]", True, JSON),
        ("BIGINT[]", "VARCHAR[]", True, "VARCHAR[]"),
        (VARCHAR, JSON, True, JSON),
    ],
)
def test_the_widest_is_no_wider_than_it_must_be(
    one: str | None, other: str | None, exact: bool, found: str
) -> None:
    assert widest(one, other, exact=exact) == found


@pytest.mark.parametrize(
    "typed",
    [
        {"_type": "ListField", "items": [1, 2]},
        {"_type": "TimestampField", "instant": "2025-01-01T00:00:00Z", "name": "closed"},
    ],
)
def test_content_under_an_undocumented_key_is_kept_as_json(typed: dict[str, Any]) -> None:
    assert read_value(typed) == Value(JSON, typed)


def test_lists_of_any_depth_are_kept_as_json() -> None:
    typed: Any = {"_type": "StringField", "value": "deep"}
    for _ in range(5_000):
        typed = {"_type": "ListField", "values": [typed]}
    value = read_value(typed)
    assert value.type == JSON
    assert value.content is typed["values"]
