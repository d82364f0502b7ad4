"""The copy of every table as Parquet files."""

import re
from pathlib import Path

import duckdb
import polars as pl
import pytest

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.settings.paths import folder_address
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.scenario import component, load
from dixa_assets_tests.support.simulator import Simulator

FIRST, LAST = "2025-10-20", "2025-10-22"
KEYS = ["dixa_records/ratings", "dixa_metrics/csat"]


def changed(folder: Path) -> dict[str, int]:
    """The time of the latest change of each file."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.parquet")
    }


def test_each_table_has_a_folder_with_a_file_per_day_and_only_new_days_are_written(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    folder = tmp_path / "parquet"
    analytics = component(simulator, tmp_path, parquet_path=str(folder))
    assert load(analytics, KEYS, FIRST, LAST, catalogue=catalogue).success
    assert load(analytics, ["dixa/parquet"], catalogue=catalogue).success
    first = changed(folder)
    assert {*first} == {
        "_exported.parquet",
        *(f"dixa_records/ratings/2025-10-{day}.parquet" for day in (20, 21, 22)),
        *(f"dixa_metrics/metric_values/2025-10-{day}.parquet" for day in (20, 21, 22)),
    }
    warehouse = analytics.build_warehouse()
    for table in ("dixa_records.ratings", "dixa_metrics.metric_values"):
        files = folder / table.replace(".", "/") / "*.parquet"
        found = duckdb.sql(f"FROM '{files}' ORDER BY ALL").df()
        stored = warehouse.query(f"FROM {table} ORDER BY ALL")
        assert [*found.columns] == [*stored.columns]
        assert len(found) == len(stored) > 0
        assert found.loaded_at.tolist() == stored.loaded_at.tolist()
    assert load(analytics, KEYS[:1], LAST, catalogue=catalogue).success
    assert load(analytics, ["dixa/parquet"], catalogue=catalogue).success
    second = changed(folder)
    assert {name for name in second if second[name] != first.get(name)} == {
        "_exported.parquet",
        f"dixa_records/ratings/{LAST}.parquet",
    }
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_polars_reads_the_files_as_the_page_says(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    analytics = component(simulator, tmp_path, parquet_path=str(tmp_path / "data" / "parquet"))
    assert load(analytics, KEYS[:1], FIRST, LAST, catalogue=catalogue).success
    assert load(analytics, ["dixa/parquet"], catalogue=catalogue).success
    page = (PROJECT / "docs" / "reuse.md").read_text()
    (recipe,) = re.findall(r"^\| polars \| `(.+)` \|$", page, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    found = eval(recipe, {"pl": pl}).collect()
    stored = analytics.build_warehouse().query("FROM dixa_records.ratings")
    assert found.columns == [*stored.columns]
    assert len(found) == len(stored) > 0


def test_a_new_column_rewrites_all_files_of_its_table_and_a_lost_folder_is_filled_again(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(simulator, tmp_path)
    assert load(analytics, KEYS[:1], FIRST, LAST, catalogue=catalogue).success
    warehouse, folder = analytics.build_warehouse(), tmp_path / "parquet"
    assert warehouse.export(str(folder)) == {"files_written": 3, "files": 3}
    assert warehouse.export(str(folder)) == {"files_written": 0, "files": 3}
    with warehouse.reading() as query:
        query("ALTER TABLE dixa_records.ratings ADD COLUMN mood VARCHAR")
    assert warehouse.export(str(folder))["files_written"] == 3
    for path in folder.rglob("*.parquet"):
        path.unlink()
    assert warehouse.export(str(folder))["files_written"] == 3


def test_a_day_that_left_the_database_has_no_rows_in_its_file(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(simulator, tmp_path)
    assert load(analytics, KEYS[:1], FIRST, LAST, catalogue=catalogue).success
    warehouse, folder = analytics.build_warehouse(), tmp_path / "parquet"
    warehouse.export(str(folder))
    with warehouse.reading() as query:
        query(f"DELETE FROM dixa_catalogue.loads WHERE partition_date = '{FIRST}'")
        query(f"DELETE FROM dixa_records.ratings WHERE partition_date = '{FIRST}'")
    warehouse.export(str(folder))
    files = folder / "dixa_records/ratings/*.parquet"
    days = duckdb.sql(f"SELECT DISTINCT partition_date::VARCHAR AS day FROM '{files}' ORDER BY ALL")
    assert days.fetchall() == [("2025-10-21",), ("2025-10-22",)]


@pytest.mark.parametrize(
    "address", ["s3://KEY:SECRET@bucket/x", "s3://bucket/x?token=abc", "s3://", "https://u:p@h/x"]
)
def test_an_address_with_credentials_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(ConfigError, match="^DIXA_PARQUET_PATH|^parquet_path") as caught:
        folder_address("parquet_path", address)
    assert "SECRET" not in str(caught.value)
    assert "abc" not in str(caught.value)
