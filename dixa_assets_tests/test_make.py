"""The Makefile's commands, in a copy of this project and on a simulated Dixa."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

import duckdb
import pytest

from dixa_assets_tests.support.processes import PROJECT, settings_for
from dixa_assets_tests.support.simulator import Simulator


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of this project without data, with the installed packages of this one."""
    place = tmp_path / "a folder"
    ignored = shutil.ignore_patterns(".*", "*_tests", "data", "__pycache__")
    shutil.copytree(PROJECT, place, ignore=ignored)
    (place / ".venv").symlink_to(PROJECT / ".venv")
    return place


def make(place: Path, simulator: Simulator, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = settings_for(simulator, place.parent) | {"PYTHONPATH": str(place)}
    del settings["DIXA_DUCKDB_PATH"]
    return subprocess.run(
        ["make", "-o", ".venv/installed", "-C", str(place), *arguments],
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_works_in_a_folder_with_a_space(place: Path, simulator: Simulator) -> None:
    made = make(place, simulator, "doctor")
    assert made.returncode == 0, made.stderr
    assert f"✓ database: {place / 'data' / 'dixa.duckdb'}, " in made.stdout
    assert not (place / "data").exists()
    assert not (place.parent / "a").exists()


@pytest.mark.slow
def test_make_loads_days_in_a_fresh_clone(place: Path, simulator: Simulator) -> None:
    for assets, chosen in (
        ("dixa_records/ratings,dixa_metrics/csat", "2025-11-01...2025-11-02"),
        ("key:dixa_metrics/csat", "2025-11-03"),
    ):
        made = make(place, simulator, "load", f"ASSETS={assets}", f"DAYS={chosen}")
        assert made.returncode == 0, made.stderr
    with duckdb.connect(str(place / "data" / "dixa.duckdb")) as connection:
        for table, count in (("dixa_records.ratings", 2), ("dixa_metrics.csat", 3)):
            found = connection.execute(f"SELECT count(DISTINCT partition_date) FROM {table}")
            assert found.fetchall() == [(count,)]
    # The history is where `make dev` looks for it.
    assert (place / ".dagster_home" / "history").is_dir()
    assert not (place.parent / "dagster_home" / "history").exists()


@pytest.mark.parametrize("given", [(), ("ASSETS=dixa_metrics/csat",), ("DAYS=2025-11-01",)])
def test_make_load_says_in_a_line_what_it_needs(
    given: tuple[str, ...], place: Path, simulator: Simulator
) -> None:
    made = make(place, simulator, "load", *given)
    assert made.returncode != 0
    (line,) = made.stderr.splitlines()
    assert "make load ASSETS=dixa_metrics/csat DAYS=2026-11-01...2026-11-07" in line


def test_make_uses_the_home_of_this_project_and_says_so(
    simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    made = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=PROJECT)
    for name in ("doctor", "probe", "report"):
        told = made(["make", "-n", name], env=settings).stdout
        home = settings["DAGSTER_HOME"]
        assert f'echo "! DAGSTER_HOME is {home}; make uses it only if .env sets it"' in told
        own = settings | {"DAGSTER_HOME": f"{PROJECT}/.dagster_home"}
        assert "DAGSTER_HOME" not in made(["make", "-n", name], env=own).stdout
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {PROJECT}/Makefile\nhome:\n\t@echo home=$$DAGSTER_HOME.\n")
    done = made(["make", "--no-print-directory", "-f", str(makefile), "home"], env=settings)
    assert done.stdout == "home=.\n"
