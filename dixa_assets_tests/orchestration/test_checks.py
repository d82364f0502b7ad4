"""The checks that end a load: they pass on sound data and describe each difference."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.catalogue_rows import catalogue_rows
from dixa_assets.orchestration.partitions import build_partitions_def, range_request
from dixa_assets_tests.support.processes import child, hold
from dixa_assets_tests.support.reports import Reader
from dixa_assets_tests.support.scenario import component, fetched, load, tampered
from dixa_assets_tests.support.simulator import Simulator

FIRST, LAST = "2025-11-05", "2025-11-09"
METRIC, RECORD = "dixa_metrics/closed_conversations", "dixa_records/closed_conversations"
CSAT, RATINGS = "dixa_metrics/csat", "dixa_records/ratings"


@pytest.fixture
def analytics(simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    """Without automatic history, the first loaded day is the first expected one."""
    return component(simulator, tmp_path, history_days=0)


def evaluations(
    analytics: DixaAnalytics,
    keys: list[str],
    first: str = FIRST,
    last: str = LAST,
    catalogue: Catalogue | None = None,
) -> dict[tuple[str, str], Any]:
    """The results of the checks of a load, by asset and check."""
    result = load(analytics, keys, first, last, catalogue=catalogue)
    return {
        (each.asset_key.to_user_string(), each.check_name): each
        for each in result.get_asset_check_evaluations()
    }


def days_of(analytics: DixaAnalytics) -> list[str]:
    """All days up to yesterday."""
    days = build_partitions_def(analytics.start_date, analytics.timezone)
    return list(days.get_partition_keys())


def cases_of(evaluation: Any) -> list[dict[str, Any]]:
    return [dict(record.data) for record in evaluation.metadata["cases"].records]


def test_sound_data_pass_every_check(
    analytics: DixaAnalytics,
) -> None:
    found = evaluations(analytics, [METRIC, RECORD])
    verdicts = {key: each.passed for key, each in found.items()}
    assert verdicts == {
        (METRIC, "completeness"): True,
        (METRIC, "schema"): True,
        (METRIC, "reconciliation"): True,
        (RECORD, "completeness"): True,
        (RECORD, "schema"): True,
        (RECORD, "not_null"): True,
        (RECORD, "window"): True,
    }
    assert {each.severity for each in found.values()} == {dg.AssetCheckSeverity.WARN}
    # The vendor's catalogue and its rows differ. The check lists it and passes.
    assert "differ" in found[RECORD, "schema"].description
    assert cases_of(found[RECORD, "schema"])


def test_completeness_passes_when_every_day_since_the_first_is_loaded(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, history_days=3)
    days = days_of(analytics)
    found = evaluations(analytics, [CSAT], days[-3], days[-1])
    complete = found[CSAT, "completeness"]
    assert complete.passed
    assert f"All 3 days to {days[-1]} are loaded" in complete.description


def test_completeness_lists_the_gaps(analytics: DixaAnalytics) -> None:
    days = days_of(analytics)
    load(analytics, [CSAT], days[-8], days[-6])
    found = evaluations(analytics, [CSAT], days[-3], days[-2])
    gaps = found[CSAT, "completeness"]
    assert not gaps.passed
    assert gaps.metadata["days missing"].value == 3
    assert cases_of(gaps) == [
        {"first missing": days[-5], "last missing": days[-4]},
        {"first missing": days[-1], "last missing": days[-1]},
    ]


def test_the_schema_check_names_new_missing_and_retyped_fields(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    for day, kind, value in (("05", "LongField", 5), ("06", "StringField", "five")):
        data = {"_type": kind, "value": value}
        simulator.tell("records/fields", id="ratings", field="unannounced", data=data)
        found = evaluations(analytics, [RATINGS], f"2025-11-{day}", f"2025-11-{day}")
    schema = found[RATINGS, "schema"]
    assert not schema.passed
    cases = cases_of(schema)
    assert {"what": "in the data, not in the catalogue", "field": "unannounced"} in cases
    assert {
        "what": "column unannounced widened from BIGINT to VARCHAR",
        "field": "on 2025-11-06",
    } in cases


def test_the_schema_check_passes_when_catalogue_and_data_agree(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    load(analytics, ["dixa_records/handling_time"], FIRST)
    columns = analytics.build_warehouse().query(
        "SELECT DISTINCT field FROM dixa_catalogue.columns "
        "WHERE table_name = 'handling_time' AND field <> '' AND type IS NOT NULL"
    )
    declared = [{"field": name, "description": "", "nullable": True} for name in columns.field]
    entry = {"id": "handling_time", "description": "", "fieldsMetadata": declared}
    simulator.tell("records", entry=entry, like="handling_time")
    found = evaluations(analytics, ["dixa_records/handling_time"], "2025-11-06", "2025-11-06")
    assert found["dixa_records/handling_time", "schema"].passed


def test_a_measure_without_values_is_named(simulator: Simulator, analytics: DixaAnalytics) -> None:
    entry = {"id": "nps", "aggregations": [{"measure": "Percentage"}, {"measure": "StdDev"}]}
    simulator.tell("metrics", entry=entry, like="nps")
    schema = evaluations(analytics, ["dixa_metrics/nps"])["dixa_metrics/nps", "schema"]
    assert schema.passed
    assert cases_of(schema) == [{"what": "in the catalogue, in no answer", "measure": "StdDev"}]


def test_a_null_in_a_field_that_is_not_nullable_is_counted_with_a_sample(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    declared = [{"field": "queue_id", "description": "", "nullable": False}]
    entry = {"id": "ratings", "description": "", "fieldsMetadata": declared}
    simulator.tell("records", entry=entry, like="ratings")
    found = evaluations(analytics, [RATINGS])[RATINGS, "not_null"]
    nulls = analytics.build_warehouse().query(
        "SELECT count(*) AS n FROM dixa_records.ratings WHERE queue_id IS NULL"
    )
    assert nulls.n[0] > 0
    assert not found.passed
    (case,) = cases_of(found)
    assert (case["field"], case["rows without"]) == ("queue_id", nulls.n[0])
    assert case["for instance"].startswith("2025-11-")


@pytest.mark.parametrize(("outside", "says"), [(1, ""), (200, "another timestamp")])
def test_rows_outside_their_day_are_counted_and_a_large_share_points_to_another_timestamp(
    outside: int, says: str, analytics: DixaAnalytics
) -> None:
    load(analytics, [RECORD], FIRST, LAST)
    tampered(
        analytics,
        f"UPDATE dixa_catalogue.loads SET rows_outside_window = {outside} "
        "WHERE partition_date = '2025-11-06'",
    )
    found = evaluations(analytics, [RECORD], "2025-11-07", "2025-11-07")[RECORD, "window"]
    assert not found.passed
    assert found.metadata["rows outside"].value == outside
    assert says in found.description
    assert [case["day"] for case in cases_of(found)] == ["2025-11-06"]


def test_rows_of_another_day_are_stored_and_reported(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    body = """{"data": [{"primaryTimestampField":
        {"name": "created_at", "timestamp": "2025-11-04T09:00:00.000Z"}, "fields": []}]}"""
    simulator.tell(
        "faults", kind="status", status=200, operation="postAnalyticsRecords", times=1, body=body
    )
    found = evaluations(analytics, [RECORD], "2025-11-06", "2025-11-06")[RECORD, "window"]
    assert not found.passed
    assert found.metadata["rows"].value == found.metadata["rows outside"].value == 1


@pytest.mark.parametrize(
    ("metric", "record", "measure"),
    [
        ("closed_conversations", "closed_conversations", "Count"),
        ("rating_score", "ratings", "Average"),
        ("csat", "ratings", "Percentage"),
    ],
)
def test_a_metric_that_differs_from_its_rows_is_shown_with_both_figures(
    metric: str, record: str, measure: str, analytics: DixaAnalytics
) -> None:
    keys = [f"dixa_metrics/{metric}", f"dixa_records/{record}"]
    name = (keys[0], "reconciliation")
    sound = evaluations(analytics, keys)[name]
    assert sound.passed, sound.description
    assert measure in sound.description
    tampered(
        analytics,
        "UPDATE dixa_metrics.metric_values SET value = value + 1 "
        f"WHERE measure = '{measure}' AND partition_date = '2025-11-06'",
    )
    found = evaluations(analytics, keys, "2025-11-07", "2025-11-07")[name]
    assert not found.passed
    (case,) = cases_of(found)
    assert (case["day"], case["measure"]) == ("2025-11-06", measure)
    assert case["metric"] == pytest.approx(case["record"] + 1)


def test_reconciliation_finds_a_lost_row(analytics: DixaAnalytics) -> None:
    load(analytics, [METRIC, RECORD], FIRST, LAST)
    tampered(
        analytics,
        "DELETE FROM dixa_records.closed_conversations WHERE rowid = "
        "(SELECT min(rowid) FROM dixa_records.closed_conversations)",
    )
    found = evaluations(analytics, [METRIC], "2025-11-09", "2025-11-09")[METRIC, "reconciliation"]
    assert not found.passed
    assert found.metadata["days that differ"].value == 1


def test_a_per_group_metric_is_not_compared_with_rows(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    definitions = analytics.build_definitions(catalogue)
    compared = {
        key.asset_key.path[-1]
        for key in definitions.resolve_asset_graph().asset_check_keys
        if key.name == "reconciliation"
    }
    assert "closed_conversations" in compared
    assert not compared & {"conversation_assignments_per_agent", "messages_per_conversation"}


def test_reconciliation_without_the_record_is_open(
    analytics: DixaAnalytics,
) -> None:
    found = evaluations(analytics, [METRIC])[METRIC, "reconciliation"]
    assert found.passed
    assert "No day of this metric and of" in found.description
    assert "the check cannot run" in found.description


def test_reconciliation_with_a_record_without_values_gives_that_reason(
    analytics: DixaAnalytics,
) -> None:
    keys = ["dixa_metrics/knowledge_search_score", "dixa_records/knowledge_article_usage"]
    found = evaluations(analytics, keys)["dixa_metrics/knowledge_search_score", "reconciliation"]
    assert found.passed
    assert "No measure of this metric can be computed from" in found.description


def test_differently_filtered_loads_are_not_compared(
    simulator: Simulator, tmp_path: Path, analytics: DixaAnalytics
) -> None:
    load(analytics, [RECORD], FIRST, LAST)
    filtered = component(
        simulator, tmp_path, filters={"closed_conversations": {"channel": ["EMAIL"]}}
    )
    found = evaluations(filtered, [METRIC])[METRIC, "reconciliation"]
    assert "the check cannot run" in found.description
    assert found.metadata["days compared"].value == 0


def test_checks_send_no_request(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.forget_requests()
    assert evaluations(analytics, [METRIC], FIRST, FIRST, catalogue)
    assert [each["operation"] for each in simulator.requests()] == ["postAnalyticsMetrics"]


def test_the_checks_of_a_load_with_a_failed_day_run(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.tell("faults", kind="status", status=400, skip=1, times=1, body="no")
    # One request at a time, so that the second day fails.
    one_by_one = analytics.model_copy(update={"windows_at_a_time": 1})
    gaps = evaluations(one_by_one, [METRIC], catalogue=catalogue)[METRIC, "completeness"]
    assert not gaps.passed
    assert "2025-11-06" in [case["first missing"] for case in cases_of(gaps)]


def test_records_load_before_the_metrics_that_are_compared_with_them(
    analytics: DixaAnalytics,
) -> None:
    result = load(analytics, [METRIC, RECORD], FIRST)
    steps = [event.step_key for event in result.all_events if event.is_step_start]
    assert steps == ["dixa_records__closed_conversations", "dixa_metrics__closed_conversations"]


def test_live_assets_have_a_freshness_policy_and_retired_ones_none(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.withdraw("metrics", "csat")
    graph = analytics.build_definitions(fetched(analytics, catalogue)).resolve_asset_graph()
    assert graph.get(dg.AssetKey(["dixa_metrics", "nps"])).freshness_policy is not None
    assert graph.get(dg.AssetKey(["dixa_metrics", "csat"])).freshness_policy is None


@pytest.mark.parametrize(
    ("attribute", "passes"), [("queue_id", False), ("initial_direction", True)]
)
def test_an_asset_and_a_check_name_the_rows_that_a_required_filter_excludes(
    simulator: Simulator, tmp_path: Path, attribute: str, passes: bool
) -> None:
    record = "dixa_records/created_conversations"
    keys = ["dixa_metrics/created_conversations", record]
    analytics = component(simulator, tmp_path, required_filter=attribute)
    found = evaluations(analytics, keys)
    everything = component(simulator, tmp_path, duckdb_path=str(tmp_path / "all.duckdb"))
    load(everything, keys, FIRST, LAST)
    rows = [
        each.build_warehouse().query(f"SELECT count(*) AS n FROM {record.replace('/', '.')}").n[0]
        for each in (analytics, everything)
    ]
    assert (rows[0] == rows[1]) == passes
    graph = analytics.build_definitions(fetched(analytics)).resolve_asset_graph()
    for key in keys:
        assert found[key, "filter"].passed is passes
        assert attribute in found[key, "filter"].description
        assert attribute in graph.get(dg.AssetKey(key.split("/"))).metadata["left out"]


def test_a_check_runs_alone_and_loads_nothing(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    assert load(analytics, [RATINGS], FIRST, catalogue=catalogue).success
    simulator.forget_requests()
    check = dg.AssetCheckKey(dg.AssetKey(RATINGS.split("/")), "window")
    result = load(analytics, dg.AssetSelection.checks(check), catalogue=catalogue)
    assert result.success
    assert [found.asset_check_key for found in result.get_asset_check_evaluations()] == [check]
    assert simulator.requests() == []


def test_a_load_that_plans_no_checks_runs_them(analytics: DixaAnalytics) -> None:
    key = dg.AssetKey(RATINGS.split("/"))
    assert range_request([key], FIRST, FIRST).asset_check_keys == []
    result = load(analytics, dg.AssetSelection.assets(key).without_checks(), FIRST)
    assert result.success
    made = {found.check_name for found in result.get_asset_check_evaluations()}
    assert made == {"completeness", "not_null", "schema", "window"}


def declare(simulator: Simulator, *fields: dict[str, Any]) -> None:
    """Let the catalogue of the simulator describe these fields of the ratings."""
    entry = {"id": "ratings", "description": "", "fieldsMetadata": [*fields]}
    simulator.tell("records", entry=entry, like="ratings")


@pytest.mark.parametrize("how", ["leaves the catalogue", "is excluded", "becomes nullable"])
def test_a_field_whose_values_were_missing_and_that_is_no_longer_required_fails_nothing(
    simulator: Simulator, tmp_path: Path, analytics: DixaAnalytics, how: str
) -> None:
    queue = {"field": "queue_id", "description": "", "nullable": False}
    agent = {"field": "agent_id", "description": "", "nullable": True}
    declare(simulator, queue, agent)
    assert not evaluations(analytics, [RATINGS])[RATINGS, "not_null"].passed
    if how == "is excluded":
        analytics = component(
            simulator, tmp_path, history_days=0, exclude_fields={"ratings": ["queue_id"]}
        )
    else:
        declare(simulator, agent, *([queue | {"nullable": True}] if "nullable" in how else []))
    result = load(analytics, [RATINGS, "dixa/report"], FIRST)
    assert result.success
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert found["not_null"].passed
    assert "fields have a value in every row" in found["not_null"].description


# Errors in checks

BROKEN = "ALTER TABLE dixa_catalogue.loads ALTER nulls TYPE VARCHAR"
NO_JSON = "UPDATE dixa_catalogue.loads SET nulls = 'vip@example.com'"


def test_a_check_that_raises_an_error_fails_with_it_and_stops_nothing_else(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    tables = [f"dixa_catalogue/{table.name}" for table in catalogue_rows(catalogue)]
    assert load(analytics, [RATINGS, CSAT, *tables], FIRST, catalogue=catalogue).success
    for statement in (BROKEN, NO_JSON):
        tampered(analytics, statement)
    result = load(analytics, [RATINGS, CSAT, "dixa/report"], LAST, catalogue=catalogue)
    assert result.success
    found = {
        (each.asset_key.to_user_string(), each.check_name): each
        for each in result.get_asset_check_evaluations()
    }
    broken = found.pop((RATINGS, "not_null"))
    assert not broken.passed
    assert broken.severity == dg.AssetCheckSeverity.WARN
    assert broken.description.startswith("The check could not run: InvalidInputException in ")
    assert (RATINGS, "window") in found
    assert [key for key, each in found.items() if "could not run" in each.description] == []
    assert analytics.report_file is not None
    report = Reader(analytics.report_file.read_text())
    assert broken.description in report.page("records.ratings")
    assert "could not run" not in report.page("csat")
    for text in (broken.description, report.page("records.ratings")):
        assert "vip@example.com" not in text


def test_checks_fail_with_the_reason_while_the_database_cannot_be_read(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(simulator, tmp_path, database_wait_seconds=0.2)
    assert load(analytics, [RATINGS], FIRST, catalogue=catalogue).success
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey(RATINGS.split("/")))
    with child(hold, analytics.duckdb_path) as (_, pipe):
        assert pipe.recv() == "held"
        result = load(analytics, checks, catalogue=catalogue)
        pipe.send("let go")
    assert result.success
    found = result.get_asset_check_evaluations()
    assert {each.check_name for each in found} == {"completeness", "not_null", "schema", "window"}
    for each in found:
        assert not each.passed
        assert "has the database open" in str(each.description)


def test_a_finding_shows_a_limited_number_of_cases(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    declare(
        simulator,
        *({"field": f"field_{n}", "description": "", "nullable": False} for n in range(300)),
    )
    found = evaluations(analytics, [RATINGS], FIRST, FIRST)
    for name, figure in (("schema", "never in the data"), ("not_null", "fields that lack one")):
        check = found[RATINGS, name]
        assert check.metadata[figure].value == 300
        assert len(cases_of(check)) == 50
        assert len(check.description) <= 1000
