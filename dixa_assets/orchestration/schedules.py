"""The schedules: everything live, the trailing days, in one run; and a lake's order.

See https://docs.dagster.io/guides/automate/schedules
"""

from collections.abc import Sequence

import dagster as dg

from dixa_assets.orchestration.dagster_internals import AssetJob
from dixa_assets.orchestration.partitions import range_request


def build_daily_schedule(
    *,
    name: str,
    job: AssetJob,
    cron: str,
    daily_keys: Sequence[dg.AssetKey],
    other_keys: Sequence[dg.AssetKey],
    partitions_def: dg.DailyPartitionsDefinition,
    refresh_days: int,
    default_status: dg.DefaultScheduleStatus,
) -> dg.ScheduleDefinition:
    """Reloads the trailing days of `daily_keys`, and `other_keys`, every morning.

    Ratings arrive late and conversations reopen, so the last days are loaded anew each day; what
    they were is replaced.
    """
    keys = [*daily_keys, *other_keys]

    @dg.schedule(
        name=name,
        cron_schedule=cron,
        execution_timezone=partitions_def.timezone,
        job=job,
        default_status=default_status,
        description=f"Reloads the last {refresh_days} days of every live metric and record, and "
        "the filter values.",
    )
    def daily_refresh(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.SkipReason | dg.RunRequest:
        at = context.scheduled_execution_time
        days = partitions_def.get_partition_keys(current_time=at)[-refresh_days:]
        if not daily_keys or not days:
            return dg.SkipReason("The catalogue has not been fetched yet.")
        return range_request(keys, days[0], days[-1])

    return daily_refresh


def build_lake_schedule(
    *,
    name: str,
    job: AssetJob,
    cron: str,
    key: dg.AssetKey,
    timezone: str,
    default_status: dg.DefaultScheduleStatus,
) -> dg.ScheduleDefinition:
    """Puts the lake in order every night."""

    @dg.schedule(
        name=name,
        cron_schedule=cron,
        execution_timezone=timezone,
        job=job,
        default_status=default_status,
        description="Writes the lake's small files together.",
    )
    def lake_order() -> dg.RunRequest:
        return dg.RunRequest(asset_selection=[key])

    return lake_order
