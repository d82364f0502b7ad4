"""Whether loaded data are complete and right, asked of the warehouse in set-based queries.

Each function looks at one asset and returns a `Finding`: a verdict, the reason in words, and the
figures behind it. What could not be looked at is not called right. Nothing here asks the API.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pandas as pd

from dixa_assets.catalogue import Entry
from dixa_assets.schema import METRIC_VALUES, record_table
from dixa_assets.tables import quote, relation_of
from dixa_assets.values import BIGINT, DOUBLE
from dixa_assets.warehouse import Query

# Of so many rows outside their window chance or rounding is no explanation.
LARGE_SHARE = 0.05
SHOWN = 50
# A day without the morning's refresh is noticed, two are a failure.
FRESH_FOR = timedelta(hours=26)
STALE_AFTER = timedelta(hours=50)
# How a reason ends when there was nothing to look at.
NOTHING_TO_SAY = "nothing can be said."

# What Dixa counts as the share, where the record's value tells it: the catalogue's own formula.
SHARES = {"csat": "value >= 4"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `table` holds the cases behind the verdict, a row each."""

    passed: bool
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()

    @property
    def is_open(self) -> bool:
        """Whether there was nothing to look at: it has not passed, and nothing is wrong."""
        return not self.passed and self.reason.endswith(NOTHING_TO_SAY)


def is_per_group(entry: Entry) -> bool:
    """Whether a metric's Count counts groups, such as agents, and not what happened to them."""
    words = f"{entry.id.replace('_', ' ')} {entry.description}".lower()
    return (
        re.search(r"\b(per|for each) (agent|queue|team|conversation|customer)\b", words) is not None
    )


def completeness(query: Query, asset_key: str, days: Sequence[str], *, since: str) -> Finding:
    """Whether every day is loaded, from the first loaded one or `since`, whichever is earlier."""
    first = query(
        "SELECT min(partition_date)::VARCHAR AS day FROM dixa_catalogue.loads WHERE asset_key = ?",
        [asset_key],
    ).day[0]
    expected = [day for day in days if day >= min(since, first or since)]
    missing = query(
        "SELECT unnest(?::DATE[]) AS day EXCEPT "
        "SELECT partition_date FROM dixa_catalogue.loads WHERE asset_key = ? ORDER BY day",
        [list(expected), asset_key],
    )
    figures = {"days expected": len(expected), "days missing": len(missing)}
    if not expected:
        return Finding(False, "No day is expected yet, so nothing can be said.", figures)
    if missing.empty:
        return Finding(True, f"All {len(expected)} days to {expected[-1]} are loaded.", figures)
    return Finding(
        False,
        f"{len(missing)} of {len(expected)} days from {expected[0]} to {expected[-1]} are not "
        "loaded. Materialize the missing partitions.",
        figures,
        [{"first missing": first, "last missing": last} for first, last in _ranges(missing.day)],
    )


def window(query: Query, asset_key: str) -> Finding:
    """Whether every row's primary timestamp lies in its day's interval."""
    days = query(
        "SELECT partition_date, rows AS total, rows_outside_window AS outside "
        "FROM dixa_catalogue.loads WHERE asset_key = ? ORDER BY partition_date",
        [asset_key],
    )
    total, outside = int(days.total.sum()), int(days.outside.sum())
    figures = {"rows": total, "rows outside": outside}
    if days.empty:
        return Finding(False, "No day is loaded yet, so nothing can be said.", figures)
    if not outside:
        return Finding(True, f"All {total} rows lie in their day.", figures)
    reason = f"{outside} of {total} rows lie outside the day they were returned for."
    if outside > total * LARGE_SHARE:
        reason += (
            " So many mean that Dixa's period looks at another timestamp than the primary one."
        )
    cases = days[days.outside > 0].head(SHOWN)
    shown = {"day": "partition_date", "rows": "total", "outside": "outside"}
    return Finding(False, reason, figures, _rows(cases, shown))


def measures(query: Query, metric: Entry) -> Finding:
    """Whether the metric's answers carry the measures that its catalogue entry offers."""
    found = query(
        f"SELECT measure, count(*) AS n, count(aggregate) AS odd FROM {relation_of(METRIC_VALUES)} "
        "WHERE metric = ? GROUP BY measure ORDER BY measure",
        [metric.id],
    )
    seen, offered = set(found.measure), {item.measure for item in metric.aggregations}
    odd = int(found.odd.sum())
    figures = {
        "not in the catalogue": len(seen - offered) if offered else 0,
        "never in an answer": len(offered - seen),
        "of unknown shape": odd,
    }
    if found.empty:
        return Finding(False, "No value is loaded yet, so nothing can be said.", figures)
    if not any(figures.values()):
        return Finding(True, f"Every answer has {', '.join(sorted(seen))}.", figures)
    cases = [
        *({"what": "in answers, not in the catalogue", "measure": m} for m in seen - offered),
        *({"what": "in the catalogue, in no answer", "measure": m} for m in offered - seen),
        *({"what": "of unknown shape", "measure": m} for m in found[found.odd > 0].measure),
    ]
    return Finding(
        False,
        "Catalogue and answers differ. Nothing is lost: what has no known shape stands as JSON in "
        "dixa_metrics.metric_values.",
        figures,
        sorted(cases, key=lambda case: (case["what"], case["measure"])),
    )


def not_null(query: Query, entry: Entry, excluded_fields: frozenset[str]) -> Finding:
    """Whether the fields that the catalogue calls non-nullable have a value in every row."""
    asset_key = f"{entry.schema}/{entry.name}"
    required = [item.field for item in entry.fields if not item.nullable]
    lacking = query(
        "SELECT key AS field, count(*) AS days, sum(value::BIGINT) AS nulls, "
        "max(partition_date) AS latest "
        "FROM dixa_catalogue.loads, json_each(nulls) WHERE asset_key = ? GROUP BY ALL ORDER BY key",
        [asset_key],
    )
    figures = {"fields that must have a value": len(required), "fields that lack one": len(lacking)}
    if not _has_rows(query, asset_key):
        return Finding(False, "No rows are loaded yet, so nothing can be said.", figures)
    if lacking.empty:
        return Finding(True, f"{len(required)} fields have a value in every row.", figures)
    table = record_table(entry, excluded_fields)
    columns = {column.field: column.name for column in table.columns if column.part == "value"}
    cases = []
    for row in lacking.itertuples():
        sample = query(
            f"SELECT primary_timestamp FROM {relation_of(table)} "
            f"WHERE partition_date = ? AND {quote(columns[str(row.field)])} IS NULL LIMIT 3",
            [row.latest],
        )
        cases.append(
            {
                "field": row.field,
                "rows without": row.nulls,
                "days": row.days,
                "for instance": ", ".join(str(at) for at in sample.primary_timestamp),
            }
        )
    return Finding(
        False,
        f"Dixa's catalogue says that {', '.join(map(str, lacking.field))} always has a value, and "
        f"{int(lacking.nulls.sum())} rows have none.",
        figures,
        cases,
    )


def fields(query: Query, entry: Entry, excluded_fields: frozenset[str]) -> Finding:
    """Whether the data's fields agree with the catalogue's, and with the table so far."""
    asset_key = f"{entry.schema}/{entry.name}"
    columns = query(
        "SELECT column_name, type, field FROM dixa_catalogue.columns "
        "WHERE table_schema = ? AND table_name = ? AND part = 'value' AND field <> ''",
        [entry.schema, entry.name],
    )
    seen = set(columns[columns.type.notna()].field)
    declared = {item.field for item in entry.fields} - excluded_fields
    changes = query(
        "SELECT partition_date AS day, unnest(schema_changes::VARCHAR[]) AS change "
        "FROM dixa_catalogue.loads WHERE asset_key = ? AND run_id = "
        "(SELECT arg_max(run_id, loaded_at) FROM dixa_catalogue.loads WHERE asset_key = ?)",
        [asset_key, asset_key],
    )
    cases = [
        *({"what": "in the data, not in the catalogue", "field": name} for name in seen - declared),
        *({"what": "in the catalogue, never in the data", "field": n} for n in declared - seen),
        *({"what": row.change, "field": f"on {row.day:%Y-%m-%d}"} for row in changes.itertuples()),
    ]
    figures = {
        "not in the catalogue": len(seen - declared),
        "never in the data": len(declared - seen),
        "changes by the latest load": len(changes),
    }
    if not _has_rows(query, asset_key):
        return Finding(False, "No rows are loaded yet, so nothing can be said.", figures)
    if not cases:
        return Finding(True, f"The data have the {len(declared)} fields of the catalogue.", figures)
    return Finding(
        False,
        "Catalogue and data differ. Nothing is lost: every field in the data has a column.",
        figures,
        sorted(cases, key=lambda case: (case["what"], case["field"])),
    )


def record_behind(metric: Entry, entries: Sequence[Entry]) -> Entry | None:
    """The record whose rows a metric can be checked against, if there is exactly one.

    Never for a per-group metric, whose Count counts groups, nor for one that has no measure which
    rows could give.
    """
    if metric.kind != "metric" or is_per_group(metric):
        return None
    measures = {item.measure for item in metric.aggregations}
    if not measures & {"Count", "Average"} and metric.id not in SHARES:
        return None
    records = [
        entry for entry in entries if entry.kind == "record" and entry.id in metric.related_ids
    ]
    return records[0] if len(records) == 1 else None


def averages_of(record: Entry, entries: Sequence[Entry]) -> int:
    """How many metrics with an average a record feeds."""
    return sum(
        entry.kind == "metric"
        and record.id in entry.related_ids
        and any(item.measure == "Average" for item in entry.aggregations)
        for entry in entries
    )


def reconciliation(query: Query, metric: Entry, record: Entry, records_metrics: int) -> Finding:
    """Whether a metric agrees with the rows behind it, day by day; see `compared`."""
    return agreement(compared(query, metric, record, records_metrics), record)


def compared(query: Query, metric: Entry, record: Entry, records_metrics: int) -> pd.DataFrame:
    """A metric's figures beside those of its record, for each day that tells both.

    A Count is compared with the record's rows. An Average, and a percentage whose formula is
    known, is computed anew from the record's value; an Average only where the record feeds no
    other average.

    Args:
        query: Asks the warehouse.
        metric: The metric.
        record: The record its catalogue entry names.
        records_metrics: How many metrics with an average the record feeds.

    Returns:
        `partition_date`, `measure`, `metric_value`, `record_value`, `minutes_apart`, `differs`.
    """
    measures = {item.measure for item in metric.aggregations}
    formulas = {}
    if "Count" in measures and _has_rows(query, f"{record.schema}/{record.name}"):
        formulas["Count"] = "count(*)"
    if _value_type(query, record) in (BIGINT, DOUBLE):
        if "Average" in measures and records_metrics == 1:
            formulas["Average"] = "avg(value)"
        if metric.id in SHARES and "Percentage" in measures:
            formulas["Percentage"] = f"100.0 * avg(({SHARES[metric.id]})::INTEGER)"
    return pd.concat(
        [_compared(query, metric, record, measure, sql) for measure, sql in formulas.items()]
        or [pd.DataFrame(columns=["partition_date", "measure", "differs"])]
    )


def agreement(compared: pd.DataFrame, record: Entry) -> Finding:
    """What figures that `compared` put side by side amount to."""
    figures = {"days compared": len(compared), "days that differ": int(compared.differs.sum())}
    against = f"{record.schema}.{record.name}"
    if compared.empty:
        return Finding(
            False,
            f"There is no day yet on which both this metric and {against} are loaded with the same "
            "filters, so nothing can be said.",
            figures,
        )
    cases = compared[compared.differs.astype(bool)]
    if cases.empty:
        measures = ", ".join(compared.measure.unique())
        days = compared.partition_date.nunique()
        return Finding(True, f"{measures} of {days} days agree with {against}.", figures)
    return Finding(
        False,
        f"{len(cases)} of {len(compared)} figures differ from what {against} gives. Where the two "
        "were loaded at different times, something may have happened in between: reload both.",
        figures,
        _rows(
            cases.head(SHOWN),
            {
                "day": "partition_date",
                "measure": "measure",
                "metric": "metric_value",
                "record": "record_value",
                "loaded minutes apart": "minutes_apart",
            },
        ),
    )


def _compared(query: Query, metric: Entry, record: Entry, measure: str, sql: str) -> pd.DataFrame:
    """Both figures of every day that was loaded with the same filters."""
    return query(
        f"""
        WITH behind AS (
            SELECT l.partition_date, l.loaded_at, l.filters, r.figure
            FROM dixa_catalogue.loads AS l
            LEFT JOIN (
                SELECT partition_date, {sql} AS figure
                FROM {quote(record.schema)}.{quote(record.name)} GROUP BY partition_date
            ) AS r USING (partition_date)
            WHERE l.asset_key = ?
        )
        SELECT m.partition_date, m.measure, m.value AS metric_value,
               coalesce(b.figure, if(m.measure = 'Count', 0, NULL)) AS record_value,
               round(abs(epoch(l.loaded_at - b.loaded_at)) / 60) AS minutes_apart,
               record_value IS NULL OR
                   abs(metric_value - record_value) > 1e-9 * greatest(1, abs(metric_value))
                   AS differs
        FROM {relation_of(METRIC_VALUES)} AS m
        JOIN dixa_catalogue.loads AS l
          ON l.asset_key = ? AND l.partition_date = m.partition_date
        JOIN behind AS b ON b.partition_date = m.partition_date AND b.filters = l.filters
        WHERE m.metric = ? AND m.measure = ? AND m.breakdown_attribute IS NULL
          AND m.value IS NOT NULL
        ORDER BY m.partition_date
        """,
        [f"{record.schema}/{record.name}", f"{metric.schema}/{metric.name}", metric.id, measure],
    )


def _value_type(query: Query, record: Entry) -> str | None:
    """The type of a record's own value, if its rows carry one."""
    found = query(
        "SELECT type FROM dixa_catalogue.columns WHERE table_schema = ? AND table_name = ? "
        "AND field = '' AND part = 'value'",
        [record.schema, record.name],
    )
    return None if found.empty else found.type[0]


def _has_rows(query: Query, asset_key: str) -> bool:
    found = query(
        "SELECT sum(rows) > 0 AS any FROM dixa_catalogue.loads WHERE asset_key = ?", [asset_key]
    )
    return found["any"].fillna(False).any().item()


def _rows(cases: pd.DataFrame, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """The cases as dictionaries, with the columns named for people."""
    return [
        {
            name: f"{row[column]:%Y-%m-%d}" if isinstance(row[column], date) else row[column]
            for name, column in columns.items()
        }
        for row in cases.to_dict("records")
    ]


def _ranges(days: "pd.Series[Any]") -> list[tuple[str, str]]:
    """Sorted days as first and last of each stretch without a gap."""
    days = pd.Series(pd.to_datetime(days)).reset_index(drop=True)
    stretch = (days.diff() != pd.Timedelta(days=1)).cumsum()
    return [
        (f"{group.iloc[0]:%Y-%m-%d}", f"{group.iloc[-1]:%Y-%m-%d}")
        for _, group in days.groupby(stretch)
    ]
