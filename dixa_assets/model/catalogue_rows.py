"""The rows of the catalogue's tables, which `tables.py` describes."""

from dataclasses import asdict
from typing import Any

from dixa_assets.model.catalogue import Catalogue
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


def catalogue_rows(catalogue: Catalogue) -> dict[Table, list[dict[str, Any]]]:
    """The rows of each of the catalogue's tables."""
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
        rows[FIELDS] += [
            own
            | {"field": item.field, "description": item.description, "is_nullable": item.nullable}
            for item in entry.fields
        ]
    rows[RELATIONS] = [{"metric": metric, "record": record} for metric, record in sorted(pairs)]
    rows[CHANGES] = [asdict(change) for change in catalogue.changes]
    if catalogue.facts:
        rows[API_FACTS] = [asdict(fact) for fact in catalogue.facts]
    return rows
