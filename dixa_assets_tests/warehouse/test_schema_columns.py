"""Tables follow the data: columns are added and widened, and keep every value."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dixa_assets.model.tables import Table
from dixa_assets.model.values import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    JSON,
    NOTHING,
    TIMESTAMPTZ,
    VARCHAR,
    Value,
    read_value,
)
from dixa_assets.warehouse.sql import name_of
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.columns import (
    TABLE,
    column_comments,
    fresh,
    load_days,
    read,
    read_all,
)
from dixa_assets_tests.support.handmade import DAYS, load, record, selected

INT64_MAX = 2**63 - 1


def types(warehouse: Warehouse, table: Table) -> dict[str, str]:
    """The vendor's columns of a table and their types, as DuckDB has them."""
    found = selected(
        warehouse,
        "SELECT column_name, data_type FROM duckdb_columns() "
        f"WHERE schema_name = '{table.schema}' AND table_name = '{table.name}'",
    )
    own = {column.name for column in table.columns if not column.part}
    return {name: type_ for name, type_ in found if name not in own}


def same(kept: Value, found: Any) -> bool:
    """True if the value that was read back equals the one that was sent."""
    if kept.content is None or found is None or kept.type is None:
        return kept.content is found
    if kept.type == JSON:
        return json.dumps(kept.content, sort_keys=True) == json.dumps(found, sort_keys=True)
    if kept.type.endswith("[]"):
        element = kept.type.removesuffix("[]")
        return len(kept.content) == len(found) and all(
            same(Value(element, sent), got) for sent, got in zip(kept.content, found, strict=True)
        )
    if kept.type == VARCHAR:
        return bool(kept.content == found)
    if kept.type == BOOLEAN:
        return found is kept.content or found == str(kept.content).lower()
    if kept.type == TIMESTAMPTZ:
        return datetime.fromisoformat(found) == datetime.fromisoformat(kept.content)
    if isinstance(found, bool):
        return False
    if kept.type == DOUBLE:
        return bool(repr(float(found)) == repr(float(kept.content)))
    if isinstance(found, int) or "." not in str(found):
        return bool(int(found) == kept.content)
    # An integer among fractions, where only exact integers are allowed.
    return bool(abs(kept.content) <= 2**53 and float(found) == kept.content)


# Added columns


def test_a_new_field_becomes_a_column_and_is_absent_before(warehouse: Warehouse) -> None:
    written = load_days(
        warehouse,
        TABLE,
        [{"a": Value(BIGINT, 1)}],
        [{"a": Value(BIGINT, 2), "b": Value(VARCHAR, "new")}],
    )

    assert written.schema_changes == ("new column b (VARCHAR)",)
    assert read(warehouse, TABLE, "b") == [None, "new"]
    assert read(warehouse, TABLE, "a") == [1, 2]


def test_a_removed_field_keeps_its_column_and_is_null(warehouse: Warehouse) -> None:
    written = load_days(
        warehouse,
        TABLE,
        [{"a": Value(BIGINT, 1), "b": Value(JSON, {"deep": [1]}), "c": Value("VARCHAR[]", ["x"])}],
        [{"a": Value(BIGINT, 2)}, {"a": NOTHING, "b": NOTHING, "c": NOTHING}],
    )

    assert written.schema_changes == ()
    nulls = f"SELECT count(*), count(a), count(b), count(c) FROM {name_of(TABLE)}"
    assert selected(warehouse, nulls) == [(3, 2, 1, 1)]


@pytest.mark.parametrize(
    "first",
    [
        Value(BOOLEAN, True),
        Value(BIGINT, INT64_MAX),
        Value(DOUBLE, 0.1),
        Value(VARCHAR, "a"),
        Value(TIMESTAMPTZ, "2025-01-01T12:00:00.123+00:00"),
        Value(JSON, {"a": 1}),
        Value("BIGINT[]", [1, None]),
        Value("TIMESTAMPTZ[]", ["2025-01-01T12:00:00+00:00"]),
    ],
    ids=lambda value: str(value.type),
)
def test_a_declared_column_takes_the_type_of_its_first_value(
    warehouse: Warehouse, first: Value
) -> None:
    declared = record(fields={"later": "Known before any value."})
    load_days(warehouse, declared, [{}], [{"later": NOTHING}])
    assert types(warehouse, declared) == {"later": VARCHAR}

    load(warehouse, declared, DAYS[2], [{"later": first}])

    # Unlike a first value after texts, which would have made it text.
    assert first.type is not None
    stored = first.type.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
    assert types(warehouse, declared) == {"later": stored}
    *none, found = read(warehouse, declared, "later")
    assert none == [None, None]
    assert same(first, found)


def test_columns_are_in_the_documented_order(warehouse: Warehouse) -> None:
    declared = record(fields={"queue": "The queue.", "agent": "The agent."})
    row = {
        "": Value(DOUBLE, 1.5),
        "extra": Value(BIGINT, 1),
        "agent": Value(VARCHAR, "a1", "Ada"),
    }
    load(warehouse, declared, DAYS[0], [row])

    found = warehouse.query(f"FROM {name_of(declared)}")
    assert list(found.columns) == [
        "partition_date",
        "primary_timestamp",
        "primary_timestamp_field",
        "value",
        "queue",
        "agent",
        "agent_label",
        "extra",
        "loaded_at",
        "run_id",
    ]


# Widened columns

SAMPLES: dict[str, list[Value]] = {
    BOOLEAN: [Value(BOOLEAN, True), Value(BOOLEAN, False)],
    BIGINT: [Value(BIGINT, -(2**63)), Value(BIGINT, INT64_MAX), Value(BIGINT, 7)],
    "small BIGINT": [Value(BIGINT, -(2**53)), Value(BIGINT, 2**53), Value(BIGINT, 0)],
    DOUBLE: [Value(DOUBLE, 0.1), Value(DOUBLE, -0.0), Value(DOUBLE, 1e300), Value(DOUBLE, 5e-324)],
    VARCHAR: [Value(VARCHAR, text) for text in ("", "null", "7", '"', "Naïve\n\t\\ 😀")],
    TIMESTAMPTZ: [
        Value(TIMESTAMPTZ, "2025-10-26T00:30:00.001000+00:00"),
        Value(TIMESTAMPTZ, "0001-01-01T00:00:00+00:00"),
        Value(TIMESTAMPTZ, "9999-12-31T23:59:59.999000+00:00"),
    ],
    JSON: [Value(JSON, {"a": [1, None, "b"], "big": 2**80}), Value(JSON, [])],
    "BOOLEAN[]": [Value("BOOLEAN[]", [True, None, False])],
    "BIGINT[]": [Value("BIGINT[]", [INT64_MAX, None]), Value("BIGINT[]", [])],
    "DOUBLE[]": [Value("DOUBLE[]", [0.1, None, -0.0])],
    "VARCHAR[]": [Value("VARCHAR[]", ["a", None, "", "null", '"]']), Value("VARCHAR[]", [])],
    "TIMESTAMPTZ[]": [Value("TIMESTAMPTZ[]", ["2025-10-26T00:30:00.001000+00:00", None])],
}
PAIRS = list(itertools.permutations(SAMPLES, 2))


@pytest.fixture(scope="module")
def after_widening(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[Any]]:
    """Columns that were given values of one type, then of another, then of the first again."""
    path = tmp_path_factory.mktemp("widening") / "test.duckdb"
    warehouse = Warehouse(path)
    for day, turn in zip(DAYS, (0, 1, 0), strict=False):
        longest = max(map(len, SAMPLES.values()))
        samples = {f"{pair[0]}, {pair[1]}": SAMPLES[pair[turn]] for pair in PAIRS}
        rows = [
            {name: values[at] for name, values in samples.items() if at < len(values)}
            for at in range(longest)
        ]
        load(warehouse, TABLE, day, rows)
    return read_all(warehouse, TABLE)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_widening_a_column_keeps_the_values_of_both_types(
    after_widening: dict[tuple[str, str], list[Any]], one: str, other: str
) -> None:
    found = [value for value in after_widening[f"{one}, {other}", "value"] if value is not None]

    sent = [*SAMPLES[one], *SAMPLES[other], *SAMPLES[one]]
    assert len(found) == len(sent)
    assert [(kept, got) for kept, got in zip(sent, found, strict=True) if not same(kept, got)] == []


@pytest.mark.parametrize("is_list", [False, True], ids=["one", "list"])
@pytest.mark.parametrize("later", ["a text", {"an": "object"}], ids=["text", "JSON"])
@pytest.mark.parametrize(
    "field",
    [
        {"_type": "InstantField", "value": "2025-10-26T00:30:00Z"},
        {"_type": "InstantField", "value": "2025-10-26T00:30:00.001Z"},
        {"_type": "InstantField", "value": "2025-10-26T02:30:00.000001+02:00"},
        {"_type": "InstantField", "value": "0005-01-02T03:04:05Z[GMT]"},
        {"_type": "DoubleField", "value": 0.00001},
        {"_type": "DoubleField", "value": 1e22},
        {"_type": "DoubleField", "value": 3},
        {"_type": "BooleanField", "value": True},
    ],
    ids=lambda field: str(field["value"]),
)
def test_a_value_has_the_same_text_before_and_after_its_column_became_text(
    warehouse: Warehouse, field: dict[str, Any], later: Any, is_list: bool
) -> None:
    def row(typed: dict[str, Any]) -> list[dict[str, Value]]:
        in_list = {"_type": "ListField", "values": [typed]}
        return [{"x": read_value(in_list if is_list else typed)}]

    load_days(warehouse, TABLE, row(field), row({"value": later}), row(field))

    first, _, last = read(warehouse, TABLE, "x")
    assert first == last


@pytest.mark.parametrize(
    ("days", "type_"),
    [
        ([[1, 2**53], [0.5]], DOUBLE),
        ([[1, -(2**53)], [0.5]], DOUBLE),
        ([[1, 2**53 + 1], [0.5]], VARCHAR),
        ([[1, -(2**53) - 1], [0.5]], VARCHAR),
        ([[0.5], [2**53]], DOUBLE),
        ([[0.5], [2**53 + 1]], VARCHAR),
        ([[1], [2**53 + 1, 0.5]], VARCHAR),
        ([[1], [0.5, 2**53 + 1]], VARCHAR),
        ([[2**53 + 1, 0.5]], VARCHAR),
        ([[1], [0.5], [2**53 + 1], [0.25]], VARCHAR),
        ([[2**53 + 1], [3], [INT64_MAX]], BIGINT),
        ([[INT64_MAX], [INT64_MAX + 1]], VARCHAR),
    ],
)
def test_integers_meet_fractions_as_doubles_only_while_every_digit_is_kept(
    warehouse: Warehouse, days: list[list[float]], type_: str
) -> None:
    load_days(warehouse, TABLE, *([{"n": read_value(number)} for number in day] for day in days))

    assert types(warehouse, TABLE) == {"n": type_}
    sent = [read_value(number) for day in days for number in day]
    found = read(warehouse, TABLE, "n")
    assert [same(kept, got) for kept, got in zip(sent, found, strict=True)] == [True] * len(sent)


def test_a_column_can_become_double_after_its_big_integer_was_replaced(
    warehouse: Warehouse,
) -> None:
    load(warehouse, TABLE, DAYS[0], [{"n": Value(BIGINT, 2**60)}])
    load(warehouse, TABLE, DAYS[0], [{"n": Value(BIGINT, 1)}])

    load(warehouse, TABLE, DAYS[1], [{"n": Value(DOUBLE, 0.5)}])

    assert types(warehouse, TABLE) == {"n": DOUBLE}


def test_a_widened_column_is_reported_and_keeps_its_comment(warehouse: Warehouse) -> None:
    declared = record(fields={"n": "How many."})
    written = load_days(
        warehouse, declared, [{"n": Value(BIGINT, 1)}], [{"n": Value(VARCHAR, "few")}]
    )

    assert written.schema_changes == ("column n widened from BIGINT to VARCHAR",)
    assert column_comments(warehouse, declared)["n"] == "How many."


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
instants = st.datetimes(timezones=st.just(UTC)).map(
    lambda at: at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
)
integers = st.integers(-(2**63), INT64_MAX) | st.integers(-3, 3) | st.just(2**53 + 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
labels = st.fixed_dictionaries({}, optional={"label": texts})


def typed(kind: str, content: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda value, label: {"_type": kind, "value": value} | label, content, labels)


scalars = st.one_of(
    typed("BooleanField", st.booleans()),
    typed("LongField", integers),
    typed("DoubleField", floats | integers),
    typed("StringField", texts | integers.map(str)),
    typed("InstantField", instants),
    typed("LongField", st.none()),
)
lists = st.lists(scalars, max_size=3).map(lambda items: {"_type": "ListField", "values": items})
unknown = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | floats | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
).map(lambda content: {"_type": "Novelty", "value": content})
# A field has few kinds of values, so its kinds are drawn first.
fields = st.dictionaries(st.sampled_from(["x", "X", "x_label"]), scalars | lists | unknown)
loads = st.lists(
    st.tuples(st.sampled_from(DAYS[:3]), st.lists(fields, max_size=3)), min_size=1, max_size=3
)


@settings(max_examples=80, deadline=None, database=None)
@given(loads=loads)
def test_every_value_of_every_day_is_read_back_without_loss(
    empty: Path, loads: list[tuple[str, list[dict[str, Any]]]]
) -> None:
    warehouse = fresh(empty)
    expected: dict[str, list[dict[str, Value]]] = {}
    for day, rows in loads:
        expected[day] = [{name: read_value(each) for name, each in row.items()} for row in rows]
        written = load(warehouse, TABLE, day, expected[day])

    rows_sent = [row for day in sorted(expected) for row in expected[day]]
    columns = read_all(warehouse, TABLE, written)
    assert {name for row in rows_sent for name in row} <= {name for name, _ in columns}
    for (name, part), found in columns.items():
        values = [row.get(name, NOTHING) for row in rows_sent]
        sent = values if part == "value" else [label_of(value) for value in values]
        assert len(found) == len(sent)
        pairs = zip(sent, found, strict=True)
        assert [(kept, got) for kept, got in pairs if not same(kept, got)] == []


def label_of(value: Value) -> Value:
    if value.label is None:
        return NOTHING
    return Value("VARCHAR[]" if isinstance(value.label, list) else VARCHAR, value.label)
