"""DuckDB's rules of time zones, compared with those of this project."""

from collections.abc import Sequence
from datetime import date

from dixa_assets.model.days import Day
from dixa_assets.warehouse.sql import Query


def first_differing_midnight(query: Query, days: Sequence[Day]) -> date | None:
    """The first day that begins at another instant in DuckDB's rules; None if there is none."""
    ((first,),) = query(
        "SELECT min(day) FROM (SELECT unnest(?::DATE[]) AS day, "
        "unnest(?::TIMESTAMPTZ[]) AS start) WHERE timezone(?, start)::DATE <> day "
        "OR timezone(?, start - INTERVAL 1 MILLISECOND)::DATE >= day",
        [
            [day.date for day in days],
            [day.period.start for day in days],
            *[days[0].timezone] * 2,
        ],
    )
    return first if first is None else date.fromisoformat(str(first))
