"""From catalogue entry and data to tables: names, columns, types, comments.

One description serves the DDL, the Columns tab of the Dagster UI and the drift check. No SQL is
built here and nothing is fetched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dixa_assets.catalogue import RESERVED_METRIC_NAME, Catalogue, Entry
from dixa_assets.values import BOOLEAN, DATE, DOUBLE, JSON, TIMESTAMPTZ, VARCHAR


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `type` is None while no value has shown one; the column is then text without content. `field`
    and `part` say where it comes from: the vendor's field name, and its `value` or its `label`.
    Both are empty for columns this project fills itself.
    """

    name: str
    type: str | None
    comment: str = ""
    field: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, comment and the columns known before any data."""

    schema: str
    name: str
    comment: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> str:
        """`schema/name`, as in the asset key."""
        return f"{self.schema}/{self.name}"


LOADED_COLUMNS = (
    Column("loaded_at", TIMESTAMPTZ, "When this row was loaded."),
    Column("run_id", VARCHAR, "The Dagster run that loaded this row."),
)
PARTITION_DATE = Column("partition_date", DATE, "The local day, in the warehouse's timezone.")

METRIC_COLUMNS = (
    PARTITION_DATE,
    Column("interval_start", TIMESTAMPTZ, "First instant of the local day."),
    Column("interval_end", TIMESTAMPTZ, "First instant after the local day."),
    Column("timezone", VARCHAR, "The zone whose midnights bound the day, as sent to Dixa."),
    Column("breakdown_attribute", VARCHAR, "Filter attribute of a breakdown; NULL for the total."),
    Column("breakdown_value", VARCHAR, "The attribute's value, as Dixa lists it."),
    Column("breakdown_label", VARCHAR, "The value's display name when it was loaded."),
    Column("measure", VARCHAR, "Dixa's measure: Count, Sum, Average, Percentage and so on."),
    Column("status", VARCHAR, "Presence status; only presence durations have one."),
    Column("value", DOUBLE, "The number as Dixa gave it; NULL where Dixa gave none."),
    *LOADED_COLUMNS,
)
METRIC_NAME = Column("metric", VARCHAR, "The metric's id in Dixa's catalogue.")

# Every metric shares this table; the relations people use are views over it. `aggregate` keeps
# what no other column can hold, so that an answer of a new shape is not lost.
METRIC_VALUES = Table(
    "dixa_metrics",
    RESERVED_METRIC_NAME,
    "The values of every metric, with answers of unknown shape kept as JSON in `aggregate`.",
    (
        METRIC_NAME,
        *METRIC_COLUMNS[:-2],
        Column("aggregate", JSON, "The whole aggregate, where its shape is not a known one."),
        *LOADED_COLUMNS,
    ),
)
METRICS_DAILY = Table(
    "dixa",
    "metrics_daily",
    "Every metric, day by day: one row per metric, day, breakdown value, measure and status.",
    (METRIC_NAME, *METRIC_COLUMNS),
)

RECORD_COLUMNS = (
    PARTITION_DATE,
    Column("primary_timestamp", TIMESTAMPTZ, "When the event happened; Dixa's period looks at it."),
    Column("primary_timestamp_field", VARCHAR, "Dixa's name for that instant."),
)
# The row's own value stands beside its fields and has no name of its own.
RECORD_VALUE = Column("value", None, "The number behind the metric this record feeds.", "", "value")


def metric_table(entry: Entry) -> Table:
    """The relation of one metric."""
    return Table(entry.schema, entry.name, entry.description, METRIC_COLUMNS)


def record_table(entry: Entry, excluded_fields: Iterable[str] = ()) -> Table:
    """The table of one record, with the fields its catalogue entry declares."""
    excluded = frozenset(excluded_fields)
    columns = list(RECORD_COLUMNS)
    for item in entry.fields:
        if item.field not in excluded:
            name = column_name(item.field, "value", (column.name for column in columns))
            columns.append(Column(name, None, item.description, item.field, "value"))
    return Table(entry.schema, entry.name, entry.description, (*columns, *LOADED_COLUMNS))


def filter_table(attribute: str, name: str) -> Table:
    """The table of one filter attribute's values."""
    return Table(
        "dixa_filters",
        name,
        f"The values Dixa offers for the filter attribute {attribute}.",
        (
            Column("value", VARCHAR, "The value, as it stands in filters and records."),
            Column("label", VARCHAR, "Its display name."),
            *LOADED_COLUMNS,
        ),
    )


def catalogue_tables(catalogue: Catalogue) -> list[tuple[Table, list[dict[str, Any]]]]:
    """The catalogue as tables, each with its rows."""
    entries = [(entry, _own_columns(entry)) for entry in catalogue.entries]
    described = (*_ENTRY_COLUMNS, Column("description", VARCHAR, "Dixa's own description."))
    metrics = [
        row | _status(entry) | {"measures": [item.measure for item in entry.aggregations]}
        for entry, row in entries
        if entry.kind == "metric"
    ]
    records = [row | _status(entry) for entry, row in entries if entry.kind == "record"]
    filters = [
        row | {"filter_attribute": item.attribute, "description": item.description}
        for entry, row in entries
        for item in entry.filters
    ]
    aggregations = [
        row | {"measure": item.measure, "description": item.description}
        for entry, row in entries
        for item in entry.aggregations
    ]
    fields = [
        row | {"field": item.field, "description": item.description, "is_nullable": item.nullable}
        for entry, row in entries
        for item in entry.fields
    ]
    relations = [
        {
            "metric": entry.id if entry.kind == "metric" else other,
            "record": other if entry.kind == "metric" else entry.id,
        }
        for entry in catalogue.entries
        for other in entry.related_ids
    ]
    related = [dict(pair) for pair in sorted({tuple(row.items()) for row in relations})]
    attribute = Column("filter_attribute", VARCHAR, "Attribute to filter or break down by.")
    measure = Column("measure", VARCHAR, "A measure the metric can be asked for.")
    field_columns = (
        Column("field", VARCHAR, "Dixa's name of the field."),
        Column("is_nullable", BOOLEAN, "Whether Dixa says that it can be NULL."),
    )
    measures = Column("measures", "VARCHAR[]", "What the metric can be asked for.")
    return [
        _catalogue_table(
            "metrics",
            "Every metric Dixa lists or has listed.",
            (*described, *_STATUS, measures),
            metrics,
        ),
        _catalogue_table(
            "records", "Every record Dixa lists or has listed.", (*described, *_STATUS), records
        ),
        _catalogue_table(
            "filters",
            "By which attributes each metric and record can be filtered.",
            (*described, attribute),
            filters,
        ),
        _catalogue_table(
            "aggregations",
            "Which measures each metric can be asked for.",
            (*described, measure),
            aggregations,
        ),
        _catalogue_table(
            "fields", "Which fields each record declares.", (*described, *field_columns), fields
        ),
        _catalogue_table(
            "relations", "Which metric is made from which record.", _RELATION, related
        ),
        _catalogue_table(
            "changes",
            "Every change of the catalogue since it was first fetched.",
            _CHANGE_COLUMNS,
            [asdict(change) for change in catalogue.changes],
        ),
    ]


_ENTRY_COLUMNS = (
    Column("kind", VARCHAR, "metric or record."),
    Column("id", VARCHAR, "Dixa's id."),
    Column("asset_key", VARCHAR, "The asset, as schema/relation."),
)
_STATUS = (
    Column("is_live", BOOLEAN, "Whether Dixa still lists it."),
    Column("first_seen", TIMESTAMPTZ, "When it was first listed."),
    Column("retired_at", TIMESTAMPTZ, "When it was found to be listed no more."),
)
_RELATION = (
    Column("metric", VARCHAR, "The metric's id."),
    Column("record", VARCHAR, "The record's id."),
)
_CHANGE_COLUMNS = (
    Column("changed_at", TIMESTAMPTZ, "When the change was noticed."),
    Column("kind", VARCHAR, "metric or record."),
    Column("id", VARCHAR, "Dixa's id."),
    Column("change", VARCHAR, "What happened: added, retired, restored, field added and so on."),
    Column("item", VARCHAR, "The filter, measure, field or related id it happened to."),
    Column("before", VARCHAR, "What it was, as JSON."),
    Column("after", VARCHAR, "What it is, as JSON."),
)


def _catalogue_table(
    name: str, comment: str, columns: Iterable[Column], rows: list[dict[str, Any]]
) -> tuple[Table, list[dict[str, Any]]]:
    return Table("dixa_catalogue", name, comment, (*columns, *LOADED_COLUMNS)), rows


def _own_columns(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "id": entry.id,
        "asset_key": f"{entry.schema}/{entry.name}",
        "description": entry.description,
    }


def _status(entry: Entry) -> dict[str, Any]:
    return {
        "is_live": entry.is_live,
        "first_seen": entry.first_seen,
        "retired_at": entry.retired_at,
    }


def column_name(field: str, part: str, taken: Iterable[str]) -> str:
    """The column of a field's value or label, told apart from names in use.

    SQL compares names without case, and the project's own columns come first, so a field that
    meets a taken name gets a trailing `_`.
    """
    if field == RECORD_VALUE.field:
        return RECORD_VALUE.name if part == "value" else f"{RECORD_VALUE.name}_label"
    name = f"{field}_label" if part == "label" else field
    in_use = {other.lower() for other in taken} | RESERVED
    while name.lower() in in_use or not name.strip():
        name += "_"
    return name


RESERVED = frozenset(column.name for column in (*RECORD_COLUMNS, RECORD_VALUE, *LOADED_COLUMNS))
RESERVED |= {f"{RECORD_VALUE.name}_label"}


def documented_type(column: Column) -> str:
    """The column's type as people read it."""
    return column.type or "as in the data"


def comment_of(column: Column) -> str:
    """The column's comment, naming the vendor's field where the column's name differs from it."""
    if column.part == "label":
        return f"Display name of {column.field or 'value'} when the row was loaded."
    if column.field and column.name != column.field:
        return f"{column.comment} (Dixa's field '{column.field}')".strip()
    return column.comment


def columns_by_source(columns: Iterable[Column]) -> Mapping[tuple[str, str], Column]:
    """The columns that come from the data, by field and part."""
    return {(column.field, column.part): column for column in columns if column.part}
