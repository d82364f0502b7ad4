"""Every query of the report.

A statement that the report shows, to be copied, has no parameters and is run as it is shown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from dixa_assets.model.days import ENDINGS
from dixa_assets.model.tables import METRIC_VALUES
from dixa_assets.warehouse.sql import Query, literal, name_of, quote

# A day is ripe when this share of its ratings has arrived.
RIPE_PERCENT = 95
LAST_DAYS = {"day": "day", "week": "week + 6", "month": "last_day(month)"}

# By metric, measure, status and day.
Totals = Mapping[str, Mapping[str, Mapping[str, Mapping[date, float | None]]]]


@dataclass(frozen=True)
class Marts:
    """The marts of a database. A mart that the database lacks has no columns."""

    query: Query

    @cached_property
    def columns(self) -> Mapping[str, Set[str]]:
        """The columns of each mart."""
        columns: defaultdict[str, set[str]] = defaultdict(set)
        for row in self.query(
            "SELECT table_name, column_name FROM duckdb_columns() "
            "WHERE database_name = current_database() AND schema_name = 'dixa_marts'"
        ):
            columns[row.table_name].add(row.column_name)
        return columns

    def overview(self, period: str, wanted: Iterable[str], first: date) -> str:
        """The statement for figures of the whole account by day, week or month."""
        source = f"overview_{ENDINGS[period]}"
        has = self.columns[source]
        if "still_open" in wanted and self.columns["backlog_daily"]:
            has |= {"still_open"}
            source += (
                "\nLEFT JOIN (SELECT day AS at_day, coalesce(still_open, not_yet_closed) AS "
                f"still_open FROM dixa_marts.backlog_daily) ON at_day = {LAST_DAYS[period]}"
            )
        return _select(source, period, wanted, has, f"{period} >= DATE '{first}'")

    def parts(self, mart: str, wanted: Iterable[str], first: date, last: date) -> str:
        """The statement for the figures of each queue, agent, channel or tag by week."""
        where = f"week BETWEEN DATE '{first}' AND DATE '{last}'"
        return _select(mart, "week", wanted, self.columns[mart], where)

    def by_hour(self, mart: str, value: str, first: date, last: date) -> str:
        """The statement for the mean of a value by weekday and hour, over some days."""
        return (
            f"SELECT weekday, hour, sum({value}) / count(DISTINCT hour_start) AS mean\n"
            f"FROM dixa_marts.{mart}\nWHERE day BETWEEN DATE '{first}' AND DATE '{last}'\n"
            "GROUP BY weekday, hour\nORDER BY weekday, hour;"
        )

    def revisions(self, since: date) -> str:
        """The statement for the totals that a reload changed since a day, the latest first."""
        return (
            "SELECT metric, day, measure, status, old_value, new_value, new_loaded_at\n"
            f"FROM dixa_marts.revisions\nWHERE new_loaded_day >= DATE '{since}'\n"
            "ORDER BY new_loaded_at DESC, metric, day, measure, status;"
        )

    def ripe_after(self) -> int | None:
        """The days after which nearly all ratings of a day have arrived; None if unknown."""
        if not self.columns["rating_delay"]:
            return None
        (found,) = self.query(
            "SELECT min(days_late) FILTER (arrived >= ?) AS days FROM dixa_marts.rating_delay",
            [RIPE_PERCENT],
        )
        days: int | None = found.days
        return days

    def ripe_answers(self, part: str, first: date, last: date) -> dict[Any, tuple[float, int]]:
        """CSAT and the number of answers over some days, by a column of `satisfaction`."""
        if not self.columns["satisfaction"]:
            return {}
        found = self.query(
            f"SELECT {part} AS part, 100 * avg(is_satisfied::INTEGER) AS csat, count(score) AS n "
            "FROM dixa_marts.satisfaction WHERE day BETWEEN ? AND ? GROUP BY ALL",
            [first, last],
        )
        return {row.part: (row.csat, row.n) for row in found}

    def missing(self) -> list[Any]:
        """The records, fields and marts that are missing, by kind, name and consequence."""
        return self.query("FROM dixa_marts.missing") if self.columns["missing"] else []


def loads(query: Query) -> dict[str, Any]:
    """The first and the last loaded day of each asset, and its latest load."""
    found = query(
        "SELECT asset_key, min(partition_date) AS first, max(partition_date) AS last, "
        "max(loaded_at) AS loaded_at FROM dixa_catalogue.loads WHERE partition_date IS NOT NULL "
        "GROUP BY asset_key ORDER BY asset_key"
    )
    return {row.asset_key: row for row in found}


def load_log(query: Query, days: Sequence[date]) -> Mapping[str, Mapping[date, Any]]:
    """The rows and the filters of each load, by asset and day."""
    logs: defaultdict[str, dict[date, Any]] = defaultdict(dict)
    for row in query(
        "SELECT asset_key, partition_date AS day, rows, filters FROM dixa_catalogue.loads "
        "WHERE partition_date BETWEEN ? AND ? ORDER BY partition_date",
        [days[0], days[-1]],
    ):
        logs[row.asset_key][row.day] = row
    return logs


def totals(query: Query, days: Sequence[date]) -> Totals:
    """All totals of all metrics. Values of unknown shape are left out."""
    found: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for row in query(
        "SELECT metric, coalesce(measure, '') AS measure, coalesce(status, '') AS status, "
        f"partition_date AS day, value FROM {name_of(METRIC_VALUES)} "
        "WHERE partition_date BETWEEN ? AND ? AND breakdown_attribute IS NULL "
        "AND aggregate IS NULL ORDER BY metric, measure, status",
        [days[0], days[-1]],
    ):
        found[row.metric][row.measure][row.status][row.day] = row.value
    return found  # type: ignore[no-any-return]


def by_day(source: str, columns: Mapping[str, str], days: Sequence[date], where: str) -> str:
    """The statement for columns by day, each an expression over the rows of a day."""
    chosen = "".join(f",\n       {text} AS {quote(name)}" for name, text in columns.items())
    return (
        f"SELECT partition_date AS day{chosen}\nFROM {source}\n"
        f"WHERE {where} AND partition_date BETWEEN DATE '{days[0]}' AND DATE '{days[-1]}'\n"
        "GROUP BY partition_date\nORDER BY partition_date;"
    )


def total_of(measure: str, status: str) -> str:
    """The expression of one total of a metric by day."""
    tests = {"measure": measure, "status": status, "breakdown_attribute": ""}
    conditions = [f"{k} = {literal(v)}" if v else f"{k} IS NULL" for k, v in tests.items()]
    return f"sum(value) FILTER ({' AND '.join(conditions)})"


def _select(source: str, key: str, wanted: Iterable[str], has: Set[str], where: str) -> str:
    columns = dict.fromkeys([key, *(each for each in wanted if each in has)])
    return f"SELECT {', '.join(columns)}\nFROM dixa_marts.{source}\nWHERE {where}\nORDER BY ALL;"
