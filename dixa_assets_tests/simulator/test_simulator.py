"""The simulator keeps to the vendor's facts, and its API agrees with the truth it is built on."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest

from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import Filter, World

KEY = "a-key-for-tests"
NOW = datetime(2025, 4, 2, 12, tzinfo=UTC)
START = datetime(2025, 3, 24, 23, tzinfo=UTC)
END = START + timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
DEFAULTS = {
    "rate": 0,
    "burst": 4,
    "latency_ms": 0,
    "max_page_limit": 300,
    "catalogue_page_limit": None,
    "require_filter": False,
    "end": "inclusive",
    "next_form": "relative",
    "retry_after": None,
}


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yields a simulator process and its address, and ends the process in any case."""
    command = [sys.executable, "-m", "dixa_assets.simulator", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "DIXA_API_KEY": KEY}
    ) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running("--rate", "0", "--now", NOW.isoformat()) as (_, base_url):
        yield base_url


@pytest.fixture
def api(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, headers={"Authorization": KEY}) as client:
        client.delete("/simulator/faults")
        client.delete("/simulator/requests")
        client.post("/simulator/settings", json=DEFAULTS)
        client.post("/simulator/clock", json={"now": NOW.isoformat()})
        yield client


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def body(
    entry_id: str, start: datetime = START, end: datetime = END - MILLISECOND, **more: Any
) -> dict[str, Any]:
    period = {"_type": "Interval", "start": start.isoformat(), "end": end.isoformat()}
    return {"id": entry_id, "periodFilter": period, "timezone": "Europe/Copenhagen", **more}


def metric(api: httpx.Client, content: dict[str, Any]) -> list[dict[str, Any]]:
    answer = api.post("/v1/analytics/metrics", json=content)
    assert answer.status_code == 200, answer.text
    aggregates: list[dict[str, Any]] = answer.json()["data"]["aggregates"]
    return aggregates


def records(api: httpx.Client, content: dict[str, Any], limit: int = 300) -> list[dict[str, Any]]:
    url, rows = f"/v1/analytics/records?pageLimit={limit}", []
    while url:
        answer = api.post(url, json=content)
        assert answer.status_code == 200, answer.text
        rows += answer.json()["data"]
        url = answer.json()["meta"].get("next")
    return rows


def message(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["message"]
    text: str = answer.json()["message"]
    return text


def fail(api: httpx.Client, kind: str, **more: Any) -> int:
    answer = api.post("/simulator/faults", json={"kind": kind, "times": 1, **more})
    assert answer.status_code == 200, answer.text
    number: int = answer.json()["id"]
    return number


def field_of(row: dict[str, Any], name: str) -> Any:
    return next(one.get("field") for one in row["fields"] if one["name"] == name)


# The truth.


def test_two_worlds_of_one_seed_agree_whatever_is_asked_first(world: World) -> None:
    other = World()
    other.rows("ratings", start=END + timedelta(days=3), end=END + timedelta(days=4), now=NOW)
    day: dict[str, Any] = {"start": START, "end": END, "now": NOW}
    assert other.rows("closed_conversations", **day) == world.rows("closed_conversations", **day)


def test_another_seed_has_another_history(world: World) -> None:
    day: dict[str, Any] = {"start": START, "end": END, "now": NOW}
    assert World(seed=8).rows("ratings", **day) != world.rows("ratings", **day)


@pytest.mark.parametrize("record_id", RECORDS)
def test_rows_come_in_order_and_within_half_open_bounds(world: World, record_id: str) -> None:
    instants = [row.at for row in world.rows(record_id, start=START, end=END, now=NOW)]
    assert instants == sorted(instants)
    assert START <= instants[0] <= instants[-1] < END
    assert all(at.microsecond % 1000 == 0 for at in instants)


@pytest.mark.parametrize("record_id", RECORDS)
@pytest.mark.parametrize(
    ("zone", "month"),
    [
        (zone, month)
        for zone in ("Europe/Copenhagen", "America/Santiago", "Africa/Cairo")
        for month in (1, 7)
    ]
    + [("Asia/Kolkata", 1), ("Pacific/Apia", 1)],
)
def test_every_local_midnight_has_rows_on_both_sides(
    world: World, record_id: str, zone: str, month: int
) -> None:
    midnight = datetime(2024, month, 10, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    around = world.rows(
        record_id, start=midnight - MILLISECOND, end=midnight + MILLISECOND, now=NOW
    )
    assert {row.at for row in around} == {midnight - MILLISECOND, midnight}


def test_no_event_outlives_the_days_that_are_searched(world: World) -> None:
    created = world.rows("created_conversations", start=START, end=END, now=NOW)
    csids = {row.conversation.csid for row in created if row.conversation}
    by_id = world.rows_of_conversations("closed_conversations", csids, now=NOW)
    by_time = world.rows("closed_conversations", start=START, end=NOW, now=NOW)
    assert by_id == [row for row in by_time if row.conversation and row.conversation.csid in csids]


def test_the_data_hold_every_type_of_field(world: World) -> None:
    shapes = set()
    for record_id in RECORDS:
        for row in world.rows(record_id, start=START, end=END, now=NOW):
            answer = row.to_api()
            shapes.add(("value", answer.get("value", {}).get("_type")))
            for one in answer["fields"]:
                content = one.get("field", {"_type": "null"})
                items = content.get("values", "missing")
                first = items[0]["_type"] if items and items != "missing" else str(items)
                shapes.add(
                    (content["_type"], first)
                    if content["_type"] == "ListField"
                    else (content["_type"], "label" in content)
                )
    assert shapes >= {
        ("value", None),
        ("value", "IntField"),
        ("value", "LongField"),
        ("value", "DoubleField"),
        ("null", False),
        ("BooleanField", False),
        ("IntField", False),
        ("LongField", False),
        ("DoubleField", False),
        ("StringField", False),
        ("StringField", True),
        ("UUIDField", False),
        ("UUIDField", True),
        ("InstantField", False),
        ("TimestampField", False),
        ("ListField", "UUIDField"),
        ("ListField", "StringField"),
        ("ListField", "[]"),
        ("ListField", "missing"),
    }


def test_a_long_field_exceeds_what_a_float_can_hold(world: World) -> None:
    rows = world.rows("created_conversations", start=START, end=END, now=NOW)
    numbers = [row.field("external_reference") for row in rows]
    assert any(isinstance(one, int) and int(float(one)) != one for one in numbers)
    assert None in numbers


# Authorisation, rate limit, errors.


@pytest.mark.parametrize("header", [KEY, f"Bearer {KEY}"])
def test_the_key_is_accepted_alone_and_as_a_bearer(api: httpx.Client, header: str) -> None:
    answer = api.get("/beta/analytics/metrics", headers={"Authorization": header})
    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["", "wrong", f"Basic {KEY}"])
def test_any_other_key_is_unauthorised(api: httpx.Client, header: str) -> None:
    answer = api.get("/v1/analytics/metrics", headers={"Authorization": header})
    assert message(answer, 401) == "Unauthorized"


def test_a_burst_is_allowed_and_the_next_request_is_one_too_many(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 4})
    answers = [api.get("/v1/analytics/filter/channel") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
    assert message(answers[4], 429) == "Too Many Requests"
    assert "retry-after" not in answers[4].headers


def test_every_path_of_both_versions_draws_on_one_bucket(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 2})
    assert api.get("/beta/analytics/records").status_code == 200
    assert api.get("/v1/nowhere").status_code == 404
    assert api.get("/v1/analytics/metrics/csat").status_code == 429


def test_strangers_and_control_endpoints_draw_nothing_from_the_bucket(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 1})
    assert api.get("/v1/analytics/metrics", headers={"Authorization": "?"}).status_code == 401
    assert api.get("/simulator/summary").status_code == 200
    assert api.get("/v1/analytics/metrics").status_code == 200


def test_a_setting_adds_the_time_to_wait(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 1, "retry_after": 3})
    api.get("/v1/analytics/metrics")
    assert api.get("/v1/analytics/metrics").headers["retry-after"] == "3"


@pytest.mark.parametrize(
    "change",
    [
        {"id": 5},
        {"timezone": None},
        {"timezone": "Europe/Atlantis"},
        {"timezone": "Europe"},
        {"periodFilter": None},
        {"csidFilter": [1]},
        {"periodFilter": {"_type": "Preset", "value": "PreviousYear"}},
        {"periodFilter": {"_type": "Custom", "value": {}}},
        {"periodFilter": {"_type": "Interval", "start": "2025-03-01T00:00:00Z"}},
        {
            "periodFilter": {
                "_type": "Interval",
                "start": "2025-03-01T00:00:00",
                "end": "2025-03-02T00:00:00Z",
            }
        },
        {
            "periodFilter": {
                "_type": "Interval",
                "start": "2025-03-03T00:00:00Z",
                "end": "2025-03-02T00:00:00Z",
            }
        },
        {"filters": [{"attribute": "channel", "values": []}]},
        {"filters": [{"values": ["EMAIL"]}]},
        {"aggregations": ["Median"]},
    ],
)
def test_a_bad_body_is_refused(api: httpx.Client, change: dict[str, Any]) -> None:
    answer = api.post("/v1/analytics/metrics", json={**body("csat"), **change})
    assert message(answer, 400).startswith("Invalid value for: body")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_body_that_is_no_object_is_refused(api: httpx.Client, content: bytes) -> None:
    answer = api.post("/v1/analytics/records", content=content)
    assert message(answer, 400).startswith("Invalid value for: body")


def test_records_take_no_aggregations(api: httpx.Client) -> None:
    answer = api.post("/v1/analytics/records", json=body("ratings", aggregations=["Count"]))
    assert "aggregations" in message(answer, 400)


@pytest.mark.parametrize("limit", ["0", "-1", "301", "many", ""])
def test_a_page_limit_out_of_bounds_is_refused(api: httpx.Client, limit: str) -> None:
    url = f"/v1/analytics/records?pageLimit={limit}"
    assert "pageLimit" in message(api.post(url, json=body("ratings")), 400)


@pytest.mark.parametrize("key", ["", "x", base64.b64encode(b"pageLimit=50&page=1").decode()])
def test_a_foreign_page_key_is_refused(api: httpx.Client, key: str) -> None:
    answer = api.get("/v1/analytics/metrics", params={"pageKey": key})
    assert "pageKey" in message(answer, 400)


@pytest.mark.parametrize("path", ["metrics/nix", "records/nix", "filter/nix", "nix", "filter"])
def test_what_nobody_knows_is_not_found(api: httpx.Client, path: str) -> None:
    message(api.get(f"/v1/analytics/{path}"), 404)


@pytest.mark.parametrize("kind", ["metrics", "records"])
def test_data_of_an_unknown_id_are_not_found(api: httpx.Client, kind: str) -> None:
    message(api.post(f"/v1/analytics/{kind}", json=body("nix")), 404)


def test_a_setting_demands_a_filter_with_a_period(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"require_filter": True})
    assert "filters" in message(api.post("/v1/analytics/metrics", json=body("csat")), 400)
    metric(api, body("csat", filters=[{"attribute": "channel", "values": ["EMAIL"]}]))


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


# Paging.


def test_a_link_is_relative_and_its_key_holds_size_and_page(api: httpx.Client) -> None:
    answer = api.get("/beta/analytics/metrics?pageLimit=4").json()
    assert answer["meta"]["next"].startswith("/beta/analytics/metrics?pageKey=")
    key = parse_qs(urlsplit(answer["meta"]["next"]).query)["pageKey"][0]
    assert base64.b64decode(key).startswith(b"pageLimit=4&page=1")
    second = api.get(answer["meta"]["next"]).json()
    assert len(second["data"]) == 4
    assert second["data"][0] not in answer["data"]


def test_without_a_limit_a_page_holds_a_hundred_rows(api: httpx.Client) -> None:
    answer = api.post("/v1/analytics/records", json=body("messages_sent")).json()
    assert len(answer["data"]) == 100


def test_the_last_page_has_no_next(api: httpx.Client) -> None:
    answer = api.get("/v1/analytics/records?pageLimit=300").json()
    assert "next" not in answer["meta"]


def test_a_page_key_serves_no_other_body(api: httpx.Client) -> None:
    first = api.post("/v1/analytics/records?pageLimit=5", json=body("messages_sent")).json()
    answer = api.post(first["meta"]["next"], json=body("messages_sent", end=END))
    assert "pageKey" in message(answer, 400)


def test_links_can_be_absolute(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"next_form": "absolute"})
    link = api.get("/v1/analytics/metrics?pageLimit=20").json()["meta"]["next"]
    assert link.startswith(f"{str(api.base_url).rstrip('/')}/v1/analytics/metrics?pageKey=")
    assert api.get(link).status_code == 200


def test_a_bare_key_can_take_the_place_of_a_link(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"next_form": "bare_key"})
    first = api.get("/v1/analytics/metrics?pageLimit=20").json()
    assert set(first) == {"data", "pageKey"}
    second = api.get("/v1/analytics/metrics", params={"pageKey": first["pageKey"]}).json()
    assert set(second) == {"data"}
    assert len(first["data"]) + len(second["data"]) == len(METRICS)


def test_a_setting_caps_the_pages_of_catalogues(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"catalogue_page_limit": 3})
    answer = api.get("/v1/analytics/records?pageLimit=300").json()
    assert len(answer["data"]) == 3
    assert unquote(answer["meta"]["next"])


def test_a_setting_lowers_the_highest_page_limit(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"max_page_limit": 50})
    url = "/v1/analytics/records?pageLimit="
    message(api.post(f"{url}51", json=body("messages_sent")), 400)
    assert len(api.post(f"{url}50", json=body("messages_sent")).json()["data"]) == 50


# Control endpoints.


def test_requests_are_kept_in_order_and_without_headers(api: httpx.Client) -> None:
    api.get("/v1/analytics/filter/channel?pageLimit=2")
    api.post("/v1/analytics/metrics", json={"id": "nix"})
    listing = api.get("/simulator/requests").json()
    assert [one["operation"] for one in listing] == [
        "getAnalyticsFilterFilterattribute",
        "postAnalyticsMetrics",
    ]
    assert [one["status"] for one in listing] == [200, 400]
    assert listing[0]["query"] == {"pageLimit": "2"}
    assert listing[1]["body"] == {"id": "nix"}
    assert KEY not in json.dumps(listing)
    api.delete("/simulator/requests")
    assert api.get("/simulator/requests").json() == []


def test_a_summary_counts_operations_and_statuses(api: httpx.Client) -> None:
    api.get("/v1/analytics/metrics")
    api.get("/v1/analytics/metrics", headers={"Authorization": ""})
    summary = api.get("/simulator/summary").json()
    assert summary["operations"] == {"getAnalyticsMetrics": 2}
    assert summary["statuses"] == {"200": 1, "401": 1}


def test_settings_that_make_no_sense_change_nothing(api: httpx.Client) -> None:
    message(api.post("/simulator/settings", json={"burst": 9, "end": "open"}), 400)
    message(api.post("/simulator/settings", json={"colour": "red"}), 400)
    assert api.get("/simulator/settings").json() == DEFAULTS


@pytest.mark.parametrize("entry_id", ["select", "an id with spaces", 'Naïve "quote"; drop/x'])
def test_a_metric_can_be_added_and_withdrawn(api: httpx.Client, entry_id: str) -> None:
    entry = {"id": entry_id, "aggregations": [{"measure": "Count"}]}
    api.post("/simulator/metrics", json={"entry": entry, "like": "handling_time"})
    path = httpx.URL(str(api.base_url)).copy_with(path=f"/v1/analytics/metrics/{entry_id}")
    assert api.get(path).json() == {"data": entry}
    assert entry in api.get("/v1/analytics/metrics").json()["data"]
    (count,) = metric(api, body(entry_id))
    assert count == metric(api, body("handling_time", aggregations=["Count"]))[0]
    api.delete("/simulator/metrics", params={"id": entry_id})
    message(api.get(path), 404)
    message(api.post("/v1/analytics/metrics", json=body(entry_id)), 404)


def test_a_record_can_be_added_and_withdrawn(api: httpx.Client) -> None:
    entry = {"id": "select", "description": "A copy"}
    api.post("/simulator/records", json={"entry": entry, "like": "ratings"})
    assert records(api, body("select")) == records(api, body("ratings"))
    api.delete("/simulator/records", params={"id": "select"})
    message(api.post("/v1/analytics/records", json=body("select")), 404)


def test_a_record_can_gain_and_change_a_field(api: httpx.Client) -> None:
    for name, data in (("mood", "glad"), ("survey_id", "not a uuid")):
        wish = {"id": "ratings", "field": name, "data": {"_type": "StringField", "value": data}}
        api.post("/simulator/records/fields", json=wish)
        assert {field_of(row, name)["value"] for row in records(api, body("ratings"))} == {data}
        api.post("/simulator/records/fields", json={**wish, "data": None})
    assert "mood" not in [one["name"] for one in records(api, body("ratings"))[0]["fields"]]


# Faults.


def test_a_fault_strikes_whom_it_is_meant_for_and_counts(api: httpx.Client) -> None:
    number = fail(api, "status", operation="postAnalyticsMetrics", id="csat", skip=1, times=2)
    asked = [body("nps"), body("csat"), body("csat"), body("csat"), body("csat")]
    answers = [api.post("/v1/analytics/metrics", json=one) for one in asked]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 500, 200]
    (fault,) = api.get("/simulator/faults").json()
    assert (fault["id"], fault["fired"]) == (number, 2)


@pytest.mark.parametrize("wish", [{"kind": "flood"}, {"kind": "nan", "operation": "getMetrics"}])
def test_a_fault_nobody_knows_is_refused(api: httpx.Client, wish: dict[str, Any]) -> None:
    message(api.post("/simulator/faults", json=wish), 400)
    assert api.get("/simulator/faults").json() == []


def test_a_status_can_come_with_any_text_and_header(api: httpx.Client) -> None:
    fail(
        api, "status", status=503, body="busy", content_type="text/plain", headers={"X-Why": "load"}
    )
    answer = api.get("/v1/analytics/metrics")
    assert (answer.status_code, answer.text, answer.headers["x-why"]) == (503, "busy", "load")
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_connection_can_be_closed_without_an_answer(api: httpx.Client) -> None:
    fail(api, "reset")
    with pytest.raises(httpx.TransportError):
        api.get("/v1/analytics/metrics")


def test_a_body_can_end_half_way(api: httpx.Client) -> None:
    fail(api, "truncate")
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        api.get("/v1/analytics/metrics")


def test_a_slow_answer_is_slow_and_holds_up_nobody(api: httpx.Client) -> None:
    fail(api, "slow", seconds=30)
    with pytest.raises(httpx.ReadTimeout):
        api.get("/v1/analytics/metrics", timeout=0.05)
    assert api.get("/v1/analytics/metrics").status_code == 200


@pytest.mark.parametrize("kind", ["malformed_json", "html"])
def test_a_body_can_be_no_json(api: httpx.Client, kind: str) -> None:
    fail(api, kind)
    answer = api.get("/v1/analytics/metrics")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Expecting"):
        answer.json()


def test_data_and_meta_can_be_missing_null_or_empty(api: httpx.Client) -> None:
    url = "/v1/analytics/metrics"
    fail(api, "missing_data")
    assert "data" not in api.get(url).json()
    fail(api, "null_meta")
    assert api.get(url).json()["meta"] is None
    fail(api, "empty")
    assert api.get(url).json() == {"data": []}


def test_an_empty_page_can_promise_a_next(api: httpx.Client) -> None:
    fail(api, "next_on_empty_page", times=None)
    first = api.get("/v1/analytics/metrics").json()
    second = api.get(first["meta"]["next"]).json()
    assert second["data"] == []
    assert second["meta"]["next"]


def test_a_key_can_repeat(api: httpx.Client) -> None:
    fail(api, "repeated_key", times=None)
    first = api.get("/v1/analytics/metrics?pageLimit=5").json()
    second = api.get(first["meta"]["next"]).json()
    assert second["meta"]["next"] == first["meta"]["next"]


def test_a_link_can_lead_to_another_host(api: httpx.Client) -> None:
    fail(api, "foreign_host")
    link = api.get("/v1/analytics/metrics").json()["meta"]["next"]
    assert urlsplit(link).hostname == "elsewhere.example"


def test_a_key_can_expire(api: httpx.Client) -> None:
    link = api.get("/v1/analytics/metrics?pageLimit=5").json()["meta"]["next"]
    fail(api, "expired_key")
    assert api.get("/v1/analytics/metrics").status_code == 200
    assert "pageKey" in message(api.get(link), 400)


def test_types_can_be_unknown(api: httpx.Client) -> None:
    fail(api, "unknown_type")
    row = records(api, body("handling_time"))[0]
    assert row["value"]["_type"] == "HologramField"
    assert field_of(row, "csid")["_type"] == "HologramField"


def test_a_number_can_be_no_number(api: httpx.Client) -> None:
    fail(api, "nan")
    assert "NaN" in api.post("/v1/analytics/metrics", json=body("csat")).text


def test_half_a_page_can_be_missing(api: httpx.Client) -> None:
    fail(api, "half_page")
    answer = api.get("/v1/analytics/metrics").json()
    assert set(answer) == {"data"}
    assert len(answer["data"]) == len(METRICS) // 2


def test_an_id_can_come_twice(api: httpx.Client) -> None:
    fail(api, "duplicate_ids")
    ids = [one["id"] for one in api.get("/v1/analytics/metrics").json()["data"]]
    assert len(ids) == len(METRICS) + 1
    assert ids[-1] == ids[0]


def test_a_row_at_the_front_shifts_the_later_pages(api: httpx.Client) -> None:
    straight = records(api, body("ratings"), limit=20)
    fail(api, "shift", times=None)
    assert records(api, body("ratings"), limit=20) == straight[:20] + straight[19:]


# The process.


def test_many_connections_are_served_at_once(api: httpx.Client, address: str) -> None:
    def ask(_: int) -> int:
        with httpx.Client(base_url=address, headers={"Authorization": KEY}) as client:
            return client.get("/v1/analytics/filter/channel").status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, range(40))) == {200}


def test_a_metric_can_join_the_catalogue_while_the_server_runs() -> None:
    with running("--add-metric-after", "0", "--now", NOW.isoformat()) as (_, base_url):
        headers = {"Authorization": KEY}
        with httpx.Client(base_url=base_url, headers=headers) as client:
            entries = client.get("/v1/analytics/metrics").json()["data"]
            assert entries[-1]["id"] == "reopened_conversations"
            assert metric(client, body("reopened_conversations"))[0]["value"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_at_once_and_in_good_order(number: signal.Signals) -> None:
    with running() as (process, _):
        process.send_signal(number)
        assert process.wait(timeout=1) == 0
