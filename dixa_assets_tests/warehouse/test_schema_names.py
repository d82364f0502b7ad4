"""Fields, records and metrics can have any name."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dixa_assets.model.values import BIGINT, DOUBLE, VARCHAR, Value
from dixa_assets.warehouse.sql import name_of, quote
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.columns import (
    TABLE,
    column_comments,
    column_names,
    fresh,
    load_days,
    read,
    read_all,
)
from dixa_assets_tests.support.handmade import DAYS, load, load_metric, record, selected

ODD_NAMES = [
    "select",
    "table",
    'Naïve "quote"; drop table x',
    "an id with spaces",
    "'; drop table x; --",
    '"; drop table x; --',
    "/* half a comment",
    "$1 ? ?::INTEGER {name} %s",
    "back\\slash",
    "new\nline",
    " ",
    "\ufeff",
    ".",
    "a.b",
    "_0",
    "name",
    "columns",
    "rowid",
    "İıß",
    "名前 😀",
    "x" * 3000,
]
name_id = ascii


@pytest.mark.parametrize("name", ODD_NAMES, ids=name_id)
def test_a_field_of_any_name_has_a_column(warehouse: Warehouse, name: str) -> None:
    declared = record(fields={name: f"About {name}"})
    load_days(
        warehouse,
        declared,
        [{name: Value(BIGINT, 1, "one"), "other": Value(VARCHAR, "kept")}],
        [{name: Value(VARCHAR, name), "other": Value(VARCHAR, "kept")}],
    )

    columns = selected(
        warehouse,
        "SELECT column_name, part FROM dixa_catalogue.columns WHERE "
        f"table_name = '{TABLE.name}' AND field NOT IN ('', 'other') ORDER BY part",
    )
    assert [part for _, part in columns] == ["label", "value"]
    label, value = (quote(column) for column, _ in columns)
    content = f"SELECT {value}[:3000], coalesce({label}, '-'), other FROM {name_of(TABLE)}"
    stored = name.encode(errors="replace").decode()
    assert selected(warehouse, content) == [("1", "one", "kept"), (stored, "-", "kept")]


@pytest.mark.parametrize("name", ODD_NAMES, ids=name_id)
def test_a_record_of_any_name_and_description_has_a_table(warehouse: Warehouse, name: str) -> None:
    table = record(f"record {name}", about=f"About {name}")
    load_days(warehouse, table, [{"x": Value(BIGINT, 1)}], [{"x": Value(DOUBLE, 0.5)}])

    assert read(warehouse, table, "x") == [1, 0.5]


@pytest.mark.parametrize("name", ODD_NAMES, ids=name_id)
def test_a_metric_of_any_id_has_a_view_of_its_own_rows(warehouse: Warehouse, name: str) -> None:
    load_metric(warehouse, name, DAYS[0], [1, 2], about=f"About {name}")
    load_metric(warehouse, name, DAYS[0], [3], about=f"About {name}")

    assert selected(warehouse, f"SELECT value FROM dixa_metrics.{quote(name)}") == [(3.0,)]
    count = warehouse.query("SELECT value FROM dixa.metrics_daily WHERE metric = ?", [name])
    assert count["value"].tolist() == [3.0]


@settings(max_examples=20, deadline=None, database=None)
@given(
    days=st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
            | st.sampled_from(["id", "Id", "ID", "id_", "id_label", "Id_label", "value", "run_id"]),
            max_size=5,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_fields_of_any_names_on_any_days_have_distinct_columns(
    empty: Path, days: list[list[str]]
) -> None:
    warehouse = fresh(empty)
    for day, names in zip(DAYS, days, strict=False):
        rows = [{name: Value(VARCHAR, name, name[::-1]) for name in names}]
        written = load(warehouse, TABLE, day, rows)

    columns = read_all(warehouse, TABLE, written)
    for name in {name for names in days for name in names}:
        expected = [name if name in names else None for names in days]
        assert columns[name, "value"] == expected
        assert columns[name, "label"] == [each and each[::-1] for each in expected]


OWN_NAMES = [
    "partition_date",
    "Partition_Date",
    "primary_timestamp",
    "primary_timestamp_field",
    "value",
    "loaded_at",
    "run_id",
]


@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_field_with_the_name_of_an_own_column_gets_another_column(
    warehouse: Warehouse, name: str
) -> None:
    declared = record(fields={name: "Dixa's."})
    written = load_days(
        warehouse,
        declared,
        [{name: Value(VARCHAR, "theirs")}],
        [{name: Value(VARCHAR, "again"), "": Value(DOUBLE, 1.5)}],
    )

    assert column_names(warehouse, TABLE)[name, "value"] == f"{name}_"
    assert column_comments(warehouse, TABLE)[f"{name}_"] == f"Dixa's. (Dixa's field '{name}')"
    assert read(warehouse, TABLE, name) == ["theirs", "again"]
    assert read(warehouse, TABLE, "") == [None, 1.5]
    own = f"SELECT partition_date::VARCHAR, run_id FROM {name_of(TABLE)} ORDER BY 1"
    assert selected(warehouse, own) == [(DAYS[0], "a-run"), (DAYS[1], "a-run")]
    assert len({column.name.lower() for column in written.columns}) == len(written.columns)


@pytest.mark.parametrize(
    "rival",
    [{"value_label": Value(VARCHAR, "theirs")}, {"value": Value(VARCHAR, "v", "theirs")}],
    ids=["a field value_label", "the label of a field value"],
)
@pytest.mark.parametrize("rival_first", [True, False], ids=["before", "after"])
def test_the_label_of_the_rows_own_value_has_a_column_of_its_own(
    warehouse: Warehouse, rival: dict[str, Value], rival_first: bool
) -> None:
    [(field, value)] = rival.items()
    part = "value" if value.label is None else "label"
    labelled = {"": Value(DOUBLE, 1.5, "mine")}
    load(warehouse, TABLE, DAYS[0], [rival if rival_first else labelled])

    written = load(warehouse, TABLE, DAYS[1], [rival | labelled])

    assert len({column.name for column in written.columns}) == len(written.columns)
    assert read(warehouse, TABLE, field, part)[-1] == "theirs"
    assert read(warehouse, TABLE, "", "label")[-1] == "mine"
    assert column_names(warehouse, TABLE)["", "label"] == "value_label"


DAYS_OF_X = [
    {"x": Value(VARCHAR, "x", "label of x")},
    {"x_label": Value(VARCHAR, "x_label")},
    {"x_label": Value(VARCHAR, "x_label", "label of x_label")},
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_a_label_and_a_field_of_its_name_are_both_kept_in_any_order(
    warehouse: Warehouse, order: tuple[int, ...]
) -> None:
    names: dict[tuple[str, str], str] = {}
    for day, at in zip(DAYS, order, strict=False):
        written = load(warehouse, TABLE, day, [DAYS_OF_X[at]])
        now = {(column.field, column.part): column.name for column in written.columns}
        assert names.items() <= now.items()
        names = now
    load(warehouse, TABLE, DAYS[3], [{name: row[name] for row in DAYS_OF_X for name in row}])

    columns, comments = read_all(warehouse, TABLE), column_comments(warehouse, TABLE)
    for name in ("x", "x_label"):
        assert set(columns[name, "value"]) == {None, name}
        assert columns[name, "value"][-1] == name
        assert columns[name, "label"][-1] == f"label of {name}"
        about = comments[names[name, "label"]]
        assert about == f"Display name of {name} when the row was loaded."
