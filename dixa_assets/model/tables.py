"""Every table of the project: names, columns, types, comments.

One description serves the DDL, the Columns tab of the Dagster UI and the `schema` check.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from dixa_assets.model.catalogue import METRIC_TABLES, Entry
from dixa_assets.model.privacy import STORE_ALL, FieldPolicy
from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, JSON, TIMESTAMPTZ, VARCHAR

# Prefix of the address of a lake, a database that several machines write.
LAKE_SCHEME = "ducklake:postgres:"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `type` is None until a first value shows it. Until then the column is an empty text column.
    `field` and `part` name the source: the field of the API, and its `value` or its `label`. Both
    are empty for the project's own columns. `treatment` is `hashed` for a column of digests.
    """

    name: str
    type: str | None
    comment: str = ""
    field: str = ""
    part: str = ""
    treatment: str = ""


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
    `row_filter` selects the metric's rows there: a column and its value. `policy` says how the
    fields of its rows are treated.
    """

    table: Table
    stored_in: Table
    row_filter: Mapping[str, str] = field(default_factory=dict)
    policy: FieldPolicy = STORE_ALL

    @classmethod
    def whole(cls, table: Table, policy: FieldPolicy = STORE_ALL) -> Self:
        """A table that stores its own rows."""
        return cls(table, table, policy=policy)

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

# Metrics. All metrics share one table, and each metric has a view of it. Weeks and months have a
# table of the same form. `aggregate` keeps values of unknown shape, which no other column can hold.


def _metric_columns(partition_date: Column, span: str) -> tuple[Column, ...]:
    return (
        partition_date,
        Column("interval_start", TIMESTAMPTZ, f"First instant of the {span}."),
        Column("interval_end", TIMESTAMPTZ, f"First instant after the {span}."),
        Column("timezone", VARCHAR, f"The zone whose midnights bound the {span}, as sent to Dixa."),
        Column(
            "breakdown_attribute", VARCHAR, "Filter attribute of a breakdown; NULL for the total."
        ),
        Column("breakdown_value", VARCHAR, "The attribute's value, as Dixa lists it."),
        Column("breakdown_label", VARCHAR, "The value's display name when it was loaded."),
        Column("measure", VARCHAR, "Dixa's measure: Count, Sum, Average, Percentage and so on."),
        Column("status", VARCHAR, "Presence status; only presence durations have one."),
        Column("value", DOUBLE, "The number as Dixa returned it; NULL if Dixa returned none."),
        *LOADED_COLUMNS,
    )


METRIC_NAME = Column("metric", VARCHAR, "The metric's id in Dixa's catalogue.")
METRIC_COLUMNS = _metric_columns(PARTITION_DATE, "local day")
_AGGREGATE = Column("aggregate", JSON, "The whole aggregate as JSON, if its shape is unknown.")
METRIC_VALUES = Table(
    "dixa_metrics",
    METRIC_TABLES[0],
    "The values of every metric. Values of unknown shape are kept as JSON in `aggregate`.",
    (METRIC_NAME, *METRIC_COLUMNS[:-2], _AGGREGATE, *LOADED_COLUMNS),
)
METRICS_DAILY = Table(
    "dixa",
    "metrics_daily",
    "Every metric, day by day: one row per metric, day, breakdown value, measure and status.",
    (METRIC_NAME, *METRIC_COLUMNS),
)
_PERIOD_COLUMNS = (
    METRIC_NAME,
    Column("first_day", DATE, "The first local day of the week or month."),
    *_metric_columns(
        Column(PARTITION_DATE.name, DATE, "The last local day. Its load requested the values."),
        "week or month",
    ),
)
PERIOD_VALUES = Table(
    "dixa_metrics",
    METRIC_TABLES[1],
    "The values of every metric by week and month, as Dixa computed them for the whole period.",
    (
        Column("period", VARCHAR, "week or month."),
        *_PERIOD_COLUMNS[:-2],
        _AGGREGATE,
        *LOADED_COLUMNS,
    ),
)
PERIOD_VIEWS = {
    name: Table(
        "dixa",
        f"metrics_{name}ly",
        f"Every metric, {name} by {name}, as Dixa computed it for the whole {name}: one row per "
        f"metric, {name}, breakdown value, measure and status.",
        _PERIOD_COLUMNS,
    )
    for name in ("week", "month")
}

# Records. Each has a table. A row has fields and may have a value of its own, without a name.

RECORD_COLUMNS = (
    PARTITION_DATE,
    Column("primary_timestamp", TIMESTAMPTZ, "When the event happened; Dixa selects rows by it."),
    Column("primary_timestamp_field", VARCHAR, "Dixa's name for that instant."),
)
RECORD_VALUE = Column("value", None, "The number behind the metric this record feeds.", "", "value")


def relation_of(entry: Entry, policy: FieldPolicy = STORE_ALL) -> Relation:
    """The relation of a metric, or of a record without the fields that are left out."""
    if entry.kind == "metric":
        view = Table(entry.schema, entry.name, entry.description, METRIC_COLUMNS)
        return Relation(view, METRIC_VALUES, {METRIC_NAME.name: entry.id}, policy)
    columns, taken = list(RECORD_COLUMNS), set[str]()
    for item in entry.fields:
        if policy.treatment(item.field).is_kept:
            name = column_name(item.field, "value", taken)
            columns.append(Column(name, None, item.description, item.field, "value"))
    table = Table(entry.schema, entry.name, entry.description, (*columns, *LOADED_COLUMNS))
    return Relation.whole(table, policy)


# Filter values. Each attribute has a table.


def filter_relation(attribute: str, name: str, policy: FieldPolicy = STORE_ALL) -> Relation:
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
    return Relation.whole(table, policy)


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
        Column("periods", JSON, "The weeks and months that were requested with the day."),
        Column("schema_changes", JSON, "Columns that this load added, widened or removed."),
        Column("unknown_types", JSON, "Undocumented types of values, by field."),
        Column("loaded_at", TIMESTAMPTZ, "When the partition was committed."),
        Column("run_id", VARCHAR, "The Dagster run."),
        Column("removed_at", TIMESTAMPTZ, "When the rows were removed because of `keep_days`."),
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
        Column("treatment", VARCHAR, "`hashed` if it holds digests of the field's values."),
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
        Column("database_id", VARCHAR, "Identifies the database; its copies have the same."),
        Column("copied_at", TIMESTAMPTZ, "When a read copy was made; NULL in the database itself."),
        Column("hash_key", VARCHAR, "The fingerprint of DIXA_HASH_KEY, if digests are stored."),
        Column("erasures", BIGINT, "The number of forgotten values."),
        Column("holds_removed", BOOLEAN, "Whether free blocks may hold removed values."),
    ),
)
ERASURES = Table(
    "dixa_catalogue",
    "erasures",
    "One row per forgotten value and table. The value itself is not stored.",
    (
        Column("erased_at", TIMESTAMPTZ, "When the value was blanked."),
        Column("digest", VARCHAR, "Its keyed digest, by which later loads blank it again."),
        Column("table_name", VARCHAR, "The table, as schema.name; NULL if no table had it."),
        Column("rows", BIGINT, "The rows in which it was blanked."),
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
OWN_TABLES = (
    *(COLUMNS, LOADS, METRIC_VALUES, PERIOD_VALUES, OWNER, CATALOGUE_JSON, REVISIONS, ERASURES),
)

# The schema of the marts, which `marts/` describes.
MARTS = "dixa_marts"


def column_name(field: str, part: str, taken: set[str]) -> str:
    """The column name of a field's value or label, which is added to the names in `taken`.

    SQL ignores case, so `taken` has lower case. The project's own columns keep their names; a field
    whose name is taken gets a trailing `_`.
    """
    if field == RECORD_VALUE.field:
        return RECORD_VALUE.name if part == "value" else f"{RECORD_VALUE.name}_label"
    name = f"{field}_label" if part == "label" else field
    while name.lower() in taken or name.lower() in RESERVED or not name.strip():
        name += "_"
    taken.add(name.lower())
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
