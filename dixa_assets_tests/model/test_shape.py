"""Undocumented parts of the catalogue's lists are reported once, and the rest is read."""

import pytest

from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.support.catalogues import METRIC, RECORD, fresh, listing, merged
from dixa_assets_tests.support.simulator import Json


def merged_lists(known: Catalogue, metric: Json, record: Json) -> Catalogue:
    """The catalogue after merging lists of the two, with some keys replaced."""
    return merged(known, listing(METRIC | metric, records=(RECORD | record,)))


def about_lists(catalogue: Catalogue) -> list[tuple[str, str, str | None]]:
    """The changes of whole lists."""
    return [
        (change.kind, change.change, change.item) for change in catalogue.changes if not change.id
    ]


def test_documented_lists_are_no_change() -> None:
    assert about_lists(fresh()) == []


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
    metric: Json, record: Json, reported: tuple[str, str, str]
) -> None:
    first = merged_lists(Catalogue(), metric, record)
    assert about_lists(first) == [reported]
    assert [entry.id for entry in first.live] == ["csat", "ratings"]
    again = merged_lists(first, metric, record)
    assert again.version == first.version
