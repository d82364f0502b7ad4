"""Odd answers and pages in disorder: no row is lost or doubled, or the day stays as it was."""

import json
import re

import pytest

from dixa_assets_tests.support.faults import (
    CSAT,
    DAYS,
    FAULTY,
    FIRST,
    LAST,
    MESSAGES,
    RATINGS,
    ROW,
    Scene,
    assert_one_day_failed,
    can_retry,
)
from dixa_assets_tests.support.simulator import Json
from dixa_assets_tests.support.truth import sent_rows

pytestmark = pytest.mark.slow


# Odd answers that are taken for what they say


@pytest.mark.parametrize("content_type", ["text/plain", "text/html; charset=utf-8", ""])
def test_the_right_json_under_a_wrong_content_type_is_read(content_type: str, scene: Scene) -> None:
    body = json.dumps({"data": [rating(1), rating(2)]})
    scene.fault("status", status=200, id="ratings", body=body, content_type=content_type)
    assert scene.load(RATINGS, first=FAULTY, last=FAULTY).success
    assert numbers_of(scene) == [1, 2]


@pytest.mark.parametrize("kind", ["null_meta", "next_on_empty_page"])
def test_an_odd_end_of_the_pages_costs_no_row(kind: str, scene: Scene) -> None:
    before = scene.held()
    scene.fault(kind, operation="postAnalyticsRecords", id="ratings")
    assert scene.load(RATINGS).success
    assert scene.held()[RATINGS, FAULTY] != before[RATINGS, FAULTY]
    scene.assert_whole()


def test_a_list_without_data_is_an_empty_day_as_the_vendors_schema_has_it(scene: Scene) -> None:
    scene.fault("missing_data", id="ratings", skip=1, times=1)
    assert scene.load(RATINGS).success
    assert scene.noted(RATINGS, "rows")[FAULTY] == 0
    assert numbers_of(scene) == []
    scene.assert_equal(RATINGS, days=[FIRST, LAST])


def test_a_promised_page_without_data_leaves_the_day_as_it_was(scene: Scene) -> None:
    before = scene.held()
    scene.fault("missing_data", id="messages_sent", skip=3, times=1)
    result = scene.load(MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page after a link has no 'data'")
    assert scene.pages(FAULTY) == [False, True]
    assert scene.held()[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    scene.assert_whole()


def test_values_of_unknown_types_are_kept_whole_as_json_next_to_the_days_before(
    scene: Scene,
) -> None:
    scene.fault("unknown_type", id="ratings", times=1)
    assert scene.load(RATINGS, CSAT, first=FAULTY, last=FAULTY).success
    names = ("survey_id", "agent_id", "conversation_id", "answered_at")
    strange = '"_type": "HologramField", "depth": {"unit": "cm", "of": [1, 2]}'
    sent = [
        {one["name"]: one.get("field") for one in json.loads(fields)}
        for row in sent_rows(scene.world, "ratings", FAULTY)
        if (fields := re.sub(r'"_type": "\w+"', strange, json.dumps(row["fields"])))
    ]
    texts = ", ".join(f"{name}::VARCHAR AS {name}" for name in names)
    query = scene.analytics.build_warehouse().query
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
            for row in sent_rows(scene.world, "ratings", day)
            for one in row["fields"]
            if one["name"] == "conversation_id"
        ]
    scene.assert_whole(CSAT)


# Pages


def test_pages_that_go_in_a_circle_leave_the_day_as_it_was(scene: Scene) -> None:
    before = scene.held()
    scene.simulator.tell("settings", max_page_limit=100)
    # One refused page size, and the pages of the day before.
    ahead = 1 + -(-scene.rows_of(MESSAGES, FIRST) // 100)
    scene.fault("repeated_key", id="messages_sent", skip=ahead, times=2)
    result = scene.load(MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "the same page key twice")
    assert can_retry(result, MESSAGES) is False
    assert scene.pages(FAULTY) == [False, True]
    assert scene.held()[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    scene.assert_whole()


@pytest.mark.parametrize(("limit", "refused"), [(100, ["300"]), (50, ["300", "100"])])
def test_a_refused_page_size_costs_one_request_a_size_and_no_row(
    limit: int, refused: list[str], scene: Scene
) -> None:
    before = scene.held()
    scene.simulator.tell("settings", max_page_limit=limit)
    assert scene.load(MESSAGES).success
    assert scene.held()[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    scene.assert_whole(MESSAGES)
    requests = scene.simulator.requests()
    assert [r["query"]["pageLimit"] for r in requests if r["status"] == 400] == refused


def test_a_page_key_that_expires_has_the_window_read_again_from_its_first_page(
    scene: Scene,
) -> None:
    before = scene.held()
    scene.fault("expired_key", id="messages_sent", skip=1, times=1)
    assert scene.load(MESSAGES).success
    assert scene.pages(FAULTY) == [False, True, False, True]
    assert scene.held()[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    scene.assert_whole(MESSAGES)
    rows = scene.noted(MESSAGES, "rows")
    assert rows == {day: scene.rows_of(MESSAGES, day) for day in DAYS}


def test_page_keys_that_go_on_expiring_fail_the_day_and_name_it(scene: Scene) -> None:
    before = scene.held()
    scene.fault("expired_key", id="messages_sent", skip=1, times=3)
    result = scene.load(MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page key from the last page was refused (400")
    assert scene.pages(FAULTY) == [False, True] * 3
    assert scene.held()[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    scene.assert_whole()


@pytest.mark.parametrize("times", [1, 3])
def test_a_day_whose_rows_move_between_pages_is_requested_in_parts(
    times: int, scene: Scene
) -> None:
    before = scene.held()
    scene.fault("shift", id="messages_sent", skip=1, times=times)
    assert scene.load(MESSAGES).success
    assert len(scene.pages(FAULTY)) > 2
    assert scene.held()[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    scene.assert_whole(MESSAGES)


def test_a_refused_page_key_and_moved_rows_together_cost_no_row(scene: Scene) -> None:
    scene.fault("expired_key", id="messages_sent", skip=1, times=1)
    scene.fault("shift", id="messages_sent", skip=1, times=1)
    assert scene.load(MESSAGES).success
    scene.assert_whole(MESSAGES)


def rating(number: int) -> Json:
    field = {"name": "conversation_id", "field": {"_type": "LongField", "value": number}}
    return {**ROW, "fields": [field]}


def numbers_of(scene: Scene) -> list[int]:
    rows = scene.analytics.build_warehouse().query(
        "SELECT conversation_id AS n FROM dixa_records.ratings WHERE partition_date = ? "
        "ORDER BY rowid",
        [FAULTY],
    )
    return [int(number) for number in rows.n]
