"""Loads, from the simulator's HTTP to the rows in DuckDB, against the simulator's own truth."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_shared.serdes import serialize_value

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import Filter, World
from dixa_assets_tests.support.scenario import component, days, failure_of, fetched, load, tampered
from dixa_assets_tests.support.simulator import NOW, Simulator
from dixa_assets_tests.support.truth import PERIODS, Rows, assert_equal, period_rows_of, rows_in

CSAT, RATINGS = "dixa_metrics/csat", "dixa_records/ratings"
CLOCK_CHANGES = {
    "Europe/Copenhagen": [("2025-03-29", "2025-03-31"), ("2025-10-25", "2025-10-27")],
    "America/Santiago": [("2025-04-04", "2025-04-07"), ("2025-09-06", "2025-09-08")],
    "Asia/Kolkata": [("2025-03-30", "2025-03-31")],
}


@pytest.mark.parametrize("zone", CLOCK_CHANGES)
def test_days_around_clock_changes_hold_what_the_vendor_holds(
    zone: str, simulator: Simulator, world: World, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, timezone=zone)
    # All metrics are loaded in the same way, so a quarter of them is enough.
    keys = [f"dixa_metrics/{name}" for name in [*METRICS][::4]]
    keys += [f"dixa_records/{name}" for name in RECORDS]
    for first, last in CLOCK_CHANGES[zone]:
        assert load(analytics, keys, first, last).success

    loaded = [day for first, last in CLOCK_CHANGES[zone] for day in days(first, last)]
    assert_equal(analytics, world, *keys, days=loaded)


def test_a_failed_day_is_named_and_the_other_days_are_loaded(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    simulator.tell(
        "faults",
        kind="status",
        status=400,
        operation="postAnalyticsMetrics",
        id="csat",
        skip=2,
        times=1,
        body='{"message":"Invalid value for: body"}',
    )
    analytics = component(simulator, tmp_path, windows_at_a_time=1)
    result = load(analytics, [CSAT], "2025-11-01", "2025-11-05", instance=instance)
    assert not result.success
    assert instance.get_materialized_partitions(dg.AssetKey(CSAT.split("/"))) == {
        *("2025-11-01", "2025-11-02", "2025-11-04", "2025-11-05"),
    }
    message = failure_of(result, "dixa_metrics__csat")
    for part in ("1 of 5 days failed (2025-11-03)", "400", "Invalid value for: body"):
        assert part in message


def test_other_assets_load_if_one_fails(simulator: Simulator, analytics: DixaAnalytics) -> None:
    simulator.tell("faults", kind="status", status=404, id="csat", times=None, body="gone")
    keys = [CSAT, "dixa_metrics/nps", RATINGS]
    result = load(analytics, keys, "2025-11-01", "2025-11-03")
    assert {event.step_key for event in result.get_step_failure_events()} == {"dixa_metrics__csat"}
    loads = analytics.build_warehouse().query(
        "SELECT asset_key, count(*) AS days FROM dixa_catalogue.loads GROUP BY 1 ORDER BY 1"
    )
    assert loads.values.tolist() == [["dixa_metrics/nps", 3], [RATINGS, 3]]


def test_a_refused_key_stops_the_load_at_once_and_a_retry_cannot_help(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, windows_at_a_time=2)
    catalogue = fetched(analytics)
    simulator.tell(
        "faults", kind="status", status=401, times=None, body='{"message":"Unauthorized"}'
    )
    simulator.forget_requests()
    result = load(analytics, [CSAT], "2025-10-01", "2025-10-31", catalogue=catalogue)
    failure = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert failure is not None
    assert failure.metadata["a retry can help"].value is False
    assert "DIXA_API_KEY" in str(failure.description)
    assert " more were not requested." in str(failure.description)
    assert len(simulator.requests()) <= 4


def test_an_empty_day_replaces_its_rows_and_counts_as_loaded(
    simulator: Simulator, analytics: DixaAnalytics, instance: dg.DagsterInstance
) -> None:
    def rows_after_load() -> int:
        assert load(analytics, [RATINGS], "2025-11-01", instance=instance).success
        rows = analytics.build_warehouse().query("SELECT count(*) AS n FROM dixa_records.ratings")
        return int(rows.n[0])

    assert rows_after_load() > 0
    simulator.tell("faults", kind="empty", operation="postAnalyticsRecords", times=1)
    assert rows_after_load() == 0
    ratings = dg.AssetKey(RATINGS.split("/"))
    assert instance.get_materialized_partitions(ratings) == {"2025-11-01"}


def test_late_ratings_arrive_with_a_reload_of_their_day(
    simulator: Simulator, world: World, analytics: DixaAnalytics
) -> None:
    day = {
        "start": datetime(2025, 10, 14, 22, tzinfo=UTC),
        "end": datetime(2025, 10, 15, 22, tzinfo=UTC),
    }
    seen = []
    for now in (datetime(2025, 10, 16, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)):
        simulator.tell("clock", now=now.isoformat())
        load(analytics, [RATINGS], "2025-10-15")
        rows = analytics.build_warehouse().query("SELECT count(*) AS n FROM dixa_records.ratings")
        seen.append(rows.n[0])
        assert seen[-1] == len(world.rows("ratings", now=now, **day))
    assert seen[0] < seen[1]


def test_a_breakdown_adds_a_row_per_value_to_the_total(
    simulator: Simulator, world: World, tmp_path: Path
) -> None:
    analytics = component(
        simulator, tmp_path, breakdowns={"closed_conversations": ["channel", "queue_id"]}
    )
    assert load(analytics, ["dixa_metrics/closed_conversations"], "2025-11-01").success
    rows = analytics.build_warehouse().query(
        "SELECT * FROM dixa_metrics.closed_conversations ORDER BY breakdown_attribute"
    )
    window = {
        "start": datetime(2025, 10, 31, 23, tzinfo=UTC),
        "end": datetime(2025, 11, 1, 23, tzinfo=UTC),
        "now": NOW,
    }
    assert len(rows[rows.breakdown_attribute.isna()]) == 1
    for attribute in ("channel", "queue_id"):
        broken_down = rows[rows.breakdown_attribute == attribute]
        assert len(broken_down) >= 5
        assert broken_down.breakdown_label.notna().all()
        for row in broken_down.itertuples():
            only = (Filter(attribute, (str(row.breakdown_value),)),)
            found = world.aggregate("closed_conversations", filters=only, **window)
            assert row.value == found[0]["value"]


def test_weeks_of_two_accounts_and_of_a_new_metric_are_the_simulators(
    simulator: Simulator, world: World, tmp_path: Path
) -> None:
    zones = {"acme": "Europe/Copenhagen", "other": "America/Santiago"}
    accounts = {
        account: component(
            simulator,
            tmp_path,
            account=account,
            timezone=zone,
            periods=["week"],
            duckdb_path=str(tmp_path / f"{account}.duckdb"),
        )
        for account, zone in zones.items()
    }
    simulator.tell("metrics", entry={"id": "added"}, like="csat")
    for account, analytics in accounts.items():
        keys = [f"{account}/dixa_metrics/{name}" for name in ("csat", "added")]
        assert load(analytics, keys, "2025-10-26", "2025-10-27").success
        found = rows_in(analytics.duckdb_path, PERIODS)
        expected = period_rows_of(world, ["csat"], "2025-10-26", zones[account])
        added = Rows(row.replace('"csat"', '"added"') for row in expected)
        assert found == {(PERIODS, "2025-10-26"): expected + added}


def test_views_of_weeks_and_months_are_assets_if_they_are_loaded(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    def views(**settings: Any) -> dict[str, Any]:
        definitions = component(simulator, tmp_path, **settings).build_definitions(catalogue)
        graph = definitions.resolve_asset_graph()
        keys = graph.get_all_asset_keys()
        return {key.path[-1]: graph.get(key) for key in keys if key.path[-1].startswith("metrics_")}

    assert {*views()} == {"metrics_daily"}
    found = views(periods=["week", "month"], account="acme")
    assert {*found} == {"metrics_daily", "metrics_weekly", "metrics_monthly"}
    for view in found.values():
        assert view.kinds == {"duckdb", "view"}
        assert {key.to_user_string() for key in view.parent_keys} == {
            f"acme/dixa_metrics/{name}" for name in METRICS
        }
    # The report materializes them, because a view has no step.
    analytics = component(simulator, tmp_path, periods=["week"])
    assert load(analytics, [CSAT], "2025-11-09", catalogue=catalogue).success
    report = load(analytics, ["dixa/report"], catalogue=catalogue)
    made = {
        event.asset_key.path[-1] for event in report.asset_materializations_for_node("dixa__report")
    }
    assert made == {"metrics_daily", "metrics_weekly", "report"}


def test_the_error_of_an_unknown_breakdown_names_the_attributes_of_the_metric(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, breakdowns={"closed_conversations": ["agent_id"]})
    result = load(analytics, ["dixa_metrics/closed_conversations"], "2025-11-01")
    message = failure_of(result, "dixa_metrics__closed_conversations")
    assert "'agent_id' is not one of its filter attributes" in message
    assert "queue_id" in message


def test_filters_narrow_metric_and_record_and_are_logged(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(
        simulator, tmp_path, filters={"closed_conversations": {"channel": ["EMAIL"]}}
    )
    keys = ["dixa_metrics/closed_conversations", "dixa_records/closed_conversations"]
    assert load(analytics, keys, "2025-11-01").success
    warehouse = analytics.build_warehouse()
    found = warehouse.query(
        "SELECT (SELECT value FROM dixa_metrics.closed_conversations) AS counted, "
        "(SELECT count(*) FROM dixa_records.closed_conversations) AS rows_there"
    )
    assert found.counted[0] == found.rows_there[0] > 0
    filters = warehouse.query("SELECT DISTINCT filters::VARCHAR AS f FROM dixa_catalogue.loads")
    assert [json.loads(text) for text in filters.f] == [{"channel": ["EMAIL"]}]


def test_an_api_that_requires_a_filter_gets_all_values_of_the_named_attribute(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("settings", require_filter=True)
    refused = load(component(simulator, tmp_path), [CSAT], "2025-11-01")
    assert "DIXA_REQUIRED_FILTER" in failure_of(refused, "dixa_metrics__csat")
    analytics = component(simulator, tmp_path, required_filter="initial_direction")
    assert load(analytics, [CSAT], "2025-11-01").success
    bodies = [r["body"] for r in simulator.requests() if r["operation"] == "postAnalyticsMetrics"]
    assert bodies[-1]["filters"] == [
        {"attribute": "initial_direction", "values": ["INBOUND", "OUTBOUND"]}
    ]


def test_an_entry_without_the_required_attribute_is_filtered_by_one_of_its_own(
    simulator: Simulator, tmp_path: Path
) -> None:
    keys = ["dixa_metrics/agent_presence_duration", "dixa_records/agent_presence"]
    rows = []
    for number, insists in enumerate((False, True)):
        simulator.tell("settings", require_filter=insists)
        choice = {"required_filter": "channel"} if insists else {}
        analytics = component(simulator, tmp_path, duckdb_path=f"{tmp_path}/{number}.db", **choice)
        assert load(analytics, keys, "2025-11-01").success
        query = analytics.build_warehouse().query
        tables = [key.replace("/", ".") for key in keys]
        rows += [query(f"SELECT * EXCLUDE (loaded_at, run_id) FROM {each}") for each in tables]
    assert len(rows[1])
    assert rows[0].equals(rows[2])
    assert rows[1].equals(rows[3])
    bodies = [r["body"] for r in simulator.requests() if r["operation"].startswith("post")]
    assert [each["attribute"] for each in bodies[-1]["filters"]] == ["agent_id"]


def test_excluded_fields_are_in_no_column_and_no_byte_of_the_database(
    simulator: Simulator, tmp_path: Path
) -> None:
    secret = {"value": "very-personal-7f3a", "label": "also-personal-7f3a"}
    data = {"_type": "StringField", **secret}
    simulator.tell("records/fields", id="ratings", field="secret_note", data=data)
    analytics = component(simulator, tmp_path, exclude_fields={"*": ["secret_note"]})
    assert load(analytics, [RATINGS], "2025-11-01").success
    columns = analytics.build_warehouse().query("SELECT * FROM dixa_records.ratings").columns
    assert not [name for name in columns if "secret" in name]
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"personal-7f3a" not in path.read_bytes()


def test_a_new_field_becomes_a_column_and_a_new_type_widens_it(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    for day, data in (
        ("2025-11-01", None),
        ("2025-11-02", {"_type": "IntField", "value": 5}),
        ("2025-11-03", {"_type": "DoubleField", "value": 2.5}),
    ):
        simulator.tell("records/fields", id="ratings", field="added_later", data=data)
        assert load(analytics, [RATINGS], day).success
    warehouse = analytics.build_warehouse()
    found = warehouse.query(
        "SELECT partition_date::VARCHAR AS day, max(added_later) AS v "
        "FROM dixa_records.ratings GROUP BY 1 ORDER BY 1"
    )
    assert found.v.fillna(-1).to_list() == [-1, 5.0, 2.5]
    changes = warehouse.query(
        "SELECT partition_date::VARCHAR AS day, schema_changes::VARCHAR AS c "
        "FROM dixa_catalogue.loads ORDER BY 1"
    )
    assert [json.loads(text) for text in changes.c] == [
        [],
        ["new column added_later (BIGINT)"],
        ["column added_later widened from BIGINT to DOUBLE"],
    ]


@pytest.mark.parametrize(
    "odd",
    [
        "select",
        'Naïve "quote"; drop table x',
        "an id with spaces",
        "\x1b]0;title\x07\x1b[2J\nforged line \u202e",
    ],
    ids=ascii,
)
def test_odd_ids_load_like_other_ids(
    odd: str, simulator: Simulator, analytics: DixaAnalytics
) -> None:
    for kind, like in (("metrics", "closed_conversations"), ("records", "closed_conversations")):
        simulator.tell(kind, entry={"id": odd, "description": "odd"}, like=like)
    catalogue = fetched(analytics)
    odd_keys = [f"{e.schema}/{e.name}" for e in catalogue.entries if e.id == odd]
    assert len(odd_keys) == 2
    usual = ["dixa_metrics/closed_conversations", "dixa_records/closed_conversations"]
    assert load(analytics, [*odd_keys, *usual], "2025-11-01", catalogue=catalogue).success
    loads = analytics.build_warehouse().query("SELECT rows AS n FROM dixa_catalogue.loads")
    assert sorted(loads.n)[:2] == [1, 1]
    assert sorted(loads.n)[2] == sorted(loads.n)[3] > 1


def test_each_day_has_its_own_metadata(analytics: DixaAnalytics) -> None:
    result = load(analytics, [CSAT], "2025-11-01", "2025-11-03")
    events = result.asset_materializations_for_node("dixa_metrics__csat")
    assert sorted(str(event.partition) for event in events) == [
        "2025-11-01",
        "2025-11-02",
        "2025-11-03",
    ]
    stored_values = analytics.build_warehouse().query(
        "SELECT partition_date::VARCHAR AS day, value FROM dixa_metrics.csat"
    )
    values = {str(event.partition): event.metadata["Percentage"].value for event in events}
    assert values == dict(zip(stored_values.day, stored_values.value, strict=True))
    assert {event.metadata["requests"].value for event in events} == {1}


def test_filter_values_and_the_catalogue_are_loaded_into_tables(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    tables = ("metrics", "records", "filters", "aggregations", "fields", "relations", "changes")
    keys = ["dixa_filters/queue_id", *(f"dixa_catalogue/{name}" for name in tables)]
    result = load(analytics, keys, "2025-11-01", catalogue=catalogue)
    assert result.success
    warehouse = analytics.build_warehouse()
    assert len(warehouse.query("SELECT * FROM dixa_filters.queue_id WHERE label IS NOT NULL")) == 6
    metrics = warehouse.query("SELECT id, is_live FROM dixa_catalogue.metrics")
    assert set(metrics.id) == set(METRICS)
    assert metrics.is_live.all()
    assert len(warehouse.query("SELECT * FROM dixa_catalogue.changes")) == len(catalogue.changes)


@pytest.mark.parametrize("name", ["nul\\u0000inside", "lone \\ud800 surrogate", "value_label"])
def test_a_row_with_an_impossible_field_name_is_stored(
    name: str, simulator: Simulator, analytics: DixaAnalytics
) -> None:
    body = """{"data": [{
        "primaryTimestampField": {"name": "at", "timestamp": "2025-11-01T09:00:00.000Z"},
        "value": {"_type": "StringField", "value": "own", "label": "own"},
        "fields": [{"name": "NAME", "field":
            {"_type": "StringField", "value": "kept\\u0000", "label": "half \\ud800"}}]}]}"""
    simulator.tell(
        "faults",
        kind="status",
        status=200,
        operation="postAnalyticsRecords",
        times=1,
        body=body.replace("NAME", name),
        content_type="application/json",
    )
    assert load(analytics, [RATINGS], "2025-11-01").success
    rows = analytics.build_warehouse().query("SELECT * FROM dixa_records.ratings")
    assert "kept\x00" in rows.to_dict("records")[0].values()


def test_a_metric_keeps_its_table_if_its_id_returns_in_capitals(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    assert load(analytics, [CSAT], "2025-11-01", catalogue=catalogue).success
    simulator.withdraw("metrics", "csat")
    simulator.tell("metrics", entry={"id": "CSAT"}, like="csat")
    after = fetched(analytics, catalogue)
    assert load(analytics, [CSAT], "2025-11-02", catalogue=after).success
    rows = analytics.build_warehouse().query("SELECT partition_date FROM dixa_metrics.csat")
    assert len(rows) == 2


# Requested days


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("", None),
        ("2025-11-05", "2025-11-01"),
        ("2024-01-01", "2024-01-05"),
    ],
)
def test_a_run_without_days_is_refused_in_a_sentence(
    analytics: DixaAnalytics,
    simulator: Simulator,
    catalogue: Catalogue,
    first: str,
    last: str | None,
) -> None:
    simulator.forget_requests()
    result = load(analytics, [CSAT], first, last, catalogue=catalogue)
    assert not result.success
    said = failure_of(result, "dixa_metrics__csat")
    assert said.startswith("partition: the run has no day that can be loaded. Choose days of the ")
    assert simulator.requests() == []


# Events


def size_of(event: Any) -> int:
    return len(serialize_value(event))


def test_the_event_of_a_day_is_small_for_a_record_of_any_width(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    fields = [
        {"field": f"field_{n}", "description": "About it.", "nullable": True} for n in range(1900)
    ]
    entry = {"id": "ratings", "description": "", "fieldsMetadata": fields}
    simulator.tell("records", entry=entry, like="ratings")
    catalogue = fetched(analytics)
    result = load(analytics, [RATINGS], "2025-11-01", "2025-11-02", catalogue=catalogue)
    assert result.success
    events = result.asset_materializations_for_node("dixa_records__ratings")
    assert len(events) == 2
    assert max(map(size_of, events)) < 20_000
    # The definition has the columns, once.
    graph = analytics.build_definitions(catalogue).resolve_asset_graph()
    columns = graph.get(dg.AssetKey(RATINGS.split("/"))).metadata["dagster/column_schema"].columns
    assert len(columns) > 1900


def test_new_fields_in_rows_make_no_large_event(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    assert load(analytics, [RATINGS], "2025-11-01", catalogue=catalogue).success
    fields = [{"name": f"f{n}", "field": {"_type": "LongField", "value": n}} for n in range(1900)]
    row = {
        "primaryTimestampField": {"name": "at", "timestamp": "2025-11-02T09:00:00.000Z"},
        "fields": fields,
    }
    simulator.tell(
        "faults",
        kind="status",
        status=200,
        operation="postAnalyticsRecords",
        times=1,
        body=json.dumps({"data": [row]}),
        content_type="application/json",
    )
    result = load(analytics, [RATINGS], "2025-11-02", catalogue=catalogue)
    assert result.success
    (event,) = result.asset_materializations_for_node("dixa_records__ratings")
    assert size_of(event) < 20_000
    assert "new column f0 (BIGINT); new column f1" in str(event.metadata["schema_changes"].value)


def test_the_last_day_of_a_load_has_the_columns_with_their_types(analytics: DixaAnalytics) -> None:
    result = load(analytics, [RATINGS], "2025-11-01", "2025-11-03")
    first, second, last = result.asset_materializations_for_node("dixa_records__ratings")
    for event in (first, second):
        assert "dagster/column_schema" not in event.metadata
    columns: Any = last.metadata["dagster/column_schema"].value
    types = {column.name: column.type for column in columns.columns}
    assert types["partition_date"] == "DATE"
    assert "as in the data" not in types["value"]
    assert size_of(last) < 20_000


# Texts of Dixa


def test_content_in_the_place_of_a_type_is_kept_in_the_row_alone(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    data = {"_type": "vip@example.com | **x**", "value": 1}
    simulator.tell("records/fields", id="ratings", field="odd", data=data)
    assert load(analytics, [RATINGS], "2025-11-01", catalogue=catalogue).success
    warehouse = analytics.build_warehouse()
    rows = warehouse.query("SELECT DISTINCT odd::VARCHAR AS odd FROM dixa_records.ratings")
    assert [json.loads(text) for text in rows.odd.dropna()] == [data]
    types, _ = warehouse.findings()
    assert types == {(RATINGS, "odd", "unknown")}
    log = warehouse.query("SELECT * FROM dixa_catalogue.loads")
    assert "vip@" not in log.to_json()


def test_a_changed_column_type_is_an_error_without_the_value(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    keys = [RATINGS, "dixa_filters/agent_id"]
    assert load(analytics, keys, "2025-11-01", catalogue=catalogue).success
    tampered(
        analytics, "ALTER TABLE dixa_records.ratings ALTER agent_id_label TYPE INTEGER USING 1"
    )
    result = load(analytics, [RATINGS], "2025-11-02", catalogue=catalogue)
    said = failure_of(result, "dixa_records__ratings")
    assert "dixa_records/ratings" in said
    assert "a value does not fit its column (ConversionException)" in said
    labels = analytics.build_warehouse().query("SELECT label FROM dixa_filters.agent_id")
    assert len(labels)
    for text in (said, "".join(map(str, result.all_events))):
        assert [label for label in labels.label if label in text] == []
