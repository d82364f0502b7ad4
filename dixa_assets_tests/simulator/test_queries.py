"""The simulator's catalogue and data agree with each other and with the truth behind them."""

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

# Catalogue and filter values.


@pytest.mark.parametrize("kind", ["metrics", "records"])
def test_an_entry_alone_is_the_entry_in_the_catalogue(api: httpx.Client, kind: str) -> None:
    entries = api.get(f"/v1/analytics/{kind}").json()["data"]
    assert len(entries) == len(METRICS if kind == "metrics" else RECORDS)
    for entry in entries:
        alone = api.get(f"/beta/analytics/{kind}/{entry['id']}").json()
        assert alone == {"data": entry}


def test_csat_is_catalogued_as_documented(api: httpx.Client) -> None:
    entry = api.get("/v1/analytics/metrics/csat").json()["data"]
    assert [one["filterAttribute"] for one in entry["filters"]] == [
        "agent_id",
        "queue_id",
        "channel",
        "initial_direction",
        "tag_id",
        "contact_point",
    ]
    assert [one["measure"] for one in entry["aggregations"]] == ["Percentage"]
    assert entry["relatedRecordIds"] == ["ratings"]


def test_catalogue_entries_may_lack_filters_or_aggregations(api: httpx.Client) -> None:
    entries = api.get("/v1/analytics/metrics").json()["data"]
    for key in ("filters", "aggregations", "relatedRecordIds"):
        assert any(key not in entry for entry in entries)


def test_filter_values_carry_labels_verbatim(api: httpx.Client) -> None:
    values = api.get("/v1/analytics/filter/agent_id").json()["data"]
    assert 'Søren "Sam" O\'Neil & Co' in [one["label"] for one in values]


# Data.


@pytest.mark.parametrize("metric_id", METRICS)
def test_a_metric_is_the_aggregate_of_the_truth(
    api: httpx.Client, world: World, metric_id: str
) -> None:
    truth = world.aggregate(metric_id, start=START, end=END, now=NOW)
    assert truth
    assert metric(api, body(metric_id)) == truth


@pytest.mark.parametrize("record_id", RECORDS)
def test_record_data_are_the_rows_of_the_truth(
    api: httpx.Client, world: World, record_id: str
) -> None:
    truth = world.rows(record_id, start=START, end=END, now=NOW)
    assert records(api, body(record_id), limit=50) == [row.to_api() for row in truth]


@pytest.mark.parametrize(
    "metric_id",
    [
        one.id
        for one in METRICS.values()
        if one.is_related and "Count" in one.measures and "per_agent" not in one.id
    ],
)
def test_a_count_is_the_number_of_related_rows(api: httpx.Client, metric_id: str) -> None:
    entry = api.get(f"/v1/analytics/metrics/{metric_id}").json()["data"]
    (record_id,) = entry["relatedRecordIds"]
    (count,) = metric(api, body(metric_id, aggregations=["Count"]))
    assert count["value"] == len(records(api, body(record_id)))


def test_statistics_follow_from_the_rows(api: httpx.Client) -> None:
    values = [row["value"]["value"] for row in records(api, body("first_response_time"))]
    found = {one["measure"]: one["value"] for one in metric(api, body("first_response_time"))}
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
    assert share["value"] == pytest.approx(100 * sum(one >= 4 for one in scores) / len(scores))


def test_a_metric_per_agent_counts_agents(api: httpx.Client) -> None:
    rows = records(api, body("conversation_assignments"))
    found = {
        one["measure"]: one["value"]
        for one in metric(api, body("conversation_assignments_per_agent"))
    }
    agents = {field_of(row, "agent_id")["value"] for row in rows}
    assert found == {"Count": len(agents), "Sum": len(rows)}


def test_presence_comes_as_a_list_without_a_measure(api: httpx.Client) -> None:
    (found,) = metric(api, body("agent_presence_duration"))
    assert found["_type"] == "AgentPresenceDurationValue"
    assert "measure" not in found
    assert {one["status"]["status"] for one in found["value"]} == {"WORKING", "AWAY", "ON_BREAK"}


def test_an_empty_period_counts_zero_and_has_no_other_measure(api: httpx.Client) -> None:
    future = body("handling_time", start=NOW + timedelta(days=1), end=NOW + timedelta(days=2))
    assert metric(api, future) == [{"value": 0, "measure": "Count", "_type": "LongAggregateValue"}]
    assert metric(api, {**future, "id": "csat"}) == []


def test_a_measure_the_metric_does_not_offer_is_left_out(api: httpx.Client) -> None:
    found = metric(api, body("wait_time", aggregations=["Sum", "Max"]))
    assert [one["measure"] for one in found] == ["Max"]


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


def test_an_offset_names_the_same_instant_as_utc(api: httpx.Client) -> None:
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
    asked = body("closed_conversations")
    asked["periodFilter"] = {"_type": "Preset", "value": {"_type": preset}}
    days = [datetime(*day, tzinfo=zone) for day in (first, following)]
    assert metric(api, asked) == metric(
        api, body("closed_conversations", days[0], days[1] - MILLISECOND)
    )


def test_ratings_appear_only_once_they_were_given(api: httpx.Client) -> None:
    counts = []
    for days in (0, 1, 7):
        api.post("/simulator/clock", json={"now": (END + timedelta(days=days)).isoformat()})
        (count,) = metric(api, body("ratings_received"))
        counts.append(count["value"])
    assert counts[0] < counts[1] < counts[2]


def test_other_records_of_a_past_day_never_change(api: httpx.Client) -> None:
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
    wanted = [
        row
        for row in records(api, body("created_conversations"))
        if field_of(row, "initial_channel")["value"] in ("EMAIL", "CHAT")
        and field_of(row, "initial_direction")["value"] == "INBOUND"
    ]
    assert rows == wanted
    assert rows
    same = [Filter("channel", ("EMAIL", "CHAT")), Filter("initial_direction", ("INBOUND",))]
    truth = world.aggregate("created_conversations", start=START, end=END, now=NOW, filters=same)
    assert metric(api, body("created_conversations", filters=filters)) == truth


def test_a_filter_the_metric_does_not_offer_is_ignored(api: httpx.Client) -> None:
    filters = [{"attribute": "agent_id", "values": ["nobody"]}]
    assert metric(api, body("closed_conversations", filters=filters)) == metric(
        api, body("closed_conversations")
    )


def test_a_null_passes_no_filter(api: httpx.Client) -> None:
    queues = [one["value"] for one in api.get("/v1/analytics/filter/queue_id").json()["data"]]
    filters = [{"attribute": "queue_id", "values": queues}]
    rows = records(api, body("closed_conversations"))
    kept = records(api, body("closed_conversations", filters=filters))
    assert len(kept) == sum(field_of(row, "queue_id") is not None for row in rows) < len(rows)


def test_conversations_can_be_asked_for_by_number(api: httpx.Client) -> None:
    rows = records(api, body("closed_conversations"))
    csids = [field_of(row, "csid")["value"] for row in rows[:2]]
    asked = {"id": "closed_conversations", "csidFilter": csids, "timezone": "UTC"}
    found = records(api, asked)
    assert {field_of(row, "csid")["value"] for row in found} == set(csids)
    assert metric(api, asked)[0]["value"] == len(found)
