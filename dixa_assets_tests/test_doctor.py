"""The doctor names each setting that cannot work, and what is doubtful."""

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from dixa_assets_tests.conftest import Done
from dixa_assets_tests.support.processes import PROJECT, settings_for
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.scenario import component, load
from dixa_assets_tests.support.simulator import KEY, Simulator

Examine = Callable[..., Done]


@pytest.fixture
def examine(command: Callable[..., Done]) -> Examine:
    """Runs the doctor with environment variables."""
    return partial(command, "doctor")


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("DIXA_API_KEY", "", "DIXA_API_KEY: is missing"),
        ("DIXA_API_KEY", "wrong", "Check DIXA_API_KEY"),
        ("DIXA_TIMEZONE", "Mars/Olympus", "DIXA_TIMEZONE: 'Mars/Olympus'"),
        ("DIXA_START_DATE", "2199-01-01", "DIXA_START_DATE: 2199-01-01"),
        ("DIXA_HISTORY_DAYS", "-1", "DIXA_HISTORY_DAYS: is -1; at least 0 works"),
        ("DIXA_HISTORY_DAYS", "many", "DIXA_HISTORY_DAYS: 'many' is not a whole number"),
        ("DIXA_DUCKDB_PATH", "/proc/no/dixa.duckdb", "DIXA_DUCKDB_PATH: "),
        ("DIXA_BASE_URL", "http://dev.dixa.io", "DIXA_BASE_URL: must be https"),
    ],
)
def test_a_setting_that_cannot_work_is_named(
    setting: str, value: str, says: str, examine: Examine
) -> None:
    found = examine(**{setting: value})
    assert found.code == 1
    assert says in found.err


def test_working_settings_pass(examine: Examine) -> None:
    found = examine()
    assert (found.code, found.err) == (0, "")
    assert "26 metrics and 13 records" in found.out


def test_the_zone_may_change_only_while_no_day_is_loaded(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    for zone in ("America/Santiago", "Europe/Copenhagen"):
        assert examine(DIXA_TIMEZONE=zone).code == 0
    analytics = component(simulator, tmp_path, duckdb_path=str(tmp_path / "dixa.duckdb"))
    assert load(analytics, ["dixa_metrics/csat"], "2025-11-01").success
    found = examine(DIXA_TIMEZONE="America/Santiago")
    assert found.code == 1
    assert "DIXA_TIMEZONE: is America/Santiago" in found.err
    assert "Europe/Copenhagen" in found.err


@pytest.mark.slow
def test_an_unreachable_api_is_a_warning_only_if_something_is_loaded(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    nowhere = "http://127.0.0.1:9"
    found = examine(DIXA_BASE_URL=nowhere)
    assert found.code == 1
    assert "✗ API: " in found.err
    assert "Nothing is loaded yet" in found.err
    analytics = component(simulator, tmp_path, duckdb_path=str(tmp_path / "dixa.duckdb"))
    assert load(analytics, ["dixa_metrics/csat"], "2025-11-01").success
    found = examine(DIXA_BASE_URL=nowhere)
    assert found.code == 0
    assert "! API: " in found.out


def test_a_database_without_the_days_that_dagster_shows_is_reported(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    analytics = component(simulator, tmp_path, duckdb_path=settings["DIXA_DUCKDB_PATH"])
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        load(analytics, ["dixa_metrics/csat"], "2025-11-01", "2025-11-03", instance=instance)
    found = examine()
    assert found.code == 0
    assert "holds 3 of the 3 asset days" in found.out
    # It is no failure, because the sensor fills the new database.
    found = examine(DIXA_DUCKDB_PATH=str(tmp_path / "another.duckdb"))
    assert found.code == 0
    assert "holds 0 of the 3 asset days" in found.out
    assert "another.duckdb lacks days" in found.out
    assert "dixa_metrics/csat of 2025-11-01" in found.out


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            "attributes: {requests_per_secnd: 3}",
            r"requests_per_secnd: there is no such attribute \(.*defs.yaml:2\); "
            r"did you mean requests_per_second\?",
        ),
        ("attribute: {burst: 3}", r"attribute: there is no .* did you mean attributes\?"),
        ("attributes: {burst: many}", "burst: 'many' is not a whole number."),
        (
            "attributes: {filters: {csat: {channel: EMAIL}}}",
            "filters.csat.channel: 'EMAIL' is not a list.",
        ),
        ("attributes: {filters: [csat]}", r"filters: \['csat'\] is not a mapping .*defs.yaml:2.*"),
        ("attributes: [burst: {", r".*defs.yaml:\d: expected .*"),
        (
            """attributes: {burst: "{{ enw('X') }}"}""",
            r"burst: 'enw' is undefined \(.*defs.yaml:2\).",
        ),
        (
            "type: dixa_assets.component.DixaAnalytic",
            "defs.yaml: .*no attribute `DixaAnalytic`.*",
        ),
    ],
)
def test_a_mistake_in_a_file_is_one_line_in_the_users_words(
    written: str, says: str, examine: Examine, tmp_path: Path
) -> None:
    write_project(tmp_path, dixa=written)
    found = examine()
    assert found.code == 1
    assert re.fullmatch(f"✗ {says}\n", found.err), found.err


def test_misspelt_variables_are_refused_and_foreign_ones_are_named(examine: Examine) -> None:
    foreign = {"DIXA_API_KEY_OLD": "x", "DIXA_CARPET": "blue"}
    found = examine(**foreign)
    assert found.code == 0
    for name in foreign:
        assert f"! {name}: this project does not read it\n" in found.out
    found = examine(DIXA_TIMZONE="America/Santiago", DIXA_HISTORY_DAY="3", dixa_api_key="x")
    assert found.code == 1
    assert found.err == (
        "✗ DIXA_HISTORY_DAY: nothing reads it; did you mean DIXA_HISTORY_DAYS?\n"
        "DIXA_TIMZONE: nothing reads it; did you mean DIXA_TIMEZONE?\n"
        "dixa_api_key: nothing reads it; did you mean DIXA_API_KEY?\n"
    )


def test_names_that_dixa_does_not_have_are_reported(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    attributes = f"{{base_url: '{simulator.url}', duckdb_path: x.db, include: [csatt, npss]}}"
    write_project(tmp_path, dixa=f"attributes: {attributes}")
    found = examine()
    assert found.code == 1
    assert "✗ include: 'csatt' is not a metric or record of Dixa; did you mean csat?\n" in found.err
    assert "did you mean nps?" in found.err


def test_each_account_of_a_project_is_examined(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    own = "base_url: '{url}', api_key_variable: DIXA_API_KEY_{key}, duckdb_path: {name}.duckdb"
    write_project(
        tmp_path,
        **{
            name: f"attributes: {{account: {name}, timezone: {zone}, "
            f"{own.format(url=simulator.url, key=name.upper(), name=name)}}}"
            for name, zone in (("acme", "Europe/Copenhagen"), ("globex", "America/Santiago"))
        },
    )
    found = examine(DIXA_API_KEY_ACME=KEY)
    assert found.code == 1
    assert "✗ DIXA_API_KEY_GLOBEX: is missing" in found.err
    assert "days of America/Santiago" in found.out
    found = examine("--account", "acme", DIXA_API_KEY_ACME=KEY)
    assert (found.code, found.err) == (0, "")
    assert "Santiago" not in found.out
    found = examine("--account", "acmee", DIXA_API_KEY_ACME=KEY)
    message = "this project has no account 'acmee'; did you mean acme?"
    assert found.err == f"✗ DixaAnalytics: {message}\n"


def test_make_works_in_a_folder_with_a_space(
    simulator: Simulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a folder"
    ignored = shutil.ignore_patterns(".*", "*_tests", "data", "__pycache__")
    shutil.copytree(PROJECT, place, ignore=ignored)
    settings = settings_for(simulator, tmp_path) | {"PYTHONPATH": str(place)}
    del settings["DIXA_DUCKDB_PATH"]
    python = place / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (place / ".venv" / "installed").touch()
    python.write_text(f'#!/bin/sh\nexec {PROJECT}/.venv/bin/python "$@"\n')
    python.chmod(0o755)
    made = os.spawnvpe(os.P_WAIT, "make", ["make", "-C", str(place), "doctor"], settings)
    assert made == 0
    assert f"✓ database: {place / 'data' / 'dixa.duckdb'}, " in capfd.readouterr().out
    assert not (place / "data").exists()
    assert not (tmp_path / "a").exists()
