"""Paths, names and addresses in settings, and settings that cannot work together."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.settings.messages import to_config_error
from dixa_assets.settings.misspelt import hint
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.scenario import component, fetched
from dixa_assets_tests.support.simulator import KEY, Simulator


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project; the working folder is below it."""
    place = tmp_path.resolve() / "a project"
    (place / "deep" / "down").mkdir(parents=True)
    (place / "pyproject.toml").touch()
    monkeypatch.chdir(place / "deep" / "down")
    return place


def test_a_relative_path_begins_at_the_project_of_the_working_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DixaAnalytics().duckdb_path == str(project / "data" / "dixa.duckdb")
    monkeypatch.chdir(project)
    assert DixaAnalytics().duckdb_path == str(project / "data" / "dixa.duckdb")


def test_relative_paths_of_a_component_begin_at_its_own_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
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
        *("", " ", "x\n.duckdb", "x\0.duckdb", "x*.duckdb", "[x].duckdb"),
        *(":memory:", "md:warehouse", "file:x.duckdb", "x.duckdb?access_mode=read_only"),
        *("s3://bucket/x.duckdb", "ducklake:catalogue.ducklake"),
        *("deep", "new/", "~nobody-of-this-name/x.duckdb"),
    ],
)
def test_a_path_of_anything_but_a_plain_file_is_refused(project: Path, path: str) -> None:
    (project / "deep.duckdb").touch()
    with pytest.raises(ConfigError, match="^duckdb_path: "):
        DixaAnalytics(duckdb_path=path)
    if path:
        with pytest.raises(ConfigError, match="^read_copy_path: "):
            DixaAnalytics(read_copy_path=path)
    assert {each.name for each in project.iterdir()} == {"deep", "deep.duckdb", "pyproject.toml"}


@pytest.mark.parametrize(
    "copy", ["x.duckdb", "./deep/../x.duckdb", "X.DuckDB", "link.duckdb", "linked/x.duckdb"]
)
def test_a_read_copy_in_place_of_the_database_is_refused(project: Path, copy: str) -> None:
    (project / "link.duckdb").symlink_to(project / "x.duckdb")
    (project / "linked").symlink_to(project)
    with pytest.raises(ConfigError, match="^read_copy_path: .* is the database itself"):
        DixaAnalytics(duckdb_path="x.duckdb", read_copy_path=copy)


# Each setting with the whole message about it.
UNKNOWN: list[tuple[str, Any, str]] = [
    ("include", ["csatt", "nps"], "'csatt' is not a metric or record of Dixa; did you mean csat?"),
    ("exclude", ["rating"], "'rating' is not a metric or record of Dixa; did you mean ratings?"),
    (
        "filters",
        {"CSAT": {"channel": ["EMAIL"]}},
        "'CSAT' is not a metric or record of Dixa; did you mean csat?",
    ),
    (
        "filters",
        {"csat": {"chanel": ["EMAIL"]}},
        "'chanel' is not a filter attribute of metric 'csat'; did you mean channel?",
    ),
    (
        "filters",
        {"csat": {"channel": ["EMAIL", "e-mail"]}},
        "'e-mail' is not a value of channel; did you mean EMAIL?",
    ),
    (
        "breakdowns",
        {"csat": ["queue"]},
        "'queue' is not a filter attribute of metric 'csat'; did you mean queue_id?",
    ),
    (
        "breakdowns",
        {"ratings": ["channel"]},
        "'ratings' is not a metric of Dixa; did you mean nps_ratings?",
    ),
    ("required_filter", "chanel", "'chanel' is not a filter attribute; did you mean channel?"),
    (
        "exclude_fields",
        {"rating": ["contact_point"]},
        "'rating' is not a record of Dixa; did you mean ratings?",
    ),
    (
        "exclude_fields",
        {"*": ["contact_pont"]},
        "'contact_pont' is not a field of any record; did you mean contact_point?",
    ),
]


@pytest.mark.parametrize(("setting", "value", "says"), UNKNOWN, ids=str)
def test_a_name_that_dixa_does_not_have_is_reported_with_the_nearest_one(
    simulator: Simulator,
    tmp_path: Path,
    catalogue: Catalogue,
    setting: str,
    value: Any,
    says: str,
) -> None:
    analytics = component(simulator, tmp_path, **{setting: value})
    with analytics.build_dixa(KEY).client() as client:
        (mistake,) = analytics.find_unknown_names(catalogue, client)
    assert (mistake.setting, mistake.problem) == (setting, says)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"include": ["csatt"]}, "include: 'csatt' is not a .*did you mean csat"),
        ({"include": ["csat"], "exclude": ["csat"]}, "include: .*select no metric or record"),
        ({"exclude_fields": {"*": ["contact_pont"]}}, "exclude_fields: 'contact_pont' is no"),
        (
            {"exclude_fields": {"rating": ["contact_point"]}},
            "exclude_fields: 'rating' is not a rec",
        ),
    ],
    ids=str,
)
def test_settings_that_load_nothing_or_exclude_no_field_are_refused(
    simulator: Simulator,
    tmp_path: Path,
    catalogue: Catalogue,
    attributes: dict[str, Any],
    says: str,
) -> None:
    analytics = component(simulator, tmp_path, **attributes)
    with pytest.raises(ConfigError, match=f"^{says}"):
        analytics.build_definitions(catalogue)
    # Before the first fetch no name is known.
    analytics.build_definitions(Catalogue())


def test_a_value_of_dixa_in_a_hint_controls_no_terminal() -> None:
    for known in ({"\x1b]0;EMAIL\x07"}, {"\x1b[2J", "\u202e"}):
        assert hint("EMAIL", known).isprintable()


def test_an_unknown_name_among_known_ones_stops_no_load(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(simulator, tmp_path, include=["csatt", "csat"])
    assert analytics.build_definitions(catalogue).assets


def test_a_metric_that_dixa_withdrew_is_known(
    simulator: Simulator, tmp_path: Path, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.withdraw("metrics", "csat")
    later = fetched(analytics, catalogue)
    chosen = component(simulator, tmp_path, include=["csat"])
    assert chosen.find_unknown_names(later) == []
    chosen.build_definitions(later)


# Weeks and months


def test_periods_in_the_environment_are_separated_by_commas(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIXA_PERIODS", " week,month, week")
    monkeypatch.setenv("DIXA_WEEK_STARTS_ON", "sunday")
    component = dg.ComponentTree.for_project(PROJECT).load_component(
        Path("dixa_analytics"), expected_type=DixaAnalytics
    )
    assert component.periods == ("week", "month")
    assert component.week_starts_on == "sunday"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("DIXA_PERIODS", "week,quarter", "'quarter' is neither week nor month."),
        ("DIXA_WEEK_STARTS_ON", "Mon", "'Mon' is not 'monday', 'tuesday', "),
    ],
)
def test_an_unknown_period_or_weekday_is_refused_with_the_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Exception, match="Error while") as raised:
        dg.ComponentTree.for_project(PROJECT).build_defs()
    assert str(to_config_error(raised.value, ())).startswith(f"{variable}: {problem}")


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
        ({"lake_data": "lake"}, "lake_data: is no absolute path"),
        ({"duckdb_path": f"{LAKE} password=secret"}, "duckdb_path: must not contain the password"),
        ({"duckdb_path": "ducklake:postgres://dixa@db/lake"}, "duckdb_path: must be like ducklake"),
        ({"duckdb_path": "ducklake:lake.sqlite"}, "duckdb_path: .*'ducklake:' is not supported"),
        ({"lake_data": "/lake", "report_path": "report.html"}, "report_path: 'report.html' would"),
        ({"lake_data": "/lake", "read_copy_path": "copy.duckdb"}, "read_copy_path: 'copy.duckdb'"),
        ({"lake_data": "/lake", "pace_url": "postgresql://a:secret@db/x"}, "pace_url: must not"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_lake_takes_no_setting_that_only_one_machine_could_use(
    attributes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        DixaAnalytics(**({"duckdb_path": LAKE} | attributes))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("attribute", "address"),
    [
        ("lake_data", "s3://KEY:SECRET@bucket/lake"),
        ("lake_data", "s3:/KEY:SECRET@bucket/lake"),
        ("lake_data", "s3://bucket/lake?secret_access_key=SECRET"),
        ("lake_data", "ftp://user:SECRET@host/lake"),
        ("pace_url", "postgresql://a:SECRET@db/x"),
        ("pace_url", "postgresql://a%3ASECRET@db/x"),
        ("pace_url", "postgresql://a:SECRET/y@db/x"),
        ("pace_url", "postgresql://a@db/x?pass%77ord=SECRET"),
        ("pace_url", "postgresql://a@db/x?sslpassword=SECRET"),
        ("pace_url", "postgresql://a:SECRET@[::1/x"),
        ("pace_url", "ftp://user:SECRET@host/x"),
        ("duckdb_path", f"{LAKE} password = 'SECRET'"),
        ("duckdb_path", "ducklake:postgres://a:SECRET@db/x"),
        ("duckdb_path", "postgres://a:SECRET@db/x"),
        ("duckdb_path", "md:database?motherduck_token=SECRET"),
        ("duckdb_path", "ftp://user:SECRET@host/x.duckdb"),
        ("read_copy_path", "s3://KEY:SECRET@bucket/read.duckdb"),
        ("report_path", "ftp://user:SECRET@host/report.html"),
        ("base_url", "ftp://user:SECRET@host"),
        ("base_url", "https://user:SECRET@host"),
        ("base_url", "https://host:SECRET"),
        ("base_url", "https://host?token=SECRET"),
        ("base_url", "https://[SECRET"),
        ("base_url", "https://SECRET host"),
    ],
)
@pytest.mark.parametrize("is_lake", [False, True])
def test_an_address_with_a_secret_is_refused_and_not_shown(
    attribute: str, address: str, is_lake: bool
) -> None:
    others = {"duckdb_path": LAKE, "lake_data": "/lake"} if is_lake else {}
    with pytest.raises(ConfigError, match=f"^{attribute}: ") as refused:
        DixaAnalytics(**(others | {attribute: address}))
    assert "SECRET" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("attribute", "address"),
    [
        ("lake_data", "s3://bucket/lake"),
        ("lake_data", "/shared/lake@home"),
        ("pace_url", "postgresql://dixa@db.internal:5432/lake"),
        ("pace_url", "postgres://db.internal,other.internal:5433/lake?sslmode=require"),
        ("base_url", "http://[::1]:8070"),
    ],
)
def test_an_address_without_a_secret_is_kept(attribute: str, address: str) -> None:
    others = {"duckdb_path": LAKE, "lake_data": "/lake"}
    assert getattr(DixaAnalytics(**(others | {attribute: address})), attribute) == address


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
def test_runs_on_other_machines_need_a_lake_and_a_shared_rate_limit(
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
    assert re.search(problem, str(to_config_error(raised.value, ())))


def test_a_lake_has_maintenance_and_a_report_only_at_a_path_of_the_user(
    simulator: Simulator, catalogue: Catalogue
) -> None:
    lake = {"base_url": simulator.url, "duckdb_path": LAKE, "lake_data": "/shared/lake"}

    def assets(**more: str) -> set[str]:
        own = DixaAnalytics(**lake, **more).build_definitions(catalogue)
        assert {each.name for each in own.schedules or ()} == {
            *("dixa_daily_refresh", "dixa_lake_order"),
        }
        keys = own.resolve_asset_graph().get_all_asset_keys()
        return {key.path[1] for key in keys if key.path[0] == "dixa"}

    assert assets() == {"metrics_daily", "lake"}
    assert assets(report_path="/shared/report.html") == {"metrics_daily", "lake", "report"}
