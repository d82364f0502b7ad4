"""Odd answers and pages in disorder: no row is lost or doubled, or the day stays as it was."""

import json
import re
from collections.abc import Sequence

import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.faults import (
    CSAT,
    DAYS,
    FAULTY,
    FIRST,
    LAST,
    MESSAGES,
    RATINGS,
    ROW,
    again,
    assert_one_day_failed,
    assert_whole,
    can_retry,
    held,
    noted,
    pages_asked,
    step,
)
from dixa_assets_tests.support.scenario import failure_of, load
from dixa_assets_tests.support.simulator import Json, Simulator
from dixa_assets_tests.support.truth import assert_equal, sent_rows

pytestmark = pytest.mark.slow


# Odd answers that are taken for what they say


@pytest.mark.parametrize("content_type", ["text/plain", "text/html; charset=utf-8", ""])
def test_the_right_json_under_a_wrong_content_type_is_read(
    content_type: str, simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.tell(
        "faults", kind="status", status=200, id="ratings", times=1, content_type=content_type,
        body=json.dumps({"data": [rating(1), rating(2)]}),
    )  # fmt: skip
    assert load(analytics, [RATINGS], FAULTY, catalogue=catalogue).success
    assert numbers_of(analytics) == [1, 2]


@pytest.mark.parametrize("kind", ["null_meta", "next_on_empty_page"])
def test_an_odd_end_of_the_pages_costs_no_row(
    kind: str, simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind=kind, operation="postAnalyticsRecords", id="ratings")
    assert again(analytics, catalogue, RATINGS).success
    assert held(analytics)[RATINGS, FAULTY] != before[RATINGS, FAULTY]
    assert_whole(analytics, world)


def test_a_list_without_data_is_an_empty_day_as_the_vendors_schema_has_it(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    simulator.tell("faults", kind="missing_data", id="ratings", skip=1, times=1)
    assert again(analytics, catalogue, RATINGS).success
    assert noted(analytics, RATINGS, "rows")[FAULTY] == 0
    assert numbers_of(analytics) == []
    assert_equal(analytics, world, RATINGS, days=[FIRST, LAST])


def test_a_promised_page_without_data_leaves_the_day_as_it_was(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="missing_data", id="messages_sent", skip=3, times=1)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page that was promised came without 'data'")
    assert pages_asked(simulator, FAULTY) == [False, True]
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


def test_values_of_unknown_types_are_kept_whole_as_json_beside_the_days_before(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    simulator.tell("faults", kind="unknown_type", id="ratings", times=1)
    assert load(analytics, [RATINGS, CSAT], FAULTY, catalogue=catalogue).success
    names = ("survey_id", "agent_id", "conversation_id", "answered_at")
    strange = '"_type": "HologramField", "depth": {"unit": "cm", "of": [1, 2]}'
    sent = [
        {one["name"]: one.get("field") for one in json.loads(fields)}
        for row in sent_rows(world, "ratings", FAULTY)
        if (fields := re.sub(r'"_type": "\w+"', strange, json.dumps(row["fields"])))
    ]
    texts = ", ".join(f"{name}::VARCHAR AS {name}" for name in names)
    query = analytics.build_warehouse().query
    kept = query(
        f"SELECT {texts} FROM dixa_records.ratings WHERE partition_date = ? ORDER BY rowid",
        [FAULTY],
    ).to_dict("records")
    assert len(kept) == len(sent) > 0
    for stored_row, sent_row in zip(kept, sent, strict=True):
        for name in names:
            if sent_row[name] is None:
                assert not isinstance(stored_row[name], str)
            else:
                assert json.loads(stored_row[name]) == sent_row[name]
    for day in (FIRST, LAST):
        found = query(
            "SELECT conversation_id::BIGINT AS n FROM dixa_records.ratings "
            "WHERE partition_date = ? ORDER BY rowid",
            [day],
        )
        assert list(found.n) == [
            one["field"]["value"]
            for row in sent_rows(world, "ratings", day)
            for one in row["fields"]
            if one["name"] == "conversation_id"
        ]
    assert_whole(analytics, world, CSAT)


# Pages


def test_pages_that_go_in_a_circle_leave_the_day_as_it_was(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("settings", max_page_limit=100)
    # One refused page size, and the pages of the day before.
    ahead = 1 + -(-len(sent_rows(world, "messages_sent", FIRST)) // 100)
    simulator.tell("faults", kind="repeated_key", id="messages_sent", skip=ahead, times=2)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page key came twice")
    assert can_retry(result, MESSAGES) is False
    assert pages_asked(simulator, FAULTY) == [False, True]
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


@pytest.mark.parametrize(("limit", "refused"), [(100, ["300"]), (50, ["300", "100"])])
def test_a_refused_page_size_costs_one_request_a_size_and_no_row(
    limit: int, refused: list[str], simulator: Simulator, analytics: DixaAnalytics,
    catalogue: Catalogue, world: World,
) -> None:  # fmt: skip
    before = held(analytics)
    simulator.tell("settings", max_page_limit=limit)
    assert again(analytics, catalogue, MESSAGES).success
    assert held(analytics)[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    assert_whole(analytics, world, MESSAGES)
    requests = simulator.requests()
    assert [r["query"]["pageLimit"] for r in requests if r["status"] == 400] == refused


def test_a_page_key_that_expires_has_the_window_read_again_from_its_first_page(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="expired_key", id="messages_sent", skip=1, times=1)
    assert again(analytics, catalogue, MESSAGES).success
    assert pages_asked(simulator, FAULTY) == [False, True, False, True]
    assert held(analytics)[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    assert_whole(analytics, world, MESSAGES)
    rows = noted(analytics, MESSAGES, "rows")
    assert rows == {day: len(sent_rows(world, "messages_sent", day)) for day in DAYS}


def test_page_keys_that_go_on_expiring_fail_the_day_and_name_it(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="expired_key", id="messages_sent", skip=1, times=3)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page key it gave before was refused (400")
    assert pages_asked(simulator, FAULTY) == [False, True] * 3
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


def test_a_row_inserted_while_pages_are_read_has_them_read_again_until_they_agree(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="shift", id="messages_sent", skip=1, times=1)
    assert again(analytics, catalogue, MESSAGES).success
    assert len(pages_asked(simulator, FAULTY)) > len(pages_asked(simulator, LAST)) == 2
    assert held(analytics)[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    assert_whole(analytics, world, MESSAGES)


def test_a_reading_that_no_other_confirms_fails_the_day(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    # The first reading ends with a refused key and the second holds a moved row, so there is none
    # that the third, though undisturbed, agrees with.
    simulator.tell("faults", kind="expired_key", id="messages_sent", skip=1, times=1)
    simulator.tell("faults", kind="shift", id="messages_sent", skip=1, times=1)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "rows moved between pages")
    assert can_retry(result, MESSAGES) is True
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


def answer_pages(simulator: Simulator, readings: Sequence[Sequence[Sequence[Json]]]) -> None:
    """Answer the coming requests for ratings with these pages, reading by reading."""
    for pages in readings:
        for number, rows in enumerate(pages, 1):
            answer: Json = {"data": rows, "meta": {}}
            if number < len(pages):
                answer["meta"]["next"] = f"/v1/analytics/records?pageKey={number}"
            simulator.tell(
                "faults", kind="status", status=200, operation="postAnalyticsRecords",
                id="ratings", times=1, body=json.dumps(answer),
            )  # fmt: skip


def rating(number: int) -> Json:
    field = {"name": "conversation_id", "field": {"_type": "LongField", "value": number}}
    return {**ROW, "fields": [field]}


def numbers_of(analytics: DixaAnalytics) -> list[int]:
    rows = analytics.build_warehouse().query(
        "SELECT conversation_id AS n FROM dixa_records.ratings WHERE partition_date = ? "
        "ORDER BY rowid",
        [FAULTY],
    )
    return [int(number) for number in rows.n]


def test_rows_that_are_really_equal_come_twice_in_every_reading_and_are_kept(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    pages = [[rating(1), rating(2)], [rating(2), rating(2)], [rating(2), rating(3)]]
    answer_pages(simulator, [pages, pages])
    assert load(analytics, [RATINGS], FAULTY, catalogue=catalogue).success
    assert numbers_of(analytics) == [1, 2, 2, 2, 2, 3]
    assert noted(analytics, RATINGS, "requests")[FAULTY] == 6


def test_a_row_that_moved_once_is_kept_once(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    moving = [[rating(1), rating(2)], [rating(2), rating(3)]]
    still = [[rating(0), rating(1)], [rating(2), rating(3)]]
    answer_pages(simulator, [moving, still, still])
    assert load(analytics, [RATINGS], FAULTY, catalogue=catalogue).success
    assert numbers_of(analytics) == [0, 1, 2, 3]


def test_rows_that_move_in_every_reading_fail_the_day(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    before = held(analytics)
    answer_pages(
        simulator, [[[rating(n), rating(n + 1)], [rating(n + 1), rating(n + 2)]] for n in range(3)]
    )
    result = load(analytics, [RATINGS], FAULTY, catalogue=catalogue)
    said = failure_of(result, step(RATINGS))
    assert f"({FAULTY})" in said
    assert "rows moved between pages in each of 3 readings" in said
    assert can_retry(result, RATINGS) is True
    assert held(analytics) == before
