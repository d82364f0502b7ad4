"""Whether loaded data are complete and right, asked of the warehouse in set-based queries.

`CHECKS` is the list of all checks; Dagster and the report both read it. Each looks at one metric or
record and returns a `Finding`: a verdict, the reason in words, and the figures behind it. What
could not be looked at is `OPEN`, and what is stored all the same is no failure: the reason and
the cases say what was found. Nothing here asks the API.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from dixa_assets.checks.registry import SHARES, Finding, Subject, Verdict, check
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.tables import METRIC_VALUES, relation_of
from dixa_assets.model.values import BIGINT, DOUBLE
from dixa_assets.warehouse.schema import ADDED
from dixa_assets.warehouse.sql import Query, name_of, quote

# Above this share of rows outside their window, chance or rounding explains nothing.
LARGE_SHARE = 0.05
# A finding shows this many cases at most.
CASES = 50
# One missed morning refresh is a warning, two are a failure.
FRESH_FOR = timedelta(hours=26)
STALE_AFTER = timedelta(hours=50)


@check("completeness", fault="days are missing", is_grave=True, of=lambda subject: True)
def completeness(query: Query, subject: Subject) -> Finding:
    """Every day from the first loaded one to yesterday is loaded."""
    loaded = query(
        "SELECT DISTINCT partition_date AS day FROM dixa_catalogue.loads "
        "WHERE asset_key = ? AND partition_date IS NOT NULL",
        [subject.entry.key],
    ).day.dt.date
    expected = subject.days(min(loaded, default=None))
    gaps = list(_stretches(sorted({*expected} - {*loaded})))
    missing = sum((last - first).days + 1 for first, last in gaps)
    figures = {"days expected": len(expected), "days missing": missing}
    if not expected:
        return Finding(Verdict.OPEN, "No day is expected yet, so nothing can be said.", figures)
    if not gaps:
        reason = f"All {len(expected)} days to {expected[-1]} are loaded."
        return Finding(Verdict.PASSED, reason, figures)
    return Finding(
        Verdict.FAILED,
        f"{missing} of {len(expected)} days from {expected[0]} to {expected[-1]} are not "
        "loaded. Materialize the missing partitions.",
        figures,
        [{"first missing": str(first), "last missing": str(last)} for first, last in gaps],
        gaps,
    )


@check(
    "reconciliation",
    fault="differs from its rows",
    is_grave=True,
    of=lambda subject: subject.record is not None,
)
def reconciliation(query: Query, subject: Subject) -> Finding:
    """The metric agrees with the rows of its record, day by day."""
    record = subject.record
    if record is None:
        return Finding(Verdict.OPEN, "No record has the rows behind it, so nothing can be said.")
    formulas = _formulas(query, subject, record)
    compared = list(_compared(query, subject, record, formulas))
    differing = [each for each in compared if each.differs]
    figures = {"days compared": len(compared), "days that differ": len(differing)}
    against = f"{record.schema}.{record.name}"
    if not compared:
        if not formulas and _has_rows(query, record):
            reason = f"The rows of {against} give none of its measures"
        else:
            reason = (
                f"There is no day yet on which both this metric and {against} are loaded with the "
                "same filters"
            )
        return Finding(Verdict.OPEN, f"{reason}, so nothing can be said.", figures)
    doubts = dict.fromkeys((each.day.date() for each in compared), False)
    if not differing:
        measures = ", ".join(dict.fromkeys(each.measure for each in compared))
        reason = f"{measures} of {len(doubts)} days agree with {against}."
        return Finding(Verdict.PASSED, reason, figures, doubts=doubts)
    return Finding(
        Verdict.FAILED,
        f"{len(differing)} of {len(compared)} figures differ from what {against} gives. Where the "
        "two were loaded at different times, something may have happened in between: reload both.",
        figures,
        [
            {
                "day": f"{each.day:%Y-%m-%d}",
                "measure": each.measure,
                "metric": each.metric_value,
                "record": each.record_value,
                "loaded minutes apart": each.minutes_apart,
            }
            for each in differing[:CASES]
        ],
        doubts=doubts | {each.day.date(): True for each in differing},
    )


@check(
    "window",
    fault="rows outside their day",
    is_grave=True,
    of=lambda subject: subject.entry.kind == "record",
)
def in_window(query: Query, subject: Subject) -> Finding:
    """Every row's primary timestamp lies in the day it was loaded for."""
    days = query(
        "SELECT partition_date AS day, rows AS total, rows_outside_window AS outside "
        "FROM dixa_catalogue.loads WHERE asset_key = ? ORDER BY partition_date",
        [subject.entry.key],
    )
    total, outside = int(days.total.sum()), int(days.outside.sum())
    figures = {"rows": total, "rows outside": outside}
    if days.empty:
        return Finding(Verdict.OPEN, "No day is loaded yet, so nothing can be said.", figures)
    if not outside:
        return Finding(Verdict.PASSED, f"All {total} rows lie in their day.", figures)
    reason = f"{outside} of {total} rows lie outside the day they were returned for."
    if outside > total * LARGE_SHARE:
        reason += (
            " So many mean that Dixa's period looks at another timestamp than the primary one."
        )
    odd = days[days.outside > 0]
    cases = [
        {"day": f"{row.day:%Y-%m-%d}", "rows": row.total, "outside": row.outside}
        for row in odd.head(CASES).itertuples()
    ]
    return Finding(
        Verdict.FAILED, reason, figures, cases, doubts=dict.fromkeys(odd.day.dt.date, True)
    )


@check(
    "filter",
    fault="rows without a value of the compulsory filter are left out",
    is_grave=True,
    of=lambda subject: bool(subject.only_with),
)
def nothing_filtered_out(query: Query, subject: Subject) -> Finding:
    """The compulsory filter leaves no row out: every row has a value of its attribute."""
    attribute, entry = subject.only_with, subject.entry
    described = [
        (other.id in {entry.id, *entry.related_ids}, item.nullable)
        for other in subject.entries
        for item in other.fields
        if item.field == attribute
    ]
    # What its own rows say counts, or else what the rows of others do.
    nullable = [may_lack for is_own, may_lack in described if is_own] or [
        each[1] for each in described
    ]
    if nullable and not any(nullable):
        reason = f"By Dixa's catalogue every row has a value of {attribute}, so none is left out."
        return Finding(Verdict.PASSED, reason)
    return Finding(
        Verdict.FAILED,
        f"Only what has one of {attribute}'s values is asked for, since Dixa insists on a filter. "
        f"What has none, such as a conversation without {attribute}, is in no number here. Take an "
        "attribute that every conversation has, such as initial_direction, as required_filter.",
    )


@check(
    "not_null",
    fault="fields lack values",
    is_grave=False,
    of=lambda subject: subject.entry.kind == "record" and bool(subject.entry.first_seen),
)
def not_null(query: Query, subject: Subject) -> Finding:
    """Fields that the catalogue calls non-nullable have a value in every row."""
    entry = subject.entry
    required = [item.field for item in entry.fields if not item.nullable]
    lacking = query(
        "SELECT key AS field, count(*) AS days, sum(value::BIGINT) AS nulls, "
        "max(partition_date) AS latest "
        "FROM dixa_catalogue.loads, json_each(nulls) WHERE asset_key = ? GROUP BY ALL ORDER BY key",
        [entry.key],
    )
    figures = {"fields that must have a value": len(required), "fields that lack one": len(lacking)}
    if not _has_rows(query, entry):
        return Finding(Verdict.OPEN, "No rows are loaded yet, so nothing can be said.", figures)
    if lacking.empty:
        reason = f"{len(required)} fields have a value in every row."
        return Finding(Verdict.PASSED, reason, figures)
    table = relation_of(entry, subject.setup.excluded_fields(entry)).stored_in
    columns = {column.field: column.name for column in table.columns if column.part == "value"}
    cases = []
    for row in lacking.itertuples():
        sample = query(
            f"SELECT primary_timestamp FROM {name_of(table)} "
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
        Verdict.FAILED,
        f"Dixa's catalogue says that {', '.join(map(str, lacking.field))} always has a value, and "
        f"{int(lacking.nulls.sum())} rows have none.",
        figures,
        cases,
    )


@check(
    "schema",
    fault="not as the catalogue says",
    is_grave=False,
    of=lambda subject: subject.entry.kind == "metric" or bool(subject.entry.first_seen),
)
def schema(query: Query, subject: Subject) -> Finding:
    """What the data are made of is what queries expect: no type changed, no shape is unknown.

    Fields and measures that are in the data or the catalogue alone are listed.
    """
    look = _measures if subject.entry.kind == "metric" else _fields
    return look(query, subject)


def _measures(query: Query, subject: Subject) -> Finding:
    """Whether the metric's answers carry the measures that its catalogue entry offers."""
    metric = subject.entry
    found = query(
        f"SELECT measure, count(*) AS n, count(aggregate) AS odd FROM {name_of(METRIC_VALUES)} "
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
        return Finding(Verdict.OPEN, "No value is loaded yet, so nothing can be said.", figures)
    if not any(figures.values()):
        return Finding(Verdict.PASSED, f"Every answer has {', '.join(sorted(seen))}.", figures)
    cases = [
        *({"what": "in answers, not in the catalogue", "measure": m} for m in seen - offered),
        *({"what": "in the catalogue, in no answer", "measure": m} for m in offered - seen),
        *({"what": "of unknown shape", "measure": m} for m in found[found.odd > 0].measure),
    ]
    cases = sorted(cases, key=lambda case: (case["what"], case["measure"]))
    if not odd:
        reason = "Catalogue and answers differ; every measure in an answer is stored."
        return Finding(Verdict.PASSED, reason, figures, cases)
    return Finding(
        Verdict.FAILED,
        f"{odd} values have a shape that is not known. They stand as JSON in "
        "dixa_metrics.metric_values, in the column aggregate.",
        figures,
        cases,
    )


def _fields(query: Query, subject: Subject) -> Finding:
    """Whether the data's fields agree with the catalogue's, and with the table so far."""
    entry = subject.entry
    columns = query(
        "SELECT column_name, type, field FROM dixa_catalogue.columns "
        "WHERE table_schema = ? AND table_name = ? AND part = 'value' AND field <> ''",
        [entry.schema, entry.name],
    )
    seen = set(columns[columns.type.notna()].field)
    declared = {item.field for item in entry.fields} - subject.setup.excluded_fields(entry)
    changes = query(
        "SELECT partition_date AS day, unnest(schema_changes::VARCHAR[]) AS change "
        "FROM dixa_catalogue.loads WHERE asset_key = ? AND run_id = "
        "(SELECT arg_max(run_id, loaded_at) FROM dixa_catalogue.loads WHERE asset_key = ?)",
        [entry.key, entry.key],
    )
    cases = [
        *({"what": "in the data, not in the catalogue", "field": name} for name in seen - declared),
        *({"what": "in the catalogue, never in the data", "field": n} for n in declared - seen),
        *({"what": row.change, "field": f"on {row.day:%Y-%m-%d}"} for row in changes.itertuples()),
    ]
    cases = sorted(cases, key=lambda case: (case["what"], case["field"]))
    figures = {
        "not in the catalogue": len(seen - declared),
        "never in the data": len(declared - seen),
        "changes by the latest load": len(changes),
    }
    if not _has_rows(query, entry):
        return Finding(Verdict.OPEN, "No rows are loaded yet, so nothing can be said.", figures)
    if not cases:
        return Finding(
            Verdict.PASSED, f"The data have the {len(declared)} fields of the catalogue.", figures
        )
    widened = [change for change in changes.change.map(str) if not change.startswith(ADDED)]
    if not widened:
        reason = "Catalogue and data differ; every field in the data has a column."
        return Finding(Verdict.PASSED, reason, figures, cases)
    return Finding(
        Verdict.FAILED,
        f"The latest load changed types: {'; '.join(dict.fromkeys(widened))}. No value is lost; "
        "queries that rely on the former type may fail.",
        figures,
        cases,
    )


def _formulas(query: Query, subject: Subject, record: Entry) -> dict[str, str]:
    """The metric's measures that a record's rows can give, each with its SQL.

    A Count is compared with the record's rows. An Average, and a percentage whose formula is
    known, is computed anew from the record's value; an Average only where the record feeds no
    other average.
    """
    metric = subject.entry
    measures = {item.measure for item in metric.aggregations}
    averages = sum(
        entry.kind == "metric"
        and record.id in entry.related_ids
        and any(item.measure == "Average" for item in entry.aggregations)
        for entry in subject.entries
    )
    formulas = {}
    if "Count" in measures and _has_rows(query, record):
        formulas["Count"] = "count(*)"
    if _value_type(query, record) in (BIGINT, DOUBLE):
        if "Average" in measures and averages == 1:
            formulas["Average"] = "avg(value)"
        if metric.id in SHARES and "Percentage" in measures:
            formulas["Percentage"] = f"100.0 * avg(({SHARES[metric.id]})::INTEGER)"
    return formulas


def _compared(
    query: Query, subject: Subject, record: Entry, formulas: Mapping[str, str]
) -> Iterator[Any]:
    """Both figures of every day that was loaded with the same filters, and whether they differ."""
    metric = subject.entry
    for measure, formula in formulas.items():
        yield from query(
            f"""
            WITH behind AS (
                SELECT l.partition_date, l.loaded_at, l.filters, r.figure
                FROM dixa_catalogue.loads AS l
                LEFT JOIN (
                    SELECT partition_date, {formula} AS figure
                    FROM {quote(record.schema)}.{quote(record.name)} GROUP BY partition_date
                ) AS r USING (partition_date)
                WHERE l.asset_key = ?
            )
            SELECT m.partition_date AS day, m.measure, m.value AS metric_value,
                   coalesce(b.figure, if(m.measure = 'Count', 0, NULL)) AS record_value,
                   round(abs(epoch(l.loaded_at - b.loaded_at)) / 60) AS minutes_apart,
                   record_value IS NULL OR
                       abs(metric_value - record_value) > 1e-9 * greatest(1, abs(metric_value))
                       AS differs
            FROM {name_of(METRIC_VALUES)} AS m
            JOIN dixa_catalogue.loads AS l
              ON l.asset_key = ? AND l.partition_date = m.partition_date
            JOIN behind AS b ON b.partition_date = m.partition_date AND b.filters = l.filters
            WHERE m.metric = ? AND m.measure = ? AND m.breakdown_attribute IS NULL
              AND m.value IS NOT NULL
            ORDER BY m.partition_date
            """,
            [record.key, metric.key, metric.id, measure],
        ).itertuples(index=False)


def _value_type(query: Query, record: Entry) -> str | None:
    """The type of a record's own value, if its rows carry one."""
    found = query(
        "SELECT type FROM dixa_catalogue.columns WHERE table_schema = ? AND table_name = ? "
        "AND field = '' AND part = 'value'",
        [record.schema, record.name],
    )
    return None if found.empty else found.type[0]


def _has_rows(query: Query, entry: Entry) -> bool:
    found = query(
        "SELECT sum(rows) > 0 AS any FROM dixa_catalogue.loads WHERE asset_key = ?", [entry.key]
    )
    return found["any"].fillna(False).any().item()


def _stretches(days: Iterable[date]) -> Iterator[tuple[date, date]]:
    """Sorted days as first and last of each stretch without a gap."""
    numbered = enumerate(days)
    for _, stretch in groupby(numbered, key=lambda each: each[1].toordinal() - each[0]):
        run = [day for _, day in stretch]
        yield run[0], run[-1]
