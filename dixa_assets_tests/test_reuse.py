"""The project in somebody else's: as a component, and in plain Python, from an installed wheel."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from dixa_assets.component import build_definitions
from dixa_assets_tests.support.processes import PROJECT, settings_for
from dixa_assets_tests.support.scenario import component, fetched
from dixa_assets_tests.support.simulator import Simulator

PYPROJECT = """
[project]
name = "theirs"
version = "0.1"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "theirs"
code_location_name = "theirs"
"""
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
DEFS_YAML = """
type: dixa_assets.component.DixaAnalytics
attributes:
  base_url: {url}
  timezone: America/Santiago
  start_date: "2025-06-01"
  duckdb_path: theirs.duckdb
  owners: ["team:support-analytics"]
"""
PLAIN = """
from dixa_assets.component import build_definitions

defs = build_definitions(base_url="{url}", timezone="America/Santiago", start_date="2025-06-01")
"""


def test_plain_python_gives_what_the_stored_catalogue_says(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    empty = build_definitions(base_url=simulator.url)
    assert [sensor.name for sensor in empty.sensors or ()] == ["dixa_catalogue"]
    with dg.instance_for_test() as instance:
        storage = instance.defs_state_storage
        assert storage is not None
        state = tmp_path / "state"
        state.write_text(fetched(analytics).to_json())
        storage.upload_state_from_path(analytics.defs_state_config.key, "a-version", state)
        with set_defs_state_storage(storage):
            full = build_definitions(base_url=simulator.url, owners=["team:support"])
    graph = full.resolve_asset_graph()
    node = graph.get(dg.AssetKey(["dixa_metrics", "csat"]))
    assert node.owners == ["team:support"]
    assert dg.AssetKey(["dixa_records", "ratings"]) in graph.get_all_asset_keys()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the built wheel and nothing of this folder."""
    folder = tmp_path_factory.mktemp("theirs")
    done = pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(PROJECT))
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    (wheel,) = folder.glob("*.whl")
    python = str(folder / "venv" / "bin" / "python")
    done = pip(python, "install", "-c", str(PROJECT / "constraints.txt"), str(wheel))
    assert done.returncode == 0, done.stderr
    return folder


def pip(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def dg_cli(folder: Path, settings: dict[str, str], *arguments: str) -> str:
    """What a `dg` command says in their project."""
    venv = folder / "venv"
    # Their package is on the path, as it is where it is installed.
    own = settings | {"VIRTUAL_ENV": str(venv), "PYTHONPATH": str(folder / "project")}
    own["PATH"] = f"{venv / 'bin'}:/bin"
    done = subprocess.run(
        [str(venv / "bin" / "dg"), *arguments],
        cwd=folder / "project", env=own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_is_a_component_in_an_empty_project_elsewhere(
    theirs: Path, simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    project = theirs / "project"
    (project / "theirs" / "defs" / "dixa").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "theirs" / "__init__.py").touch()
    (project / "theirs" / "definitions.py").write_text(DEFINITIONS)
    (project / "theirs" / "defs" / "dixa" / "defs.yaml").write_text(
        DEFS_YAML.format(url=simulator.url)
    )
    offered = json.loads(dg_cli(theirs, settings, "list", "components", "--json"))
    (offer,) = (one for one in offered["items"] if one["key"].startswith("dixa_assets."))
    assert offer["key"] == "dixa_assets.component.DixaAnalytics"
    assert "daily-partitioned" in offer["summary"]

    dg_cli(theirs, settings, "check", "yaml")
    dg_cli(theirs, settings, "utils", "refresh-defs-state")
    listed = json.loads(dg_cli(theirs, settings, "list", "defs", "--json"))
    assets = {asset["asset_key"] for asset in listed["assets"]}
    assert {"dixa_metrics/csat", "dixa_records/ratings", "dixa/metrics_daily"} <= assets

    dg_cli(
        theirs, settings, "launch", "--assets", "key:dixa_metrics/csat", "--partition", "2025-11-05"
    )
    python = str(theirs / "venv" / "bin" / "python")
    sql = "SELECT timezone FROM dixa_metrics.csat"
    ask = f"import duckdb; print(duckdb.connect('theirs.duckdb').sql('{sql}').fetchall())"
    done = subprocess.run(
        [python, "-c", ask], cwd=project, capture_output=True, text=True, check=True
    )
    assert "America/Santiago" in done.stdout


@pytest.mark.slow
def test_the_wheel_gives_definitions_in_plain_python_elsewhere(
    theirs: Path, simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    plain = tmp_path / "plain.py"
    plain.write_text(PLAIN.format(url=simulator.url))
    done = subprocess.run(
        [str(theirs / "venv" / "bin" / "dagster"), "definitions", "validate", "-f", str(plain)],
        cwd=tmp_path, env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
