"""Every table of the project: names, columns, types, comments.

One description serves the DDL, the Columns tab of the Dagster UI and the drift check. No SQL is
built here and nothing is fetched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from dixa_assets.model.catalogue import RESERVED_METRIC_NAME, Catalogue, Entry
from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, JSON, TIMESTAMPTZ, VARCHAR

# How the address of a database begins that many machines write.
LAKE_SCHEME = "ducklake:postgres:"


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


@dataclass(frozen=True, slots=True)
class Relation:
    """What people query, where its rows stand, and which of the rows there are its own.

    For most, `stored_in` is `table` itself. A metric is a view over a table that all metrics
    share; `only` has the value of a column that tells its rows there.
    """

    table: Table
    stored_in: Table
    only: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def whole(cls, table: Table) -> Self:
        """A table that people query as it stands."""
        return cls(table, table)

    @property
    def key(self) -> str:
        """`schema/name` of what people query, as in the asset key."""
        return self.table.key


# Columns that several tables have.

LOADED_COLUMNS = (
    Column("loaded_at", TIMESTAMPTZ, "When this row was loaded."),
    Column("run_id", VARCHAR, "The Dagster run that loaded this row."),
)
PARTITION_DATE = Column("partition_date", DATE, "The local day, in the warehouse's timezone.")

# Metrics. Every metric shares the first table; the relations people use are views over it.
# `aggregate` keeps what no other column can hold, so that an answer of a new shape is not lost.

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

# Records, a table each. A row's own value stands beside its fields and has no name of its own.

RECORD_COLUMNS = (
    PARTITION_DATE,
    Column("primary_timestamp", TIMESTAMPTZ, "When the event happened; Dixa's period looks at it."),
    Column("primary_timestamp_field", VARCHAR, "Dixa's name for that instant."),
)
RECORD_VALUE = Column("value", None, "The number behind the metric this record feeds.", "", "value")


def relation_of(entry: Entry, excluded_fields: Iterable[str] = ()) -> Relation:
    """The relation of a metric or record; of a record without the fields not to be stored."""
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


# Filter values, a table for each attribute.


def filter_relation(attribute: str, name: str) -> Relation:
    """The relation of one filter attribute's values, in a table called `name`."""
    table = Table(
        "dixa_filters",
        name,
        f"The values Dixa offers for the filter attribute {attribute}.",
        (
            Column("value", VARCHAR, "The value, as it stands in filters and records."),
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
    Column("retired_at", TIMESTAMPTZ, "When it was found to be listed no more."),
)


def _catalogue_table(name: str, comment: str, *columns: Column) -> Table:
    return Table("dixa_catalogue", name, comment, (*columns, *LOADED_COLUMNS))


METRICS = _catalogue_table(
    "metrics",
    "Every metric Dixa lists or has listed.",
    *_ENTRY,
    *_STATUS,
    Column("measures", "VARCHAR[]", "What the metric can be asked for."),
)
RECORDS = _catalogue_table("records", "Every record Dixa lists or has listed.", *_ENTRY, *_STATUS)
FILTERS = _catalogue_table(
    "filters",
    "By which attributes each metric and record can be filtered.",
    *_ENTRY,
    Column("filter_attribute", VARCHAR, "Attribute to filter or break down by."),
)
AGGREGATIONS = _catalogue_table(
    "aggregations",
    "Which measures each metric can be asked for.",
    *_ENTRY,
    Column("measure", VARCHAR, "A measure the metric can be asked for."),
)
FIELDS = _catalogue_table(
    "fields",
    "Which fields each record declares.",
    *_ENTRY,
    Column("field", VARCHAR, "Dixa's name of the field."),
    Column("is_nullable", BOOLEAN, "Whether Dixa says that it can be NULL."),
)
RELATIONS = _catalogue_table(
    "relations",
    "Which metric is made from which record.",
    Column("metric", VARCHAR, "The metric's id."),
    Column("record", VARCHAR, "The record's id."),
)
CHANGES = _catalogue_table(
    "changes",
    "Every change of the catalogue since it was first fetched.",
    Column("changed_at", TIMESTAMPTZ, "When the change was noticed."),
    Column("kind", VARCHAR, "metric or record."),
    Column("id", VARCHAR, "Dixa's id; empty for what is new in the whole list."),
    Column(
        "change", VARCHAR, "What happened: added, retired, field added, unknown type and so on."
    ),
    Column("item", VARCHAR, "The filter, measure, field or related id it happened to."),
    Column("before", VARCHAR, "What it was, as JSON."),
    Column("after", VARCHAR, "What it is, as JSON."),
)


API_FACTS = _catalogue_table(
    "api_facts",
    "What the account's API does where its documentation is silent.",
    Column("question", VARCHAR, "What was asked."),
    Column("assumed", VARCHAR, "What is assumed without an answer."),
    Column("observed", VARCHAR, "What the API did; empty if it could not be told."),
    Column("verdict", VARCHAR, "As assumed; otherwise, and handled or for you; or not to be told."),
    Column("evidence", VARCHAR, "What shows it: ids, counts, types and statuses."),
    Column("since", TIMESTAMPTZ, "When it was asked."),
    Column("setting", VARCHAR, "What is done differently because of it."),
    Column("value", VARCHAR, "And how."),
)


def catalogue_rows(catalogue: Catalogue) -> dict[Table, list[dict[str, Any]]]:
    """The catalogue as tables, each with its rows."""
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
        # The parts of an entry have descriptions of their own.
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


# What the warehouse notes of itself.

LOADS = Table(
    "dixa_catalogue",
    "loads",
    "One row per loaded partition: what its latest load asked for, got and cost.",
    (
        Column("asset_key", VARCHAR, "The asset, as schema/relation."),
        Column("partition_date", DATE, "The local day; NULL for assets without partitions."),
        Column("interval_start", TIMESTAMPTZ, "First instant that was asked for."),
        Column("interval_end", TIMESTAMPTZ, "First instant after what was asked for."),
        Column("timezone", VARCHAR, "The zone of the day."),
        Column("rows", BIGINT, "Rows written."),
        Column("rows_outside_window", BIGINT, "Rows whose timestamp lies outside the window."),
        Column("nulls", JSON, "Rows lacking a value, by field that Dixa says always has one."),
        Column("requests", BIGINT, "Requests sent, retries included."),
        Column("retries", BIGINT, "Requests that were repeats of a failed one."),
        Column("pages", BIGINT, "Pages read."),
        Column("bytes", BIGINT, "Bytes of the answers' bodies."),
        Column("seconds", DOUBLE, "How long fetching and writing took."),
        Column("filters", JSON, "Filters sent with every request."),
        Column("breakdowns", JSON, "Attributes the metric was broken down by."),
        Column("schema_changes", JSON, "Columns this load added or widened."),
        Column("unknown_types", JSON, "Types of values that are not documented, by field."),
        Column("reach", BIGINT, "Days the answer is proven to cover; 0: joint answers lack rows."),
        Column("loaded_at", TIMESTAMPTZ, "When the partition was committed."),
        Column("run_id", VARCHAR, "The Dagster run."),
    ),
)
COLUMNS = Table(
    "dixa_catalogue",
    "columns",
    "Every column of every table, with the field of Dixa's it comes from.",
    (
        Column("table_schema", VARCHAR, "Schema of the table."),
        Column("table_name", VARCHAR, "The table."),
        Column("column_name", VARCHAR, "The column."),
        Column("type", VARCHAR, "Its type; NULL while no value has shown one."),
        Column("comment", VARCHAR, "What it holds."),
        Column("field", VARCHAR, "Dixa's name of the field; empty for the project's own."),
        Column("part", VARCHAR, "Whether it holds the field's value or its label."),
    ),
)
WAREHOUSE = Table(
    "dixa_catalogue",
    "warehouse",
    "What the whole warehouse has in common.",
    (
        Column("timezone", VARCHAR, "The zone whose midnights bound every partition."),
        Column("created_at", TIMESTAMPTZ, "When the first table was made."),
        Column("account", VARCHAR, "The account whose days these are; empty if it has no name."),
        Column("host", VARCHAR, "The API's host that they come from."),
    ),
)


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
