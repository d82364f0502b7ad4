"""Beside other people's definitions: accounts, resources, executors, names, assets after ours."""

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
from dixa_assets_tests.support.processes import run, settings_for
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import COPENHAGEN, KEY, Simulator

FIRST, LAST = "2025-10-25", "2025-10-27"
RATINGS = dg.AssetKey(["dixa_records", "ratings"])


def tags(first: str = FIRST, last: str = LAST) -> dict[str, str]:
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def names_of(definitions: dg.Definitions) -> set[str]:
    """Every name that the definitions claim in a project, but for assets."""
    claimed = [*(definitions.sensors or ()), *(definitions.schedules or ())]
    claimed += definitions.jobs or ()  # type: ignore[arg-type]
    return {one.name for one in claimed} | set(definitions.resources or ())


@pytest.fixture
def analytics(simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    return component(simulator, tmp_path)


@pytest.fixture
def known(analytics: DixaAnalytics) -> Catalogue:
    return fetched(analytics)


def test_two_accounts_stand_in_one_project_and_share_no_name(
    simulator: Simulator, tmp_path: Path
) -> None:
    both = {
        account: component(
            simulator, tmp_path, account=account, duckdb_path=str(tmp_path / f"{account}.duckdb"),
            timezone=zone, api_key_variable=f"KEY_OF_{account.upper()}",
        )
        for account, zone in (("acme", "Europe/Copenhagen"), ("globex", "America/Santiago"))
    }  # fmt: skip
    catalogue = fetched(both["acme"])
    parts = {account: one.build_definitions(catalogue) for account, one in both.items()}
    assert names_of(parts["acme"]).isdisjoint(names_of(parts["globex"]))
    merged = dg.Definitions.merge(*parts.values())
    dg.Definitions.validate_loadable(merged)
    for account, one in both.items():
        keys = parts[account].resolve_asset_graph().get_all_asset_keys()
        assert {key.path[0] for key in keys} == {account}
        result = dg.materialize(
            [each for each in parts[account].assets or () if isinstance(each, dg.AssetsDefinition)],
            selection=[dg.AssetKey([account, "dixa_metrics", "csat"])],
            resources=one.build_resources(KEY),
            tags=tags(),
        )
        assert result.success
        rows = one.build_warehouse().query("SELECT DISTINCT timezone FROM dixa_metrics.csat")
        assert list(rows.timezone) == [one.timezone]
    assert both["acme"].defs_state_config.key != both["globex"].defs_state_config.key


def test_without_an_account_every_name_is_the_plain_one(
    analytics: DixaAnalytics, known: Catalogue
) -> None:
    assert names_of(analytics.build_definitions(known)) == {
        *("dixa_catalogue", "dixa_history", "dixa_publish", "dixa_daily_refresh", "dixa_load"),
        *("dixa_api", "dixa_warehouse", "dixa_loader"),
    }


@pytest.mark.parametrize("account", ["a/b", "1st", "with space", "ö"])
def test_an_account_that_cannot_be_part_of_a_name_is_refused(account: str) -> None:
    with pytest.raises(ConfigError, match="^account: "):
        DixaAnalytics(account=account)


def test_a_database_of_another_account_or_host_is_refused(
    simulator: Simulator, tmp_path: Path, analytics: DixaAnalytics, known: Catalogue
) -> None:
    warehouse = analytics.build_warehouse()
    warehouse.check()
    component(simulator, tmp_path, account="acme").build_warehouse().check()
    analytics.build_warehouse().check()
    assert materialized(analytics, known, []).success
    with pytest.raises(ConfigError, match="^account: is acme, but .* holds days of no named acc"):
        component(simulator, tmp_path, account="acme").build_warehouse().check()
    with pytest.raises(ConfigError, match="^base_url: is dev.dixa.io, but .* days of 127.0.0.1"):
        DixaAnalytics(duckdb_path=analytics.duckdb_path).build_warehouse().check()


def test_the_missing_key_is_told_by_its_own_name(simulator: Simulator, tmp_path: Path) -> None:
    analytics = component(simulator, tmp_path, api_key_variable="KEY_OF_ACME")
    with pytest.raises(ConfigError, match="^KEY_OF_ACME: is missing"):
        analytics.build_dixa("").client()


def materialized(
    analytics: DixaAnalytics,
    known: Catalogue,
    others: list[dg.AssetsDefinition],
    instance: dg.DagsterInstance | None = None,
) -> dg.ExecuteInProcessResult:
    """A run of `ratings` and what other people hang on it."""
    assets = analytics.build_definitions(known).assets or ()
    return dg.materialize(
        [*(each for each in assets if isinstance(each, dg.AssetsDefinition)), *others],
        selection=[RATINGS, *(each.key for each in others)],
        resources=analytics.build_resources(KEY),
        tags=tags(),
        instance=instance,
        raise_on_error=False,
    )


def test_an_asset_after_ours_runs_in_the_same_run_with_all_days(
    analytics: DixaAnalytics, known: Catalogue
) -> None:
    seen: dict[str, Any] = {}
    partitions_def = dg.DailyPartitionsDefinition("2025-01-01", timezone="Europe/Copenhagen")

    @dg.asset(
        deps=[RATINGS],
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def daily_mart(context: dg.AssetExecutionContext) -> None:
        sql = "SELECT count(DISTINCT partition_date) AS n FROM dixa_records.ratings"
        seen["days"] = context.partition_keys, int(analytics.build_warehouse().query(sql).n[0])

    @dg.asset(deps=[RATINGS])
    def mart() -> None:
        seen["mart"] = True

    with dg.instance_for_test() as instance:
        assert materialized(analytics, known, [daily_mart, mart], instance).success
        events = instance.fetch_materializations(RATINGS, limit=100).records
    assert seen == {"days": ([FIRST, "2025-10-26", LAST], 3), "mart": True}
    assert {each.partition_key for each in events} == {FIRST, "2025-10-26", LAST}
    for each in events:
        assert each.asset_materialization is not None
        assert "rows" in each.asset_materialization.metadata


def test_without_anything_after_it_a_day_is_one_event(
    analytics: DixaAnalytics, known: Catalogue
) -> None:
    with dg.instance_for_test() as instance:
        assert materialized(analytics, known, [], instance).success
        events = instance.fetch_materializations(RATINGS, limit=100).records
    assert len(events) == 3


def test_a_failed_day_keeps_what_comes_after_from_running(
    simulator: Simulator, analytics: DixaAnalytics, known: Catalogue
) -> None:
    @dg.asset(deps=[RATINGS])
    def mart() -> None:
        raise AssertionError("half a range is there")

    simulator.tell("faults", kind="status", status=400, id="ratings", times=None, body="{}")
    result = materialized(analytics, known, [mart])
    assert not result.success
    assert {event.step_key for event in result.get_step_failure_events()} == {
        "dixa_records__ratings"
    }


def test_the_users_resources_executor_and_jobs_are_left_alone(
    analytics: DixaAnalytics, known: Catalogue
) -> None:
    @dg.asset
    def theirs(duckdb: DuckDBResource) -> None: ...

    job = dg.define_asset_job("their_job", selection=[theirs])
    merged = dg.Definitions.merge(
        analytics.build_definitions(known),
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


def test_a_translated_key_is_followed_by_everything(
    simulator: Simulator, tmp_path: Path, known: Catalogue
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
        exclude=[one.id for one in known.entries if one.kind == "record"],
    )
    definitions = analytics.build_definitions(known)
    graph = definitions.resolve_asset_graph()
    csat = graph.get(dg.AssetKey(["support", "csat"]))
    assert (csat.group_name, csat.owners) == ("support", ["team:cx"])
    assert {key.path[0] for key in graph.get_all_asset_keys()} == {"support"}
    assert csat.parent_keys == {dg.AssetKey(["support", "channel"])}
    assert {key.asset_key for key in graph.asset_check_keys} <= graph.get_all_asset_keys()
    with dg.instance_for_test() as instance:
        result = dg.materialize(
            [each for each in definitions.assets or () if isinstance(each, dg.AssetsDefinition)],
            selection=[csat.key],
            resources=analytics.build_resources(KEY),
            tags=tags(),
            instance=instance,
        )
        assert result.success
        assert len(result.get_asset_check_evaluations()) == len(
            [key for key in graph.asset_check_keys if key.asset_key == csat.key]
        )
    (schedule,) = definitions.schedules or ()
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2025, 11, 2, 5, 30, tzinfo=ZoneInfo(COPENHAGEN))
    )
    (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert csat.key in (request.asset_selection or ())


def test_days_loaded_with_other_settings_are_marked_as_of_another_version(
    simulator: Simulator, tmp_path: Path, known: Catalogue
) -> None:
    csat = dg.AssetKey(["dixa_metrics", "csat"])

    def versions(**settings: Any) -> tuple[Any, Any]:
        """That of the definition, and that of the day it loads."""
        analytics = component(simulator, tmp_path, **settings)
        definitions = analytics.build_definitions(known)
        with dg.instance_for_test() as instance:
            assert load(
                analytics, ["dixa_metrics/csat"], FIRST, catalogue=known, instance=instance
            ).success
            event = instance.get_latest_materialization_event(csat)
            assert event is not None
            assert event.asset_materialization is not None
            tags = event.asset_materialization.tags or {}
        defined = definitions.resolve_asset_graph().get(csat).code_version
        return defined, tags.get("dagster/code_version")

    plain = versions()
    assert plain[0] == plain[1]
    assert versions() == versions(exclude=["nps"], history_days=3) == plain
    for settings in (
        {"filters": {"csat": {"channel": ["EMAIL"]}}},
        {"required_filter": "initial_direction"},
    ):
        other = versions(**settings)
        assert other[0] == other[1] != plain[0]
    assert versions(breakdowns={"csat": ["channel"]})[0] != plain[0]


# Dagster says it too, less plainly.
@pytest.mark.filterwarnings("ignore:Multiple components have the same defs state key")
@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("", "^account: the empty name is taken twice in this project"),
        (
            "account: acme",
            r"^duckdb_path: .*one.duckdb is the database of the accounts '' and 'acme'",
        ),
    ],
)
def test_two_instances_that_would_be_one_are_refused_with_what_to_set(
    second: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"twins_{len(second)}"
    for name, more in (("first", ""), ("second", second)):
        folder = tmp_path / package / "defs" / name
        folder.mkdir(parents=True)
        attributes = "\n  ".join(["duckdb_path: one.duckdb", *([more] if more else [])])
        (folder / "defs.yaml").write_text(
            f"type: dixa_assets.component.DixaAnalytics\nattributes:\n  {attributes}\n"
        )
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(f"[tool.dg.project]\nroot_module = '{package}'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        load_components()
    with pytest.raises(Exception, match="Error while") as caught:
        dg.ComponentTree.for_project(tmp_path).build_defs()
    assert isinstance(caught.value.__cause__, ConfigError)


@pytest.mark.slow
def test_doctor_and_report_work_in_anybodys_project_for_each_account(
    simulator: Simulator, tmp_path: Path
) -> None:
    for account, zone in (("acme", "Europe/Copenhagen"), ("globex", "America/Santiago")):
        folder = tmp_path / "theirs" / "defs" / account
        folder.mkdir(parents=True)
        (folder / "defs.yaml").write_text(
            "type: dixa_assets.component.DixaAnalytics\n"
            f"attributes: {{account: {account}, timezone: {zone}, base_url: '{simulator.url}', "
            f"api_key_variable: DIXA_API_KEY_{account.upper()}, duckdb_path: {account}.duckdb}}\n"
        )
    (tmp_path / "theirs" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text("[tool.dg.project]\nroot_module = 'theirs'\n")
    settings = settings_for(simulator, tmp_path, DIXA_API_KEY_ACME=KEY)
    done = run(["dixa_assets", "doctor"], settings)
    assert done.returncode == 1
    assert "✗ DIXA_API_KEY_GLOBEX: is missing" in done.stderr
    assert "days of America/Santiago" in done.stdout
    done = run(["dixa_assets", "doctor", "--account", "acme"], settings)
    assert done.returncode == 0, done.stderr
    assert "Santiago" not in done.stdout
    done = run(["dixa_assets", "report"], settings)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.html")} == {
        "acme_report.html",
        "globex_report.html",
    }
    done = run(["dixa_assets", "report", "--account", "acmee"], settings)
    assert (
        done.stderr == "✗ DixaAnalytics: this project has no account 'acmee'; did you mean acme?\n"
    )
