"""The catalogue stays right whatever the API answers, and what an asset lacks is loaded."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.storage.defs_state.base import set_defs_state_storage

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.settings import Patience
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Catalogue, Listing
from dixa_assets.model.merge import merge
from dixa_assets.model.tables import catalogue_rows
from dixa_assets.orchestration import state
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import KEY, Simulator


@pytest.fixture
def analytics(simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    return component(simulator, tmp_path)


@pytest.fixture
def known(analytics: DixaAnalytics) -> Catalogue:
    return fetched(analytics)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def attempt(analytics: DixaAnalytics, known: Catalogue) -> tuple[Catalogue, tuple[str, ...]]:
    with analytics.build_dixa(KEY).client(Patience(request_seconds=2)) as client:
        return fetch_catalogue(client, known)


def test_a_new_metric_joins_and_a_withdrawn_one_is_retired(
    simulator: Simulator, analytics: DixaAnalytics, known: Catalogue
) -> None:
    simulator.tell("metrics", entry={"id": "brand_new"}, like="csat")
    simulator.withdraw("metrics", "nps")
    after, problems = attempt(analytics, known)
    assert problems == ()
    assert [(change.id, change.change) for change in after.changes[len(known.changes) :]] == [
        ("nps", "retired"),
        ("brand_new", "added"),
    ]
    assert {entry.id for entry in known.entries} < {entry.id for entry in after.entries}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500, "body": "{}"},
        {"kind": "status", "status": 401, "body": "{}"},
        {"kind": "reset"},
        {"kind": "html"},
        {"kind": "malformed_json"},
        {"kind": "truncate"},
        {"kind": "empty"},
        {"kind": "missing_data"},
        {"kind": "repeated_key"},
        {"kind": "foreign_host", "host": "http://evil.example"},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
@pytest.mark.parametrize("operation", ["getAnalyticsMetrics", "getAnalyticsRecords"])
def test_a_fetch_that_fails_changes_nothing_and_says_why(
    operation: str,
    fault: dict[str, Any],
    simulator: Simulator,
    analytics: DixaAnalytics,
    known: Catalogue,
) -> None:
    simulator.tell("settings", catalogue_page_limit=5)
    simulator.tell("faults", operation=operation, times=None, **fault)
    with pytest.raises(DixaAssetsError):
        attempt(analytics, known)


def test_half_a_list_retires_nothing(
    simulator: Simulator, analytics: DixaAnalytics, known: Catalogue
) -> None:
    simulator.tell("faults", kind="half_page", operation="getAnalyticsMetrics", times=None)
    after, problems = attempt(analytics, known)
    assert after.version == known.version
    assert len(problems) == 13
    assert all("missing from the list and is kept" in problem for problem in problems)


def test_duplicates_and_malformed_entries_cost_themselves_alone(
    simulator: Simulator, analytics: DixaAnalytics, known: Catalogue
) -> None:
    simulator.tell("faults", kind="duplicate_ids", operation="getAnalyticsMetrics", times=None)
    strange = {"id": "strange", "filters": [{"nonsense": 1}], "new_key": {}}
    simulator.tell("metrics", entry=strange, like="csat")
    after, problems = attempt(analytics, known)
    assert after.version == known.version
    assert any("listed twice" in problem for problem in problems)
    assert any("malformed" in problem for problem in problems)


def history_tick(
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
    cursor: str | None = None,
) -> dg.SensorResult:
    definitions = analytics.build_definitions(catalogue)
    sensor = next(each for each in definitions.sensors or () if each.name == "dixa_history")
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=definitions.get_repository_def()
    )
    found = sensor(context)
    assert isinstance(found, dg.SensorResult)
    return found


def first_seen(catalogue: Catalogue, at: str) -> Catalogue:
    """The same catalogue as if it had been fetched at another time."""
    listing = Listing(catalogue.entries)
    return merge(Catalogue(), listing, at=at, is_still_described=lambda _: True)


def test_a_new_asset_gets_the_days_before_it_appeared_in_one_run(
    analytics: DixaAnalytics, known: Catalogue, instance: dg.DagsterInstance
) -> None:
    catalogue = first_seen(known, "2025-11-10T09:00:00+00:00")
    requests = history_tick(analytics, catalogue, instance).run_requests or []
    daily = [each for each in requests if "dagster/asset_partition_range_start" in each.tags]
    assert len(daily) == 1
    assert daily[0].tags["dagster/asset_partition_range_start"] == "2025-10-11"
    assert daily[0].tags["dagster/asset_partition_range_end"] == "2025-11-09"
    assert len(daily[0].asset_selection or ()) == len(catalogue.entries)
    undated = {key.path[0] for key in requests[0].asset_selection or ()}
    assert undated == {"dixa_catalogue", "dixa_filters"}


def test_what_is_loaded_is_not_asked_for_again_and_gaps_are(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=5, include=["csat"])
    catalogue = first_seen(fetched(analytics), "2025-11-10T09:00:00+00:00")
    for first, last in (("2025-11-05", "2025-11-06"), ("2025-11-08", "2025-11-08")):
        load(analytics, ["dixa_metrics/csat"], first, last, instance=instance, catalogue=catalogue)
    requests = history_tick(analytics, catalogue, instance).run_requests or []
    tag = "dagster/asset_partition_range_"
    ranges = [(each.tags[f"{tag}start"], each.tags[f"{tag}end"]) for each in requests if each.tags]
    assert ranges == [("2025-11-07", "2025-11-07"), ("2025-11-09", "2025-11-09")]


def test_a_lost_or_another_database_is_filled_anew(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=3, include=["csat"])
    catalogue = first_seen(fetched(analytics), "2025-11-10T09:00:00+00:00")
    tables = [f"dixa_catalogue/{table.name}" for table in catalogue_rows(catalogue)]
    filters = [f"dixa_filters/{name}" for name in catalogue.filter_names.values()]
    keys = ["dixa_metrics/csat", *tables, *filters]
    load(analytics, keys, "2025-11-07", "2025-11-09", instance=instance, catalogue=catalogue)
    done = history_tick(analytics, catalogue, instance)
    assert not done.run_requests

    def asked(other: DixaAnalytics) -> set[str]:
        requests = history_tick(other, catalogue, instance, done.cursor).run_requests or []
        return {key.to_user_string() for each in requests for key in each.asset_selection or ()}

    assert asked(analytics) == set()
    elsewhere = analytics.model_copy(update={"duckdb_path": str(tmp_path / "other.duckdb")})
    assert asked(elsewhere) == set(keys)
    Path(analytics.duckdb_path).unlink()
    assert asked(analytics) == set(keys)


def test_a_second_tick_waits_before_it_tries_again(
    analytics: DixaAnalytics, known: Catalogue, instance: dg.DagsterInstance
) -> None:
    first = history_tick(analytics, known, instance)
    assert first.run_requests
    second = history_tick(analytics, known, instance, first.cursor)
    assert not second.run_requests
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
    cursor = json.loads(first.cursor or "{}")
    cursor["tries"] = {key: [1, hour_ago] for key in cursor["tries"]}
    waited = json.dumps(cursor)
    third = history_tick(analytics, known, instance, waited)
    assert len(third.run_requests or ()) == len(first.run_requests)


def test_no_history_is_loaded_when_none_is_wanted(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=0)
    requests = history_tick(analytics, fetched(analytics), instance).run_requests or []
    assert all("dagster/asset_partition_range_start" not in each.tags for each in requests)


def test_a_changed_catalogue_loads_its_tables_anew(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=0)
    known = fetched(analytics)
    tables = ("metrics", "records", "filters", "aggregations", "fields", "relations", "changes")
    load(
        analytics, [f"dixa_catalogue/{name}" for name in tables], "2025-11-01",
        instance=instance, catalogue=known,
    )  # fmt: skip

    def asked(catalogue: Catalogue) -> set[str]:
        requests = history_tick(analytics, catalogue, instance).run_requests or []
        return {key.path[0] for each in requests for key in each.asset_selection or ()}

    assert asked(known) == {"dixa_filters"}
    simulator.tell("metrics", entry={"id": "brand_new"}, like="csat")
    assert asked(fetched(analytics, known)) == {"dixa_filters", "dixa_catalogue"}


def test_a_read_copy_is_asked_for_once_when_loads_have_ended(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, read_copy_path=str(tmp_path / "read.duckdb"))
    definitions = analytics.build_definitions(fetched(analytics))
    (sensor,) = (one for one in definitions.sensors or () if one.name == "dixa_publish")

    def tick() -> dg.SensorResult:
        with dg.build_sensor_context(instance=instance) as context:
            return sensor.evaluate_tick(context)

    assert "no database yet" in str(tick().skip_message)
    assert load(analytics, ["dixa_metrics/csat"], "2025-11-01", instance=instance).success
    (request,) = tick().run_requests or ()
    assert dg.AssetKey(["dixa", "read_copy"]) in request.asset_selection
    assert [one.run_key for one in tick().run_requests or ()] == [request.run_key]

    assert load(analytics, ["dixa/read_copy", "dixa/report"], instance=instance).success
    assert (tmp_path / "read.duckdb").exists()
    assert "Nothing has changed" in str(tick().skip_message)
    with analytics.build_warehouse().reading() as query:
        assert len(query("FROM dixa.metrics_daily"))
    assert "Nothing has changed" in str(tick().skip_message)

    assert load(analytics, ["dixa_metrics/csat"], "2025-11-02", instance=instance).success
    (again,) = tick().run_requests or ()
    assert again.run_key != request.run_key
    # Somebody else's run says nothing of ours.
    instance.create_run_for_job(
        dg.GraphDefinition("busy").to_job(), status=DagsterRunStatus.STARTED
    )
    assert [one.run_key for one in tick().run_requests or ()] == [again.run_key]
    own = dg.AssetKey(["dixa_metrics", "csat"])
    job = definitions.resolve_implicit_global_asset_job_def()
    instance.create_run_for_job(
        job.get_subset(asset_selection={own}),
        status=DagsterRunStatus.STARTED,
        asset_selection=frozenset({own}),
    )
    assert "Loads are running" in str(tick().skip_message)


def test_a_type_of_values_that_nobody_knows_is_a_change_told_once(
    simulator: Simulator, analytics: DixaAnalytics, known: Catalogue, instance: dg.DagsterInstance
) -> None:
    (sensor, *_) = analytics.build_definitions(known).sensors or ()

    def told() -> list[tuple[str, str, str | None, str | None]]:
        context = dg.build_sensor_context(
            instance, resources={"dixa_api": analytics.build_dixa(KEY)}, sensor_name=sensor.name
        )
        sensor.evaluate_tick(context)
        assert instance.defs_state_storage is not None
        stored = state.load(instance.defs_state_storage, analytics.defs_state_config.key)
        assert stored is not None
        changes = [each for each in stored.changes if each.change == "unknown type"]
        return [(each.kind, each.id, each.item, each.after) for each in changes]

    assert told() == []
    simulator.tell("faults", kind="unknown_type", operation="postAnalyticsRecords", id="ratings")
    simulator.tell("faults", kind="unknown_type", operation="postAnalyticsMetrics", id="csat")
    keys = ["dixa_metrics/csat", "dixa_records/ratings"]
    assert load(analytics, keys, "2025-11-01", catalogue=known).success
    found = told()
    assert ("metric", "csat", "aggregates", '"HologramField"') in found
    assert ("record", "ratings", "agent_id", '"HologramField"') in found
    assert told() == found


def test_a_lost_catalogue_is_fetched_anew_and_the_database_remembers_what_was(
    simulator: Simulator,
    analytics: DixaAnalytics,
    known: Catalogue,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator.withdraw("metrics", "nps")
    known = fetched(analytics, first_seen(known, "2025-11-01T12:00:00+00:00"))
    tables = [f"dixa_catalogue/{table.name}" for table in catalogue_rows(known)]
    assert load(analytics, tables, catalogue=known, instance=instance).success
    storage = instance.defs_state_storage
    assert storage is not None
    state.save(storage, analytics.defs_state_config.key, known)
    monkeypatch.setenv("DIXA_BASE_URL", simulator.url)
    monkeypatch.setenv("DIXA_DUCKDB_PATH", analytics.duckdb_path)

    def keys() -> set[dg.AssetKey]:
        with set_defs_state_storage(storage):
            definitions = dg.ComponentTree.for_project(PROJECT).build_defs()
        assert "dixa_catalogue" in [sensor.name for sensor in definitions.sensors or ()]
        return set(definitions.resolve_asset_graph().get_all_asset_keys())

    assert dg.AssetKey(["dixa_metrics", "nps"]) in keys()
    for lost in Path(storage.base_path).rglob(known.version):
        lost.write_text("{")
    assert keys() == set()
    (sensor, *_) = analytics.build_definitions(Catalogue()).sensors or ()
    context = dg.build_sensor_context(
        instance, resources={"dixa_api": analytics.build_dixa(KEY)}, sensor_name=sensor.name
    )
    sensor.evaluate_tick(context)
    again = state.load(storage, analytics.defs_state_config.key)
    assert again is not None
    assert [(one.key, one.first_seen, one.retired_at) for one in again.entries] == [
        (one.key, one.first_seen, one.retired_at) for one in known.entries
    ]
    assert again.changes[: len(known.changes)] == known.changes
    assert dg.AssetKey(["dixa_metrics", "nps"]) in keys()
