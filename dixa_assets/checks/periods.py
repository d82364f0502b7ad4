"""The check of weeks and months."""

from collections.abc import Sequence
from typing import Any

from dixa_assets.checks.registry import MOST_CASES, Finding, Subject, Verdict, check, is_per_group
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.tables import METRIC_VALUES, PERIOD_VALUES
from dixa_assets.model.values import PRESENCE
from dixa_assets.warehouse.sql import Query, name_of, placeholders


@check(
    "adds_up",
    fault="weeks or months differ from their days",
    is_serious=True,
    applies=lambda subject: bool(subject.spec.periods),
)
def adds_up(query: Query, subject: Subject) -> Finding:
    """Count, Sum and presence of a week or month are the sums of its days, if all are loaded.

    Every week and month that was requested has values, unless its days have none either.
    """
    absent, compared = _absent(query, subject.entry), _compared(query, subject.entry)
    differing = [each for each in compared if each.differs]
    figures = {
        "totals compared": len(compared),
        "totals that differ": len(differing),
        "periods without values": len(absent),
    }
    cases = [
        {
            "period": each.period,
            "last day": str(each.last_day),
            "measure": each.measure,
            "whole period": each.whole,
            "sum of its days": each.days,
            "loaded hours apart": each.hours_apart,
        }
        for each in (*absent, *differing)[:MOST_CASES]
    ]
    if not cases:
        verdict = Verdict.PASSED if compared else Verdict.NO_DATA
        reason = f"{len(compared)} totals of weeks and months are the sums of their days."
        nothing = "No period is loaded with all its days, or no measure adds up over days."
        return Finding(verdict, reason if compared else nothing, figures)
    problems = {
        f"Dixa returned no value for {len(absent)} weeks and months whose days have values. "
        "The log of the load has its response. Load the last day of each again.": absent,
        f"{len(differing)} of {len(compared)} totals differ from the sums of their days. If days "
        "were loaded at other times, the data may have changed in between: load all days of the "
        "period again. A Count of different things, such as customers, never adds up.": differing,
    }
    reason = " ".join(problem for problem, found in problems.items() if found)
    return Finding(Verdict.FAILED, reason, figures, cases)


def _absent(query: Query, metric: Entry) -> Sequence[Any]:
    """The requested weeks and months without a row, if one of their days has a value."""
    return query(
        f"""
        WITH requested AS (
            SELECT partition_date AS last_day, unnest(periods::VARCHAR[]) AS period
            FROM dixa_catalogue.loads WHERE asset_key = ? AND periods IS NOT NULL
        )
        SELECT DISTINCT period, last_day, NULL AS measure, NULL AS whole, NULL AS days,
               NULL AS hours_apart
        FROM requested JOIN {name_of(METRIC_VALUES)} AS d ON d.partition_date BETWEEN
            if(period = 'week', last_day - 6, date_trunc('month', last_day)::DATE) AND last_day
        WHERE d.metric = ? AND d.breakdown_attribute IS NULL AND d.value IS NOT NULL
          AND (period, last_day) NOT IN (
              SELECT (period, partition_date) FROM {name_of(PERIOD_VALUES)} WHERE metric = ?
          )
        ORDER BY ALL
        """,
        [metric.key, metric.id, metric.id],
    )


def _compared(query: Query, metric: Entry) -> Sequence[Any]:
    """Each total that adds up over days, if all days of its period have the same filters."""
    measures = ["Sum", PRESENCE] if is_per_group(metric) else ["Count", "Sum", PRESENCE]
    return query(
        f"""
        WITH whole AS (
            SELECT p.*
            FROM {name_of(PERIOD_VALUES)} AS p
            JOIN dixa_catalogue.loads AS own
              ON own.asset_key = ? AND own.partition_date = p.partition_date
            JOIN dixa_catalogue.loads AS l
              ON l.asset_key = own.asset_key AND l.filters = own.filters
             AND l.interval_start >= p.interval_start AND l.interval_end <= p.interval_end
            WHERE p.metric = ? AND p.measure IN ({placeholders(measures)})
              AND p.breakdown_attribute IS NULL AND p.value IS NOT NULL
            GROUP BY ALL
            HAVING sum(epoch(l.interval_end) - epoch(l.interval_start))
                = epoch(p.interval_end) - epoch(p.interval_start)
        )
        SELECT w.period, w.partition_date AS last_day,
               concat_ws(' ', w.measure, w.status) AS measure, w.value AS whole,
               coalesce(sum(d.value), 0) AS days,
               round(max(abs(epoch(w.loaded_at - d.loaded_at))) / 3600, 1) AS hours_apart,
               abs(whole - days) > 1e-9 * greatest(1, abs(whole)) AS differs
        FROM whole AS w
        LEFT JOIN {name_of(METRIC_VALUES)} AS d
          ON d.metric = w.metric AND d.measure = w.measure
         AND d.status IS NOT DISTINCT FROM w.status AND d.breakdown_attribute IS NULL
         AND d.interval_start >= w.interval_start AND d.interval_end <= w.interval_end
        GROUP BY w.period, w.partition_date, w.measure, w.status, w.value
        ORDER BY last_day, measure
        """,
        [metric.key, metric.id, *measures],
    )
