"""The rows of the catalogue's tables."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.merge import ONLY_IN_ROWS
from dixa_assets.model.privacy import STORE_ALL, FieldPolicy
from dixa_assets.model.tables import (
    AGGREGATIONS,
    API_FACTS,
    CHANGES,
    FIELDS,
    FILTERS,
    METRICS,
    RECORDS,
    RELATIONS,
    Table,
)


def catalogue_rows(
    catalogue: Catalogue, policy_of: Callable[[str], FieldPolicy] = lambda _: STORE_ALL
) -> dict[Table, list[dict[str, Any]]]:
    """The rows of each of the catalogue's tables.

    Args:
        catalogue: The catalogue.
        policy_of: Returns how the fields of a record are treated, by its id.
    """
    rows: dict[Table, list[dict[str, Any]]] = {
        table: [] for table in (METRICS, RECORDS, FILTERS, AGGREGATIONS, FIELDS, RELATIONS, CHANGES)
    }
    pairs = set()
    for entry in catalogue.entries:
        own = {
            "kind": entry.kind,
            "id": entry.id,
            "asset_key": entry.key,
            "description": entry.description,
        }
        status = {name: getattr(entry, name) for name in ("is_live", "first_seen", "retired_at")}
        if entry.kind == "metric":
            measures = [item.measure for item in entry.aggregations]
            rows[METRICS].append(own | status | {"measures": measures})
            pairs |= {(entry.id, record) for record in entry.related_ids}
        else:
            rows[RECORDS].append(own | status)
            pairs |= {(metric, entry.id) for metric in entry.related_ids}
        # The description of a part replaces the description of its entry.
        rows[FILTERS] += [
            own | {"filter_attribute": item.attribute, "description": item.description}
            for item in entry.filters
        ]
        rows[AGGREGATIONS] += [
            own | {"measure": item.measure, "description": item.description}
            for item in entry.aggregations
        ]
        rows[FIELDS] += [own | each for each in _fields(catalogue, entry, policy_of(entry.id))]
    rows[RELATIONS] = [{"metric": metric, "record": record} for metric, record in sorted(pairs)]
    rows[CHANGES] = [asdict(change) for change in catalogue.changes]
    if catalogue.facts:
        rows[API_FACTS] = [asdict(fact) for fact in catalogue.facts]
    return rows


def _fields(catalogue: Catalogue, entry: Entry, policy: FieldPolicy) -> Iterator[dict[str, Any]]:
    """The declared fields of a record, then the fields that only its rows have."""
    declared = {item.field: (item.description, item.nullable) for item in entry.fields}
    only_in_rows = {
        change.item: ("", None)
        for change in catalogue.changes
        if (change.kind, change.id) == (entry.kind, entry.id) and change.change == ONLY_IN_ROWS
    }
    for name, (description, is_nullable) in (only_in_rows | declared).items():
        yield {
            "field": name,
            "description": description,
            "is_nullable": is_nullable,
            "treatment": policy.treatment(name or "").value,
            "looks_personal": policy.is_personal(name or "", description),
        }
