"""Settings: a path means one place, a name that nothing has is named, mistakes are one line."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.settings.messages import explained
from dixa_assets_tests.support.processes import PROJECT, run, settings_for
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import KEY, Simulator


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of somebody's, the working folder in a folder of it."""
    place = tmp_path.resolve() / "a project"
    (place / "deep" / "down").mkdir(parents=True)
    (place / "pyproject.toml").touch()
    monkeypatch.chdir(place / "deep" / "down")
    return place


def test_a_relative_path_begins_at_the_project_whatever_the_working_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DixaAnalytics().duckdb_path == str(project / "data" / "dixa.duckdb")
    monkeypatch.chdir(project)
    assert DixaAnalytics().duckdb_path == str(project / "data" / "dixa.duckdb")


def test_a_component_begins_at_the_project_it_stands_in(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIXA_READ_COPY_PATH", "read.duckdb")
    monkeypatch.delenv("DIXA_DUCKDB_PATH", raising=False)
    component = dg.ComponentTree.for_project(PROJECT).load_component(
        Path("dixa_analytics"), expected_type=DixaAnalytics
    )
    assert component.duckdb_path == str(PROJECT / "data" / "dixa.duckdb")
    assert component.read_copy_path == str(PROJECT / "read.duckdb")


def test_the_home_folder_may_be_written_as_a_tilde(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    assert DixaAnalytics(duckdb_path="~/x.duckdb").duckdb_path == str(project / "x.duckdb")


@pytest.mark.parametrize(
    "path",
    [
        "",
        " ",
        ":memory:",
        "md:warehouse",
        "ducklake:catalogue.ducklake",
        "s3://bucket/x.duckdb",
        "file:x.duckdb",
        "x.duckdb?access_mode=read_only",
        "x*.duckdb",
        "[x].duckdb",
        "x\n.duckdb",
        "x\0.duckdb",
        "deep",
        "new/",
        "~nobody-of-this-name/x.duckdb",
    ],
)
def test_what_is_no_plain_file_is_refused_by_the_settings_name(project: Path, path: str) -> None:
    (project / "deep.duckdb").touch()
    with pytest.raises(ConfigError, match="^duckdb_path: "):
        DixaAnalytics(duckdb_path=path)
    if path:
        with pytest.raises(ConfigError, match="^read_copy_path: "):
            DixaAnalytics(read_copy_path=path)
    assert sorted(each.name for each in project.iterdir()) == [
        "deep", "deep.duckdb", "pyproject.toml",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "copy", ["x.duckdb", "./deep/../x.duckdb", "X.DuckDB", "link.duckdb", "linked/x.duckdb"]
)
def test_a_read_copy_in_the_databases_place_is_refused_however_it_is_written(
    project: Path, copy: str
) -> None:
    (project / "link.duckdb").symlink_to(project / "x.duckdb")
    (project / "linked").symlink_to(project)
    with pytest.raises(ConfigError, match="^read_copy_path: .* is the database itself"):
        DixaAnalytics(duckdb_path="x.duckdb", read_copy_path=copy)


def test_the_report_is_written_where_the_command_is_given(
    simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    done = run(["dixa_assets", "report", "--output", "here.html"], settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here.html").exists()
    done = run(["dixa_assets", "report", "--output", str(tmp_path)], settings)
    assert done.returncode == 1
    assert done.stderr == f"✗ --output: '{tmp_path}' is a folder; name a file in it.\n"


@pytest.fixture
def copy_of_the_project(simulator: Simulator, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The project in a folder with a space in its name, and an environment to run it in."""
    place = tmp_path / "a folder"
    shutil.copytree(
        PROJECT, place, ignore=shutil.ignore_patterns(".*", "*_tests", "data", "__pycache__")
    )
    settings = settings_for(simulator, tmp_path) | {"PYTHONPATH": str(place)}
    del settings["DIXA_DUCKDB_PATH"]
    return place, settings


def test_make_says_the_same_in_a_folder_with_a_space(
    copy_of_the_project: tuple[Path, dict[str, str]],
) -> None:
    place, settings = copy_of_the_project
    (place / ".venv" / "bin").mkdir(parents=True)
    (place / ".venv" / "installed").touch()
    python = place / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {PROJECT}/.venv/bin/python "$@"\n')
    python.chmod(0o755)
    made = os.spawnvpe(os.P_WAIT, "make", ["make", "-C", str(place), "doctor"], settings)
    assert made == 0
    assert (place / "data" / "dixa.duckdb").exists()
    assert not (place.parent / "a").exists()


@pytest.mark.slow
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
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line_of_the_users_own_words(
    copy_of_the_project: tuple[Path, dict[str, str]], written: str, says: str
) -> None:
    place, settings = copy_of_the_project
    (place / "dixa_assets" / "defs" / "dixa_analytics" / "defs.yaml").write_text(
        f"type: dixa_assets.component.DixaAnalytics\n{written}\n"
    )
    done = run(["dixa_assets", "doctor"], settings)
    assert done.returncode == 1
    assert re.fullmatch(f"✗ {says}\n", done.stderr), done.stderr


def test_a_type_that_does_not_exist_is_told_in_one_line(
    copy_of_the_project: tuple[Path, dict[str, str]],
) -> None:
    place, settings = copy_of_the_project
    (place / "dixa_assets" / "defs" / "dixa_analytics" / "defs.yaml").write_text(
        "type: dixa_assets.component.DixaAnalytic\n"
    )
    done = run(["dixa_assets", "doctor"], settings)
    assert done.returncode == 1
    assert re.fullmatch("✗ defs.yaml: .*no attribute `DixaAnalytic`.*\n", done.stderr)


def test_a_misspelt_variable_is_refused_and_others_are_named(
    simulator: Simulator, tmp_path: Path
) -> None:
    others = {"DIXA_API_KEY_OLD": "x", "DIXA_CARPET": "blue"}
    done = run(["dixa_assets", "doctor"], settings_for(simulator, tmp_path, **others))
    assert done.returncode == 0, done.stderr
    for name in others:
        assert f"! {name}: nothing here reads it\n" in done.stdout
    misspelt = {"DIXA_TIMZONE": "America/Santiago", "DIXA_HISTORY_DAY": "3", "dixa_api_key": "x"}
    done = run(["dixa_assets", "doctor"], settings_for(simulator, tmp_path, **misspelt))
    assert done.returncode == 1
    assert done.stderr == (
        "✗ DIXA_HISTORY_DAY: nothing reads it; did you mean DIXA_HISTORY_DAYS?\n"
        "DIXA_TIMZONE: nothing reads it; did you mean DIXA_TIMEZONE?\n"
        "dixa_api_key: nothing reads it; did you mean DIXA_API_KEY?\n"
    )


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        (
            {"include": ["csatt", "nps"]},
            "include: 'csatt' is no metric or record of Dixa; did you mean csat?",
        ),
        ({"exclude": ["rating"]}, "exclude: 'rating' is no .*; did you mean ratings?"),
        (
            {"filters": {"CSAT": {"channel": ["EMAIL"]}}},
            "filters: 'CSAT' is no .*; did you mean csat?",
        ),
        (
            {"filters": {"csat": {"chanel": ["EMAIL"]}}},
            "filters: 'chanel' is no filter attribute of metric 'csat'; did you mean channel?",
        ),
        (
            {"filters": {"csat": {"channel": ["EMAIL", "e-mail"]}}},
            "filters: 'e-mail' is no value of channel; did you mean EMAIL?",
        ),
        (
            {"breakdowns": {"csat": ["queue"]}},
            "breakdowns: 'queue' is no filter attribute of metric 'csat'; did you mean queue_id?",
        ),
        ({"breakdowns": {"ratings": ["channel"]}}, "breakdowns: 'ratings' is no metric of .*"),
        ({"required_filter": "chanel"}, "required_filter: 'chanel' is no .* did you mean channel?"),
        (
            {"exclude_fields": {"rating": ["contact_point"]}},
            "exclude_fields: 'rating' is no record of Dixa; did you mean ratings?",
        ),
        (
            {"exclude_fields": {"*": ["contact_pont"]}},
            "exclude_fields: 'contact_pont' is no field of any record; did you mean contact_point?",
        ),
    ],
    ids=str,
)
def test_a_name_that_dixa_does_not_have_is_named_with_the_nearest_one(
    simulator: Simulator, tmp_path: Path, attributes: dict[str, Any], says: str
) -> None:
    analytics = component(simulator, tmp_path, **attributes)
    catalogue = fetched(analytics)
    with analytics.build_dixa(KEY).client() as client:
        ((setting, problem, *_),) = analytics.mistakes(catalogue, client)
    assert re.fullmatch(says.replace("?", r"\?"), f"{setting}: {problem}")


def test_what_would_load_nothing_or_store_what_must_not_be_stored_is_refused(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    catalogue = fetched(analytics)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"include": ["csatt"]}, "^include: 'csatt' is no .*did you mean csat"),
        ({"include": ["csat"], "exclude": ["csat"]}, "^include: .*nothing is left"),
        ({"exclude_fields": {"*": ["contact_pont"]}}, "^exclude_fields: 'contact_pont' is no"),
        ({"exclude_fields": {"rating": ["contact_point"]}}, "^exclude_fields: 'rating' is no rec"),
    ]
    for attributes, says in refused:
        settings = component(simulator, tmp_path, **attributes)
        with pytest.raises(ConfigError, match=says):
            settings.build_definitions(catalogue)
        # What is not known yet cannot be held against anybody.
        settings.build_definitions(Catalogue())
    component(simulator, tmp_path, include=["csatt", "csat"]).build_definitions(catalogue)


def test_what_dixa_withdrew_and_what_only_the_tables_have_is_known(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell(
        "records/fields",
        id="ratings",
        field="undocumented",
        data={"_type": "StringField", "value": "x"},
    )
    analytics = component(simulator, tmp_path)
    before = fetched(analytics)
    assert load(analytics, ["dixa_records/ratings"], "2025-11-01").success
    simulator.withdraw("metrics", "csat")
    after = fetched(analytics, before)
    component(
        simulator,
        tmp_path,
        include=["csat", "ratings"],
        exclude_fields={"ratings": ["undocumented"]},
    ).build_definitions(after)


def test_doctor_and_the_tick_name_what_dixa_does_not_have(
    simulator: Simulator, copy_of_the_project: tuple[Path, dict[str, str]]
) -> None:
    place, settings = copy_of_the_project
    (place / "dixa_assets" / "defs" / "dixa_analytics" / "defs.yaml").write_text(
        "type: dixa_assets.component.DixaAnalytics\n"
        f"attributes: {{base_url: '{simulator.url}', include: [csatt, npss]}}\n"
    )
    done = run(["dixa_assets", "doctor"], settings)
    assert done.returncode == 1
    assert "✗ include: 'csatt' is no metric or record of Dixa; did you mean csat?\n" in done.stderr
    assert "did you mean nps?" in done.stderr
    analytics = component(simulator, place, include=["csatt", "nps"])
    (sensor,) = analytics.build_definitions(Catalogue()).sensors or ()
    with dg.instance_for_test() as instance:
        context = dg.build_sensor_context(
            instance, resources={"dixa_api": analytics.build_dixa(KEY)}, sensor_name=sensor.name
        )
        told = sensor.evaluate_tick(context).skip_message
    assert "include: 'csatt' is no metric or record of Dixa; did you mean csat?" in str(told)


# Several machines

LAKE = "ducklake:postgres:dbname=lake host=db.internal user=dixa"
PACE = "postgresql://dixa@db.internal/lake"
REMOTE = """
run_launcher:
  module: dagster_k8s
  class: K8sRunLauncher
"""


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({}, "lake_data: is empty"),
        ({"lake_data": "lake"}, "lake_data: is lake"),
        ({"duckdb_path": f"{LAKE} password=secret"}, "duckdb_path: must not contain the password"),
        ({"duckdb_path": "ducklake:postgres://dixa@db/lake"}, "duckdb_path: must be like ducklake"),
        ({"duckdb_path": "ducklake:lake.sqlite"}, "duckdb_path: .*'ducklake:' is not supported"),
        ({"lake_data": "/lake", "report_path": "report.html"}, "report_path: 'report.html' would"),
        ({"lake_data": "/lake", "read_copy_path": "copy.duckdb"}, "read_copy_path: 'copy.duckdb'"),
        ({"lake_data": "/lake", "pace_url": "postgresql://a:secret@db/x"}, "pace_url: must not"),
        ({"days_per_run": -1}, "days_per_run: is -1"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_only_one_machine_could_use_is_refused_of_a_lake(
    attributes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        DixaAnalytics(**({"duckdb_path": LAKE} | attributes))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"DIXA_DUCKDB_PATH": "data/dixa.duckdb"}, "DIXA_DUCKDB_PATH: runs go to other machines"),
        (
            {"DIXA_DUCKDB_PATH": LAKE, "DIXA_LAKE_DATA": "/shared/lake"},
            "pace_url: runs go to other machines",
        ),
        (
            {"DIXA_DUCKDB_PATH": LAKE, "DIXA_LAKE_DATA": "s3://lake", "DIXA_PACE_URL": PACE},
            None,
        ),
    ],
    ids=["file", "lake without a pace", "lake with a pace"],
)
def test_runs_on_other_machines_take_a_lake_and_a_shared_pace(
    settings: dict[str, str],
    problem: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "dagster.yaml").write_text(REMOTE)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    tree = dg.ComponentTree.for_project(PROJECT)
    if problem is None:
        assert [sensor.name for sensor in tree.build_defs().sensors or ()] == ["dixa_catalogue"]
        return
    with pytest.raises(Exception, match="Error while building") as raised:
        tree.build_defs()
    assert re.search(problem, str(explained(raised.value, ())))


def test_a_lake_has_an_order_of_its_own_and_a_report_where_somebody_says(
    simulator: Simulator, tmp_path: Path
) -> None:
    catalogue = fetched(component(simulator, tmp_path))
    lake = {"base_url": simulator.url, "duckdb_path": LAKE, "lake_data": "/shared/lake"}

    def built(**more: str) -> tuple[set[str], set[str]]:
        own = DixaAnalytics(**lake, **more).build_definitions(catalogue)
        keys = own.resolve_asset_graph().get_all_asset_keys()
        return (
            {key.to_user_string() for key in keys},
            {schedule.name for schedule in own.schedules or ()},
        )

    assets, schedules = built()
    assert "dixa/lake" in assets
    assert "dixa/report" not in assets
    assert schedules == {"dixa_daily_refresh", "dixa_lake_order"}
    assets, _ = built(report_path="/shared/report.html")
    assert "dixa/report" in assets
