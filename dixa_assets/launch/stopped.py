"""Names the days that a stopped load has not loaded, for the next start."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from dixa_assets.orchestration.dagster_internals import loaded_partitions, storage_errors

# A queued run is not in the list: Dagster starts it. Started runs are, because Dagster is not
# running yet: a run without an end is dead. The exception is a `make load` in another terminal,
# which looks the same in Dagster's storage.
STOPPED = [
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
]
# How far back to look.
RECENT, MOST_RUNS = timedelta(days=7), 100


def missing_days(home: Path, command: str) -> str:
    """A line about the days that stopped loads lack, with the command that loads them.

    The line is empty if no day is missing, or if Dagster's storage cannot be read.
    """
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            missing = _missing(instance)
    except storage_errors():
        return ""
    if not missing:
        return ""
    days = sorted(set[str]().union(*missing.values()))
    names = ",".join(sorted(key.to_user_string() for key in missing))
    count = sum(map(len, missing.values()))
    return (
        f"! A load was stopped or failed. {count:,} asset days of {len(missing)} assets are "
        f"missing. To load them: {command.format(assets=names, days=f'{days[0]}...{days[-1]}')}"
    )


def _missing(instance: dg.DagsterInstance) -> dict[dg.AssetKey, set[str]]:
    recent = dg.RunsFilter(statuses=STOPPED, created_after=datetime.now(UTC) - RECENT)
    wanted: defaultdict[dg.AssetKey, set[str]] = defaultdict(set)
    for run in instance.get_runs(recent, limit=MOST_RUNS):
        # The history sensor repeats its own loads.
        if "dagster/sensor_name" not in run.tags:
            for key, days in _planned(instance, run.run_id):
                wanted[key] |= days
    missing = {key: days - {*loaded_partitions(instance, key)} for key, days in wanted.items()}
    return {key: days for key, days in missing.items() if days}


def _planned(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[dg.AssetKey, set[str]]]:
    """Yield each asset of a run with the days that the run planned."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    for record in instance.get_records_for_run(run_id, of_type=kind).records:
        if event := record.event_log_entry.dagster_event:
            planned = event.asset_materialization_planned_data
            several, one = planned.partitions_subset, planned.partition
            days = several.get_partition_keys() if several else [one] if one else []
            yield planned.asset_key, {*days}
