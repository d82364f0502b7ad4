"""The definitions of a catalogue, and the settings that the component rejects."""

import inspect
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from dixa_assets.component import DixaAnalytics, build_definitions
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration import state
from dixa_assets.orchestration.metadata import escape_markdown
from dixa_assets.orchestration.resources import DixaResource, WarehouseResource
from dixa_assets.project import load_component
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.support.marts import MART_KEYS
from dixa_assets_tests.support.processes import run, settings_for
from dixa_assets_tests.support.projects import stored_catalogue
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import KEY, Simulator

CSAT = dg.AssetKey(["dixa_metrics", "csat"])


def keys_of(definitions: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}


def refresh_requests(definitions: dg.Definitions, at: str) -> list[dg.RunRequest]:
    """The runs that the daily schedule requests at an instant."""
    schedule = definitions.resolve_schedule_def("dixa_daily_refresh")
    context = dg.build_schedule_context(scheduled_execution_time=datetime.fromisoformat(at))
    return list(schedule.evaluate_tick(context).run_requests or ())


def scheduled(definitions: dg.Definitions) -> set[dg.AssetKey]:
    requests = refresh_requests(definitions, "2025-11-10T05:30:00+01:00")
    return {key for request in requests for key in request.asset_selection or ()}


# Assets, sensors and schedules


def test_every_metric_and_record_is_an_asset_with_description_columns_and_table(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    definitions = analytics.build_definitions(catalogue)
    assert {f"dixa_metrics/{name}" for name in METRICS} <= keys_of(definitions)
    assert {f"dixa_records/{name}" for name in RECORDS} <= keys_of(definitions)
    graph = definitions.resolve_asset_graph()
    for entry in catalogue.entries:
        node = graph.get(dg.AssetKey([entry.schema, entry.name]))
        assert node.description == escape_markdown(entry.description)
        assert node.metadata["dagster/table_name"] == f"{entry.schema}.{entry.name}"
        columns = [column.name for column in node.metadata["dagster/column_schema"].columns]
        assert columns[0] == "partition_date"
        assert columns[-2:] == ["loaded_at", "run_id"]
        assert {field.field for field in entry.fields} <= set(columns)
        assert node.partitions_def == graph.get(CSAT).partitions_def


def test_an_empty_catalogue_gives_the_sensor_that_fetches_the_first() -> None:
    for definitions in (DixaAnalytics().build_definitions(Catalogue()), build_definitions()):
        dg.Definitions.validate_loadable(definitions)
        assert [sensor.name for sensor in definitions.sensors or ()] == ["dixa_catalogue"]


@pytest.mark.parametrize("seconds", [5, 3600])
def test_the_catalogue_is_fetched_as_often_as_configured(seconds: int) -> None:
    analytics = DixaAnalytics(catalogue_refresh_seconds=seconds)
    (sensor,) = analytics.build_definitions(Catalogue()).sensors or ()
    assert seconds - 1 <= (sensor.minimum_interval_seconds or 0) <= seconds


def test_definitions_are_built_without_network_and_database(
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the definitions open a connection")

    with stored_catalogue(instance, analytics, catalogue):
        monkeypatch.setattr(socket.socket, "connect", refuse)
        definitions = build_definitions(
            base_url=analytics.base_url, duckdb_path=analytics.duckdb_path, owners=["team:support"]
        )
        dg.Definitions.validate_loadable(definitions)
    assert definitions.resolve_asset_graph().get(CSAT).owners == ["team:support"]
    assert not Path(analytics.duckdb_path).exists()


def test_a_retired_metric_stays_an_asset_and_leaves_the_schedule(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.withdraw("metrics", "csat")
    definitions = analytics.build_definitions(fetched(analytics, catalogue))
    node = definitions.resolve_asset_graph().get(CSAT)
    assert node.tags["dixa/status"] == "retired"
    assert CSAT in scheduled(analytics.build_definitions(catalogue))
    assert CSAT not in scheduled(definitions)


def test_the_report_is_made_after_loads_and_not_by_the_daily_schedule(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    definitions = analytics.build_definitions(catalogue)
    report = dg.AssetKey(["dixa", "report"])
    assert report not in scheduled(definitions)
    analytics.build_warehouse().check()
    sensor = next(each for each in definitions.sensors or () if each.name == "dixa_publish")
    request = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(request, dg.RunRequest)
    assert report in (request.asset_selection or ())
    keys = ["dixa/report", *MART_KEYS]
    result = load(analytics, keys, "2025-11-05", instance=instance)
    assert isinstance(sensor(dg.build_sensor_context(instance=instance)), dg.SkipReason)
    view, event = result.asset_materializations_for_node("dixa__report")
    assert view.asset_key == dg.AssetKey(["dixa", "metrics_daily"])
    assert Path(str(event.metadata["path"].value)).read_text().startswith("<!doctype html>")


def test_the_schedule_reloads_no_day_that_is_not_kept(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    definitions = component(simulator, tmp_path, keep_days=3).build_definitions(catalogue)
    (request,) = refresh_requests(definitions, "2025-10-27T05:30:00+01:00")
    assert request.tags["dagster/asset_partition_range_start"] == "2025-10-24"
    assert request.tags["dagster/asset_partition_range_end"] == "2025-10-26"


def test_the_schedule_reloads_the_trailing_days_and_the_filter_values_in_one_run(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(
        simulator, tmp_path, refresh_days=3, breakdowns={"closed_conversations": ["channel"]}
    )
    definitions = analytics.build_definitions(catalogue)
    schedule = definitions.resolve_schedule_def("dixa_daily_refresh")
    assert schedule.execution_timezone == "Europe/Copenhagen"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    (request,) = refresh_requests(definitions, "2025-10-27T05:30:00+01:00")
    first, last = "2025-10-24", "2025-10-26"
    assert request.tags["dagster/asset_partition_range_start"] == first
    assert request.tags["dagster/asset_partition_range_end"] == last
    keys = [key.to_user_string() for key in request.asset_selection or ()]
    filters = [key for key in keys if key.startswith("dixa_filters/")]
    assert {"dixa_filters/channel", "dixa_filters/queue_id"} < set(filters)
    assert len(keys) == len(METRICS) + len(RECORDS) + len(filters)
    result = load(analytics, keys, first, last)
    assert result.success
    loaded: dict[str, set[str | None]] = {}
    for event in result.get_asset_materialization_events():
        key = event.materialization.asset_key.to_user_string()
        loaded.setdefault(key, set()).add(event.partition)
    days = {first, "2025-10-25", last}
    assert loaded == {key: {None} if key in filters else days for key in keys}


def test_include_and_exclude_choose_the_assets(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(simulator, tmp_path, include=["csat", "ratings", "nps"], exclude=["nps"])
    keys = keys_of(analytics.build_definitions(catalogue))
    chosen = {key for key in keys if key.startswith(("dixa_metrics/", "dixa_records/"))}
    assert chosen == {"dixa_metrics/csat", "dixa_records/ratings"}


def test_markup_in_a_description_is_shown_as_text() -> None:
    text = "<script>alert(1)</script> [click](https://evil.example) **bold** `code`"
    shown = escape_markdown(text)
    for mark in ("<", ">", "[", "]", "*", "`"):
        assert shown.count(f"\\{mark}") == text.count(mark)
    assert "https://" not in shown


def test_the_command_line_refreshes_the_catalogue_and_materializes_a_range(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    settings = settings_for(simulator, tmp_path)
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        assert instance.defs_state_storage is not None
        key = DixaAnalytics(base_url=simulator.url).defs_state_config.key
        state.save(instance.defs_state_storage, key, catalogue)
    command = ["dagster", "asset", "materialize", "-m", "dixa_assets.definitions"]
    command += ["--select", "key:dixa_metrics/csat"]
    run([*command, "--partition-range", "2025-10-25...2025-10-27"], settings, ok=True)
    warehouse = DixaAnalytics(duckdb_path=settings["DIXA_DUCKDB_PATH"]).build_warehouse()
    assert len(warehouse.query("SELECT partition_date FROM dixa_metrics.csat")) == 3


# Settings


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("timezone", "Europe/Kopenhagen"),
        ("timezone", ""),
        ("start_date", "2025-02-30"),
        ("start_date", "01.02.2025"),
        ("start_date", "20250201"),
        ("start_date", "2199-01-01"),
        ("history_days", -1),
        ("refresh_days", 0),
        ("refresh_cron", "every morning"),
        ("days_per_run", -1),
        ("catalogue_refresh_seconds", 0),
        ("requests_per_second", 0),
        ("requests_per_second", float("inf")),
        ("burst", 0),
        ("burst", "many"),
        ("windows_at_a_time", 0),
        ("database_wait_seconds", -1),
        ("account", "a/b"),
        ("account", "1st"),
        ("account", "with space"),
        ("account", "ö"),
        ("marts", {"first_reply": "first_response_time"}),
        ("marts", "some"),
        ("no_such_attribute", 1),
    ],
)
def test_an_impossible_setting_is_refused_by_name(attribute: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        DixaAnalytics(**{attribute: value})
    assert str(refused.value).startswith(f"{attribute}: ")


def test_no_setting_is_declared_twice() -> None:
    for owner in (DixaAnalytics, DixaResource, WarehouseResource):
        for name in owner.model_fields:
            declared = [each for each in owner.__mro__ if name in inspect.get_annotations(each)]
            # Loads and the database both need the zone.
            assert len(declared) == 1 or (owner, name) == (DixaAnalytics, "timezone"), declared


def test_the_defaults_of_the_environment_are_those_of_the_component(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("DIXA_")]:
        monkeypatch.delenv(name)
    configured = load_component().model_dump(exclude={"owners"})
    assert configured == DixaAnalytics().model_dump(exclude={"owners"})


def test_the_resource_shows_its_host_and_not_its_key(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    resource = analytics.build_dixa(KEY)
    for shown in (repr(resource), str(resource), f"{resource}"):
        assert simulator.url in shown
        assert KEY not in shown


def test_the_definitions_hold_the_name_of_the_key_and_not_the_key(
    analytics: DixaAnalytics, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIXA_API_KEY", "a-key-that-must-not-show")
    repository = analytics.build_definitions(catalogue).get_repository_def()
    snapshot = serialize_value(RepositorySnap.from_def(repository))
    assert "DIXA_API_KEY" in snapshot
    assert "a-key-that-must-not-show" not in snapshot
