"""Every table of the project: names, columns, types, comments.

One description serves the DDL, the Columns tab of the Dagster UI and the `schema` check.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from dixa_assets.model.catalogue import RESERVED_METRIC_NAME, Entry
from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, JSON, TIMESTAMPTZ, VARCHAR

# Prefix of the address of a lake, a database that several machines write.
LAKE_SCHEME = "ducklake:postgres:"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `type` is None until a first value shows it. Until then the column is an empty text column.
    `field` and `part` name the source: the field of the API, and its `value` or its `label`. Both
    are empty for the project's own columns.
    """

    name: str
    type: str | None
    comment: str = ""
    field: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name, its comment, and the columns known before any data."""

    schema: str
    name: str
    comment: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> str:
        """`schema/name`: the asset key without account and translation."""
        return f"{self.schema}/{self.name}"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view that people query, and the table that stores its rows.

    Usually `stored_in` is `table` itself. A metric is a view of a table that all metrics share;
    `row_filter` selects the metric's rows there: a column and its value.
    """

    table: Table
    stored_in: Table
    row_filter: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def whole(cls, table: Table) -> Self:
        """A table that stores its own rows."""
        return cls(table, table)

    @property
    def key(self) -> str:
        """`schema/name` of the table or view."""
        return self.table.key


# Columns of several tables.

LOADED_COLUMNS = (
    Column("loaded_at", TIMESTAMPTZ, "When this row was loaded."),
    Column("run_id", VARCHAR, "The Dagster run that loaded this row."),
)
PARTITION_DATE = Column("partition_date", DATE, "The local day, in the warehouse's timezone.")

# Metrics. All metrics share one table, and each metric has a view of it. `aggregate` keeps values
# of unknown shape, which no other column can hold.

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
    Column("value", DOUBLE, "The number as Dixa returned it; NULL if Dixa returned none."),
    *LOADED_COLUMNS,
)
METRIC_NAME = Column("metric", VARCHAR, "The metric's id in Dixa's catalogue.")
METRIC_VALUES = Table(
    "dixa_metrics",
    RESERVED_METRIC_NAME,
    "The values of every metric. Values of unknown shape are kept as JSON in `aggregate`.",
    (
        METRIC_NAME,
        *METRIC_COLUMNS[:-2],
        Column("aggregate", JSON, "The whole aggregate as JSON, if its shape is unknown."),
        *LOADED_COLUMNS,
    ),
)
METRICS_DAILY = Table(
    "dixa",
    "metrics_daily",
    "Every metric, day by day: one row per metric, day, breakdown value, measure and status.",
    (METRIC_NAME, *METRIC_COLUMNS),
)

# Records. Each has a table. A row has fields and may have a value of its own, without a name.

RECORD_COLUMNS = (
    PARTITION_DATE,
    Column("primary_timestamp", TIMESTAMPTZ, "When the event happened; Dixa selects rows by it."),
    Column("primary_timestamp_field", VARCHAR, "Dixa's name for that instant."),
)
RECORD_VALUE = Column("value", None, "The number behind the metric this record feeds.", "", "value")


def relation_of(entry: Entry, excluded_fields: Iterable[str] = ()) -> Relation:
    """The relation of a metric, or of a record without its excluded fields."""
    if entry.kind == "metric":
        view = Table(entry.schema, entry.name, entry.description, METRIC_COLUMNS)
        return Relation(view, METRIC_VALUES, {METRIC_NAME.name: entry.id})
    excluded = frozenset(excluded_fields)
    columns = list(RECORD_COLUMNS)
    for item in entry.fields:
        if item.field not in excluded:
            name = column_name(item.field, "value", (column.name for column in columns))
            columns.append(Column(name, None, item.description, item.field, "value"))
    table = Table(entry.schema, entry.name, entry.description, (*columns, *LOADED_COLUMNS))
    return Relation.whole(table)


# Filter values. Each attribute has a table.


def filter_relation(attribute: str, name: str) -> Relation:
    """The relation of one filter attribute's values, in a table called `name`."""
    table = Table(
        "dixa_filters",
        name,
        f"The values Dixa offers for the filter attribute {attribute}.",
        (
            Column("value", VARCHAR, "The value, as in filters and records."),
            Column("label", VARCHAR, "Its display name."),
            *LOADED_COLUMNS,
        ),
    )
    return Relation.whole(table)


# The catalogue.

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
FIELDS = _catalogue_table(
    "fields",
    "The fields that each record declares.",
    *_ENTRY,
    Column("field", VARCHAR, "Dixa's name of the field."),
    Column("is_nullable", BOOLEAN, "Whether it can be NULL, according to Dixa."),
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


# The warehouse's own notes.

LOADS = Table(
    "dixa_catalogue",
    "loads",
    "One row per loaded partition: the request, result and cost of its latest load.",
    (
        Column("asset_key", VARCHAR, "The asset, as schema/relation."),
        Column("partition_date", DATE, "The local day; NULL for assets without partitions."),
        Column("interval_start", TIMESTAMPTZ, "First instant of the requested day."),
        Column("interval_end", TIMESTAMPTZ, "First instant after the requested day."),
        Column("timezone", VARCHAR, "The zone of the day."),
        Column("rows", BIGINT, "Rows written."),
        Column("rows_outside_window", BIGINT, "Rows whose primary timestamp lies outside the day."),
        Column("nulls", JSON, "Rows without a value, by field that Dixa calls non-nullable."),
        Column("requests", BIGINT, "Requests sent, retries included."),
        Column("retries", BIGINT, "Requests that repeated a failed one."),
        Column("pages", BIGINT, "Pages read."),
        Column("bytes", BIGINT, "Bytes of the response bodies."),
        Column("seconds", DOUBLE, "Duration of fetching and writing, in seconds."),
        Column("filters", JSON, "Filters sent with every request."),
        Column("breakdowns", JSON, "Attributes by which the metric was broken down."),
        Column("schema_changes", JSON, "Columns that this load added or widened."),
        Column("unknown_types", JSON, "Undocumented types of values, by field."),
        Column("loaded_at", TIMESTAMPTZ, "When the partition was committed."),
        Column("run_id", VARCHAR, "The Dagster run."),
    ),
)
COLUMNS = Table(
    "dixa_catalogue",
    "columns",
    "Every column of every table, with its source: a field of Dixa's.",
    (
        Column("table_schema", VARCHAR, "Schema of the table."),
        Column("table_name", VARCHAR, "The table."),
        Column("column_name", VARCHAR, "The column."),
        Column("type", VARCHAR, "Its type; NULL until a first value shows it."),
        Column("comment", VARCHAR, "Its content."),
        Column("field", VARCHAR, "Dixa's name of the field; empty for the project's own."),
        Column("part", VARCHAR, "Whether it holds the field's value or its label."),
    ),
)
OWNER = Table(
    "dixa_catalogue",
    "warehouse",
    "The account and zone of the whole warehouse, in one row.",
    (
        Column("timezone", VARCHAR, "The zone whose midnights bound every partition."),
        Column("created_at", TIMESTAMPTZ, "When the warehouse was created."),
        Column("account", VARCHAR, "The account of all days; empty if it has no name."),
        Column("host", VARCHAR, "The host of the API that returned them."),
    ),
)
CATALOGUE_JSON = Table(
    "dixa_catalogue",
    "catalogue_json",
    "The whole catalogue in one row, for this project's own use; the other tables are for people.",
    (
        Column("catalogue", VARCHAR, "The catalogue, as JSON."),
        Column("written_at", TIMESTAMPTZ, "When it was written."),
    ),
)
REVISIONS = Table(
    "dixa_catalogue",
    "revisions",
    "Totals of metrics that a reload changed; a row is never changed or removed.",
    (
        METRIC_NAME,
        PARTITION_DATE,
        Column("measure", VARCHAR, "Dixa's measure: Count, Sum, Average, Percentage and so on."),
        Column("status", VARCHAR, "Presence status; only presence durations have one."),
        Column("old_value", DOUBLE, "The total before the reload; NULL if there was none."),
        Column("new_value", DOUBLE, "The total after it; NULL if there is none any more."),
        Column("old_loaded_at", TIMESTAMPTZ, "When the old total was loaded."),
        Column("new_loaded_at", TIMESTAMPTZ, "When the new total was loaded."),
        Column("run_id", VARCHAR, "The Dagster run that reloaded the day."),
    ),
)
# The tables that every database has from the beginning.
OWN_TABLES = (COLUMNS, LOADS, METRIC_VALUES, OWNER, CATALOGUE_JSON, REVISIONS)

# The schema of the marts, which `marts/` describes.
MARTS = "dixa_marts"


def column_name(field: str, part: str, taken: Iterable[str]) -> str:
    """The column name of a field's value or label, distinct from the names in `taken`.

    SQL ignores case. The project's own columns keep their names; a field whose name is taken gets
    a trailing `_`.
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
    """The column's type, for documentation."""
    return column.type or "as in the data"


def comment_of(column: Column) -> str:
    """The column's comment. It names the field of the API if the column has another name."""
    if column.part == "label":
        return f"Display name of {column.field or 'value'} when the row was loaded."
    if column.field and column.name != column.field:
        return f"{column.comment} (Dixa's field '{column.field}')".strip()
    return column.comment


def columns_by_source(columns: Iterable[Column]) -> Mapping[tuple[str, str], Column]:
    """The columns of the API's fields, by field and part."""
    return {(column.field, column.part): column for column in columns if column.part}
