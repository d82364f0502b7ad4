"""The data of the simulator: in order, within bounds, and the same whatever is requested first."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.asking import END, NOW, START
from dixa_assets_tests.support.simulator import MILLISECOND


def test_a_seed_gives_the_same_data_whatever_is_requested_first(world: World) -> None:
    other = World()
    other.rows("ratings", start=END + timedelta(days=3), end=END + timedelta(days=4), now=NOW)
    day: dict[str, Any] = {"start": START, "end": END, "now": NOW}
    assert other.rows("closed_conversations", **day) == world.rows("closed_conversations", **day)


def test_another_seed_gives_other_data(world: World) -> None:
    day: dict[str, Any] = {"start": START, "end": END, "now": NOW}
    assert World(seed=8).rows("ratings", **day) != world.rows("ratings", **day)


@pytest.mark.parametrize("record_id", RECORDS)
def test_rows_are_in_order_and_within_half_open_bounds(world: World, record_id: str) -> None:
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


def test_every_event_is_within_the_days_that_are_searched(world: World) -> None:
    created = world.rows("created_conversations", start=START, end=END, now=NOW)
    csids = {row.conversation.csid for row in created if row.conversation}
    by_id = world.rows_of_conversations("closed_conversations", csids, now=NOW)
    by_time = world.rows("closed_conversations", start=START, end=NOW, now=NOW)
    assert by_id == [row for row in by_time if row.conversation and row.conversation.csid in csids]


def test_the_data_contain_every_type_of_field(world: World) -> None:
    shapes = set()
    for record_id in RECORDS:
        for row in world.rows(record_id, start=START, end=END, now=NOW):
            answer = row.to_api()
            shapes.add(("value", answer.get("value", {}).get("_type")))
            for field in answer["fields"]:
                content = field.get("field", {"_type": "null"})
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


def test_a_long_field_has_values_that_a_float_cannot_represent(world: World) -> None:
    rows = world.rows("created_conversations", start=START, end=END, now=NOW)
    numbers = [row.field("external_reference") for row in rows]
    assert any(isinstance(number, int) and int(float(number)) != number for number in numbers)
    assert None in numbers
