"""Projects of other people: a fresh checkout, the scaffold, a second start."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dixa_assets.errors import DixaAssetsError
from dixa_assets.launch.dagster_dev import _only_one
from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.conftest import Done
from dixa_assets_tests.support.processes import outside_settings
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.scenario import component
from dixa_assets_tests.support.simulator import Simulator

THEIRS = """
import dagster as dg
import pandas as pd

RATINGS = dg.AssetKey(["dixa_records", "ratings"])

@dg.asset(ins={"ratings": dg.AssetIn(RATINGS)})
def mine(ratings: pd.DataFrame) -> None: ...

their_job = dg.define_asset_job("their_job", selection=[RATINGS])
"""


def checked(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`dg check defs` of a project, without DAGSTER_HOME."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("dg")), *arguments],
        cwd=project,
        env=outside_settings() | {"VIRTUAL_ENV": sys.prefix, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_project_with_a_committed_catalogue_loads_in_a_fresh_checkout(
    command: Callable[..., Done], simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    own = component(simulator, tmp_path, duckdb_path=str(tmp_path / "dixa.duckdb"))
    package = write_project(
        tmp_path, dixa=f"attributes:\n  duckdb_path: dixa.duckdb\n  base_url: {simulator.url}\n"
    )
    (package / "defs" / "theirs.py").write_text(THEIRS)
    assert checked(tmp_path, "check", "defs").returncode != 0
    own.build_warehouse().save_catalogue(catalogue)
    done = command("catalogue")
    assert done.code == 0, done.err
    assert (package / "defs" / "dixa" / "catalogue.json").exists()
    # The checkout has no database and no history of Dagster.
    (tmp_path / "dixa.duckdb").unlink()
    found = checked(tmp_path, "check", "defs")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "mine" in checked(tmp_path, "list", "defs").stdout


def test_the_catalogue_command_says_what_to_do_before_anything_is_known(
    command: Callable[..., Done],
) -> None:
    done = command("catalogue")
    assert done.code == 1
    assert "dg utils refresh-defs-state" in done.err


@pytest.mark.slow
def test_the_scaffold_needs_a_zone_stops_sensors_and_ignores_the_data(tmp_path: Path) -> None:
    package = write_project(tmp_path)
    scaffold = ("scaffold", "defs", "dixa_assets.component.DixaAnalytics")
    lacking = checked(tmp_path, *scaffold, "none")
    assert "timezone" in lacking.stdout + lacking.stderr
    wrong = checked(tmp_path, *scaffold, "wrong", "--timezone", "Europe/Kopenhagen")
    assert "did you mean Europe/Copenhagen" in wrong.stdout + wrong.stderr
    assert not (package / "defs" / "wrong" / "defs.yaml").exists()
    for name, options in (("quiet", ()), ("running", ("--running", "true"))):
        made = checked(tmp_path, *scaffold, name, "--timezone", "Asia/Kolkata", *options)
        assert made.returncode == 0, made.stdout + made.stderr
        written = yaml.safe_load((package / "defs" / name / "defs.yaml").read_text())
        stopped = written["attributes"].get("default_sensor_status") == "STOPPED"
        assert stopped == (name == "quiet")
    assert (tmp_path / ".gitignore").read_text().splitlines().count("/data/") == 1


def test_a_second_start_with_the_same_history_names_the_first(tmp_path: Path) -> None:
    with (
        _only_one(tmp_path, "http://127.0.0.1:3000"),
        pytest.raises(DixaAssetsError, match="already running here: .*:3000 .process"),
        _only_one(tmp_path, "http://127.0.0.1:3001"),
    ):
        pass
    # It can start again after the first one ended.
    with _only_one(tmp_path, "http://127.0.0.1:3002"):
        assert "3002" in (tmp_path / "running").read_text()


def test_the_version_is_told(
    command: Callable[..., Done], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("--version")
    assert capsys.readouterr().out.startswith("dixa_assets 0.")
