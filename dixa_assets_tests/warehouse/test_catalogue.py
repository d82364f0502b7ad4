"""The database remembers the whole catalogue, and reads that of an older version."""

import time
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue, Fact
from dixa_assets.model.catalogue_rows import catalogue_rows
from dixa_assets.model.tables import Relation
from dixa_assets.staging import Staged
from dixa_assets.warehouse.load_log import Load
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.catalogues import LATER, METRIC, RECORD, fresh, listing, merged
from dixa_assets_tests.support.handmade import DAY, integers, load, record, selected

# Two attributes whose identifiers collide. The second is new, and sorts before the first.
FIRST = METRIC | {"filters": [{"filterAttribute": "queue_id"}], "relatedRecordIds": ["ratings"]}
THEN = FIRST | {"filters": [{"filterAttribute": "queue_id"}, {"filterAttribute": "queue id"}]}
FACT = Fact(
    "required filter", "none", "required", "handled", "status 400", LATER, "required_filter", "x"
)


def grown() -> Catalogue:
    """A catalogue with colliding attributes, another spelling, a retired entry and a fact."""
    known = fresh(FIRST, {"id": "leaving"})
    later = merged(known, listing(THEN | {"id": "CSAT"}, records=(RECORD,)))
    assert later.filter_names["queue_id"] == "queue_id"
    assert [entry.spelling for entry in later.entries if entry.id == "csat"] == ["CSAT"]
    return replace(later, facts=(FACT,))


def write_tables(warehouse: Warehouse, catalogue: Catalogue) -> None:
    """Write the tables of the catalogue."""
    for table, rows in catalogue_rows(catalogue).items():
        with warehouse.staging() as folder, Staged(folder / "rows", table) as staged:
            for row in rows:
                staged.add_row(row)
            warehouse.replace(Relation.whole(table), [Load("a-run", time.monotonic(), [staged])])


def in_tables(catalogue: Catalogue) -> Catalogue:
    """The part of a catalogue that its tables hold."""
    entries = tuple(replace(entry, spelling="") for entry in catalogue.entries)
    return replace(catalogue, entries=entries, filter_names={})


def test_a_remembered_catalogue_is_read_back_equal(warehouse: Warehouse) -> None:
    assert warehouse.catalogue() == Catalogue()
    for catalogue in (fresh(FIRST), grown()):
        warehouse.save_catalogue(catalogue)
        found = warehouse.catalogue()
        assert found == catalogue
        assert found.version == catalogue.version
    assert len(selected(warehouse, "SELECT 1 FROM dixa_catalogue.catalogue_json")) == 1


def test_colliding_attributes_keep_their_tables_after_a_lost_state(warehouse: Warehouse) -> None:
    warehouse.save_catalogue(grown())
    later = merged(warehouse.catalogue(), listing(THEN))
    assert later.filter_names == grown().filter_names


def test_an_equal_catalogue_is_not_written_again(warehouse: Warehouse) -> None:
    written_at = "SELECT written_at::VARCHAR FROM dixa_catalogue.catalogue_json"
    warehouse.save_catalogue(grown())
    before = selected(warehouse, written_at)
    warehouse.save_catalogue(grown())
    assert selected(warehouse, written_at) == before


def test_a_database_of_another_account_remembers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test.duckdb"
    first = Warehouse(path, WarehouseSettings(account="first"))
    load(first, record(), DAY, integers(1))
    with pytest.raises(ConfigError, match="^account: "):
        Warehouse(path, WarehouseSettings(account="second")).save_catalogue(grown())
    assert first.catalogue() == Catalogue()


# Versions without weeks and months.
BEFORE_PERIODS = (
    "DROP VIEW dixa.metrics_weekly",
    "DROP VIEW dixa.metrics_monthly",
    "DROP TABLE dixa_metrics.period_values",
    "ALTER TABLE dixa_catalogue.loads DROP COLUMN periods",
    "DELETE FROM dixa_catalogue.columns WHERE table_name = 'period_values' "
    "OR (table_name = 'loads' AND column_name = 'periods')",
)


def test_a_database_of_an_older_version_goes_on_working(tmp_path: Path) -> None:
    path = tmp_path / "test.duckdb"
    warehouse = Warehouse(path)
    load(warehouse, record(), DAY, integers(1))
    write_tables(warehouse, grown())
    with duckdb.connect(str(path), config={"storage_compatibility_version": "v1.5.0"}) as old:
        old.execute("DROP TABLE dixa_catalogue.catalogue_json")
        for statement in BEFORE_PERIODS:
            old.execute(statement)
        old.execute("ALTER TABLE dixa_catalogue.loads ADD COLUMN reach BIGINT")
        old.execute("UPDATE dixa_catalogue.loads SET reach = 1")

    again = Warehouse(path)
    assert again.catalogue() == in_tables(grown())
    load(again, record(), DAY, integers(2, 3))
    load(again, record(), "2025-01-03", [])
    again.save_catalogue(fresh())

    assert again.catalogue() == fresh()
    log = "SELECT rows FROM dixa_catalogue.loads WHERE partition_date IS NOT NULL ORDER BY ALL"
    assert selected(again, log) == [(0,), (2,)]
    assert len(again.query("FROM dixa.metrics_weekly, dixa.metrics_monthly")) == 0
    adopted = Warehouse(tmp_path / "another.duckdb")
    assert adopted.copy_from(path)['"dixa_catalogue"."catalogue_json"'] == 1
    assert adopted.catalogue() == fresh()
    load(adopted, record(), DAY, integers(4))
