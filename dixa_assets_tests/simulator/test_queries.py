"""The catalogue and the data of the simulator agree with each other and with `World`."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import Filter, World
from dixa_assets_tests.support.asking import END, NOW, START, body, field_of, metric, records
from dixa_assets_tests.support.simulator import MILLISECOND


def by_measure(aggregates: list[dict[str, Any]]) -> dict[str, Any]:
    return {aggregate["measure"]: aggregate["value"] for aggregate in aggregates}


# Catalogue and filter values.


@pytest.mark.parametrize("kind", ["metrics", "records"])
def test_a_single_entry_equals_the_entry_in_the_catalogue(api: httpx.Client, kind: str) -> None:
    entries = api.get(f"/v1/analytics/{kind}").json()["data"]
    assert len(entries) == len(METRICS if kind == "metrics" else RECORDS)
    for entry in entries:
        single = api.get(f"/beta/analytics/{kind}/{entry['id']}").json()
        assert single == {"data": entry}


def test_the_entry_of_csat_is_as_documented(api: httpx.Client) -> None:
    entry = api.get("/v1/analytics/metrics/csat").json()["data"]
    assert [item["filterAttribute"] for item in entry["filters"]] == [
        "agent_id",
        "queue_id",
        "channel",
        "initial_direction",
        "tag_id",
        "contact_point",
    ]
    assert [item["measure"] for item in entry["aggregations"]] == ["Percentage"]
    assert entry["relatedRecordIds"] == ["ratings"]


def test_catalogue_entries_can_be_without_filters_or_aggregations(api: httpx.Client) -> None:
    entries = api.get("/v1/analytics/metrics").json()["data"]
    for key in ("filters", "aggregations", "relatedRecordIds"):
        assert any(key not in entry for entry in entries)


def test_filter_values_have_verbatim_labels(api: httpx.Client) -> None:
    values = api.get("/v1/analytics/filter/agent_id").json()["data"]
    assert 'Søren "Sam" O\'Neil & Co' in [value["label"] for value in values]


# Data.


@pytest.mark.parametrize("metric_id", METRICS)
def test_a_metric_equals_the_aggregates_of_the_world(
    api: httpx.Client, world: World, metric_id: str
) -> None:
    expected = world.aggregate(metric_id, start=START, end=END, now=NOW)
    assert expected
    assert metric(api, body(metric_id)) == expected


@pytest.mark.parametrize("record_id", RECORDS)
def test_record_data_equal_the_rows_of_the_world(
    api: httpx.Client, world: World, record_id: str
) -> None:
    expected = world.rows(record_id, start=START, end=END, now=NOW)
    assert records(api, body(record_id), limit=50) == [row.to_api() for row in expected]


@pytest.mark.parametrize(
    "metric_id",
    [
        metric.id
        for metric in METRICS.values()
        if metric.is_related and "Count" in metric.measures and "per_agent" not in metric.id
    ],
)
def test_a_count_is_the_number_of_related_rows(api: httpx.Client, metric_id: str) -> None:
    entry = api.get(f"/v1/analytics/metrics/{metric_id}").json()["data"]
    (record_id,) = entry["relatedRecordIds"]
    (count,) = metric(api, body(metric_id, aggregations=["Count"]))
    assert count["value"] == len(records(api, body(record_id)))


def test_statistics_are_computed_from_the_rows(api: httpx.Client) -> None:
    values = [row["value"]["value"] for row in records(api, body("first_response_time"))]
    found = by_measure(metric(api, body("first_response_time")))
    mean = sum(values) / len(values)
    assert found["Count"] == len(values)
    assert (found["Min"], found["Max"]) == (min(values), max(values))
    assert found["Sum"] == pytest.approx(sum(values))
    assert found["Average"] == pytest.approx(mean)
    spread = sum((value - mean) ** 2 for value in values) / len(values)
    assert found["StdDev"] ** 2 == pytest.approx(spread)


def test_csat_is_the_share_of_good_ratings(api: httpx.Client) -> None:
    scores = [row["value"]["value"] for row in records(api, body("ratings"))]
    (share,) = metric(api, body("csat"))
    assert share["value"] == pytest.approx(100 * sum(score >= 4 for score in scores) / len(scores))


def test_a_metric_per_agent_counts_agents(api: httpx.Client) -> None:
    rows = records(api, body("conversation_assignments"))
    found = by_measure(metric(api, body("conversation_assignments_per_agent")))
    agents = {field_of(row, "agent_id")["value"] for row in rows}
    assert found == {"Count": len(agents), "Sum": len(rows)}


def test_presence_is_a_list_without_a_measure(api: httpx.Client) -> None:
    (found,) = metric(api, body("agent_presence_duration"))
    assert found["_type"] == "AgentPresenceDurationValue"
    assert "measure" not in found
    assert {item["status"]["status"] for item in found["value"]} == {"WORKING", "AWAY", "ON_BREAK"}


def test_an_empty_period_has_a_count_of_zero_and_no_other_measure(api: httpx.Client) -> None:
    future = body("handling_time", start=NOW + timedelta(days=1), end=NOW + timedelta(days=2))
    assert metric(api, future) == [{"value": 0, "measure": "Count", "_type": "LongAggregateValue"}]
    assert metric(api, {**future, "id": "csat"}) == []


def test_a_measure_that_the_metric_does_not_offer_is_omitted(api: httpx.Client) -> None:
    found = metric(api, body("wait_time", aggregations=["Sum", "Max"]))
    assert [aggregate["measure"] for aggregate in found] == ["Max"]


def test_both_ends_of_an_interval_are_inclusive(api: httpx.Client) -> None:
    edges = body("closed_conversations", start=START, end=END)
    instants = [row["primaryTimestampField"]["timestamp"] for row in records(api, edges)]
    assert instants[0] == "2025-03-24T23:00:00.000Z"
    assert instants[-1] == "2025-03-25T23:00:00.000Z"


def test_a_setting_excludes_the_end_of_an_interval(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"end": "exclusive"})
    edges = body("closed_conversations", start=START, end=END)
    instants = [row["primaryTimestampField"]["timestamp"] for row in records(api, edges)]
    assert instants[-1] == "2025-03-25T22:59:59.999Z"


def test_an_interval_can_have_any_offset(api: httpx.Client) -> None:
    zone = ZoneInfo("Asia/Kolkata")
    local = body("ratings", START.astimezone(zone), (END - MILLISECOND).astimezone(zone))
    assert records(api, local) == records(api, body("ratings"))


@pytest.mark.parametrize("value", ["PreviousWeek", {"_type": "PreviousWeek"}])
def test_a_preset_is_evaluated_in_the_timezone(api: httpx.Client, value: Any) -> None:
    preset = body("created_conversations")
    preset["periodFilter"] = {"_type": "Preset", "value": value}
    zone = ZoneInfo("Europe/Copenhagen")
    monday, next_monday = (datetime(2025, 3, day, tzinfo=zone) for day in (24, 31))
    week = body("created_conversations", monday, next_monday - MILLISECOND)
    assert metric(api, preset) == metric(api, week)


@pytest.mark.parametrize(
    ("preset", "first", "following"),
    [
        ("Today", (2025, 4, 2), (2025, 4, 3)),
        ("Yesterday", (2025, 4, 1), (2025, 4, 2)),
        ("ThisWeek", (2025, 3, 31), (2025, 4, 7)),
        ("ThisMonth", (2025, 4, 1), (2025, 5, 1)),
        ("PreviousMonth", (2025, 3, 1), (2025, 4, 1)),
        ("ThisQuarter", (2025, 4, 1), (2025, 7, 1)),
    ],
)
def test_presets_cover_whole_local_periods(
    api: httpx.Client,
    preset: str,
    first: tuple[int, int, int],
    following: tuple[int, int, int],
) -> None:
    zone = ZoneInfo("Europe/Copenhagen")
    requested = body("closed_conversations")
    requested["periodFilter"] = {"_type": "Preset", "value": {"_type": preset}}
    days = [datetime(*day, tzinfo=zone) for day in (first, following)]
    assert metric(api, requested) == metric(
        api, body("closed_conversations", days[0], days[1] - MILLISECOND)
    )


def test_a_rating_appears_when_it_is_given(api: httpx.Client) -> None:
    counts = []
    for days in (0, 1, 7):
        api.post("/simulator/clock", json={"now": (END + timedelta(days=days)).isoformat()})
        (count,) = metric(api, body("ratings_received"))
        counts.append(count["value"])
    assert counts[0] < counts[1] < counts[2]


def test_rows_of_other_records_of_a_past_day_never_change(api: httpx.Client) -> None:
    before = records(api, body("closed_conversations"))
    api.post("/simulator/clock", json={"now": END.isoformat()})
    assert records(api, body("closed_conversations")) == before


def test_values_of_one_filter_are_alternatives_and_filters_are_conditions(
    api: httpx.Client, world: World
) -> None:
    filters = [
        {"attribute": "channel", "values": ["EMAIL", "CHAT"]},
        {"attribute": "initial_direction", "values": ["INBOUND"]},
    ]
    rows = records(api, body("created_conversations", filters=filters))
    expected = [
        row
        for row in records(api, body("created_conversations"))
        if field_of(row, "initial_channel")["value"] in ("EMAIL", "CHAT")
        and field_of(row, "initial_direction")["value"] == "INBOUND"
    ]
    assert rows == expected
    assert rows
    same = [Filter("channel", ("EMAIL", "CHAT")), Filter("initial_direction", ("INBOUND",))]
    totals = world.aggregate("created_conversations", start=START, end=END, now=NOW, filters=same)
    assert metric(api, body("created_conversations", filters=filters)) == totals


def test_a_filter_that_the_metric_does_not_offer_is_ignored(api: httpx.Client) -> None:
    filters = [{"attribute": "agent_id", "values": ["nobody"]}]
    assert metric(api, body("closed_conversations", filters=filters)) == metric(
        api, body("closed_conversations")
    )


def test_a_null_passes_no_filter(api: httpx.Client) -> None:
    values = api.get("/v1/analytics/filter/queue_id").json()["data"]
    filters = [{"attribute": "queue_id", "values": [value["value"] for value in values]}]
    rows = records(api, body("closed_conversations"))
    kept = records(api, body("closed_conversations", filters=filters))
    assert len(kept) == sum(field_of(row, "queue_id") is not None for row in rows) < len(rows)


def test_conversations_can_be_requested_by_number(api: httpx.Client) -> None:
    rows = records(api, body("closed_conversations"))
    csids = [field_of(row, "csid")["value"] for row in rows[:2]]
    requested = {"id": "closed_conversations", "csidFilter": csids, "timezone": "UTC"}
    found = records(api, requested)
    assert {field_of(row, "csid")["value"] for row in found} == set(csids)
    assert metric(api, requested)[0]["value"] == len(found)
