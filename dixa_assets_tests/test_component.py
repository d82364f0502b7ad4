"""What the catalogue becomes in Dagster, and what configuration is refused."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.metadata import to_markdown
from dixa_assets.project import load_component
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.support.processes import run, settings_for
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import KEY, Simulator


def keys_of(definitions: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}


def test_every_metric_and_record_is_an_asset_with_description_columns_and_table(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    catalogue = fetched(analytics)
    graph = analytics.build_definitions(catalogue).resolve_asset_graph()
    assert {f"dixa_metrics/{name}" for name in METRICS} <= keys_of(
        analytics.build_definitions(catalogue)
    )
    assert {f"dixa_records/{name}" for name in RECORDS} <= keys_of(
        analytics.build_definitions(catalogue)
    )
    for entry in catalogue.entries:
        node = graph.get(dg.AssetKey([entry.schema, entry.name]))
        assert node.description == to_markdown(entry.description)
        assert node.metadata["dagster/table_name"] == f"{entry.schema}.{entry.name}"
        columns = [column.name for column in node.metadata["dagster/column_schema"].columns]
        assert columns[0] == "partition_date"
        assert columns[-2:] == ["loaded_at", "run_id"]
        assert {field.field for field in entry.fields} <= set(columns)
        assert (
            node.partitions_def == graph.get(dg.AssetKey(["dixa_metrics", "csat"])).partitions_def
        )


def test_an_empty_catalogue_gives_the_sensor_that_fetches_the_first() -> None:
    definitions = DixaAnalytics().build_definitions(Catalogue())
    dg.Definitions.validate_loadable(definitions)
    assert [sensor.name for sensor in definitions.sensors or ()] == ["dixa_catalogue"]


def test_a_retired_metric_stays_an_asset_and_leaves_the_schedule(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    before = fetched(analytics)
    simulator.withdraw("metrics", "csat")
    after = fetched(analytics, before)
    definitions = analytics.build_definitions(after)
    key = dg.AssetKey(["dixa_metrics", "csat"])
    node = definitions.resolve_asset_graph().get(key)
    assert node.tags["dixa/status"] == "retired"
    assert key in scheduled(analytics.build_definitions(before))
    assert key not in scheduled(definitions)


def test_the_report_is_an_asset_that_no_load_takes_part_in(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    definitions = analytics.build_definitions(fetched(analytics))
    report = dg.AssetKey(["dixa", "report"])
    assert report not in scheduled(definitions)
    analytics.build_warehouse().check()
    sensor = next(each for each in definitions.sensors or () if each.name == "dixa_publish")
    with dg.instance_for_test() as instance:
        request = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(request, dg.RunRequest)
        assert report in (request.asset_selection or ())
        result = load(analytics, ["dixa/report"], "2025-11-05", instance=instance)
        assert isinstance(sensor(dg.build_sensor_context(instance=instance)), dg.SkipReason)
    view, event = result.asset_materializations_for_node("dixa__report")
    assert view.asset_key == dg.AssetKey(["dixa", "metrics_daily"])
    assert Path(str(event.metadata["path"].value)).read_text().startswith("<!doctype html>")


def refresh_requests(definitions: dg.Definitions, at: str) -> list[dg.RunRequest]:
    schedule = definitions.resolve_schedule_def("dixa_daily_refresh")
    context = dg.build_schedule_context(scheduled_execution_time=datetime.fromisoformat(at))
    return list(schedule.evaluate_tick(context).run_requests or ())


def scheduled(definitions: dg.Definitions) -> set[dg.AssetKey]:
    requests = refresh_requests(definitions, "2025-11-10T05:30:00+01:00")
    return {key for request in requests for key in request.asset_selection or ()}


def test_the_schedule_reloads_the_trailing_days_and_the_filter_values_in_one_run(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(
        simulator, tmp_path, refresh_days=3, breakdowns={"closed_conversations": ["channel"]}
    )
    definitions = analytics.build_definitions(fetched(analytics))
    (request,) = refresh_requests(definitions, "2025-10-27T05:30:00+01:00")
    assert request.tags["dagster/asset_partition_range_start"] == "2025-10-24"
    assert request.tags["dagster/asset_partition_range_end"] == "2025-10-26"
    keys = [key.to_user_string() for key in request.asset_selection or ()]
    filters = [key for key in keys if key.startswith("dixa_filters/")]
    assert {"dixa_filters/channel", "dixa_filters/queue_id"} < set(filters)
    assert len(keys) == len(METRICS) + len(RECORDS) + len(filters)
    result = load(analytics, keys, "2025-10-24", "2025-10-26")
    assert result.success
    loaded: dict[str, set[str | None]] = {}
    for event in result.get_asset_materialization_events():
        key = event.materialization.asset_key.to_user_string()
        loaded.setdefault(key, set()).add(event.partition)
    days = {"2025-10-24", "2025-10-25", "2025-10-26"}
    assert loaded == {key: {None} if key in filters else days for key in keys}


def test_the_schedule_runs_by_itself_in_the_zone_of_the_days(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    definitions = analytics.build_definitions(fetched(analytics))
    schedule = definitions.resolve_schedule_def("dixa_daily_refresh")
    assert schedule.execution_timezone == "Europe/Copenhagen"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_include_and_exclude_choose_the_assets(simulator: Simulator, tmp_path: Path) -> None:
    analytics = component(simulator, tmp_path, include=["csat", "ratings", "nps"], exclude=["nps"])
    keys = keys_of(analytics.build_definitions(fetched(analytics)))
    chosen = {key for key in keys if key.startswith(("dixa_metrics/", "dixa_records/"))}
    assert chosen == {"dixa_metrics/csat", "dixa_records/ratings"}


IMPOSSIBLE = [
    ("timezone", "Europe/Kopenhagen"),
    ("timezone", ""),
    ("start_date", "2025-02-30"),
    ("start_date", "01.02.2025"),
    ("start_date", "20250201"),
    ("start_date", "2199-01-01"),
    ("history_days", -1),
    ("refresh_days", 0),
    ("catalogue_refresh_seconds", 0),
    ("requests_per_second", 0),
    ("burst", 0),
    ("windows_at_a_time", 0),
    ("database_wait_seconds", -1),
    ("burst", "many"),
    ("no_such_attribute", 1),
]


@pytest.mark.parametrize(("attribute", "value"), IMPOSSIBLE)
def test_an_impossible_setting_is_refused_by_name(attribute: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        DixaAnalytics(**{attribute: value})
    assert str(refused.value).startswith(f"{attribute}: ")


def test_a_setting_from_the_environment_is_refused_by_the_variables_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIXA_HISTORY_DAYS", "-1")
    with pytest.raises(ConfigError, match=r"^DIXA_HISTORY_DAYS: is -1; at least 0 works"):
        load_component()


def test_the_environments_defaults_are_the_components(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DIXA_")]:
        monkeypatch.delenv(name)
    configured = load_component().model_dump(exclude={"owners"})
    assert configured == DixaAnalytics().model_dump(exclude={"owners"})


def test_markup_in_a_description_is_shown_and_not_obeyed() -> None:
    text = "<script>alert(1)</script> [click](https://evil.example) **bold** `code`"
    shown = to_markdown(text)
    for mark in ("<", ">", "[", "]", "*", "`"):
        assert shown.count(f"\\{mark}") == text.count(mark)
    assert "https://" not in shown


def test_the_command_line_refreshes_the_catalogue_and_materializes_a_range(
    simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        analytics = DixaAnalytics(base_url=simulator.url)
        state = tmp_path / "state"
        state.write_text(fetched(component(simulator, tmp_path)).to_json())
        storage = instance.defs_state_storage
        assert storage is not None
        storage.upload_state_from_path(analytics.defs_state_config.key, "v1", state)
    command = ["dagster", "asset", "materialize", "-m", "dixa_assets.definitions"]
    command += ["--select", "key:dixa_metrics/csat"]
    done = run([*command, "--partition-range", "2025-10-25...2025-10-27"], settings)
    assert done.returncode == 0, done.stderr[-3000:]
    warehouse = DixaAnalytics(duckdb_path=settings["DIXA_DUCKDB_PATH"]).build_warehouse()
    rows = warehouse.query("SELECT partition_date FROM dixa_metrics.csat")
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("DIXA_API_KEY", "", "DIXA_API_KEY: is missing"),
        ("DIXA_API_KEY", "wrong", "Check DIXA_API_KEY"),
        ("DIXA_TIMEZONE", "Mars/Olympus", "DIXA_TIMEZONE: 'Mars/Olympus'"),
        ("DIXA_START_DATE", "2199-01-01", "DIXA_START_DATE: 2199-01-01"),
        ("DIXA_HISTORY_DAYS", "many", "DIXA_HISTORY_DAYS: "),
        ("DIXA_DUCKDB_PATH", "/proc/no/dixa.duckdb", "DIXA_DUCKDB_PATH: "),
        ("DIXA_BASE_URL", "http://dev.dixa.io", "DIXA_BASE_URL: must be https"),
    ],
)
def test_the_doctor_names_the_setting_and_shows_no_stack_trace(
    setting: str, value: str, says: str, simulator: Simulator, tmp_path: Path
) -> None:
    done = run(["dixa_assets", "doctor"], settings_for(simulator, tmp_path, **{setting: value}))
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_doctor_passes_working_settings(simulator: Simulator, tmp_path: Path) -> None:
    done = run(["dixa_assets", "doctor"], settings_for(simulator, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "26 metrics and 13 records" in done.stdout


def test_the_doctor_refuses_another_zone_naming_both(simulator: Simulator, tmp_path: Path) -> None:
    path = settings_for(simulator, tmp_path)["DIXA_DUCKDB_PATH"]
    analytics = component(simulator, tmp_path, duckdb_path=path)
    assert load(analytics, ["dixa_metrics/csat"], "2025-11-01").success
    elsewhere = settings_for(simulator, tmp_path, DIXA_TIMEZONE="America/Santiago")
    done = run(["dixa_assets", "doctor"], elsewhere)
    assert done.returncode == 1
    assert "DIXA_TIMEZONE: is America/Santiago" in done.stderr
    assert "Europe/Copenhagen" in done.stderr


def test_the_zone_may_change_while_no_day_is_loaded(simulator: Simulator, tmp_path: Path) -> None:
    for zone in ("Europe/Copenhagen", "America/Santiago"):
        done = run(["dixa_assets", "doctor"], settings_for(simulator, tmp_path, DIXA_TIMEZONE=zone))
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_unreachable_api_is_a_warning_only_where_something_is_loaded(
    simulator: Simulator, tmp_path: Path
) -> None:
    nowhere = settings_for(simulator, tmp_path, DIXA_BASE_URL="http://127.0.0.1:9")
    done = run(["dixa_assets", "doctor"], nowhere)
    assert done.returncode == 1
    assert "✗ API: " in done.stderr
    assert "Nothing is loaded yet" in done.stderr
    analytics = component(simulator, tmp_path, duckdb_path=nowhere["DIXA_DUCKDB_PATH"])
    assert load(analytics, ["dixa_metrics/csat"], "2025-11-01").success
    done = run(["dixa_assets", "doctor"], nowhere)
    assert done.returncode == 0
    assert "! API: " in done.stdout


def test_the_doctor_tells_a_database_that_lacks_what_dagster_shows_as_loaded(
    simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    analytics = component(simulator, tmp_path, duckdb_path=settings["DIXA_DUCKDB_PATH"])
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        load(analytics, ["dixa_metrics/csat"], "2025-11-01", "2025-11-03", instance=instance)
    done = run(["dixa_assets", "doctor"], settings)
    assert done.returncode == 0, done.stderr
    assert "holds 3 of the 3 asset days" in done.stdout
    another = settings | {"DIXA_DUCKDB_PATH": str(tmp_path / "another.duckdb")}
    done = run(["dixa_assets", "doctor"], another)
    assert done.returncode == 0, "it could not be filled anew otherwise"
    assert "holds 0 of the 3 asset days" in done.stdout
    assert "another.duckdb lacks days" in done.stdout
    assert "dixa_metrics/csat of 2025-11-01" in done.stdout


def test_the_resource_shows_its_host_and_not_its_key(simulator: Simulator, tmp_path: Path) -> None:
    resource = component(simulator, tmp_path).build_dixa(KEY)
    for shown in (repr(resource), str(resource), f"{resource}"):
        assert simulator.url in shown
        assert KEY not in shown


def test_the_definitions_hold_the_name_of_the_key_and_not_the_key(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIXA_API_KEY", "a-key-that-must-not-show")
    analytics = component(simulator, tmp_path)
    repository = analytics.build_definitions(fetched(analytics)).get_repository_def()
    snapshot = serialize_value(RepositorySnap.from_def(repository))
    assert "DIXA_API_KEY" in snapshot
    assert "a-key-that-must-not-show" not in snapshot
