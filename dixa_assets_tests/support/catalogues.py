"""Catalogues of a metric and a record, and their changes."""

from typing import Any

from dixa_assets.model.catalogue import Catalogue, Entry, Listing
from dixa_assets.model.merge import merge
from dixa_assets_tests.support.simulator import Json

METRIC: Json = {
    "id": "csat",
    "description": "Share of happy customers",
    "filters": [{"filterAttribute": "queue_id", "description": "A queue"}],
    "aggregations": [{"measure": "Percentage", "description": "0 to 100"}],
    "relatedRecordIds": ["ratings"],
}
RECORD: Json = {
    "id": "ratings",
    "description": "Ratings",
    "filters": [{"filterAttribute": "channel"}],
    "relatedMetricIds": ["csat"],
    "fieldsMetadata": [{"field": "agent_id", "description": "Who", "nullable": True}],
}
FIRST, LATER, LAST = "2025-01-01T00:00:00+00:00", "2025-02-01T00:00:00+00:00", "2025-03-01"


def never_described(_: Entry) -> bool:
    return False


def listing(*metrics: Json, records: tuple[Json, ...] = (RECORD,)) -> Listing:
    return Listing.from_api(metrics or (METRIC,), records)


def merged(known: Catalogue, new: Listing, at: str = LATER) -> Catalogue:
    return merge(known, new, at=at, is_still_described=never_described)


def fresh(*metrics: Json, records: tuple[Json, ...] = (RECORD,)) -> Catalogue:
    return merged(Catalogue(), listing(*metrics, records=records), FIRST)


def entry_of(catalogue: Catalogue, entry_id: str, kind: str = "metric") -> Entry:
    (found,) = [one for one in catalogue.entries if (one.kind, one.id) == (kind, entry_id)]
    return found


def news(known: Catalogue, later: Catalogue) -> list[tuple[Any, ...]]:
    """The changes of the later catalogue that the known one does not have, without instants."""
    assert later.changes[: len(known.changes)] == known.changes
    return [
        (one.kind, one.id, one.change, one.item, one.before, one.after)
        for one in later.changes[len(known.changes) :]
    ]
