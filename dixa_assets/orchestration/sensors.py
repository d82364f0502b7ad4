"""The sensors: they keep the catalogue up to date, load what is lacking, publish, and alert.

They look at how things are, not at what happened: what a tick could not do, the next one does. See
https://docs.dagster.io/guides/automate/sensors
"""

import json
import os
import textwrap
import time
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import NamedTuple

import dagster as dg

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.client import DixaClient
from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.merge import note_unknown_types
from dixa_assets.orchestration import state
from dixa_assets.orchestration.alert import post_alert
from dixa_assets.orchestration.dagster_internals import (
    NOT_FINISHED_STATUSES,
    AssetJob,
    GrpcServerCodeLocationOrigin,
    loaded_partitions,
)
from dixa_assets.orchestration.naming import Names
from dixa_assets.orchestration.partitions import history_of, range_request, to_ranges
from dixa_assets.orchestration.resources import API, DixaResource
from dixa_assets.settings.misspelt import Mistake
from dixa_assets.warehouse.warehouse import Warehouse

# Dagster ends a tick after 60 s and blames the code server, so a tick ends by itself before: a
# fetch or a reload that takes longer than this is left to the next tick.
CATALOGUE_SECONDS = 20.0
RELOAD_SECONDS = 20
HISTORY_INTERVAL_SECONDS = 15
RETRY_SECONDS = 300
PUBLISH_INTERVAL_SECONDS = 30


class Undated(NamedTuple):
    """An asset without partitions: its table, and the version wanted of it, if any."""

    table: str
    version: str = ""


def build_catalogue_sensor(
    *,
    names: Names,
    loaded: Catalogue,
    state_key: str,
    interval_seconds: int,
    default_status: dg.DefaultSensorStatus,
    warehouse: Warehouse,
    mistakes: Callable[[Catalogue, DixaClient | None], list[Mistake]],
) -> dg.SensorDefinition:
    """Fetches the catalogue, stores a new version when it differs, reloads this code location.

    Args:
        names: What things are called.
        loaded: The catalogue this code location was built from.
        state_key: Where the state storage keeps the catalogue.
        interval_seconds: From tick to tick.
        default_status: Whether the sensor runs by itself.
        warehouse: Remembers the catalogue where the state storage does not.
        mistakes: The settings, each with its problem, that name what a catalogue does not have.
    """
    api = names.of(API)

    @dg.sensor(
        name=names.of("dixa_catalogue"),
        # Dagster looks every 5 s whether a tick is due. With the whole interval it often looks a
        # moment too early, and the tick comes 5 s late.
        minimum_interval_seconds=interval_seconds - 1,
        default_status=default_status,
        required_resource_keys={api},
        description="Looks for new, changed and withdrawn metrics and records; reloads this code "
        "location when there are any.",
    )
    def catalogue_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        dixa: DixaResource = getattr(context.resources, api)
        storage = context.instance.defs_state_storage
        if storage is None:
            raise dg.Failure("This Dagster instance stores no state: set DAGSTER_HOME.")
        stored = state.load(storage, state_key)
        known = stored or _as_remembered(warehouse)
        with dixa.client(lifetime=CATALOGUE_SECONDS) as client:
            try:
                live, problems = fetch_catalogue(client, known)
            except DixaAssetsError as error:
                raise dg.Failure(
                    f"The catalogue was not refreshed, and everything stays as it is: {error}"
                ) from None
            live = _with_unknown_types(live, warehouse)
            is_new = live.version != loaded.version
            try:
                unmeant = mistakes(live, client if is_new else None)
            except DixaAssetsError:
                # Whoever asks for these values is told why he does not get them.
                unmeant = mistakes(live, None)
        if stored is None or live.version != stored.version:
            state.save(storage, state_key, live)
        notes = [*_summary(known, live), *problems]
        notes += [f"{setting}: {problem.rstrip('.')}" for setting, problem, _ in unmeant]
        if is_new:
            notes.append(reload_code_location(context.code_location_origin))
        return dg.SkipReason(". ".join(notes) + ".")

    return catalogue_sensor


def _as_remembered(warehouse: Warehouse) -> Catalogue:
    """The catalogue that the database has, if it has one and can be asked now."""
    try:
        return warehouse.catalogue()
    except DixaAssetsError:
        return Catalogue()


def _with_unknown_types(live: Catalogue, warehouse: Warehouse) -> Catalogue:
    """With what loads have met that the vendor does not document, if the database can be asked."""
    try:
        seen = warehouse.unknown_types()
    except DixaAssetsError:
        return live
    return note_unknown_types(live, seen, datetime.now(UTC).isoformat(timespec="seconds"))


def reload_code_location(origin: object) -> str:
    """Reload the code location a sensor runs in; in words, what came of it.

    A proxy server (`dagster dev`, `dagster code-server start`) answers with a new server; a plain
    `dagster api grpc` says yes and does nothing, which the unchanged server id gives away.
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
            return "The code location did not reload; the next tick tries again"
        time.sleep(0.1)
    return "The code location was reloaded"


def build_history_sensor(
    *,
    names: Names,
    job: AssetJob,
    daily: Mapping[dg.AssetKey, Entry],
    undated: Mapping[dg.AssetKey, Undated],
    partitions_def: dg.DailyPartitionsDefinition,
    history_days: int,
    default_status: dg.DefaultSensorStatus,
    warehouse: Warehouse,
) -> dg.SensorDefinition:
    """Loads the days before an asset first appeared, and what has no days and was never loaded.

    Loaded is what both Dagster and the database know of: a lost or another database is filled anew.

    Args:
        names: What things are called.
        job: Loads what is missing.
        daily: Live metrics and records.
        undated: Assets without partitions.
        partitions_def: The days.
        history_days: How many days before its first appearance an asset gets by itself.
        default_status: Whether the sensor runs by itself.
        warehouse: Asked what it holds.
    """

    @dg.sensor(
        name=names.of("dixa_history"),
        job=job,
        minimum_interval_seconds=HISTORY_INTERVAL_SECONDS,
        default_status=default_status,
        description=f"Loads the {history_days} days before a metric or record first appeared, "
        "filter values and catalogue tables, until none is missing.",
    )
    def history_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        attempts = _Attempts(context.cursor, warehouse.identity)
        busy = _assets_in_progress(context.instance)
        try:
            held = warehouse.loaded()
        except DixaAssetsError as error:
            return dg.SensorResult(
                skip_reason=f"What is missing cannot be told now: {error}",
                cursor=attempts.to_cursor(),
            )
        lacking: dict[tuple[str, ...], list[dg.AssetKey]] = {}
        for key, entry in daily.items():
            mark = f"{key.to_user_string()} {history_days}"
            if key in busy or attempts.is_done(mark):
                continue
            loaded = loaded_partitions(context.instance, key)
            wanted = history_of(entry.first_seen, partitions_def, history_days)
            days = tuple(day for day in wanted if day not in loaded or (entry.key, day) not in held)
            if not days:
                attempts.finish(mark)
            elif attempts.start(mark):
                lacking.setdefault(days, []).append(key)
        stale = []
        for key, asset in undated.items():
            mark = f"{key.to_user_string()} {asset.version}"
            if key in busy or attempts.is_done(mark):
                continue
            event = context.instance.get_latest_materialization_event(key)
            if (asset.table, "") in held and _is_current(event, asset.version):
                attempts.finish(mark)
            elif attempts.start(mark):
                stale.append(key)
        requests = [dg.RunRequest(asset_selection=stale)] if stale else []
        for days, keys in lacking.items():
            requests += [range_request(keys, *each) for each in to_ranges(partitions_def, days)]
        if not requests:
            return dg.SensorResult(
                skip_reason="Nothing is missing, or it is being loaded, or waits for another try.",
                cursor=attempts.to_cursor(),
            )
        return dg.SensorResult(run_requests=requests, cursor=attempts.to_cursor())

    return history_sensor


def build_publish_sensor(
    *,
    names: Names,
    job: AssetJob,
    keys: Sequence[dg.AssetKey],
    loaded: Collection[dg.AssetKey],
    changed_at: Callable[[], float | None],
    default_status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    """Renews what is made of the whole database, once loads have ended.

    Args:
        names: What things are called.
        job: Loads `keys`.
        keys: Assets without partitions that read all of it.
        loaded: Assets whose loads are waited for; other people's runs are not.
        changed_at: Says when the database changed last, and so whether they are out of date.
        default_status: Whether the sensor runs by itself.
    """
    own = {*keys, *loaded}

    @dg.sensor(
        name=names.of("dixa_publish"),
        job=job,
        minimum_interval_seconds=PUBLISH_INTERVAL_SECONDS,
        default_status=default_status,
        description="Renews the report and the read copy when the database has changed and no "
        "load is under way.",
    )
    def publish_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason | dg.RunRequest:
        changed = changed_at()
        if changed is None:
            return dg.SkipReason("There is no database yet.")
        if not _assets_in_progress(context.instance).isdisjoint(own):
            return dg.SkipReason("Loads are under way; what they write is published after them.")
        events = map(context.instance.get_latest_materialization_event, keys)
        if all(event is not None and event.timestamp > changed for event in events):
            return dg.SkipReason("Nothing has changed since.")
        # One run for each state of the database: a failed one is not repeated until it changes.
        return dg.RunRequest(run_key=f"{changed}", asset_selection=list(keys))

    return publish_sensor


def build_failure_sensor(
    *, names: Names, own: Collection[dg.AssetKey], default_status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Tells the webhook in DIXA_ALERT_WEBHOOK of every run of these assets that fails."""

    @dg.run_failure_sensor(
        name=names.of("dixa_failure_alert"),
        default_status=default_status,
        description="Sends a line to the webhook in DIXA_ALERT_WEBHOOK when a load fails.",
    )
    def failure_alert(context: dg.RunFailureSensorContext) -> None:
        if _assets_of(context.dagster_run, context.instance).isdisjoint(own):
            context.log.info("The run loads nothing of Dixa's.")
            return
        outcome = post_alert(os.environ.get("DIXA_ALERT_WEBHOOK", ""), _failure_in_a_line(context))
        context.log.info(outcome)

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
    """Which loads the sensor asked for and when, kept in its cursor for each database.

    What is complete is remembered, so that days wiped by hand afterwards stay out. What failed
    is asked for again after 5 minutes, then 10, 20 and so on up to a day.
    """

    def __init__(self, cursor: str | None, database: str) -> None:
        known = json.loads(cursor or "{}")
        # What was done for another database was not done for this one.
        is_same = known.get("database") == database
        self._database = database
        self._tries: dict[str, list[float] | None] = known["tries"] if is_same else {}

    def is_done(self, mark: str) -> bool:
        return mark in self._tries and self._tries[mark] is None

    def finish(self, mark: str) -> None:
        self._tries[mark] = None

    def start(self, mark: str) -> bool:
        """Whether a try is due; if so it counts as made."""
        count, last = self._tries.get(mark) or (0, 0)
        if count and time.time() < last + min(RETRY_SECONDS * 2 ** (count - 1), 86_400):
            return False
        self._tries[mark] = [count + 1, time.time()]
        return True

    def to_cursor(self) -> str:
        return json.dumps({"database": self._database, "tries": self._tries})


def _assets_in_progress(instance: dg.DagsterInstance) -> set[dg.AssetKey]:
    runs = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return {key for run in runs for key in _assets_of(run, instance)}


def _assets_of(run: dg.DagsterRun, instance: dg.DagsterInstance) -> Set[dg.AssetKey]:
    """The assets that a run is to load."""
    if run.asset_selection:
        return run.asset_selection
    # A whole job's run names none, but notes what it plans.
    planned = instance.all_logs(
        run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    events = (each.dagster_event for each in planned)
    return {event.asset_key for event in events if event and event.asset_key}


def _is_current(event: dg.EventLogEntry | None, version: str) -> bool:
    materialization = event.asset_materialization if event else None
    if materialization is None:
        return False
    loaded = materialization.metadata.get("version")
    return not version or (loaded is not None and loaded.value == version)


def _summary(before: Catalogue, after: Catalogue) -> list[str]:
    """What a tick found, in words."""
    metrics = sum(entry.kind == "metric" for entry in after.live)
    counts = f"{metrics} metrics and {len(after.live) - metrics} records"
    changes = after.changes[len(before.changes) :]
    if not changes:
        return [f"{counts}, nothing new"]
    said = [
        (f"{change.kind} '{change.id}'" if change.id else f"the list of {change.kind}s:")
        + f" {change.change}"
        + (f" '{change.item}'" * bool(change.item))
        for change in changes[:10]
    ]
    if len(changes) > len(said):
        said.append(f"and {len(changes) - len(said)} more changes")
    return [counts, "; ".join(said)]
