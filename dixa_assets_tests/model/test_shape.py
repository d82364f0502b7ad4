"""Undocumented parts of the catalogue's lists are reported once, and the rest is read."""

from typing import Any

import pytest

from dixa_assets.model.catalogue import Catalogue, Listing
from dixa_assets.model.merge import merge

METRIC: dict[str, Any] = {
    "id": "csat",
    "description": "",
    "filters": [{"filterAttribute": "channel", "description": ""}],
    "aggregations": [{"measure": "Average", "description": ""}],
    "relatedRecordIds": ["ratings"],
}
RECORD: dict[str, Any] = {
    "id": "ratings",
    "description": "",
    "filters": [],
    "fieldsMetadata": [{"field": "score", "description": "", "nullable": True}],
    "relatedMetricIds": ["csat"],
}


def merged(known: Catalogue, metric: dict[str, Any], record: dict[str, Any]) -> Catalogue:
    """The catalogue after merging lists of these two."""
    listing = Listing.from_api([metric], [record])
    return merge(known, listing, at="2025-11-01T00:00:00+00:00", is_still_described=lambda _: True)


def about_lists(catalogue: Catalogue) -> list[tuple[str, str, str | None]]:
    """The changes of whole lists."""
    return [
        (change.kind, change.change, change.item) for change in catalogue.changes if not change.id
    ]


def test_documented_lists_are_no_change() -> None:
    assert about_lists(merged(Catalogue(), METRIC, RECORD)) == []


@pytest.mark.parametrize(
    ("metric", "record", "reported"),
    [
        ({"unit": "s"}, {}, ("metric", "unknown key", "unit")),
        ({"category": "agents"}, {}, ("metric", "answers like the Intelligence API", "category")),
        (
            {"filters": [{"filterAttribute": "channel", "operators": []}]},
            {},
            ("metric", "unknown key", "filters.operators"),
        ),
        ({"aggregations": [{"measure": "P90"}]}, {}, ("metric", "unknown measure", "P90")),
        (
            {},
            {"fieldsMetadata": [{"field": "score", "type": "Int"}]},
            ("record", "unknown key", "fieldsMetadata.type"),
        ),
    ],
)
def test_an_undocumented_part_is_reported_once_and_the_entry_is_read(
    metric: dict[str, Any], record: dict[str, Any], reported: tuple[str, str, str]
) -> None:
    first = merged(Catalogue(), METRIC | metric, RECORD | record)
    assert about_lists(first) == [reported]
    assert [entry.id for entry in first.live] == ["csat", "ratings"]
    again = merged(first, METRIC | metric, RECORD | record)
    assert again.version == first.version
