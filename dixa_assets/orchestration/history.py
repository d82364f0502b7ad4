"""The sensor that loads missing days, and names loads that the database has lost.

Dagster remembers the loads, the database holds them. A person may delete the database, or replace
it with a backup or with another one, so the sensor compares the two.
"""

import json
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import NamedTuple

import dagster as dg

from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets.orchestration.dagster_internals import AssetJob, loaded_partitions
from dixa_assets.orchestration.partitions import history_of, range_request, to_ranges
from dixa_assets.orchestration.sensors import assets_in_progress, is_current
from dixa_assets.orchestration.settings import Account
from dixa_assets.warehouse.load_log import Held

HISTORY_INTERVAL_SECONDS = 15
RETRY_SECONDS = 300
# A tick names this many assets, and looks at this many loads of an asset.
MOST_ASSETS, MOST_LOADS = 20, 1000
NO_LOAD_IS_DUE = "No load is due. All data are loaded, are being loaded, or wait for a retry."


class Tracked(NamedTuple):
    """An asset whose loads are compared.

    Attributes:
        table: Its table, as schema/relation.
        version: The expected version. If it changes, the sensor looks for missing loads again.
        spec: The load of its metric or record; None if it has no days.
    """

    table: str
    version: str
    spec: LoadSpec | None = None


def build_history_sensor(
    account: Account,
    *,
    job: AssetJob,
    assets: Mapping[dg.AssetKey, Tracked],
    partitions_def: dg.DailyPartitionsDefinition,
) -> dg.SensorDefinition:
    """Build the sensor that loads the days before an asset first appeared, and new tables.

    A day is loaded if both Dagster and the database have it. A lost or replaced database is
    therefore filled again: with these days, and with the lost ones of the latest `history_days`.
    The tick names lost days that the sensor does not request. A loaded day is loaded again if it
    ends a week or month that was not requested with it.
    """
    settings, warehouse = account.options.settings, account.open_warehouse(wait_seconds=5.0)
    marks = {key: f"{key.to_user_string()} {each.version}" for key, each in assets.items()}

    count = settings.history_days
    history = cache(lambda seen: history_of(seen, partitions_def, count))

    @dg.sensor(
        name=account.names.of("dixa_history"),
        job=job,
        minimum_interval_seconds=HISTORY_INTERVAL_SECONDS,
        default_status=account.settings.sensor_status,
        description=_description(count),
    )
    def history_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        attempts, instance = _Attempts(context.cursor), context.instance
        busy = assets_in_progress(instance) & assets.keys()
        try:
            if attempts.are_complete(marks.values(), changed := warehouse.changed_at()):
                return dg.SensorResult(skip_reason=NO_LOAD_IS_DUE, cursor=context.cursor)
            # Dagster is read first: the database has each load before Dagster shows it.
            idle = [key for key in assets if key not in busy]
            events = instance.get_latest_materialization_events(idle)
            shown = {key: _days_shown(instance, key, assets[key], events.get(key)) for key in idle}
            held = warehouse.inventory()
        except DixaAssetsError as error:
            reason = f"Missing days cannot be determined now: {error}"
            return dg.SensorResult(skip_reason=reason, cursor=attempts.to_cursor())
        attempts.use_database(held.database_id)
        now = datetime.now(UTC)
        latest = history_of(now.isoformat(), partitions_def, count)
        missing: defaultdict[tuple[str, ...], list[dg.AssetKey]] = defaultdict(list)
        lost: dict[str, set[str]] = {}
        for key, days in shown.items():
            loads, spec = held.loads.get(assets[key].table, {}), assets[key].spec
            gone = _lost_days(instance, key, events.get(key), days, loads)
            wanted, partial = {""}, set[str]()
            if spec:
                first = str(settings.first_kept_day(spec.entry, now))
                own = history(spec.entry.first_seen)
                partial = _without_periods(spec, loads, {*own, *latest})
                again = {*own, *partial, *gone.intersection(latest)}
                wanted = {day for day in again if day >= first and spec.entry.is_live}
                gone = {day for day in gone if day >= first}
            if due := attempts.take_due(marks[key], sorted(wanted), days - partial, gone):
                missing[due].append(key)
            # Other days are requested now, or wait for a retry.
            if gone := gone - wanted:
                lost[key.to_user_string()] = gone
        attempts.settled = None if missing or lost or busy else changed
        note = _in_words(warehouse.name, lost) if lost else NO_LOAD_IS_DUE
        if not missing:
            return dg.SensorResult(skip_reason=note, cursor=attempts.to_cursor())
        if lost:
            context.log.warning(note)
        requests = _requests(partitions_def, missing)
        return dg.SensorResult(run_requests=requests, cursor=attempts.to_cursor())

    return history_sensor


def _description(count: int) -> str:
    days = f"the {count} days before each metric or record first appeared, " if count else ""
    return f"Loads missing data: {days}the filter values and the catalogue tables."


class _Attempts:
    """The loads that the sensor requested, in its cursor.

    A complete load is requested once, so days that a person removed from Dagster are not loaded
    again. A failed load is requested again after 5 minutes, then after 10, 20 and so on up to a
    day.
    """

    def __init__(self, cursor: str | None) -> None:
        known = json.loads(cursor or "{}")
        self._database: str = known.get("database_id", "")
        self._tries: dict[str, list[float] | None] = known.get("tries", {})
        # The time of change of a database in which a comparison found every load.
        self.settled: float | None = known.get("settled")

    def are_complete(self, marks: Iterable[str], changed: float | None) -> bool:
        """True if all loads are complete, in a database that has not changed since then."""
        is_same = changed is not None and changed == self.settled
        return is_same and all(self._tries.get(mark, ...) is None for mark in marks)

    def use_database(self, database_id: str) -> None:
        """Forget the loads into another database. A new one gets its id with the first write."""
        if self._database not in ("", database_id):
            self._tries = {}
        self._database = database_id

    def take_due(
        self, mark: str, wanted: Sequence[str], shown: set[str], lost: set[str]
    ) -> tuple[str, ...]:
        """Return the wanted days that should be requested now, and count them as requested."""
        is_done = mark in self._tries and self._tries[mark] is None
        due = tuple(day for day in wanted if day in lost or (day not in shown and not is_done))
        if not due:
            self._tries[mark] = None
            return ()
        count, last = self._tries.get(mark) or (0, 0)
        now = time.time()
        # An attempt in the future comes from a wrong clock.
        if count and last <= now < last + min(RETRY_SECONDS * 2 ** (count - 1), 86_400):
            return ()
        self._tries[mark] = [count + 1, now]
        return due

    def to_cursor(self) -> str:
        return json.dumps(
            {"database_id": self._database, "tries": self._tries, "settled": self.settled}
        )


def _days_shown(
    instance: dg.DagsterInstance, key: dg.AssetKey, asset: Tracked, latest: dg.EventLogEntry | None
) -> set[str]:
    """The days that Dagster shows as loaded; an empty text for a whole table."""
    if asset.spec:
        return {*loaded_partitions(instance, key)}
    return {""} if is_current(latest, asset.version) else set()


def _lost_days(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    latest: dg.EventLogEntry | None,
    shown: set[str],
    loads: Mapping[str, Held],
) -> set[str]:
    """The days whose latest load in Dagster is not in the database."""
    lost = shown - loads.keys()
    if latest is None or _is_held(latest, loads):
        return lost
    # The database is an earlier state of itself: later loads of the days that it has are lost too.
    newest = max((load.at for load in loads.values()), default=0.0)
    records = dg.AssetRecordsFilter(asset_key=key, after_timestamp=newest)
    later = instance.fetch_materializations(records, limit=MOST_LOADS).records
    return lost | {
        record.partition_key or ""
        for record in later
        if not _is_held(record.event_log_entry, loads)
    }


def _without_periods(spec: LoadSpec, loads: Mapping[str, Held], days: Collection[str]) -> set[str]:
    """The loaded days that end a week or month which was not requested with them."""
    if not spec.entry.is_live:
        return set()
    found = {day: Day.of(date.fromisoformat(day), spec.timezone) for day in days if day in loads}
    return {
        text
        for text, day in found.items()
        if any(span.name not in loads[text].periods for span in spec.spans_ending(day))
    }


def _is_held(event: dg.EventLogEntry, loads: Mapping[str, Held]) -> bool:
    """True if the database has the load of a materialization, or a later one of the same day."""
    materialization = event.asset_materialization
    load = loads.get((materialization and materialization.partition) or "")
    # A materialization that a person reported has no run.
    return load is not None and (event.run_id in ("", load.run_id) or load.at >= event.timestamp)


def _requests(
    partitions_def: dg.DailyPartitionsDefinition,
    missing: Mapping[tuple[str, ...], Sequence[dg.AssetKey]],
) -> list[dg.RunRequest]:
    whole = missing.get(("",))
    requests = [dg.RunRequest(asset_selection=whole)] if whole else []
    for days, keys in missing.items():
        if keys is not whole:
            requests += [range_request(keys, *each) for each in to_ranges(partitions_def, days)]
    return requests


def _in_words(database: str, lost: Mapping[str, Collection[str]]) -> str:
    """Name the lost days."""
    names = [
        f"{key} ({len(days)} days from {min(days)} to {max(days)})"
        for key, days in sorted(lost.items())
    ]
    more = f" and {len(names) - MOST_ASSETS} more assets" if len(names) > MOST_ASSETS else ""
    return (
        f"{database} lacks loads that Dagster shows: {', '.join(names[:MOST_ASSETS])}{more}. Was "
        "the database replaced? Materialize these days again, or go back to the former database."
    )
