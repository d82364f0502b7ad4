"""Whether DuckDB has the same midnights as this project."""

from collections.abc import Sequence
from datetime import date

from dixa_assets.model.days import Window
from dixa_assets.warehouse.sql import Query


def odd_midnight(query: Query, windows: Sequence[Window]) -> date | None:
    """The first day that DuckDB's own zone rules begin elsewhere; None when they agree."""
    found = query(
        "SELECT min(day) AS day FROM (SELECT unnest(?::DATE[]) AS day, "
        "unnest(?::TIMESTAMPTZ[]) AS start) WHERE timezone(?, start)::DATE <> day "
        "OR timezone(?, start - INTERVAL 1 MILLISECOND)::DATE >= day",
        [[w.day for w in windows], [w.start for w in windows], *[windows[0].timezone] * 2],
    ).day[0]
    return None if found != found else found.date()  # noqa: PLR0124
