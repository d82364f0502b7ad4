"""The sensors: they refresh the catalogue, load missing days, publish, and alert.

All except the alert sensor compare states and do not react to events: if a tick fails, the next
one does its work. See
https://docs.dagster.io/guides/automate/sensors
"""

import json
import os
import textwrap
import time
from collections.abc import Collection, Mapping, Set
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

import dagster as dg

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.settings import Patience
from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.merge import note_findings
from dixa_assets.orchestration import state
from dixa_assets.orchestration.alert import post_alert
from dixa_assets.orchestration.dagster_internals import (
    NOT_FINISHED_STATUSES,
    AssetJob,
    GrpcServerCodeLocationOrigin,
    loaded_partitions,
)
from dixa_assets.orchestration.partitions import history_of, range_request, to_ranges
from dixa_assets.orchestration.resources import API, DixaResource
from dixa_assets.orchestration.settings import Account
from dixa_assets.warehouse.warehouse import Warehouse

# Dagster stops a tick after 60 s and reports an error of the code server. If a fetch or a reload
# takes longer than this, the next tick repeats it.
CATALOGUE_SECONDS = 20.0
RELOAD_SECONDS = 20
HISTORY_INTERVAL_SECONDS = 15
RETRY_SECONDS = 300
PUBLISH_INTERVAL_SECONDS = 30
NO_LOAD_IS_DUE = "No load is due. All data are loaded, are being loaded, or wait for a retry."


class Unpartitioned(NamedTuple):
    """An asset without partitions: its table, and the version it should have, if any."""

    table: str
    version: str = ""


def alert_webhook() -> str:
    """The webhook for failed runs; empty if none is set."""
    return os.environ.get("DIXA_ALERT_WEBHOOK", "")


def build_catalogue_sensor(account: Account, loaded: Catalogue) -> dg.SensorDefinition:
    """Build the sensor that fetches the catalogue, stores it and reloads the code location.

    Args:
        account: The account.
        loaded: The catalogue that this code location was built from.
    """
    names, state_key = account.names, account.state_key
    warehouse = account.open_warehouse(wait_seconds=1.0)
    api = names.of(API)

    @dg.sensor(
        name=names.of("dixa_catalogue"),
        # Dagster checks every 5 s whether a tick is due. With the whole interval, it often checks a
        # moment too early, and the tick is 5 s late.
        minimum_interval_seconds=account.settings.catalogue_refresh_seconds - 1,
        default_status=account.settings.sensor_status,
        required_resource_keys={api},
        description="Finds new, changed and withdrawn metrics and records, and then reloads this "
        "code location.",
    )
    def catalogue_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        dixa: DixaResource = getattr(context.resources, api)
        storage = context.instance.defs_state_storage
        if storage is None:
            raise dg.Failure("This Dagster instance stores no state: set DAGSTER_HOME.")
        stored = state.load(storage, state_key)
        known = stored or _catalogue_in_database(warehouse)
        with dixa.client(Patience(lifetime=CATALOGUE_SECONDS)) as client:
            try:
                live, problems = fetch_catalogue(client, known)
            except DixaAssetsError as error:
                raise dg.Failure(
                    f"The catalogue was not refreshed. Nothing has changed: {error}"
                ) from None
            live = _with_findings(live, warehouse)
            is_new = live.version != loaded.version
            try:
                mistakes = account.find_unknown_names(live, client if is_new else None)
            except DixaAssetsError:
                # The filter values cannot be fetched. Loads that need them report the reason.
                mistakes = account.find_unknown_names(live, None)
        if stored is None or live.version != stored.version:
            state.save(storage, state_key, live)
        notes = [*_summary(known, live), *problems]
        notes += [f"{setting}: {problem.rstrip('.')}" for setting, problem, *_ in mistakes]
        if (marts := account.marts(live)) and (lacking := [name for _, name, _ in marts.gaps()]):
            notes.append(f"The marts lack {', '.join(lacking)}; see dixa_marts.missing")
        if is_new:
            notes.append(reload_code_location(context.code_location_origin))
        return dg.SkipReason(". ".join(notes) + ".")

    return catalogue_sensor


def _catalogue_in_database(warehouse: Warehouse) -> Catalogue:
    """The catalogue in the database; an empty one if the database cannot be read now."""
    try:
        return warehouse.catalogue()
    except DixaAssetsError:
        return Catalogue()


def _with_findings(live: Catalogue, warehouse: Warehouse) -> Catalogue:
    """The catalogue with the findings of loads, if the database can be read now."""
    try:
        types, fields = warehouse.findings()
    except DixaAssetsError:
        return live
    return note_findings(live, types, fields, datetime.now(UTC).isoformat(timespec="seconds"))


def reload_code_location(origin: object) -> str:
    """Reload the code location of a sensor and return the result in words.

    A proxy server (`dagster dev`, `dagster code-server start`) starts a new server. A plain
    `dagster api grpc` accepts the call and does nothing: its server id stays the same.
    """
    if not isinstance(origin, GrpcServerCodeLocationOrigin):
        return (
            "This code location cannot reload itself here: reload it in the UI, or run Dagster "
            "with 'dagster dev' or 'dagster code-server start'"
        )
    client = origin.create_client()
    before = client.get_server_id()
    deadline = time.monotonic() + RELOAD_SECONDS
    client.reload_code(timeout=RELOAD_SECONDS)
    while client.get_server_id() == before:
        if time.monotonic() > deadline:
            return "The code location did not reload; the next tick repeats the reload"
        time.sleep(0.1)
    return "The code location was reloaded"


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
    therefore filled again.

    Args:
        account: The account.
        job: The job to run.
        daily: Live metrics and records.
        unpartitioned: Assets without partitions.
        partitions_def: The days.
    """
    history_days = account.options.settings.history_days
    warehouse = account.open_warehouse(wait_seconds=5.0)

    @dg.sensor(
        name=account.names.of("dixa_history"),
        job=job,
        minimum_interval_seconds=HISTORY_INTERVAL_SECONDS,
        default_status=account.settings.sensor_status,
        description=f"Loads missing data: the {history_days} days before each metric or record "
        "first appeared, the filter values and the catalogue tables.",
    )
    def history_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        attempts = _Attempts(context.cursor, warehouse.identity)
        busy = _assets_in_progress(context.instance)
        try:
            held = warehouse.loaded()
        except DixaAssetsError as error:
            return dg.SensorResult(
                skip_reason=f"Missing days cannot be determined now: {error}",
                cursor=attempts.to_cursor(),
            )
        missing: dict[tuple[str, ...], list[dg.AssetKey]] = {}
        for key, entry in daily.items():
            mark = f"{key.to_user_string()} {history_days}"
            if key in busy or attempts.is_done(mark):
                continue
            loaded = loaded_partitions(context.instance, key)
            wanted = history_of(entry.first_seen, partitions_def, history_days)
            days = tuple(day for day in wanted if day not in loaded or (entry.key, day) not in held)
            if not days:
                attempts.finish(mark)
            elif attempts.try_start(mark):
                missing.setdefault(days, []).append(key)
        stale = []
        for key, asset in unpartitioned.items():
            mark = f"{key.to_user_string()} {asset.version}"
            if key in busy or attempts.is_done(mark):
                continue
            event = context.instance.get_latest_materialization_event(key)
            if (asset.table, "") in held and _is_current(event, asset.version):
                attempts.finish(mark)
            elif attempts.try_start(mark):
                stale.append(key)
        requests = [dg.RunRequest(asset_selection=stale)] if stale else []
        for days, keys in missing.items():
            requests += [range_request(keys, *each) for each in to_ranges(partitions_def, days)]
        if not requests:
            return dg.SensorResult(
                skip_reason=NO_LOAD_IS_DUE,
                cursor=attempts.to_cursor(),
            )
        return dg.SensorResult(run_requests=requests, cursor=attempts.to_cursor())

    return history_sensor


def build_publish_sensor(
    account: Account,
    *,
    job: AssetJob,
    keys: Mapping[dg.AssetKey, str],
    loaded: Collection[dg.AssetKey],
) -> dg.SensorDefinition:
    """Build the sensor that makes assets of the whole database after loads.

    Args:
        account: The account.
        job: The job to run.
        keys: The assets to make, with the versions that they should have, if any.
        loaded: The sensor waits until no run loads one of these assets.
    """
    warehouse = account.open_warehouse()
    own = {*keys, *loaded}
    versions = "".join(keys.values())
    digest = f" {sha256(versions.encode()).hexdigest()[:8]}" if versions else ""

    @dg.sensor(
        name=account.names.of("dixa_publish"),
        job=job,
        minimum_interval_seconds=PUBLISH_INTERVAL_SECONDS,
        default_status=account.settings.sensor_status,
        description="Renews marts, report and read copy when the database has changed and no load "
        "is running.",
    )
    def publish_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason | dg.RunRequest:
        changed = warehouse.changed_at()
        if changed is None:
            return dg.SkipReason("There is no database yet.")
        if not _assets_in_progress(context.instance).isdisjoint(own):
            return dg.SkipReason("Loads are running; their rows are published afterwards.")
        latest = context.instance.get_latest_materialization_event
        if all(_is_current(latest(key), version, changed) for key, version in keys.items()):
            return dg.SkipReason("The database has not changed.")
        # One run per state of database and versions: a failed run is repeated only after a change.
        return dg.RunRequest(run_key=f"{changed}{digest}", asset_selection=list(keys))

    return publish_sensor


def build_failure_sensor(account: Account, *, own: Collection[dg.AssetKey]) -> dg.SensorDefinition:
    """Build the sensor that reports failed runs of these assets to the webhook."""

    @dg.run_failure_sensor(
        name=account.names.of("dixa_failure_alert"),
        default_status=account.settings.sensor_status,
        description="Sends a line to the webhook in DIXA_ALERT_WEBHOOK when a load fails.",
    )
    def failure_alert(context: dg.RunFailureSensorContext) -> None:
        if _assets_of(context.dagster_run, context.instance).isdisjoint(own):
            context.log.info("The run loads no asset of Dixa.")
            return
        context.log.info(post_alert(alert_webhook(), _failure_in_a_line(context)))

    return failure_alert


def _failure_in_a_line(context: dg.RunFailureSensorContext) -> str:
    run = context.dagster_run
    steps = context.get_step_failure_events()
    first = context.failure_event.message or "no reason was given"
    for event in steps:
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            first = data.user_failure_data.description
            break
    names = [(event.step_key or "").replace("__", "/", 1) for event in steps]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    what = f"{', '.join(names[:3])}{more}" if names else run.job_name
    why = textwrap.shorten(first, 500, placeholder=" …")
    return f"Dixa load failed: {what}. {why} (run {run.run_id[:8]})"


class _Attempts:
    """The loads that the sensor requested, in its cursor.

    A complete load is requested once, so days that a person removed are not loaded again. A failed
    load is requested again after 5 minutes, then after 10, 20 and so on up to a day.
    """

    def __init__(self, cursor: str | None, database: str) -> None:
        known = json.loads(cursor or "{}")
        # Loads into another database do not count.
        is_same = known.get("database") == database
        self._database = database
        self._tries: dict[str, list[float] | None] = known["tries"] if is_same else {}

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
        return json.dumps({"database": self._database, "tries": self._tries})


def _assets_in_progress(instance: dg.DagsterInstance) -> set[dg.AssetKey]:
    runs = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return {key for run in runs for key in _assets_of(run, instance)}


def _assets_of(run: dg.DagsterRun, instance: dg.DagsterInstance) -> Set[dg.AssetKey]:
    """The assets that a run loads."""
    if run.asset_selection:
        return run.asset_selection
    # A run of a whole job has no selection. Its log has the plan.
    planned = instance.all_logs(
        run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    events = (each.dagster_event for each in planned)
    return {event.asset_key for event in events if event and event.asset_key}


def _is_current(event: dg.EventLogEntry | None, version: str, since: float = 0.0) -> bool:
    materialization = event.asset_materialization if event and event.timestamp > since else None
    if materialization is None:
        return False
    loaded = materialization.metadata.get("version")
    return not version or (loaded is not None and loaded.value == version)


def _summary(before: Catalogue, after: Catalogue) -> list[str]:
    """The changes of a refresh, in words."""
    metrics = sum(entry.kind == "metric" for entry in after.live)
    counts = f"{metrics} metrics and {len(after.live) - metrics} records"
    changes = after.changes[len(before.changes) :]
    if not changes:
        return [f"{counts}, nothing new"]
    lines = [
        (f"{change.kind} '{change.id}'" if change.id else f"the list of {change.kind}s:")
        + f" {change.change}"
        + (f" '{change.item}'" * bool(change.item))
        for change in changes[:10]
    ]
    if len(changes) > len(lines):
        lines.append(f"and {len(changes) - len(lines)} more changes")
    return [counts, "; ".join(lines)]
