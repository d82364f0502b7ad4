"""The sensor that loads missing days, and names loads that the database has lost.

Dagster remembers the loads, the database holds them. A person may delete the database, or replace
it with a backup or with another one, so the sensor compares the two.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import dagster as dg

from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Entry
from dixa_assets.orchestration.dagster_internals import AssetJob, loaded_partitions
from dixa_assets.orchestration.partitions import history_of, range_request, to_ranges
from dixa_assets.orchestration.sensors import assets_in_progress
from dixa_assets.orchestration.settings import Account
from dixa_assets.warehouse.load_log import Held

HISTORY_INTERVAL_SECONDS = 15
RETRY_SECONDS = 300
# While loads are running, the database changes all the time. It is then compared this often.
COMPARE_SECONDS = 600
# A tick names this many assets, and looks at this many loads of an asset.
MOST_ASSETS, MOST_LOADS = 5, 1000
NO_LOAD_IS_DUE = "No load is due. All data are loaded, are being loaded, or wait for a retry."


class Unpartitioned(NamedTuple):
    """An asset without partitions: its table, and the version it should have, if any."""

    table: str
    version: str = ""


def build_history_sensor(
    account: Account,
    *,
    job: AssetJob,
    daily: Mapping[dg.AssetKey, Entry],
    unpartitioned: Mapping[dg.AssetKey, Unpartitioned],
    partitions_def: dg.DailyPartitionsDefinition,
) -> dg.SensorDefinition:
    """Build the sensor that loads the days before an asset first appeared, and new tables.

    A day is loaded if both Dagster and the database have it. A lost or replaced database is
    therefore filled again. The tick names lost loads that are not requested.

    Args:
        account: The account.
        job: The job to run.
        daily: Metrics and records. Only live ones are requested.
        unpartitioned: Assets without partitions.
        partitions_def: The days.
    """
    history_days = account.options.settings.history_days
    warehouse = account.open_warehouse(wait_seconds=5.0)
    marks = {
        key: f"{key.to_user_string()} {history_days}"
        for key, entry in daily.items()
        if entry.is_live
    } | {key: f"{key.to_user_string()} {asset.version}" for key, asset in unpartitioned.items()}

    @dg.sensor(
        name=account.names.of("dixa_history"),
        job=job,
        minimum_interval_seconds=HISTORY_INTERVAL_SECONDS,
        default_status=account.settings.sensor_status,
        description=f"Loads missing data: the {history_days} days before each metric or record "
        "first appeared, the filter values and the catalogue tables.",
    )
    def history_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, attempts = context.instance, _Attempts(context.cursor)
        busy = assets_in_progress(instance) & {*daily, *unpartitioned}
        try:
            changed = warehouse.changed_at()
            if attempts.are_settled(marks.values(), changed, is_busy=bool(busy)):
                return dg.SensorResult(skip_reason=NO_LOAD_IS_DUE, cursor=context.cursor)
            # Dagster is read first: the database has each load before Dagster shows it.
            shown = {key: {*loaded_partitions(instance, key)} for key in daily if key not in busy}
            latest = instance.get_latest_materialization_events({*daily, *unpartitioned} - busy)
            held = warehouse.inventory()
        except DixaAssetsError as error:
            reason = f"Missing days cannot be determined now: {error}"
            return dg.SensorResult(skip_reason=reason, cursor=attempts.to_cursor())
        attempts.use_database(held.database_id)
        missing: defaultdict[tuple[str, ...], list[dg.AssetKey]] = defaultdict(list)
        lost: dict[str, set[str]] = {}
        for key, days in shown.items():
            entry, loads, mark = daily[key], held.loads.get(daily[key].key, {}), marks.get(key, "")
            gone = days - loads.keys()
            if not _is_held(latest.get(key), loads):
                gone |= _later_days(instance, key, loads)
            is_new = bool(mark) and not attempts.is_done(mark)
            due: list[str] = []
            if mark and (gone or is_new):
                wanted = history_of(entry.first_seen, partitions_def, history_days)
                due = [day for day in wanted if day in gone or (is_new and day not in days)]
            if is_new and not due:
                attempts.finish(mark)
            elif due and attempts.try_start(mark):
                missing[tuple(due)].append(key)
                gone -= {*due}
            if gone:
                lost[key.to_user_string()] = gone
        stale = []
        for key, asset in unpartitioned.items():
            event, loads = latest.get(key), held.loads.get(asset.table, {})
            is_gone = not _is_held(event, loads)
            if key in busy or (attempts.is_done(marks[key]) and not is_gone):
                continue
            if "" in loads and not is_gone and _is_current(event, asset.version):
                attempts.finish(marks[key])
            elif attempts.try_start(marks[key]):
                stale.append(key)
            elif is_gone:
                lost[key.to_user_string()] = set()
        requests = [dg.RunRequest(asset_selection=stale)] if stale else []
        for days, keys in missing.items():
            requests += [range_request(keys, *each) for each in to_ranges(partitions_def, days)]
        attempts.note_comparison(None if requests or lost or busy else changed)
        note = _in_words(warehouse.name, lost) if lost else NO_LOAD_IS_DUE
        if not requests:
            return dg.SensorResult(skip_reason=note, cursor=attempts.to_cursor())
        if lost:
            context.log.warning(note)
        return dg.SensorResult(run_requests=requests, cursor=attempts.to_cursor())

    return history_sensor


class _Attempts:
    """The loads that the sensor requested, and its last comparison, in its cursor.

    A complete load is requested once, so days that a person removed from Dagster are not loaded
    again. A failed load is requested again after 5 minutes, then after 10, 20 and so on up to a
    day.
    """

    def __init__(self, cursor: str | None) -> None:
        known: dict[str, Any] = json.loads(cursor or "{}")
        self._database: str = known.get("database_id", "")
        self._tries: dict[str, list[float] | None] = known.get("tries", {})
        # The time of change of a database that had every load, and the time of the comparison.
        self._settled: float | None = known.get("settled")
        self._compared: float = known.get("compared", 0.0)

    def are_settled(self, marks: Iterable[str], changed: float | None, *, is_busy: bool) -> bool:
        """True if all loads are complete, and the last comparison is recent enough."""
        is_same = changed is not None and changed == self._settled
        is_recent = self._compared <= time.time() < self._compared + COMPARE_SECONDS
        return all(map(self.is_done, marks)) and (is_same or (is_busy and is_recent))

    def note_comparison(self, settled: float | None) -> None:
        self._settled, self._compared = settled, time.time()

    def use_database(self, database_id: str) -> None:
        """Forget the loads into another database. A new one gets its id with the first write."""
        if self._database not in ("", database_id):
            self._tries = {}
        self._database = database_id

    def is_done(self, mark: str) -> bool:
        return mark in self._tries and self._tries[mark] is None

    def finish(self, mark: str) -> None:
        self._tries[mark] = None

    def try_start(self, mark: str) -> bool:
        """Return True if a load is due, and count it as requested."""
        count, last = self._tries.get(mark) or (0, 0)
        now = time.time()
        # An attempt in the future comes from a wrong clock.
        if count and last <= now < last + min(RETRY_SECONDS * 2 ** (count - 1), 86_400):
            return False
        self._tries[mark] = [count + 1, now]
        return True

    def to_cursor(self) -> str:
        return json.dumps(
            {
                "database_id": self._database,
                "tries": self._tries,
                "settled": self._settled,
                "compared": self._compared,
            }
        )


def _is_held(event: dg.EventLogEntry | None, loads: Mapping[str, Held]) -> bool:
    """True if the database has the load of a materialization, or a later one of the same day."""
    if event is None or event.asset_materialization is None:
        return True
    load = loads.get(event.asset_materialization.partition or "")
    # A materialization that a person reported has no run.
    return load is not None and (event.run_id in ("", load.run_id) or load.at >= event.timestamp)


def _later_days(
    instance: dg.DagsterInstance, key: dg.AssetKey, loads: Mapping[str, Held]
) -> set[str]:
    """The days that were loaded again after the latest load in the database."""
    latest = max((load.at for load in loads.values()), default=0.0)
    records = dg.AssetRecordsFilter(asset_key=key, after_timestamp=latest)
    return {
        record.partition_key
        for record in instance.fetch_materializations(records, limit=MOST_LOADS).records
        if record.partition_key and not _is_held(record.event_log_entry, loads)
    }


def _is_current(event: dg.EventLogEntry | None, version: str) -> bool:
    materialization = event.asset_materialization if event else None
    if materialization is None:
        return False
    loaded = materialization.metadata.get("version")
    return not version or (loaded is not None and loaded.value == version)


def _in_words(database: str, lost: Mapping[str, Iterable[str]]) -> str:
    """Name the lost loads."""
    names = [
        f"{key} ({len(days)} days from {days[0]} to {days[-1]})" if days else key
        for key, days in ((key, sorted(days)) for key, days in sorted(lost.items()))
    ]
    more = f" and {len(names) - MOST_ASSETS} more assets" if len(names) > MOST_ASSETS else ""
    return (
        f"{database} lacks loads that Dagster shows: {', '.join(names[:MOST_ASSETS])}{more}. Was "
        "the database replaced? Materialize these days again, or go back to the former database."
    )
