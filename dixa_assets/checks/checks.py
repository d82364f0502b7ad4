"""The checks, the most serious first.

A check queries the warehouse and returns a `Finding`. A difference that loses no data passes: its
reason and its cases describe it. The verdict is `NO_DATA` if the check cannot run yet.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from dixa_assets.checks.registry import SHARES, Finding, Subject, Verdict, check
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import date_range, in_words, to_runs
from dixa_assets.model.tables import METRIC_VALUES
from dixa_assets.model.values import BIGINT, DOUBLE
from dixa_assets.warehouse.schema import EXPECTED_CHANGES
from dixa_assets.warehouse.sql import Query, name_of, quote

# If more rows than this lie outside their day, Dixa selects rows by another timestamp.
LARGE_SHARE = 0.05
# One missed morning refresh is a warning, two are a failure.
FRESH_FOR = timedelta(hours=26)
STALE_AFTER = timedelta(hours=50)


@check("completeness", fault="days are missing", is_serious=True, applies=lambda subject: True)
def completeness(query: Query, subject: Subject) -> Finding:
    """Every expected day is loaded.

    Expected are the automatic history up to yesterday, or up to the day before retirement, and
    short gaps between older days. A long gap between older days is named, but passes: nobody asked
    for these days.
    """
    loaded = {
        row.day
        for row in query(
            "SELECT DISTINCT partition_date AS day FROM dixa_catalogue.loads "
            "WHERE asset_key = ? AND partition_date IS NOT NULL",
            [subject.entry.key],
        )
    }
    expected = subject.days(loaded)
    gaps = to_runs(sorted({*expected} - loaded))
    missing = sum((last - first).days + 1 for first, last in gaps)
    figures = {"days expected": len(expected), "days missing": missing}
    if not expected:
        return Finding(Verdict.NO_DATA, "No day is expected yet, so the check cannot run.", figures)
    if not gaps:
        skipped = to_runs(sorted({*date_range(expected[0], expected[-1])} - {*expected}))
        others = in_words(skipped)
        reason = f"All {len(expected)} days to {expected[-1]} are loaded."
        reason += f" Nobody asked for {others}." if others else ""
        return Finding(Verdict.PASSED, reason, figures)
    return Finding(
        Verdict.FAILED,
        f"{missing} of {len(expected)} expected days from {expected[0]} to {expected[-1]} are not "
        f"loaded: {in_words(gaps)}. Materialize these partitions.",
        figures,
        [{"first missing": str(first), "last missing": str(last)} for first, last in gaps],
        gaps,
    )


@check(
    "reconciliation",
    fault="differs from its rows",
    is_serious=True,
    applies=lambda subject: subject.record is not None,
)
def reconciliation(query: Query, subject: Subject) -> Finding:
    """The metric agrees with the rows of its record, day by day."""
    record = subject.record
    if record is None:
        return Finding(Verdict.NO_DATA, "No record has its rows, so the check cannot run.")
    formulas = _formulas(query, subject, record)
    compared = list(_compared(query, subject, record, formulas))
    differing = [each for each in compared if each.differs]
    figures = {"days compared": len(compared), "days that differ": len(differing)}
    against = f"{record.schema}.{record.name}"
    if not compared:
        if not formulas and _has_rows(query, record):
            reason = f"No measure of this metric can be computed from {against}"
        else:
            reason = f"No day of this metric and of {against} is loaded with the same filters yet"
        return Finding(Verdict.NO_DATA, f"{reason}, so the check cannot run.", figures)
    differs_by_day = dict.fromkeys((each.day for each in compared), False)
    if not differing:
        measures = ", ".join(dict.fromkeys(each.measure for each in compared))
        reason = f"{measures} of {len(differs_by_day)} days agree with {against}."
        return Finding(Verdict.PASSED, reason, figures, differs_by_day=differs_by_day)
    return Finding(
        Verdict.FAILED,
        f"{len(differing)} of {len(compared)} figures differ from the rows of {against}. If the "
        "two were loaded at different times, the data may have changed in between: reload both.",
        figures,
        [
            {
                "day": str(each.day),
                "measure": each.measure,
                "metric": each.metric_value,
                "record": each.record_value,
                "loaded minutes apart": each.minutes_apart,
            }
            for each in differing
        ],
        differs_by_day=differs_by_day | {each.day: True for each in differing},
    )


@check(
    "window",
    fault="rows outside their day",
    is_serious=True,
    applies=lambda subject: subject.entry.kind == "record",
)
def window(query: Query, subject: Subject) -> Finding:
    """Every row's primary timestamp lies in the day for which it was loaded."""
    days = query(
        "SELECT partition_date AS day, rows, coalesce(rows_outside_window, 0) AS outside "
        "FROM dixa_catalogue.loads WHERE asset_key = ? ORDER BY partition_date",
        [subject.entry.key],
    )
    total, outside = sum(row.rows for row in days), sum(row.outside for row in days)
    figures = {"rows": total, "rows outside": outside}
    if not days:
        return Finding(Verdict.NO_DATA, "No day is loaded yet, so the check cannot run.", figures)
    if not outside:
        return Finding(Verdict.PASSED, f"All {total} rows lie in their day.", figures)
    reason = f"{outside} of {total} rows lie outside the day for which Dixa returned them."
    if outside > total * LARGE_SHARE:
        reason += " Dixa seems to select rows by another timestamp than the primary one."
    affected = [row for row in days if row.outside]
    return Finding(
        Verdict.FAILED,
        reason,
        figures,
        [{"day": str(row.day), "rows": row.rows, "outside": row.outside} for row in affected],
        differs_by_day=dict.fromkeys((row.day for row in affected), True),
    )


@check(
    "filter",
    fault="rows without a value of the required filter are missing",
    is_serious=True,
    applies=lambda subject: bool(subject.spec.required_filter),
)
def required_filter(query: Query, subject: Subject) -> Finding:
    """The required filter excludes no row: every row has a value of its attribute."""
    attribute, entry = subject.spec.required_filter, subject.entry
    described = [
        (other.id, item.nullable)
        for other in subject.entries.values()
        for item in other.fields
        if item.field == attribute
    ]
    related = {entry.id, *entry.related_ids}
    in_own_rows = [nullable for id_, nullable in described if id_ in related]
    # If the catalogue does not describe the entry's own rows, the rows of all entries decide.
    nullable_anywhere = in_own_rows or [nullable for _, nullable in described]
    if nullable_anywhere and not any(nullable_anywhere):
        reason = f"In Dixa's catalogue, {attribute} is never null, so no row is excluded."
        return Finding(Verdict.PASSED, reason)
    return Finding(
        Verdict.FAILED,
        f"Dixa rejects requests without a filter, so each sends all values of {attribute}. Rows "
        f"without a value, such as a conversation without {attribute}, are not counted. "
        "Choose an attribute that every conversation has, such as initial_direction, as "
        "required_filter.",
    )


@check(
    "not_null",
    fault="fields lack values",
    is_serious=False,
    applies=lambda subject: subject.entry.kind == "record" and bool(subject.entry.first_seen),
)
def not_null(query: Query, subject: Subject) -> Finding:
    """Fields that the catalogue calls non-nullable have a value in every row."""
    entry, table = subject.entry, subject.spec.relation.stored_in
    excluded = subject.spec.excluded_fields
    # Loads may have counted other fields, which the catalogue or the settings had then.
    required = [i.field for i in entry.fields if not i.nullable and i.field not in excluded]
    lacking = query(
        "SELECT key AS field, column_name, count(*) AS days, sum(value::BIGINT)::BIGINT AS nulls, "
        "max(partition_date) AS latest "
        "FROM dixa_catalogue.loads, json_each(nulls), dixa_catalogue.columns "
        "WHERE asset_key = ? AND table_schema = ? AND table_name = ? AND field = key "
        "AND part = 'value' AND list_contains(?::VARCHAR[], key) GROUP BY ALL ORDER BY key",
        [entry.key, table.schema, table.name, required],
    )
    figures = {"fields that must have a value": len(required), "fields that lack one": len(lacking)}
    if not _has_rows(query, entry):
        return Finding(Verdict.NO_DATA, "No rows are loaded yet, so the check cannot run.", figures)
    if not lacking:
        reason = f"{len(required)} fields have a value in every row."
        return Finding(Verdict.PASSED, reason, figures)
    cases = []
    for row in lacking:
        sample = query(
            f"SELECT primary_timestamp FROM {name_of(table)} "
            f"WHERE partition_date = ? AND {quote(row.column_name)} IS NULL LIMIT 3",
            [row.latest],
        )
        cases.append(
            {
                "field": row.field,
                "rows without": row.nulls,
                "days": row.days,
                "for instance": ", ".join(str(each.primary_timestamp) for each in sample),
            }
        )
    return Finding(
        Verdict.FAILED,
        f"Dixa's catalogue says that {', '.join(row.field for row in lacking)} is never null, but "
        f"{sum(row.nulls for row in lacking)} rows have no value.",
        figures,
        cases,
    )


@check(
    "schema",
    fault="not as the catalogue says",
    is_serious=False,
    applies=lambda subject: subject.entry.kind == "metric" or bool(subject.entry.first_seen),
)
def schema(query: Query, subject: Subject) -> Finding:
    """No column changed its type, and no value has an unknown shape.

    The check lists fields and measures that only the data or only the catalogue have.
    """
    look = _measures if subject.entry.kind == "metric" else _fields
    return look(query, subject)


def _measures(query: Query, subject: Subject) -> Finding:
    """Compare the measures of a metric's values with those of its catalogue entry."""
    metric = subject.entry
    found = query(
        "SELECT measure, count(aggregate) AS unknown "
        f"FROM {name_of(METRIC_VALUES)} WHERE metric = ? GROUP BY measure ORDER BY measure",
        [metric.id],
    )
    seen, offered = {row.measure for row in found}, {item.measure for item in metric.aggregations}
    unknown = sum(row.unknown for row in found)
    figures = {
        "not in the catalogue": len(seen - offered) if offered else 0,
        "never in an answer": len(offered - seen),
        "of unknown shape": unknown,
    }
    if not found:
        return Finding(Verdict.NO_DATA, "No value is loaded yet, so the check cannot run.", figures)
    if not any(figures.values()):
        return Finding(Verdict.PASSED, f"Every answer has {', '.join(sorted(seen))}.", figures)
    cases = [
        *({"what": "in answers, not in the catalogue", "measure": m} for m in seen - offered),
        *({"what": "in the catalogue, in no answer", "measure": m} for m in offered - seen),
        *({"what": "of unknown shape", "measure": row.measure} for row in found if row.unknown),
    ]
    cases = sorted(cases, key=lambda case: (case["what"], case["measure"] or ""))
    if not unknown:
        reason = "Catalogue and answers differ; every measure in an answer is stored."
        return Finding(Verdict.PASSED, reason, figures, cases)
    return Finding(
        Verdict.FAILED,
        f"{unknown} values have an unknown shape. They are stored as JSON in "
        "dixa_metrics.metric_values, in the column aggregate.",
        figures,
        cases,
    )


def _fields(query: Query, subject: Subject) -> Finding:
    """Compare the fields of a record's rows with the catalogue, and list changed columns."""
    entry = subject.entry
    columns = query(
        "SELECT field FROM dixa_catalogue.columns WHERE table_schema = ? AND table_name = ? "
        "AND part = 'value' AND field <> '' AND type IS NOT NULL",
        [entry.schema, entry.name],
    )
    seen = {row.field for row in columns}
    declared = {item.field for item in entry.fields} - subject.spec.excluded_fields
    changes = query(
        "SELECT partition_date AS day, unnest(schema_changes::VARCHAR[]) AS change "
        "FROM dixa_catalogue.loads WHERE asset_key = ? AND run_id = "
        "(SELECT arg_max(run_id, loaded_at) FROM dixa_catalogue.loads WHERE asset_key = ?)",
        [entry.key, entry.key],
    )
    cases = [
        *({"what": "in the data, not in the catalogue", "field": name} for name in seen - declared),
        *({"what": "in the catalogue, never in the data", "field": n} for n in declared - seen),
        *({"what": row.change, "field": f"on {row.day}"} for row in changes),
    ]
    cases = sorted(cases, key=lambda case: (case["what"], case["field"]))
    figures = {
        "not in the catalogue": len(seen - declared),
        "never in the data": len(declared - seen),
        "changes by the latest load": len(changes),
    }
    if not _has_rows(query, entry):
        return Finding(Verdict.NO_DATA, "No rows are loaded yet, so the check cannot run.", figures)
    if not cases:
        reason = f"The data have the {len(declared)} fields of the catalogue."
        return Finding(Verdict.PASSED, reason, figures)
    widened = [row.change for row in changes if not row.change.startswith(EXPECTED_CHANGES)]
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
    """The SQL for each measure of the metric that can be computed from a record's rows.

    A Count is the number of rows. A percentage needs a known condition on the record's value. An
    Average needs a record that no other metric with an Average uses.
    """
    metric = subject.entry
    measures = {item.measure for item in metric.aggregations}
    averages = sum(
        entry.kind == "metric"
        and record.id in entry.related_ids
        and any(item.measure == "Average" for item in entry.aggregations)
        for entry in subject.entries.values()
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
                WHERE l.asset_key = ? AND l.removed_at IS NULL
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
        )


def _value_type(query: Query, record: Entry) -> str | None:
    """The type of the record's own value; None if its rows have no value."""
    found = query(
        "SELECT type FROM dixa_catalogue.columns WHERE table_schema = ? AND table_name = ? "
        "AND field = '' AND part = 'value'",
        [record.schema, record.name],
    )
    return found[0].type if found else None


def _has_rows(query: Query, entry: Entry) -> bool:
    (found,) = query(
        "SELECT coalesce(sum(rows), 0) AS rows FROM dixa_catalogue.loads WHERE asset_key = ?",
        [entry.key],
    )
    return bool(found.rows)
