"""The tables of the catalogue, and their rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.merge import ONLY_IN_ROWS
from dixa_assets.model.privacy import STORE_ALL, FieldPolicy
from dixa_assets.model.tables import LOADED_COLUMNS, Column, Table
from dixa_assets.model.values import BOOLEAN, TIMESTAMPTZ, VARCHAR

_ENTRY = (
    Column("kind", VARCHAR, "metric or record."),
    Column("id", VARCHAR, "Dixa's id."),
    Column("asset_key", VARCHAR, "The asset, as schema/relation."),
    Column("description", VARCHAR, "Dixa's own description."),
)
_STATUS = (
    Column("is_live", BOOLEAN, "Whether Dixa still lists it."),
    Column("first_seen", TIMESTAMPTZ, "When it was first listed."),
    Column("retired_at", TIMESTAMPTZ, "When Dixa was found to list it no longer."),
)


def _catalogue_table(name: str, comment: str, *columns: Column) -> Table:
    return Table("dixa_catalogue", name, comment, (*columns, *LOADED_COLUMNS))


METRICS = _catalogue_table(
    "metrics",
    "Every metric Dixa lists or has listed.",
    *_ENTRY,
    *_STATUS,
    Column("measures", "VARCHAR[]", "The measures that the metric offers."),
)
RECORDS = _catalogue_table("records", "Every record Dixa lists or has listed.", *_ENTRY, *_STATUS)
FILTERS = _catalogue_table(
    "filters",
    "The attributes by which each metric and record can be filtered.",
    *_ENTRY,
    Column("filter_attribute", VARCHAR, "Attribute to filter or break down by."),
)
AGGREGATIONS = _catalogue_table(
    "aggregations",
    "The measures that each metric offers.",
    *_ENTRY,
    Column("measure", VARCHAR, "A measure that the metric offers."),
)
# Columns that a database of an older version lacks.
FIELD_TREATMENT = (
    Column("treatment", VARCHAR, "`stored`, `hashed`, `excluded` or `not allowed`."),
    Column("looks_personal", BOOLEAN, "Whether `forget` blanks it in the rows of a person."),
)
FIELDS = _catalogue_table(
    "fields",
    "The fields of each record: those that it declares, and those that only its rows have.",
    *_ENTRY,
    Column("field", VARCHAR, "Dixa's name of the field."),
    Column("is_nullable", BOOLEAN, "Whether it can be NULL, according to Dixa."),
    *FIELD_TREATMENT,
)
RELATIONS = _catalogue_table(
    "relations",
    "The pairs of a metric and a record that Dixa relates: the record has the metric's rows.",
    Column("metric", VARCHAR, "The metric's id."),
    Column("record", VARCHAR, "The record's id."),
)
CHANGES = _catalogue_table(
    "changes",
    "Every change of the catalogue since it was first fetched.",
    Column("changed_at", TIMESTAMPTZ, "When the change was noticed."),
    Column("kind", VARCHAR, "metric or record."),
    Column("id", VARCHAR, "Dixa's id; empty for a change of the whole list."),
    Column(
        "change", VARCHAR, "What happened: added, retired, field added, unknown type and so on."
    ),
    Column("item", VARCHAR, "The filter, measure, field or related id that changed."),
    Column("before", VARCHAR, "The former content, as JSON."),
    Column("after", VARCHAR, "The new content, as JSON."),
)


API_FACTS = _catalogue_table(
    "api_facts",
    "The behaviour of the account's API where its documentation is silent, as the probe found it.",
    Column("question", VARCHAR, "The question."),
    Column("assumed", VARCHAR, "The behaviour that loads assume without an answer."),
    Column("observed", VARCHAR, "The behaviour of the API; empty if the probe got no answer."),
    Column(
        "verdict",
        VARCHAR,
        "`as assumed`; `otherwise: handled`; `otherwise: needs you`; or `could not be told`.",
    ),
    Column("evidence", VARCHAR, "The ids, counts, types and statuses behind it."),
    Column("since", TIMESTAMPTZ, "When the probe asked."),
    Column("setting", VARCHAR, "The setting with which loads adapt to it."),
    Column("value", VARCHAR, "The value of that setting."),
)


def catalogue_tables(catalogue: Catalogue) -> list[Table]:
    """The catalogue's tables. The table of the probe's findings needs findings."""
    tables = [METRICS, RECORDS, FILTERS, AGGREGATIONS, FIELDS, RELATIONS, CHANGES]
    return [*tables, API_FACTS] if catalogue.facts else tables


def catalogue_rows(
    catalogue: Catalogue, policy_of: Callable[[str], FieldPolicy] = lambda _: STORE_ALL
) -> dict[Table, list[dict[str, Any]]]:
    """The rows of each of the catalogue's tables.

    Args:
        catalogue: The catalogue.
        policy_of: Returns how the fields of a record are treated, by its id.
    """
    rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in catalogue_tables(catalogue)}
    pairs, only_in_rows = set(), catalogue.changed_items(ONLY_IN_ROWS)
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
        undeclared = only_in_rows[entry.kind, entry.id]
        rows[FIELDS] += [own | each for each in _fields(entry, undeclared, policy_of(entry.id))]
    rows[RELATIONS] = [{"metric": metric, "record": record} for metric, record in sorted(pairs)]
    rows[CHANGES] = [asdict(change) for change in catalogue.changes]
    if catalogue.facts:
        rows[API_FACTS] = [asdict(fact) for fact in catalogue.facts]
    return rows


def _fields(entry: Entry, others: Sequence[str], policy: FieldPolicy) -> Iterator[dict[str, Any]]:
    """The declared fields of a record, and the fields that only its rows have."""
    declared = {item.field: (item.description, item.nullable) for item in entry.fields}
    fields = {name: ("", None) for name in others} | declared
    for name, (description, is_nullable) in fields.items():
        yield {
            "field": name,
            "description": description,
            "is_nullable": is_nullable,
            "treatment": policy.treatment(name).value,
            "looks_personal": policy.is_personal(name, description),
        }
