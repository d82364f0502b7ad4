"""Several accounts in a project, and definitions of other people next to these."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster_duckdb import DuckDBResource

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from dixa_assets.orchestration.naming import DixaAsset
from dixa_assets.project import load_components
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.scenario import component, load
from dixa_assets_tests.support.simulator import COPENHAGEN, KEY, Simulator

FIRST, LAST = "2025-10-25", "2025-10-27"
RATINGS = dg.AssetKey(["dixa_records", "ratings"])


def names_of(definitions: dg.Definitions) -> set[str]:
    """The names of sensors, schedules, jobs and resources."""
    claimed = [*(definitions.sensors or ()), *(definitions.schedules or ())]
    claimed += definitions.jobs or ()  # type: ignore[arg-type]
    return {one.name for one in claimed} | set(definitions.resources or ())


def test_two_accounts_in_one_project_share_no_name(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    both = [
        component(
            simulator,
            tmp_path,
            account=account,
            duckdb_path=str(tmp_path / f"{account}.duckdb"),
            timezone=zone,
            api_key_variable=f"KEY_OF_{account.upper()}",
        )
        for account, zone in (("acme", "Europe/Copenhagen"), ("globex", "America/Santiago"))
    ]
    parts = [one.build_definitions(catalogue) for one in both]
    assert names_of(parts[0]).isdisjoint(names_of(parts[1]))
    assert both[0].defs_state_config.key != both[1].defs_state_config.key
    dg.Definitions.validate_loadable(dg.Definitions.merge(*parts))
    for one, definitions in zip(both, parts, strict=True):
        keys = definitions.resolve_asset_graph().get_all_asset_keys()
        assert {key.path[0] for key in keys} == {one.account}
        assert load(one, [f"{one.account}/dixa_metrics/csat"], FIRST, catalogue=catalogue).success
        rows = one.build_warehouse().query("SELECT DISTINCT timezone FROM dixa_metrics.csat")
        assert list(rows.timezone) == [one.timezone]


def test_without_an_account_every_name_is_the_plain_one(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    assert names_of(analytics.build_definitions(catalogue)) == {
        *("dixa_catalogue", "dixa_history", "dixa_publish", "dixa_daily_refresh", "dixa_load"),
        *("dixa_api", "dixa_warehouse", "dixa_loader", "dixa_frames"),
    }


def test_a_database_of_another_account_or_host_is_refused(
    simulator: Simulator, tmp_path: Path, analytics: DixaAnalytics
) -> None:
    acme = component(simulator, tmp_path, account="acme").build_warehouse()
    # A database without days belongs to nobody.
    for warehouse in (analytics.build_warehouse(), acme):
        warehouse.check()
    assert load(analytics, ["dixa_metrics/csat"], FIRST).success
    with pytest.raises(ConfigError, match="^account: is acme, but .* holds days of no named acc"):
        acme.check()
    with pytest.raises(ConfigError, match="^base_url: is dev.dixa.io, but .* days of 127.0.0.1"):
        DixaAnalytics(duckdb_path=analytics.duckdb_path).build_warehouse().check()


def test_a_missing_key_is_reported_by_the_name_of_its_variable(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, api_key_variable="KEY_OF_ACME")
    with pytest.raises(ConfigError, match="^KEY_OF_ACME: is missing"):
        analytics.build_dixa("").client()


def load_with(
    others: list[dg.AssetsDefinition],
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
) -> dg.ExecuteInProcessResult:
    """A run of `ratings` and of other people's assets."""
    assets = analytics.build_definitions(catalogue).assets or ()
    return dg.materialize(
        [*(each for each in assets if isinstance(each, dg.AssetsDefinition)), *others],
        selection=[RATINGS, *(each.key for each in others)],
        resources=analytics.build_resources(KEY),
        tags={ASSET_PARTITION_RANGE_START_TAG: FIRST, ASSET_PARTITION_RANGE_END_TAG: LAST},
        instance=instance,
        raise_on_error=False,
    )


def test_an_asset_of_others_runs_after_ours_in_the_same_run_with_all_days(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    seen: dict[str, Any] = {}

    @dg.asset(
        deps=[RATINGS],
        partitions_def=dg.DailyPartitionsDefinition("2025-01-01", timezone="Europe/Copenhagen"),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def daily_mart(context: dg.AssetExecutionContext) -> None:
        sql = "SELECT count(DISTINCT partition_date) AS n FROM dixa_records.ratings"
        seen["days"] = context.partition_keys, int(analytics.build_warehouse().query(sql).n[0])

    @dg.asset(deps=[RATINGS])
    def mart() -> None:
        seen["mart"] = True

    assert load_with([daily_mart, mart], analytics, catalogue, instance).success
    days = [FIRST, "2025-10-26", LAST]
    assert seen == {"days": (days, 3), "mart": True}
    events = instance.fetch_materializations(RATINGS, limit=100).records
    assert {each.partition_key for each in events} == {*days}
    for each in events:
        assert each.asset_materialization is not None
        assert "rows" in each.asset_materialization.metadata


def test_without_an_asset_after_it_a_day_is_one_event(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    assert load_with([], analytics, catalogue, instance).success
    assert len(instance.fetch_materializations(RATINGS, limit=100).records) == 3


def test_assets_after_a_failed_day_do_not_run(
    simulator: Simulator,
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
) -> None:
    @dg.asset(deps=[RATINGS])
    def mart() -> None:
        raise AssertionError("it ran on a part of the days")

    simulator.tell("faults", kind="status", status=400, id="ratings", times=None, body="{}")
    result = load_with([mart], analytics, catalogue, instance)
    failed = {event.step_key for event in result.get_step_failure_events()}
    assert failed == {"dixa_records__ratings"}


def test_resources_executor_and_jobs_of_the_user_stay_as_they_are(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    @dg.asset
    def theirs(duckdb: DuckDBResource) -> None: ...

    job = dg.define_asset_job("their_job", selection=[theirs])
    merged = dg.Definitions.merge(
        analytics.build_definitions(catalogue),
        dg.Definitions(
            assets=[theirs],
            jobs=[job],
            resources={"duckdb": DuckDBResource(database=":memory:"), "dixa": "theirs"},
            executor=dg.multiprocess_executor,
        ),
    )
    dg.Definitions.validate_loadable(merged)
    repository = merged.get_repository_def()
    assert repository.get_job("their_job").executor_def is dg.multiprocess_executor
    assert repository.get_job("dixa_load").executor_def is dg.in_process_executor
    for sensor in merged.sensors or ():
        assert sensor.name == "dixa_catalogue" or sensor.job_name == "dixa_load"


def test_checks_schedule_and_dependencies_follow_a_translated_key(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    def translate(spec: dg.AssetSpec, asset: DixaAsset) -> dg.AssetSpec:
        return spec.replace_attributes(
            key=dg.AssetKey(["support", asset.id]), group_name="support", owners=["team:cx"]
        )

    analytics = component(
        simulator,
        tmp_path,
        translation=translate,
        breakdowns={"csat": ["channel"]},
        read_copy_path=str(tmp_path / "read.duckdb"),
        exclude=[one.id for one in catalogue.entries if one.kind == "record"],
    )
    definitions = analytics.build_definitions(catalogue)
    graph = definitions.resolve_asset_graph()
    csat = graph.get(dg.AssetKey(["support", "csat"]))
    assert (csat.group_name, csat.owners) == ("support", ["team:cx"])
    assert {key.path[0] for key in graph.get_all_asset_keys()} == {"support"}
    assert csat.parent_keys == {dg.AssetKey(["support", "channel"])}
    assert {key.asset_key for key in graph.asset_check_keys} <= graph.get_all_asset_keys()
    result = load(analytics, ["support/csat"], FIRST, catalogue=catalogue)
    assert result.success
    assert {each.asset_check_key for each in result.get_asset_check_evaluations()} == {
        key for key in graph.asset_check_keys if key.asset_key == csat.key
    }
    (schedule,) = definitions.schedules or ()
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2025, 11, 2, 5, 30, tzinfo=ZoneInfo(COPENHAGEN))
    )
    (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert csat.key in (request.asset_selection or ())


@pytest.fixture
def versions(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> Callable[..., tuple[Any, Any]]:
    """The code versions of a metric, and of a day that it loads, with some settings."""
    csat = dg.AssetKey(["dixa_metrics", "csat"])

    def versions(**settings: Any) -> tuple[Any, Any]:
        analytics = component(simulator, tmp_path, **settings)
        graph = analytics.build_definitions(catalogue).resolve_asset_graph()
        result = load(analytics, ["dixa_metrics/csat"], FIRST, catalogue=catalogue)
        (event,) = result.asset_materializations_for_node("dixa_metrics__csat")
        return graph.get(csat).code_version, (event.tags or {}).get("dagster/code_version")

    return versions


def test_days_loaded_with_other_settings_have_another_code_version(
    versions: Callable[..., tuple[Any, Any]],
) -> None:
    plain = versions()
    assert plain[0] == plain[1]
    assert versions(exclude=["nps"], history_days=3) == plain
    for settings in (
        {"filters": {"csat": {"channel": ["EMAIL"]}}},
        {"required_filter": "initial_direction"},
    ):
        other = versions(**settings)
        assert other[0] == other[1] != plain[0]
    # With a breakdown the asset has dependencies, and Dagster itself tags its days.
    assert versions(breakdowns={"csat": ["channel"]})[0] != plain[0]


# Dagster warns of the same, less plainly.
@pytest.mark.filterwarnings("ignore:Multiple components have the same defs state key")
@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("", "^account: the empty name occurs twice in this project"),
        (
            ", account: acme",
            "^duckdb_path: .*one.duckdb is the database of the accounts '' and 'acme'",
        ),
    ],
)
def test_two_instances_with_one_account_or_one_database_are_refused(
    second: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = "attributes: {{duckdb_path: one.duckdb{}}}"
    write_project(tmp_path, first=attributes.format(""), second=attributes.format(second))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        load_components()
    with pytest.raises(Exception, match="Error while") as caught:
        dg.ComponentTree.for_project(tmp_path).build_defs()
    assert isinstance(caught.value.__cause__, ConfigError)


SHARED = [
    ("read_copy_path: ONE.duckdb", "read_copy_path", "the database itself (duckdb_path of"),
    ("report_path: deep/../one.duckdb", "report_path", "the database itself (duckdb_path of"),
    ("read_copy_path: link.duckdb", "read_copy_path", "the database itself (duckdb_path of"),
    ("read_copy_path: linked/one.duckdb", "read_copy_path", "the database itself (duckdb_path of"),
    ("read_copy_path: hard.duckdb", "read_copy_path", "the database itself (duckdb_path of"),
    ("read_copy_path: one.duckdb.wal", "read_copy_path", "the database itself (duckdb_path of"),
    ("read_copy_path: read.duckdb", "read_copy_path", "in use (read_copy_path of"),
    ("report_path: read.duckdb", "report_path", "in use (read_copy_path of"),
    ("read_copy_path: one_report.html", "read_copy_path", "in use (report_path of"),
    ("report_path: one_report.html", "report_path", "in use (report_path of"),
    ("duckdb_path: read.duckdb", "duckdb_path", "in use (read_copy_path of"),
    ("duckdb_path: one_report.html", "duckdb_path", "in use (report_path of"),
]


@pytest.mark.filterwarnings("ignore:Multiple components have the same defs state key")
@pytest.mark.parametrize(("second", "setting", "says"), SHARED)
@pytest.mark.parametrize("is_first", [True, False], ids=["in order", "reversed"])
def test_a_file_of_one_account_is_no_file_of_another(
    is_first: bool,
    second: str,
    setting: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "one.duckdb").touch()
    (tmp_path / "link.duckdb").symlink_to(tmp_path / "one.duckdb")
    (tmp_path / "hard.duckdb").hardlink_to(tmp_path / "one.duckdb")
    (tmp_path / "linked").symlink_to(tmp_path)
    own = "" if "duckdb_path: " in second else "duckdb_path: two.duckdb, "
    texts = [
        "attributes: {duckdb_path: one.duckdb, read_copy_path: read.duckdb}",
        f"attributes: {{account: acme, {own}{second}}}",
    ]
    write_project(tmp_path, **dict(zip("ab", texts if is_first else texts[::-1], strict=True)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as raised:
        load_components()

    message = str(raised.value)
    assert "\n" not in message
    if is_first:
        assert message.startswith(f"{setting}: ")
        assert f"{says} the account ''). Choose another name." in message
    else:
        assert "the account 'acme'). Choose another name." in message
    assert re.search(r"\((duckdb|read_copy|report)_path of ", message)
