"""The sensors that refresh the catalogue, publish, and alert. `history.py` loads missing days.

All except the alert sensor compare states and do not react to events: if a tick fails, the next
one does its work. See
https://docs.dagster.io/guides/automate/sensors
"""

import textwrap
import time
from collections.abc import Collection, Mapping, Set
from datetime import UTC, datetime
from hashlib import sha256

import dagster as dg

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.settings import Patience
from dixa_assets.errors import DixaAssetsError, printable
from dixa_assets.files import remove_leftovers
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.merge import note_findings
from dixa_assets.orchestration import state
from dixa_assets.orchestration.alert import alert_webhook, post_alert
from dixa_assets.orchestration.dagster_internals import (
    NOT_FINISHED_STATUSES,
    AssetJob,
    GrpcServerCodeLocationOrigin,
)
from dixa_assets.orchestration.resources import API, DixaResource
from dixa_assets.orchestration.settings import Account
from dixa_assets.warehouse.warehouse import Warehouse

# Dagster stops a tick after 60 s and reports an error of the code server. If a fetch or a reload
# takes longer than this, the next tick repeats it.
CATALOGUE_SECONDS = 20.0
RELOAD_SECONDS = 20
PUBLISH_INTERVAL_SECONDS = 30
LOAD_JOB = "dixa_load"
# A tick shows at most this many changes, problems and unknown names.
MAX_NOTES = 10


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
        description="Fetches the catalogue. If metrics or records were added, changed or "
        "withdrawn, it reloads this code location.",
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
                    f"The catalogue was not refreshed, and the stored one did not change. {error}"
                ) from None
            if not _is_loading(context.instance, names.of(LOAD_JOB)):
                # Each new version reloads the code location. So wait until no load runs, and add
                # all findings in one version.
                live = _with_findings(live, warehouse)
            is_new = live.version != loaded.version
            try:
                mistakes = account.find_unknown_names(live, client if is_new else None)
            except DixaAssetsError:
                # The filter values cannot be fetched. Loads that need them report the reason.
                mistakes = account.find_unknown_names(live, None)
        if stored is None or live.version != stored.version:
            state.save(storage, state_key, live)
        notes = [*_summary(known, live), *problems[:MAX_NOTES]]
        if len(problems) > MAX_NOTES:
            notes.append(f"and {len(problems) - MAX_NOTES} more problems")
        unknown = [f"{setting}: {problem.rstrip('.')}" for setting, problem, *_ in mistakes]
        notes += unknown[:MAX_NOTES]
        if unnamed := account.options.unnamed_fields(live):
            shown = ", ".join(unnamed[:MAX_NOTES])
            more = f" and {len(unnamed) - MAX_NOTES} more" if len(unnamed) > MAX_NOTES else ""
            notes.append(f"only_fields: not stored until a setting names them: {shown}{more}")
        if (marts := account.marts(live)) and (lacking := [name for _, name, _ in marts.gaps()]):
            notes.append(f"The marts lack {', '.join(lacking)}; see dixa_marts.missing")
        if is_new:
            notes.append(reload_code_location(context.code_location_origin))
        return dg.SkipReason(printable(". ".join(notes) + "."))

    return catalogue_sensor


def _catalogue_in_database(warehouse: Warehouse) -> Catalogue:
    """The catalogue in the database; an empty one if the database cannot be read now."""
    try:
        return warehouse.catalogue()
    except DixaAssetsError:
        return Catalogue()


def _is_loading(instance: dg.DagsterInstance, job_name: str) -> bool:
    loads = dg.RunsFilter(job_name=job_name, statuses=NOT_FINISHED_STATUSES)
    return bool(instance.get_runs(loads, limit=1))


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


def build_publish_sensor(
    account: Account,
    *,
    job: AssetJob,
    keys: Mapping[dg.AssetKey, str],
    loaded: Collection[dg.AssetKey],
) -> dg.SensorDefinition:
    """Build the sensor that materializes the published assets after loads.

    Args:
        account: The account.
        job: The job to run.
        keys: The assets to materialize, with the versions that they should have, if any.
        loaded: The sensor waits until no run loads one of these assets.
    """
    warehouse = account.open_warehouse()
    own = {*keys, *loaded}
    files = [path for path in (account.read_copy, account.report) if path]
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
        for path in files:
            # A run that was killed may have left customers' data.
            remove_leftovers(path.parent, f".{path.name}-")
        changed = warehouse.changed_at()
        if changed is None:
            return dg.SkipReason("There is no database yet.")
        if not assets_in_progress(context.instance).isdisjoint(own):
            return dg.SkipReason("Loads are running; their rows are published afterwards.")
        latest = context.instance.get_latest_materialization_event
        if all(is_current(latest(key), version, changed) for key, version in keys.items()):
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


def assets_in_progress(instance: dg.DagsterInstance) -> set[dg.AssetKey]:
    """The assets of runs that have not finished."""
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


def is_current(event: dg.EventLogEntry | None, version: str, since: float = 0.0) -> bool:
    """True if a materialization is later than an instant and has the version, if there is one."""
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
        for change in changes[:MAX_NOTES]
    ]
    if len(changes) > len(lines):
        lines.append(f"and {len(changes) - len(lines)} more changes")
    return [counts, "; ".join(lines)]
