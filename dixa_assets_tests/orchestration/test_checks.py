"""Each check passes on sound data, and says what is wrong with the other kind."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.partitions import range_request
from dixa_assets_tests.support.scenario import component, fetched, load, tampered
from dixa_assets_tests.support.simulator import Simulator

FIRST, LAST = "2025-11-05", "2025-11-09"
METRIC, RECORD = "dixa_metrics/closed_conversations", "dixa_records/closed_conversations"


@pytest.fixture
def analytics(simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    return component(simulator, tmp_path, history_days=0)


def evaluations(
    analytics: DixaAnalytics,
    keys: list[str],
    first: str = FIRST,
    last: str = LAST,
    catalogue: Catalogue | None = None,
) -> dict[tuple[str, str], Any]:
    """What the checks say after a load, by asset and check."""
    result = load(analytics, keys, first, last, catalogue=catalogue)
    return {
        (each.asset_key.to_user_string(), each.check_name): each
        for each in result.get_asset_check_evaluations()
    }


def cases_of(evaluation: Any) -> list[dict[str, Any]]:
    return [dict(record.data) for record in evaluation.metadata["cases"].records]


def test_sound_data_pass_every_check_but_for_the_days_not_yet_loaded(
    analytics: DixaAnalytics,
) -> None:
    found = evaluations(analytics, [METRIC, RECORD])
    verdicts = {key: each.passed for key, each in found.items()}
    assert verdicts == {
        (METRIC, "completeness"): False,
        (METRIC, "schema"): True,
        (METRIC, "reconciliation"): True,
        (RECORD, "completeness"): False,
        (RECORD, "schema"): True,
        (RECORD, "not_null"): True,
        (RECORD, "window"): True,
    }
    assert {each.severity for each in found.values()} == {dg.AssetCheckSeverity.WARN}
    # The vendor's catalogue of fields and its rows differ: told, and no failure.
    assert "differ" in found[RECORD, "schema"].description
    assert cases_of(found[RECORD, "schema"])


def test_completeness_passes_when_every_day_since_the_first_is_loaded(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, history_days=3)
    days = analytics_days(analytics)
    found = evaluations(analytics, ["dixa_metrics/csat"], days[-3], days[-1])
    complete = found["dixa_metrics/csat", "completeness"]
    assert complete.passed
    assert f"All 3 days to {days[-1]} are loaded" in complete.description


def analytics_days(analytics: DixaAnalytics) -> list[str]:
    definitions = analytics.build_definitions(fetched(analytics))
    node = definitions.resolve_asset_graph().get(dg.AssetKey(["dixa_metrics", "csat"]))
    assert node.partitions_def is not None
    return list(node.partitions_def.get_partition_keys())


def test_completeness_lists_the_gaps(analytics: DixaAnalytics) -> None:
    days = analytics_days(analytics)
    load(analytics, ["dixa_metrics/csat"], days[-6])
    found = evaluations(analytics, ["dixa_metrics/csat"], days[-3], days[-2])
    gaps = found["dixa_metrics/csat", "completeness"]
    assert not gaps.passed
    assert gaps.metadata["days missing"].value == 3
    assert cases_of(gaps) == [
        {"first missing": days[-5], "last missing": days[-4]},
        {"first missing": days[-1], "last missing": days[-1]},
    ]


def test_the_schema_check_names_new_missing_and_retyped_fields(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    for day, value in (("2025-11-05", 5), ("2025-11-06", "five")):
        kind = "LongField" if isinstance(value, int) else "StringField"
        simulator.tell(
            "records/fields",
            id="ratings",
            field="unannounced",
            data={"_type": kind, "value": value},
        )
        found = evaluations(analytics, ["dixa_records/ratings"], day, day)
    schema = found["dixa_records/ratings", "schema"]
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
    catalogue = fetched(analytics)
    load(analytics, ["dixa_records/handling_time"], FIRST, catalogue=catalogue)
    columns = analytics.build_warehouse().query(
        "SELECT DISTINCT field FROM dixa_catalogue.columns "
        "WHERE table_name = 'handling_time' AND field <> '' AND type IS NOT NULL"
    )
    declared = [{"field": name, "description": "", "nullable": True} for name in columns.field]
    entry = {"id": "handling_time", "description": "", "fieldsMetadata": declared}
    simulator.tell("records", entry=entry, like="handling_time")
    found = evaluations(analytics, ["dixa_records/handling_time"], "2025-11-06", "2025-11-06")
    assert found["dixa_records/handling_time", "schema"].passed


def test_a_measure_that_never_comes_is_named(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    entry = {"id": "nps", "aggregations": [{"measure": "Percentage"}, {"measure": "StdDev"}]}
    simulator.tell("metrics", entry=entry, like="nps")
    schema = evaluations(analytics, ["dixa_metrics/nps"])["dixa_metrics/nps", "schema"]
    assert schema.passed
    assert cases_of(schema) == [{"what": "in the catalogue, in no answer", "measure": "StdDev"}]


def test_a_null_where_the_catalogue_promises_a_value_is_counted_with_a_sample(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    declared = [{"field": "queue_id", "description": "", "nullable": False}]
    entry = {"id": "ratings", "description": "", "fieldsMetadata": declared}
    simulator.tell("records", entry=entry, like="ratings")
    found = evaluations(analytics, ["dixa_records/ratings"])["dixa_records/ratings", "not_null"]
    nulls = analytics.build_warehouse().query(
        "SELECT count(*) AS n FROM dixa_records.ratings WHERE queue_id IS NULL"
    )
    assert nulls.n[0] > 0
    assert not found.passed
    (case,) = cases_of(found)
    assert (case["field"], case["rows without"]) == ("queue_id", nulls.n[0])
    assert case["for instance"].startswith("2025-11-")


@pytest.mark.parametrize(("outside", "says"), [(1, ""), (200, "another timestamp")])
def test_rows_outside_their_window_are_counted_and_many_point_to_another_timestamp(
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


def test_rows_the_vendor_returns_for_the_wrong_day_are_kept_and_reported(
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


def test_a_lost_row_is_noticed_by_reconciliation(analytics: DixaAnalytics) -> None:
    load(analytics, [METRIC, RECORD], FIRST, LAST)
    tampered(
        analytics,
        "DELETE FROM dixa_records.closed_conversations WHERE rowid = "
        "(SELECT min(rowid) FROM dixa_records.closed_conversations)",
    )
    found = evaluations(analytics, [METRIC], "2025-11-09", "2025-11-09")[METRIC, "reconciliation"]
    assert not found.passed
    assert found.metadata["days that differ"].value == 1


def test_a_per_group_metric_is_not_compared_with_rows(analytics: DixaAnalytics) -> None:
    definitions = analytics.build_definitions(fetched(analytics))
    compared = {
        key.asset_key.path[-1]
        for key in definitions.resolve_asset_graph().asset_check_keys
        if key.name == "reconciliation"
    }
    assert "closed_conversations" in compared
    assert not compared & {"conversation_assignments_per_agent", "messages_per_conversation"}


def test_without_the_record_reconciliation_says_that_nothing_can_be_said(
    analytics: DixaAnalytics,
) -> None:
    found = evaluations(analytics, [METRIC])[METRIC, "reconciliation"]
    assert found.passed
    assert "no day yet" in found.description
    assert "nothing can be said" in found.description


def test_a_record_without_the_value_a_metric_averages_is_not_called_unloaded(
    analytics: DixaAnalytics,
) -> None:
    keys = ["dixa_metrics/knowledge_search_score", "dixa_records/knowledge_article_usage"]
    found = evaluations(analytics, keys)["dixa_metrics/knowledge_search_score", "reconciliation"]
    assert found.passed
    assert "give none of its measures" in found.description


def test_differently_filtered_loads_are_not_compared(
    simulator: Simulator, tmp_path: Path, analytics: DixaAnalytics
) -> None:
    load(analytics, [RECORD], FIRST, LAST)
    filtered = component(
        simulator, tmp_path, filters={"closed_conversations": {"channel": ["EMAIL"]}}
    )
    found = evaluations(filtered, [METRIC])[METRIC, "reconciliation"]
    assert "nothing can be said" in found.description
    assert found.metadata["days compared"].value == 0


def test_checks_ask_nothing_of_the_api(simulator: Simulator, analytics: DixaAnalytics) -> None:
    catalogue = fetched(analytics)
    simulator.forget_requests()
    assert evaluations(analytics, [METRIC], FIRST, FIRST, catalogue)
    assert [each["operation"] for each in simulator.requests()] == ["postAnalyticsMetrics"]


def test_the_checks_of_a_load_with_a_failed_day_still_speak(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    catalogue = fetched(analytics)
    simulator.tell("faults", kind="status", status=400, skip=1, times=1, body="no")
    # One after the other, so that it is the second day that fails.
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
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    before = fetched(analytics)
    simulator.withdraw("metrics", "csat")
    graph = analytics.build_definitions(fetched(analytics, before)).resolve_asset_graph()
    assert graph.get(dg.AssetKey(["dixa_metrics", "nps"])).freshness_policy is not None
    assert graph.get(dg.AssetKey(["dixa_metrics", "csat"])).freshness_policy is None


@pytest.mark.parametrize(
    ("attribute", "passes"), [("queue_id", False), ("initial_direction", True)]
)
def test_what_a_compulsory_filter_leaves_out_is_said_on_the_asset_and_by_a_check(
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


def test_a_check_runs_alone_and_loads_nothing(simulator: Simulator, tmp_path: Path) -> None:
    analytics = component(simulator, tmp_path)
    catalogue = fetched(analytics)
    assert load(analytics, ["dixa_records/ratings"], "2025-11-01", catalogue=catalogue).success
    simulator.forget_requests()
    check = dg.AssetCheckKey(dg.AssetKey(["dixa_records", "ratings"]), "window")
    result = load(analytics, dg.AssetSelection.checks(check), catalogue=catalogue)
    assert result.success
    assert [found.asset_check_key for found in result.get_asset_check_evaluations()] == [check]
    assert simulator.requests() == []


def test_a_load_that_plans_no_checks_makes_them_all_the_same(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    key = dg.AssetKey(["dixa_records", "ratings"])
    assert range_request([key], "2025-11-01", "2025-11-01").asset_check_keys == []
    result = load(analytics, dg.AssetSelection.assets(key).without_checks(), "2025-11-01")
    assert result.success
    made = {found.check_name for found in result.get_asset_check_evaluations()}
    assert made == {"completeness", "not_null", "schema", "window"}
