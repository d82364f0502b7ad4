"""The sensors keep the catalogue up to date and publish after loads."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.settings import Patience
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration import state
from dixa_assets_tests.support.marts import MART_KEYS
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.projects import stored_catalogue
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import KEY, Simulator
from dixa_assets_tests.support.ticks import catalogue_tick, first_seen, tables_of

RATINGS, CSAT = "dixa_records/ratings", "dixa_metrics/csat"


def refetched(analytics: DixaAnalytics, known: Catalogue) -> tuple[Catalogue, tuple[str, ...]]:
    """The catalogue now, and the problems of the fetch, without long retries."""
    with analytics.build_dixa(KEY).client(Patience(request_seconds=2)) as client:
        return fetch_catalogue(client, known)


def stored(analytics: DixaAnalytics, instance: dg.DagsterInstance) -> Catalogue:
    """The catalogue in Dagster's state storage."""
    assert instance.defs_state_storage is not None
    found = state.load(instance.defs_state_storage, analytics.defs_state_config.key)
    assert found is not None
    return found


# The catalogue


def test_a_new_metric_joins_and_a_withdrawn_one_is_retired(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.tell("metrics", entry={"id": "brand_new"}, like="csat")
    simulator.withdraw("metrics", "nps")
    after, problems = refetched(analytics, catalogue)
    assert problems == ()
    assert [(change.id, change.change) for change in after.changes[len(catalogue.changes) :]] == [
        ("nps", "retired"),
        ("brand_new", "added"),
    ]
    assert {entry.id for entry in catalogue.entries} < {entry.id for entry in after.entries}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500, "body": "{}"},
        {"kind": "status", "status": 401, "body": "{}"},
        *({"kind": kind} for kind in ("reset", "html", "malformed_json", "truncate", "empty")),
        *({"kind": kind} for kind in ("missing_data", "repeated_key")),
        {"kind": "foreign_host", "host": "http://evil.example"},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
@pytest.mark.parametrize("operation", ["getAnalyticsMetrics", "getAnalyticsRecords"])
def test_a_broken_answer_fails_the_fetch(
    operation: str,
    fault: dict[str, Any],
    simulator: Simulator,
    analytics: DixaAnalytics,
    catalogue: Catalogue,
) -> None:
    simulator.tell("settings", catalogue_page_limit=5)
    simulator.tell("faults", operation=operation, times=None, **fault)
    with pytest.raises(DixaAssetsError):
        refetched(analytics, catalogue)


def test_half_a_list_retires_nothing(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.tell("faults", kind="half_page", operation="getAnalyticsMetrics", times=None)
    after, problems = refetched(analytics, catalogue)
    assert after.version == catalogue.version
    assert len(problems) == 13
    assert all("missing from the list and is kept" in problem for problem in problems)


def test_duplicate_and_malformed_entries_are_reported_and_the_others_stay(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.tell("faults", kind="duplicate_ids", operation="getAnalyticsMetrics", times=None)
    strange = {"id": "strange", "filters": [{"nonsense": 1}], "new_key": {}}
    simulator.tell("metrics", entry=strange, like="csat")
    after, problems = refetched(analytics, catalogue)
    assert after.version == catalogue.version
    assert any("listed twice" in problem for problem in problems)
    assert any("malformed" in problem for problem in problems)


def test_a_tick_names_settings_that_dixa_does_not_have(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, include=["csatt", "nps"])
    message = catalogue_tick(analytics, Catalogue(), instance)
    assert "include: 'csatt' is not a metric or record of Dixa; did you mean csat?" in message


def test_an_unknown_type_of_values_is_one_change(
    simulator: Simulator,
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
) -> None:
    def unknown_types() -> list[tuple[str, str, str | None, str | None]]:
        catalogue_tick(analytics, catalogue, instance)
        changes = stored(analytics, instance).changes
        changes = tuple(each for each in changes if each.change == "unknown type")
        return [(each.kind, each.id, each.item, each.after) for each in changes]

    assert unknown_types() == []
    simulator.tell("faults", kind="unknown_type", operation="postAnalyticsRecords", id="ratings")
    simulator.tell("faults", kind="unknown_type", operation="postAnalyticsMetrics", id="csat")
    assert load(analytics, [CSAT, RATINGS], "2025-11-01", catalogue=catalogue).success
    found = unknown_types()
    assert ("metric", "csat", "aggregates", '"HologramField"') in found
    assert ("record", "ratings", "agent_id", '"HologramField"') in found
    assert unknown_types() == found


def test_a_field_that_only_rows_have_can_be_excluded_after_a_tick(
    simulator: Simulator,
    tmp_path: Path,
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
) -> None:
    data = {"_type": "StringField", "value": "x"}
    simulator.tell("records/fields", id="ratings", field="undocumented", data=data)
    assert load(analytics, [RATINGS], "2025-11-01", catalogue=catalogue).success
    catalogue_tick(analytics, catalogue, instance)
    later = stored(analytics, instance)
    excluding = component(simulator, tmp_path, exclude_fields={"ratings": ["undocumented"]})
    assert excluding.find_unknown_names(catalogue) != []
    assert excluding.find_unknown_names(later) == []
    excluding.build_definitions(later)


def test_a_lost_catalogue_is_fetched_again_and_keeps_the_history_in_the_database(
    simulator: Simulator,
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIXA_BASE_URL", simulator.url)
    monkeypatch.setenv("DIXA_DUCKDB_PATH", analytics.duckdb_path)
    simulator.withdraw("metrics", "nps")
    known = fetched(analytics, first_seen(catalogue, "2025-11-01T12:00:00+00:00"))
    assert load(analytics, tables_of(known), catalogue=known, instance=instance).success
    nps = dg.AssetKey(["dixa_metrics", "nps"])

    def keys() -> set[dg.AssetKey]:
        built = dg.ComponentTree.for_project(PROJECT).build_defs()
        assert "dixa_catalogue" in [sensor.name for sensor in built.sensors or ()]
        return set(built.resolve_asset_graph().get_all_asset_keys())

    with stored_catalogue(instance, analytics, known) as storage:
        assert nps in keys()
        for lost in Path(storage.base_path).rglob(known.version):
            lost.write_text("{")
        assert keys() == set()
        catalogue_tick(analytics, Catalogue(), instance)
        again = stored(analytics, instance)
        assert again.entries == known.entries
        assert again.changes[: len(known.changes)] == known.changes
        assert nps in keys()


# Published assets


def test_the_read_copy_and_the_report_are_requested_once_when_loads_have_ended(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, read_copy_path=str(tmp_path / "read.duckdb"))
    definitions = analytics.build_definitions(catalogue)
    (sensor,) = (one for one in definitions.sensors or () if one.name == "dixa_publish")

    def tick() -> dg.SensorResult:
        with dg.build_sensor_context(instance=instance) as context:
            return sensor.evaluate_tick(context)

    assert "no database yet" in str(tick().skip_message)
    assert load(analytics, [CSAT], "2025-11-01", instance=instance).success
    (request,) = tick().run_requests or ()
    assert dg.AssetKey(["dixa", "read_copy"]) in request.asset_selection
    assert [one.run_key for one in tick().run_requests or ()] == [request.run_key]

    published = ["dixa/read_copy", "dixa/report", *MART_KEYS]
    assert load(analytics, published, instance=instance).success
    assert (tmp_path / "read.duckdb").exists()
    assert "The database has not changed" in str(tick().skip_message)
    with analytics.build_warehouse().reading() as query:
        assert len(query("FROM dixa.metrics_daily"))
    assert "The database has not changed" in str(tick().skip_message)

    assert load(analytics, [CSAT], "2025-11-02", instance=instance).success
    (again,) = tick().run_requests or ()
    assert again.run_key != request.run_key
    # The run of another job does not matter.
    instance.create_run_for_job(
        dg.GraphDefinition("busy").to_job(), status=dg.DagsterRunStatus.STARTED
    )
    assert [one.run_key for one in tick().run_requests or ()] == [again.run_key]
    own = dg.AssetKey(["dixa_metrics", "csat"])
    job = definitions.resolve_implicit_global_asset_job_def()
    instance.create_run_for_job(
        job.get_subset(asset_selection={own}),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({own}),
    )
    assert "Loads are running" in str(tick().skip_message)
