"""Merge a listing into the catalogue: its new entries and its changes."""

import json
from dataclasses import replace
from typing import Any

import pytest

from dixa_assets.model.catalogue import Entry
from dixa_assets.model.merge import merge
from dixa_assets_tests.support.catalogues import (
    LAST,
    LATER,
    METRIC,
    RECORD,
    entry_of,
    fresh,
    listing,
    merged,
    news,
)
from dixa_assets_tests.support.simulator import Json


def test_a_new_entry_is_added_with_the_instant_and_a_name() -> None:
    known = fresh()
    later = merged(known, listing(METRIC, {"id": "new-one"}))
    assert entry_of(later, "new-one") == Entry(
        "metric", "new-one", name="new_one", first_seen=LATER
    )
    assert news(known, later) == [("metric", "new-one", "added", None, None, None)]
    assert later.changes[-1].changed_at == LATER


def test_an_unchanged_listing_changes_nothing() -> None:
    known = fresh(METRIC, {"id": "other"})
    later = merged(known, listing(METRIC, {"id": "other"}))
    assert later == known
    assert later.version == known.version


def test_an_entry_that_is_neither_listed_nor_described_is_retired() -> None:
    known = fresh(METRIC, {"id": "leaving"})
    later = merged(known, listing(METRIC))
    assert entry_of(later, "leaving") == replace(entry_of(known, "leaving"), retired_at=LATER)
    assert [one.id for one in later.live] == ["csat", "ratings"]
    assert news(known, later) == [("metric", "leaving", "retired", None, None, None)]


def test_an_entry_that_is_still_described_is_not_retired() -> None:
    known = fresh(METRIC, {"id": "hidden"})
    asked: list[str] = []

    def is_still_described(entry: Entry) -> bool:
        asked.append(entry.id)
        return True

    later = merge(known, listing(METRIC), at=LATER, is_still_described=is_still_described)
    assert later == known
    assert asked == ["hidden"]


def test_no_request_is_made_for_a_retired_entry() -> None:
    retired = merged(fresh(METRIC, {"id": "gone"}), listing(METRIC))

    def ask(entry: Entry) -> bool:
        raise AssertionError(f"asked about {entry.id}")

    assert merge(retired, listing(METRIC), at=LAST, is_still_described=ask) == retired


def test_a_retired_entry_that_is_listed_again_is_restored_under_its_name() -> None:
    known = fresh(METRIC, {"id": "back-again"})
    retired = merged(known, listing(METRIC))
    later = merged(retired, listing(METRIC, {"id": "back-again"}), LAST)
    assert entry_of(later, "back-again") == entry_of(known, "back-again")
    assert news(retired, later) == [
        ("metric", "back-again", "restored", None, json.dumps(LATER), None)
    ]


# By case, a changed metric or record, and the change that is then reported.
CHANGES: dict[str, tuple[Json, tuple[str, str | None, Any, Any]]] = {
    "description": (
        {**METRIC, "description": "Happiness"},
        ("description changed", None, "Share of happy customers", "Happiness"),
    ),
    "filter added": (
        {**METRIC, "filters": [*METRIC["filters"], {"filterAttribute": "tag_id"}]},
        ("filter added", "tag_id", None, {"attribute": "tag_id", "description": ""}),
    ),
    "filter removed": (
        {**METRIC, "filters": []},
        ("filter removed", "queue_id", {"attribute": "queue_id", "description": "A queue"}, None),
    ),
    "filter changed": (
        {**METRIC, "filters": [{"filterAttribute": "queue_id", "description": "The queue"}]},
        (
            "filter changed",
            "queue_id",
            {"attribute": "queue_id", "description": "A queue"},
            {"attribute": "queue_id", "description": "The queue"},
        ),
    ),
    "aggregation changed": (
        {**METRIC, "aggregations": [{"measure": "Percentage", "description": "0 to 1"}]},
        (
            "aggregation changed",
            "Percentage",
            {"measure": "Percentage", "description": "0 to 100"},
            {"measure": "Percentage", "description": "0 to 1"},
        ),
    ),
    "relation added": (
        {**METRIC, "relatedRecordIds": ["ratings", "answers"]},
        ("relation added", "answers", None, None),
    ),
}


def as_read(change: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*change[:-2], *(part and json.loads(part) for part in change[-2:]))


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_a_metric_is_reported_with_before_and_after(case: str) -> None:
    known = fresh()
    data, change = CHANGES[case]
    later = merged(known, listing(data))
    assert [as_read(one) for one in news(known, later)] == [("metric", "csat", *change)]
    kept = entry_of(known, "csat")
    assert entry_of(later, "csat") == replace(
        Entry.from_api("metric", data), name=kept.name, first_seen=kept.first_seen
    )


def test_a_change_of_a_field_is_reported_with_before_and_after() -> None:
    known = fresh()
    field = RECORD["fieldsMetadata"][0]
    record = {**RECORD, "fieldsMetadata": [{**field, "nullable": False}]}
    later = merged(known, listing(METRIC, records=(record,)))
    (change,) = news(known, later)
    assert as_read(change) == (
        "record",
        "ratings",
        "field changed",
        "agent_id",
        field,
        field | {"nullable": False},
    )


def test_each_of_several_changes_is_reported() -> None:
    known = fresh()
    data = {**METRIC, "description": "New", "filters": [{"filterAttribute": "tag_id"}]}
    later = merged(known, listing(data))
    assert [one[2:4] for one in news(known, later)] == [
        ("description changed", None),
        ("filter removed", "queue_id"),
        ("filter added", "tag_id"),
    ]


def test_another_order_is_no_change() -> None:
    one: Json = {
        "id": "many",
        "filters": [{"filterAttribute": name} for name in ("a", "b", "c")],
        "aggregations": [{"measure": name} for name in ("Count", "Sum")],
        "relatedRecordIds": ["x", "y"],
    }
    turned = {key: value[::-1] if isinstance(value, list) else value for key, value in one.items()}
    known = fresh(METRIC, one)
    assert merged(known, listing(turned, METRIC)) == known


def test_entries_are_sorted_by_kind_and_id() -> None:
    catalogue = fresh({"id": "b"}, {"id": "a"}, records=({"id": "d"}, {"id": "c"}))
    assert [one.id for one in catalogue.entries] == ["a", "b", "c", "d"]


def test_filter_attributes_keep_their_names_forever() -> None:
    known = fresh({"id": "one", "filters": [{"filterAttribute": "queue-id"}]}, records=(RECORD,))
    assert known.filter_names == {"channel": "channel", "queue-id": "queue_id"}
    later = merged(known, listing({"id": "one", "filters": [{"filterAttribute": "queue_id"}]}))
    assert later.filter_names["queue-id"] == "queue_id"
    assert later.filter_names["queue_id"].startswith("queue_id_")
    assert list(later.filter_names) == ["channel", "queue-id", "queue_id"]


def test_an_id_in_other_capitals_is_the_same_entry_with_another_spelling() -> None:
    known = fresh()
    shouted = {**METRIC, "id": "CSAT", "relatedRecordIds": ["Ratings"]}
    records = ({**RECORD, "id": "Ratings", "relatedMetricIds": ["CSAT"]},)
    later = merged(known, listing(shouted, records=records))
    assert [(one.key, one.api_id) for one in later.live] == [
        ("dixa_metrics/csat", "CSAT"),
        ("dixa_records/ratings", "Ratings"),
    ]
    assert entry_of(later, "csat").related_ids == ("ratings",)
    assert entry_of(later, "csat").first_seen == entry_of(known, "csat").first_seen
    assert news(known, later) == [
        ("metric", "csat", "id changed", None, '"csat"', '"CSAT"'),
        ("record", "ratings", "id changed", None, '"ratings"', '"Ratings"'),
    ]
    assert merged(later, listing(shouted, records=records), LAST) == later
    again = merged(later, listing(), LAST)
    assert [one.api_id for one in again.live] == ["csat", "ratings"]


def test_two_listed_ids_that_differ_in_capitals_are_two_entries() -> None:
    known = fresh(METRIC, {"id": "CSAT"})
    assert len({one.name for one in known.entries if one.kind == "metric"}) == 2
    assert merged(known, listing(METRIC, {"id": "CSAT"})) == known
    # One of them leaves: the other has not taken its name.
    later = merged(known, listing({"id": "CSAT"}))
    assert [one.id for one in later.live if one.kind == "metric"] == ["CSAT"]
