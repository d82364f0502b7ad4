"""The daily partitions definition, ranges of its keys, and run requests for them.

See https://docs.dagster.io/guides/build/partitions-and-backfills
"""

from collections.abc import Collection, Mapping, Sequence, Set
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, available_timezones

import dagster as dg

from dixa_assets.errors import ConfigError
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)


def build_partitions_def(start_date: str, timezone: str) -> dg.DailyPartitionsDefinition:
    """Build the local days of `timezone` from `start_date` (YYYY-MM-DD) to yesterday."""
    if timezone not in available_timezones():
        raise ConfigError(
            "timezone",
            f"'{timezone}' is not a zone of the IANA database. Use the zone of your Dixa "
            "organisation, for instance Europe/Copenhagen.",
        )
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


def days_to_load(
    spec: LoadSpec,
    partitions_def: dg.DailyPartitionsDefinition,
    history_days: int,
    loaded: Collection[str],
    held: Mapping[tuple[str, str], Set[str]],
) -> tuple[str, ...]:
    """The days of an entry's history that Dagster (`loaded`) or the database (`held`) lacks.

    Also loaded days of the last `history_days` that end a week or month which was not requested
    with them.
    """
    key, now = spec.entry.key, datetime.now(UTC).isoformat()
    history = _days_before(spec.entry.first_seen, partitions_def, history_days)
    days = {day for day in history if day not in loaded or (key, day) not in held}
    latest = _days_before(now, partitions_def, history_days) if spec.periods else ()
    for day in (*history, *latest):
        if (key, day) in held:
            ended = spec.spans_ending(Day.of(date.fromisoformat(day), spec.timezone))
            if any(span.name not in held[key, day] for span in ended):
                days.add(day)
    return tuple(sorted(days))


def _days_before(
    instant: str, partitions_def: dg.DailyPartitionsDefinition, number: int
) -> Sequence[str]:
    """The keys of the days before an ISO instant."""
    keys = partitions_def.get_partition_keys(current_time=datetime.fromisoformat(instant))
    return keys[-number:] if number else ()


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
