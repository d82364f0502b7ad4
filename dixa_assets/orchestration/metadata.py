"""What people see on an asset's pages: descriptions, columns, figures and previews as metadata."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from dixa_assets.checks.registry import Subject, is_per_group
from dixa_assets.load.progress import LoadedDay
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.counts import Usage
from dixa_assets.model.tables import Column, Table, comment_of, documented_type

REFERENCE = "https://docs.dixa.io/openapi/dixa-api/v1/"


def to_markdown(text: str) -> str:
    """Text of the API as Markdown that shows it as it is: no markup, link or script.

    Nothing more than that takes is escaped, because lists show descriptions as plain text.
    """
    return re.sub(
        r"[\\`*\[\]<>]|&(?=[#\w]+;)|(?<!\w)_|_(?!\w)|^(?=[#>+-])|@|(?<=:)//|(?<=www)\.|~(?=~)",
        lambda found: "\\" + (found[0] or ""),
        text,
        flags=re.MULTILINE,
    )


def of_table(table: Table) -> dict[str, Any]:
    """A table's name and columns, known before any load."""
    return {
        "dagster/table_name": f"{table.schema}.{table.name}",
        "dagster/storage_kind": "duckdb",
        "dagster/column_schema": _column_schema(table.columns),
    }


def of_entry(subject: Subject, to_key: Callable[[str, str], dg.AssetKey]) -> dict[str, Any]:
    """How to read the numbers, where Dixa describes them, and what belongs to them.

    Args:
        subject: The metric or record among all.
        to_key: From a schema and a name to an asset key.
    """
    entry = subject.entry
    metadata: dict[str, Any] = {
        "how to read": _how_to_read(entry),
        "Dixa's reference": dg.MetadataValue.url(REFERENCE),
    }
    if attribute := subject.only_with:
        metadata["left out"] = f"what has no value of {attribute}, the required filter"
    for other in subject.entries:
        if other.kind != entry.kind and other.id in entry.related_ids:
            key = to_key(other.schema, other.name)
            metadata[f"related {other.kind}: {other.id}"] = dg.MetadataValue.asset(key)
    return metadata


def of_load(rows: int, usage: Usage, seconds: float) -> dict[str, Any]:
    """What a load brought and cost."""
    return {
        "dagster/partition_row_count": rows,
        "rows": rows,
        "requests": usage.requests,
        "pages": usage.pages,
        "retries": usage.retries,
        "seconds": round(seconds, 3),
    }


def of_day(entry: Entry, day: LoadedDay) -> dict[str, Any]:
    """What the load of a day brought, asked for and changed."""
    window = day.window
    metadata: dict[str, Any] = {
        **of_load(day.counts.rows, day.usage, day.seconds),
        "window": f"{window.start.isoformat()} to {window.end.isoformat()} ({window.timezone})",
        **day.totals,
    }
    if day.together > 1:
        metadata["asked for together with"] = f"{day.together - 1} other days"
    if day.schema_changes:
        metadata["schema_changes"] = "; ".join(day.schema_changes)
    if entry.kind == "record":
        metadata["rows_outside_window"] = day.counts.outside_window
        metadata["dagster/column_schema"] = _column_schema(day.columns)
        own = day.preview[day.preview.partition_date.dt.date == window.day]
        if len(own):
            metadata["preview"] = to_table(own.astype(object).to_dict("records"))
    return metadata


def to_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table in the UI, which takes plain values only."""
    return dg.MetadataValue.table(
        [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in (rows[0] if rows else {})]),
    )


def _column_schema(columns: Sequence[Column]) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name, type=documented_type(column), description=comment_of(column) or None
            )
            for column in columns
        ]
    )


def _cell(value: object) -> str | int | float | bool | None:
    """A value as Dagster's tables take it: a plain number, text or nothing."""
    if value is None or value != value:  # noqa: PLR0124
        return None
    if isinstance(value, datetime):
        # DuckDB's instants have a zone, its dates have none.
        return value.isoformat(" ", "milliseconds") if value.tzinfo else f"{value:%Y-%m-%d}"
    plain = getattr(value, "item", lambda: value)()
    return plain if isinstance(plain, (str, int, float, bool)) else str(plain)


def _how_to_read(entry: Entry) -> str:
    if entry.kind == "record":
        return "A row is one event. Its day is that of its primary timestamp, in local time."
    said = "One value for each day and measure, as Dixa computed it; no value is no row, never 0."
    if is_per_group(entry):
        said += " Count counts the groups (such as agents), Sum is the total over them."
    if {item.measure for item in entry.aggregations} & {"Average", "Percentage", "Median"}:
        said += " Shares and averages of days do not add up to a week's: ask the records for that."
    return said
