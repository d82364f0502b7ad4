"""The doctor names each setting that cannot work, and what is doubtful."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from dixa_assets.orchestration import state
from dixa_assets_tests.conftest import Done
from dixa_assets_tests.support.processes import settings_for
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


def test_a_first_day_after_loaded_days_is_refused(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, duckdb_path=str(tmp_path / "dixa.duckdb"))
    assert load(analytics, ["dixa_metrics/csat"], "2025-10-25").success
    assert examine(DIXA_START_DATE="2025-10-25").code == 0
    found = examine(DIXA_START_DATE="2025-10-26")
    assert found.code == 1
    assert "DIXA_START_DATE: is 2025-10-26, but days from 2025-10-25 on are loaded" in found.err


def test_an_error_that_several_checks_find_is_told_once(examine: Examine) -> None:
    found = examine(DIXA_DUCKDB_PATH="/proc/no/dixa.duckdb")
    assert found.err.count("DIXA_DUCKDB_PATH") == 1


def test_a_database_that_is_not_there_yet_is_called_new(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    database = tmp_path / "dta" / "dixa.duckdb"
    assert f"{database}, a new file" in examine(DIXA_DUCKDB_PATH=str(database)).out
    analytics = component(simulator, tmp_path, duckdb_path=str(database))
    assert load(analytics, ["dixa_metrics/csat"], "2025-10-25").success
    assert "a new file" not in examine(DIXA_DUCKDB_PATH=str(database)).out


def test_a_clone_without_settings_is_told_how_to_make_them(
    examine: Examine, tmp_path: Path
) -> None:
    (tmp_path / ".env.example").touch()
    assert "! .env: is missing. `cp .env.example .env`" in examine().out
    (tmp_path / ".env").touch()
    assert ".env: is missing" not in examine().out


def test_a_rate_above_that_of_dixa_is_a_warning(
    examine: Examine, simulator: Simulator, tmp_path: Path
) -> None:
    attributes = f"base_url: '{simulator.url}', duckdb_path: x.duckdb, requests_per_second: 50"
    write_project(tmp_path, dixa=f"attributes: {{{attributes}}}")
    found = examine()
    assert "! rate limit: Dixa refuses more than 10 requests/s" in found.out
    assert "50 requests/s configured, Dixa allows 10" in found.out


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


# Places and encodings


@pytest.mark.parametrize("place", ["a file", "/proc/nowhere"])
@pytest.mark.parametrize("setting", ["DIXA_READ_COPY_PATH", "DIXA_REPORT_PATH"])
def test_a_place_that_cannot_be_written_is_found_before_the_start(
    setting: str, place: str, examine: Examine, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    folder = tmp_path / place
    found = examine(**{setting: str(folder / "published.x")})
    assert found.code == 1
    assert re.search(rf"^✗ {setting}: /\S.* cannot be written \(.+\)\.$", found.err, re.MULTILINE)
    # Other checks go on.
    assert "26 metrics and 13 records" in found.out


@pytest.mark.parametrize(
    ("home", "says"),
    [
        ("missing", "'{}' is not the absolute path of a folder"),
        ("a file", "'{}' is not the absolute path of a folder"),
        ("broken", "{} cannot be used: "),
        ("no database", "{} cannot be used: "),
    ],
)
@pytest.mark.parametrize("name", ["doctor", "probe", "report"])
def test_a_dagster_home_that_cannot_be_used_is_named_in_a_line(
    home: str, says: str, name: str, command: Callable[..., Done], tmp_path: Path
) -> None:
    place = tmp_path / home
    (tmp_path / "a file").touch()
    for each in ("broken", "no database"):
        (tmp_path / each).mkdir()
    (tmp_path / "broken" / "dagster.yaml").write_text("run_launcher: {module: no_such_module}")
    (tmp_path / "no database" / "dagster.yaml").touch()
    (tmp_path / "no database" / "history").touch()
    found = command(name, DAGSTER_HOME=str(place))
    assert found.code == 1
    assert f"✗ DAGSTER_HOME: {says.format(place)}" in found.err
    assert all(line.startswith("✗ ") for line in found.err.splitlines())


def test_every_command_uses_the_same_dagster_home_and_names_it(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    another = tmp_path / "dagster_home"
    assert command("probe").out.endswith(f"✓ stored in {another}\n")
    assert f"✓ DAGSTER_HOME: {another}\n" in command("doctor").out
    # Without the variable, it is the folder of `make dev`.
    own = tmp_path / ".dagster_home"
    assert f"not set, so Dagster's history is in {own}" in command("doctor", DAGSTER_HOME="").out
    assert f"! {own} has no Dagster instance" in command("probe", DAGSTER_HOME="").out
    own.mkdir()
    (own / "dagster.yaml").touch()
    assert command("probe", DAGSTER_HOME="").out.endswith(f"✓ stored in {own}\n")
    for home in (another, own):
        assert len([*home.glob("defs_state/*/*")]) == 1


@pytest.mark.parametrize(
    ("content", "reason"), [(b"DIXA_TIMEZONE=K\xf8benhavn", "utf-8"), (b"A=x\0y", "null")]
)
def test_a_file_of_settings_that_cannot_be_read_is_named(
    content: bytes, reason: str, examine: Examine, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(content)
    found = examine()
    assert (found.code, found.out) == (1, "")
    assert re.fullmatch(rf"✗ \.env: cannot be read \(.*{reason}.*\)\.\n", found.err)


def test_an_account_that_fails_does_not_stop_the_commands_of_the_others(
    command: Callable[..., Done], simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    own = f"base_url: '{simulator.url}', requests_per_second: 1000"
    write_project(
        tmp_path,
        **{
            name: f"attributes: {{account: {name}, {own}, duckdb_path: '{place}/x.duckdb'}}"
            for name, place in (("acme", "a file"), ("globex", "data"))
        },
    )
    for name, done in (("report", "0 metrics and records"), ("probe", "questions")):
        found = command(name)
        assert found.code == (1 if name == "report" else 0)
        assert f"✓ {tmp_path}/data/" in found.out
        assert done in found.out
    assert "a file cannot be made (File exists)" in found.out


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_commands_work_in_a_process_of_any_encoding(
    encoding: str, simulator: Simulator, tmp_path: Path
) -> None:
    """The catalogue has a dash that neither encoding has."""
    entry = {"id": "csat", "description": "Satisfaction – 名前"}
    simulator.tell("metrics", entry=entry, like="csat")
    odd = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    settings = settings_for(simulator, tmp_path) | odd | {"PYTHONIOENCODING": encoding}
    del settings["DIXA_DUCKDB_PATH"]
    attributes = f"requests_per_second: 1000, duckdb_path: '{tmp_path}/encoded.duckdb'"
    write_project(tmp_path, dixa=f"attributes: {{base_url: '{simulator.url}', {attributes}}}")
    settings["PYTHONPATH"] = str(tmp_path)
    for name in ("probe", "doctor", "report"):
        done = subprocess.run(
            [sys.executable, "-m", "dixa_assets", name],
            env=settings,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        empty = b"! Nothing is loaded yet, so the report is empty.\n"
        said = empty if name == "report" else b""
        assert (done.returncode, done.stderr) == (0, said), done.stderr.decode()
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        assert instance.defs_state_storage is not None
        stored = state.load(instance.defs_state_storage, "DixaAnalytics[127.0.0.1]")
    assert stored is not None
    assert entry["description"] in {each.description for each in stored.entries}


def test_a_file_as_database_of_runs_on_other_machines_is_refused(
    examine: Examine, tmp_path: Path
) -> None:
    home = tmp_path / "remote"
    home.mkdir()
    launcher = "{module: dagster_k8s, class: K8sRunLauncher}"
    (home / "dagster.yaml").write_text(f"run_launcher: {launcher}")
    done = examine(DAGSTER_HOME=str(home))
    assert done.code == 1
    assert "DIXA_DUCKDB_PATH: runs go to other machines" in done.err
