"""The schedules: the daily refresh, and published assets with their own time.

See https://docs.dagster.io/guides/automate/schedules
"""

from collections.abc import Sequence

import dagster as dg

from dixa_assets.orchestration.dagster_internals import AssetJob
from dixa_assets.orchestration.partitions import range_request
from dixa_assets.orchestration.settings import Account


def build_daily_schedule(
    account: Account,
    *,
    job: AssetJob,
    daily_keys: Sequence[dg.AssetKey],
    other_keys: Sequence[dg.AssetKey],
    partitions_def: dg.DailyPartitionsDefinition,
) -> dg.ScheduleDefinition:
    """Build the daily refresh: it reloads trailing days and filter values in one run.

    Ratings arrive late and conversations reopen, so the last days change after their first load.
    """
    keys, settings = [*daily_keys, *other_keys], account.settings
    # Days that are not kept are not loaded.
    keep_days = account.options.settings.keep_days or settings.refresh_days
    reloaded = min(settings.refresh_days, keep_days)

    @dg.schedule(
        name=account.names.of("dixa_daily_refresh"),
        cron_schedule=settings.refresh_cron,
        execution_timezone=account.options.timezone,
        job=job,
        default_status=settings.schedule_status,
        description=f"Reloads the last {reloaded} days of every live metric and "
        "record, and the filter values.",
    )
    def daily_refresh(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.SkipReason | dg.RunRequest:
        at = context.scheduled_execution_time
        days = partitions_def.get_partition_keys(current_time=at)[-reloaded:]
        if not daily_keys or not days:
            return dg.SkipReason("The catalogue has not been fetched yet.")
        return range_request(keys, days[0], days[-1])

    return daily_refresh


def build_published_schedule(
    account: Account, name: str, *, job: AssetJob, keys: Sequence[dg.AssetKey], cron: str
) -> dg.ScheduleDefinition:
    """Build the schedule that makes a published asset, in the account's zone."""

    @dg.schedule(
        name=account.names.of(f"dixa_{name}_order"),
        cron_schedule=cron,
        execution_timezone=account.options.timezone,
        job=job,
        default_status=account.settings.schedule_status,
        description=f"Runs the asset dixa/{name}.",
    )
    def published() -> dg.RunRequest:
        return dg.RunRequest(asset_selection=list(keys))

    return published
