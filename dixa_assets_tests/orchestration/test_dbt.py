"""The files of a dbt project."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.conftest import Done
from dixa_assets_tests.support.scenario import component, load
from dixa_assets_tests.support.simulator import Simulator


def tables_of(folder: Path) -> dict[str, dict[str, Any]]:
    described = yaml.safe_load((folder / "sources.yml").read_text())
    return {
        f"{source['schema']}.{table['name']}": table
        for source in described["sources"]
        for table in source["tables"]
    }


def test_sources_name_every_table_with_its_columns_tests_and_asset(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(
        simulator,
        tmp_path,
        account="acme",
        dbt_path=str(tmp_path / "dbt"),
        read_copy_path=str(tmp_path / "acme_read.duckdb"),
    )
    assert load(analytics, ["acme/dixa/dbt_sources"], catalogue=catalogue).success
    tables = tables_of(tmp_path / "dbt")
    for entry in catalogue.entries:
        assert f"{entry.schema}.{entry.name}" in tables
    assert {"dixa.metrics_daily", "dixa_filters.agent_id"} <= {*tables}
    ratings = tables["dixa_records.ratings"]
    assert ratings["config"]["meta"] == {
        "dagster": {"asset_key": ["acme", "dixa_records", "ratings"]}
    }
    assert ratings["config"]["loaded_at_field"] == "loaded_at"
    assert ratings["config"]["freshness"]["warn_after"]["period"] == "hour"
    (entry,) = [each for each in catalogue.entries if each.key == "dixa_records/ratings"]
    required = {item.field for item in entry.fields if not item.nullable}
    tested = {each["name"] for each in ratings["columns"] if each.get("data_tests") == ["not_null"]}
    assert tested == required != set()
    types = {each["name"]: each.get("data_type") for each in ratings["columns"]}
    assert types["partition_date"] == "DATE"
    profile = yaml.safe_load((tmp_path / "dbt" / "profiles.yml").read_text())
    (attached,) = profile["dixa"]["outputs"]["dev"]["attach"]
    assert attached == {
        "path": str(tmp_path / "acme_read.duckdb"),
        "alias": "acme_read",
        "read_only": True,
    }


def test_the_command_writes_the_files_and_a_second_run_changes_nothing(
    command: Callable[..., Done], tmp_path: Path, simulator: Simulator, catalogue: Catalogue
) -> None:
    warehouse = component(simulator, tmp_path, duckdb_path=str(tmp_path / "dixa.duckdb"))
    warehouse.build_warehouse().save_catalogue(catalogue)
    done = command("dbt", "models")
    assert (done.code, done.out.count("✓")) == (0, 2)
    assert "dixa_records.ratings" in tables_of(tmp_path / "models")
    again = command("dbt", "models")
    assert (again.code, again.out) == (0, "")


@pytest.mark.parametrize("text", ["{{ env_var('HOME') }}", "{% raw %}", "{# c #}"])
def test_a_description_cannot_be_a_template(text: str) -> None:
    from dixa_assets.orchestration.dbt import _plain

    assert not {"{{", "{%", "{#"} & {_plain(text)[at : at + 2] for at in range(len(text))}
