"""The files of a dbt project."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.conftest import Done
from dixa_assets_tests.support.scenario import component, failure_of, load
from dixa_assets_tests.support.simulator import Simulator
from dixa_assets_tests.support.wheels import uv


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


@pytest.mark.parametrize("name", ["sources.yml", "profiles.yml"])
def test_a_hand_written_file_is_refused_and_not_changed(
    name: str,
    command: Callable[..., Done],
    tmp_path: Path,
    simulator: Simulator,
    catalogue: Catalogue,
) -> None:
    written = b"# Pers\xf6nlich\nversion: 2\n"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / name).write_bytes(written)
    analytics = component(
        simulator,
        tmp_path,
        duckdb_path=str(tmp_path / "dixa.duckdb"),
        dbt_path=str(tmp_path / "models"),
    )
    analytics.build_warehouse().save_catalogue(catalogue)
    done = command("dbt", "models")
    assert done.code == 1
    assert f"{name} was not written by this project, so it is not replaced" in done.err
    failed = load(analytics, ["dixa/dbt_sources"], catalogue=catalogue)
    assert "dbt_path: " in failure_of(failed, "dixa__dbt_sources")
    assert (tmp_path / "models" / name).read_bytes() == written
    assert {path.name for path in (tmp_path / "models").iterdir()} <= {"sources.yml", name}


@pytest.mark.parametrize("text", ["{{ env_var('HOME') }}", "{% raw %}", "{# c #}"])
def test_a_description_cannot_be_a_template(text: str) -> None:
    from dixa_assets.orchestration.dbt import _plain

    assert not {"{{", "{%", "{#"} & {_plain(text)[at : at + 2] for at in range(len(text))}


DBT_PROJECT = """
name: tiny
version: "1.0"
profile: dixa
"""
BY_AGENT = """
SELECT agent_id, count(*) AS answers, avg(value) AS score
FROM {{ source('dixa_records', 'ratings') }} GROUP BY ALL
"""


@pytest.mark.slow
def test_dbt_builds_a_model_on_the_sources_and_tells_how_fresh_they_are(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    project = tmp_path / "a project"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text(DBT_PROJECT)
    (project / "models" / "by_agent.sql").write_text(BY_AGENT)
    analytics = component(
        simulator,
        tmp_path,
        dbt_path=str(project / "models" / "dixa"),
        read_copy_path=str(tmp_path / "dixa_read.duckdb"),
    )
    assert load(analytics, ["dixa_records/ratings"], "2025-11-01", catalogue=catalogue).success
    assert load(analytics, ["dixa/read_copy", "dixa/dbt_sources"], catalogue=catalogue).success

    tools = tmp_path / "venv" / "bin"
    uv("venv", "--python", sys.executable, str(tmp_path / "venv"))
    uv("pip", "install", "--python", str(tools / "python"), "dbt-core<1.12", "dbt-duckdb")

    def dbt(*arguments: str) -> str:
        own = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "HOME": str(tmp_path)}
        done = subprocess.run(
            [str(tools / "dbt"), *arguments, "--profiles-dir", "models/dixa"],
            cwd=project,
            env=os.environ | own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    built = dbt("build", "--select", "+by_agent")
    assert "1 table model" in built or "1 view model" in built
    assert "WARN=0 ERROR=0" in built, built
    assert "warn" not in built.lower().replace("warn=0", ""), built
    assert "PASS freshness of dixa_records.ratings" in dbt(
        "source", "freshness", "--select", "source:dixa_records.ratings"
    )
    shown = dbt("show", "--select", "by_agent", "--output", "json", "--limit", "100")
    rows = json.loads(shown[shown.index("{") :])["show"]
    ((count,),) = (
        analytics.build_warehouse().query("SELECT count(*) FROM dixa_records.ratings").values
    )
    assert sum(row["answers"] for row in rows) == count > 0
