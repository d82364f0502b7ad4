"""The daily partitions definition, ranges of its keys, and run requests for them.

See https://docs.dagster.io/guides/build/partitions-and-backfills
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime
from zoneinfo import ZoneInfo

import dagster as dg
from dagster import DagsterError

from dixa_assets.errors import ConfigError
from dixa_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    CheckError,
)
from dixa_assets.settings.misspelt import zone_problem


def build_partitions_def(start_date: str, timezone: str) -> dg.DailyPartitionsDefinition:
    """Build the local days of `timezone` from `start_date` (YYYY-MM-DD) to yesterday."""
    if problem := zone_problem(timezone):
        raise ConfigError("timezone", problem)
    try:
        start = date.fromisoformat(start_date)
    except ValueError:
        raise ConfigError("start_date", f"'{start_date}' is not a date. Use YYYY-MM-DD.") from None
    if start.isoformat() != start_date:
        raise ConfigError("start_date", f"'{start_date}' is not in the form YYYY-MM-DD.")
    if not date(2000, 1, 1) <= start < datetime.now(ZoneInfo(timezone)).date():
        raise ConfigError(
            "start_date",
            f"{start_date} is not a day from 2000-01-01 to yesterday.",
        )
    return dg.DailyPartitionsDefinition(start_date=start_date, timezone=timezone)


def backfill_policy(days_per_run: int = 0) -> dg.BackfillPolicy:
    """One run per contiguous range of days, or per `days_per_run` days of it.

    A run per day would cost seconds per day. Dagster's command line accepts ranges only for assets
    with a single run. If a run dies, its finished days are kept.
    """
    if days_per_run:
        return dg.BackfillPolicy.multi_run(days_per_run)
    return dg.BackfillPolicy.single_run()


def requested_days(context: dg.AssetExecutionContext) -> Sequence[str]:
    """The keys of the days that a run loads; `ConfigError` if there are none."""
    days: Sequence[str] = ()
    with suppress(DagsterError, CheckError, ValueError):
        days = context.partition_keys
    if not days:
        raise ConfigError(
            "partition",
            "the run has no day that can be loaded. Choose days of the form YYYY-MM-DD from "
            "DIXA_START_DATE on, the first one first.",
        )
    return days


def history_of(
    first_seen: str, partitions_def: dg.DailyPartitionsDefinition, history_days: int
) -> list[str]:
    """The keys of the days before an asset was first seen (an ISO instant)."""
    keys = partitions_def.get_partition_keys(current_time=datetime.fromisoformat(first_seen))
    return list(keys[-history_days:]) if history_days else []


def to_ranges(
    partitions_def: dg.DailyPartitionsDefinition, keys: Sequence[str]
) -> list[tuple[str, str]]:
    """Sorted keys as the fewest contiguous ranges: first and last key of each."""
    ranges: list[tuple[str, str]] = []
    for key in keys:
        if ranges and partitions_def.get_next_partition_key(ranges[-1][1]) == key:
            ranges[-1] = (ranges[-1][0], key)
        else:
            ranges.append((key, key))
    return ranges


def range_request(keys: Sequence[dg.AssetKey], first: str, last: str) -> dg.RunRequest:
    """One run for all days from `first` to `last` of the assets."""
    return dg.RunRequest(
        asset_selection=list(keys),
        # Loads run their checks anyway. Planning each check would delay the start of a run.
        asset_check_keys=[],
        tags={ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last},
    )
