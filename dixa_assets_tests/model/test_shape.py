"""What the catalogue's lists have beyond its description is told once, and costs nothing."""

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


def look(known: Catalogue, metric: dict[str, Any], record: dict[str, Any]) -> Catalogue:
    """The catalogue after a look at lists of these two."""
    listing = Listing.from_api([metric], [record])
    return merge(known, listing, at="2025-11-01T00:00:00+00:00", is_still_described=lambda _: True)


def about_lists(catalogue: Catalogue) -> list[tuple[str, str, str | None]]:
    """The changes that are about whole lists."""
    return [
        (change.kind, change.change, change.item) for change in catalogue.changes if not change.id
    ]


def test_lists_as_described_are_no_news() -> None:
    assert about_lists(look(Catalogue(), METRIC, RECORD)) == []


@pytest.mark.parametrize(
    ("metric", "record", "told"),
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
def test_what_is_not_described_is_noted_once_and_the_entry_is_read_all_the_same(
    metric: dict[str, Any], record: dict[str, Any], told: tuple[str, str, str]
) -> None:
    first = look(Catalogue(), METRIC | metric, RECORD | record)
    assert about_lists(first) == [told]
    assert [entry.id for entry in first.live] == ["csat", "ratings"]
    again = look(first, METRIC | metric, RECORD | record)
    assert again.version == first.version
