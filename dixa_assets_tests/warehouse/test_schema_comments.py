"""Comments of tables, views and columns follow the catalogue."""

import itertools
from pathlib import Path

import pytest

from dixa_assets.model.values import BIGINT, Value
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.columns import TABLE, column_comments
from dixa_assets_tests.support.handmade import DAYS, load, load_metric, record, selected


def comment(warehouse: Warehouse, kind: str, name: str) -> str:
    [(found,)] = selected(
        warehouse, f"SELECT comment FROM duckdb_{kind}s() WHERE {kind}_name = '{name}'"
    )
    return str(found)


ABOUT = ["What it is.", "It's \"quoted\";\nand goes on -- ' \\n 😀", ""]


@pytest.mark.parametrize(("before", "after"), itertools.permutations(ABOUT, 2))
def test_comments_of_a_table_follow_the_catalogue(
    warehouse: Warehouse, before: str, after: str
) -> None:
    for day, about in zip(DAYS, (before, after), strict=False):
        load(warehouse, record(about=about, fields={"x": about}), day, [{"x": Value(BIGINT, 1)}])
        assert comment(warehouse, "table", TABLE.name) == about
        # A removed description leaves the last known one.
        assert column_comments(warehouse, TABLE)["x"] == (about or before)


@pytest.mark.file
@pytest.mark.parametrize(("before", "after"), itertools.permutations(ABOUT, 2))
def test_comments_of_a_view_follow_the_catalogue(
    warehouse: Warehouse, before: str, after: str
) -> None:
    for about in (before, after):
        load_metric(warehouse, "csat", DAYS[0], [1], about=about)
        assert comment(warehouse, "view", "csat") == about
    found = warehouse.query(
        "SELECT count(*) AS silent FROM duckdb_columns() "
        "WHERE table_name = 'csat' AND coalesce(comment, '') = ''",
    )
    assert found["silent"].tolist() == [0]


def test_a_new_description_is_written_without_new_rows(warehouse: Warehouse) -> None:
    load(warehouse, record(about="Old.", fields={"x": "Old x."}), DAYS[0], [])
    load(warehouse, record(about="New.", fields={"x": "New x."}), DAYS[0], [])

    assert comment(warehouse, "table", TABLE.name) == "New."
    assert column_comments(warehouse, TABLE)["x"] == "New x."


def test_every_own_table_and_column_has_a_comment(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "test.duckdb")
    load(warehouse, TABLE, DAYS[0], [])

    silent = (
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal "
        "AND schema_name LIKE 'dixa%' AND coalesce(comment, '') = ''"
    )
    assert selected(warehouse, silent) == []
    assert len(selected(warehouse, "SELECT 1 FROM duckdb_columns() WHERE comment <> ''")) > 40
