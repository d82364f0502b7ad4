"""Metadata of assets and materializations: columns, figures, previews."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import dagster as dg

from dixa_assets.checks.registry import Subject, is_per_group
from dixa_assets.load.progress import LoadedDay
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.counts import Usage
from dixa_assets.model.tables import PERIOD_VIEWS, Column, Table, comment_of, documented_type

# Dagster keeps the event of every day, so it has 20 kB at most. These are limits of its parts, and
# the bytes of a column without its comment.
LARGEST_SCHEMA, COLUMN_BYTES = 14_000, 200
MOST_TOTALS, LONGEST_TEXT, LONGEST_CELL = 50, 1000, 300
REFERENCE = "https://docs.dixa.io/openapi/dixa-api/v1/"


def escape_markdown(text: str) -> str:
    """Escape a string of the API so that Markdown shows it unchanged: no markup, link or script.

    Other characters are not escaped, because lists show descriptions as plain text.
    """
    return re.sub(
        r"[\\`*\[\]<>]|&(?=[#\w]+;)|(?<!\w)_|_(?!\w)|^(?=[#>+-])|@|(?<=:)//|(?<=www)\.|~(?=~)",
        lambda found: "\\" + (found[0] or ""),
        text,
        flags=re.MULTILINE,
    )


def of_table(table: Table) -> dict[str, Any]:
    """The name and the columns of a table, known before any load."""
    return {
        "dagster/table_name": f"{table.schema}.{table.name}",
        "dagster/storage_kind": "duckdb",
        "dagster/column_schema": _column_schema(table.columns),
    }


def of_entry(subject: Subject, to_key: Callable[[str, str], dg.AssetKey]) -> dict[str, Any]:
    """How to read the numbers, Dixa's page about them, and related assets.

    Args:
        subject: The metric or record.
        to_key: The asset key of a schema and a name.
    """
    entry = subject.spec.entry
    metadata: dict[str, Any] = {
        "how to read": _how_to_read(entry, subject.spec.periods),
        "Dixa's reference": dg.MetadataValue.url(REFERENCE),
    }
    if attribute := subject.spec.required_filter:
        metadata["left out"] = f"rows without a value of {attribute}, the required filter"
    for other in subject.related:
        key = to_key(other.schema, other.name)
        metadata[f"related {other.kind}: {other.id}"] = dg.MetadataValue.asset(key)
    return metadata


def of_load(rows: int, usage: Usage, seconds: float) -> dict[str, Any]:
    """The rows and the cost of a load."""
    return {
        "dagster/partition_row_count": rows,
        "rows": rows,
        "requests": usage.requests,
        "pages": usage.pages,
        "retries": usage.retries,
        "seconds": round(seconds, 3),
    }


def of_day(entry: Entry, loaded: LoadedDay, *, is_last: bool) -> dict[str, Any]:
    """The rows of a day, the cost of its load, and what the load changed.

    The Columns tab shows the columns of the latest event: the last day of a load has them. If they
    are too large for an event, the tab shows those of the definition, from the catalogue.
    """
    day = loaded.day
    metadata: dict[str, Any] = {
        **of_load(loaded.counts.rows, loaded.usage, loaded.seconds),
        "window": f"{day.period.start.isoformat()} to {day.period.end.isoformat()} "
        f"({day.timezone})",
        **{name[:LONGEST_CELL]: n for name, n in islice(loaded.totals.items(), MOST_TOTALS)},
    }
    if loaded.schema_changes:
        changes = "; ".join(loaded.schema_changes)
        metadata["schema_changes"] = textwrap.shorten(changes, LONGEST_TEXT, placeholder=" …")
    if entry.kind == "record":
        metadata["rows_outside_window"] = loaded.counts.outside_day
        size = sum(COLUMN_BYTES + len(comment_of(column)) for column in loaded.columns)
        if is_last and size <= LARGEST_SCHEMA:
            metadata["dagster/column_schema"] = _column_schema(loaded.columns)
        if own := [row for row in loaded.preview if row["partition_date"] == day.date]:
            metadata["preview"] = to_table(own)
    return metadata


def to_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table in the UI, which accepts plain values only."""
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
    """A value for Dagster's tables: a plain number, a string or None."""
    if value is None or value != value:  # noqa: PLR0124
        return None
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds")
    return value if isinstance(value, (int, float, bool)) else str(value)[:LONGEST_CELL]


def _how_to_read(entry: Entry, periods: Sequence[str]) -> str:
    if entry.kind == "record":
        return "A row is one event. Its day is the local day of its primary timestamp."
    text = "One value per day and measure, as Dixa computed it; no row means no value, not 0."
    if is_per_group(entry):
        text += " Count counts the groups (such as agents), Sum is the total over them."
    if {item.measure for item in entry.aggregations} & {"Average", "Percentage", "Median"}:
        views = " and ".join(f"dixa.{PERIOD_VIEWS[each].name}" for each in periods)
        text += (
            " Daily shares and averages cannot be combined into weeks: use "
            f"{views or 'the records'} for that."
        )
    return text
