"""`python -m dixa_assets doctor`: whether the settings can work, one line per check.

To add a check, write a function and add it to `CHECKS`.
"""

import itertools
import os
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.settings import Patience
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ApiUnavailable, ConfigError, DixaAssetsError
from dixa_assets.files import mistake_of
from dixa_assets.forget import left_out_values
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.days import days_from
from dixa_assets.orchestration.dagster_internals import loaded_partitions, run_launcher
from dixa_assets.orchestration.state import dagster_home, home_instance
from dixa_assets.project import project_tree
from dixa_assets.settings.conflicts import refuse_remote_runs
from dixa_assets.settings.misspelt import unknown_variables, variables_read
from dixa_assets.warehouse.load_log import requests_of_last_day
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets.warehouse.zone_rules import first_differing_midnight
from dixa_assets.zones import rules_version

# Requests per second and per day that Dixa allows a token, by its API standards.
RATE, QUOTA = 10, 864_000
# Seconds to wait for another user of the database.
PATIENCE = 5.0
PACKAGES = (
    "dixa-assets",
    "dagster",
    "dagster-duckdb",
    "dagster-webserver",
    "duckdb",
    "pandas",
)


def diagnose(component: DixaAnalytics) -> bool:
    """Print a line for each check of an account. Return False if a check failed."""
    if component.account:
        print(f"{component.account}:")
    warehouse, passed = component.build_warehouse(wait_seconds=PATIENCE), True
    shown: set[str] = set()
    for name, check in CHECKS:
        try:
            print(f"✓ {name}: {check(component, warehouse)}")
        except ApiUnavailable as error:
            # Another check reports an error of the database.
            with suppress(DixaAssetsError):
                if not warehouse.inventory().loads:
                    passed = False
                    print(f"✗ {name}: {error} Nothing is loaded yet.", file=sys.stderr)
                    continue
            print(f"! {name}: {error} Loaded data can be used; new loads wait for the API.")
        except DixaAssetsError as error:
            passed = False
            # Several checks may find the same.
            if str(error) not in shown:
                print(f"✗ {error}", file=sys.stderr)
            shown.add(str(error))
    return passed


def check_settings(component: DixaAnalytics, _: Warehouse) -> str:
    """Report the zone and the first day, and `DIXA_*` variables that nothing reads."""
    if Path(".env.example").exists() and not Path(".env").exists():
        print("! .env: is missing. `cp .env.example .env`, then set DIXA_API_KEY in it")
    read = variables_read(project_tree().defs_module_path)
    for variable, _nearest in unknown_variables(os.environ, read):
        print(f"! {variable}: this project does not read it")
    zone = ZoneInfo(component.timezone)
    return (
        f"days of {component.timezone} (now {datetime.now(zone):%Y-%m-%d %H:%M}) from "
        f"{component.start_date}. Is that the zone of your Dixa organisation?"
    )


def check_database(component: DixaAnalytics, warehouse: Warehouse) -> str:
    """Test that the database could be written, and that DuckDB knows the zone's midnights."""
    warehouse.verify()
    today = datetime.now(ZoneInfo(component.timezone)).date()
    with warehouse.reading() as query:
        differing = first_differing_midnight(query, days_from(today, 400, component.timezone))
    if differing:
        print(
            f"! zone rules: DuckDB's own rules for {component.timezone} are older and differ from "
            f"{differing} on. The days are right; SQL that turns instants into local time is not."
        )
    copy = component.read_copy_path
    is_new = not component.is_lake and not Path(component.duckdb_path).exists()
    new = "a new file, which the first load makes, " if is_new else ""
    return f"{component.duckdb_path}, {new}read copy: {copy or 'none, set DIXA_READ_COPY_PATH'}"


def check_first_day(component: DixaAnalytics, warehouse: Warehouse) -> str:
    """Test that no loaded day lies before the first day that can be loaded."""
    loads = warehouse.inventory().loads
    stored = min((day for days in loads.values() for day in days if day), default="")
    if stored and stored < component.start_date:
        raise ConfigError(
            "start_date",
            f"is {component.start_date}, but days from {stored} on are loaded. Backfills that "
            f"include earlier days would fail. Set it to {stored} or an earlier day.",
        )
    return f"{stored or 'none'} is the first loaded day"


def check_api(component: DixaAnalytics, _: Warehouse) -> str:
    """Test that the API accepts the token and has every name in the settings."""
    resource = component.build_dixa(component.api_key)
    with resource.client(Patience(request_seconds=PATIENCE)) as client:
        catalogue = fetch_catalogue(client, Catalogue())[0]
        mistakes = component.find_unknown_names(catalogue, client)
    kinds = Counter(entry.kind for entry in catalogue.entries)
    found = (
        f"{component.base_url} accepts the token and offers {kinds['metric']} metrics and "
        f"{kinds['record']} records"
    )
    if mistakes:
        print(f"✓ API: {found}")
        raise ConfigError.of(each[:2] for each in mistakes)
    return (
        f"{found}, with every name that the settings mention. `python -m dixa_assets probe` "
        "tests what Dixa does not document"
    )


def check_rate_limit(component: DixaAnalytics, warehouse: Warehouse) -> str:
    """Report the configured rate, and the requests of the last 24 hours."""
    with warehouse.reading() as query:
        requests, retries = requests_of_last_day(query)
    if component.requests_per_second > RATE:
        print(f"! rate limit: Dixa refuses more than {RATE} requests/s; lower requests_per_second")
    return (
        f"{component.requests_per_second:g} requests/s configured, Dixa allows {RATE}; "
        f"{requests:,} of {QUOTA:,} requests a day sent in the last 24 hours, "
        f"{retries:,} of them retries. Many retries mean that another program uses the token: "
        "lower requests_per_second"
    )


def check_dagster_home(*_: object) -> str:
    """Report where Dagster keeps its history, for every command."""
    home = dagster_home()
    if not os.environ.get("DAGSTER_HOME"):
        return f"not set, so Dagster's history is in {home}"
    if not (home / "dagster.yaml").exists():
        return f"{home}, without a dagster.yaml: copy or link the project's file into it"
    return str(home)


def check_places(component: DixaAnalytics, _: Warehouse) -> str:
    """Test that everything that loads and Dagster write can be written."""
    files = {"read_copy_path": component.read_copy_path, "report_path": component.report_file}
    # The check of the database writes into it.
    places = {setting: Path(file).parent for setting, file in files.items() if file}
    places |= {"DAGSTER_HOME": dagster_home(), "TMPDIR": Path(tempfile.gettempdir())}
    if mistakes := [*filter(None, itertools.starmap(mistake_of, places.items()))]:
        raise ConfigError.of(mistakes)
    return f"{', '.join(sorted({*map(str, places.values())}))} can be written"


def check_history(component: DixaAnalytics, warehouse: Warehouse) -> str:
    """Test that every run can reach the database, and that it holds the days in Dagster."""
    with home_instance() as instance:
        refuse_remote_runs(component, run_launcher())
        if instance is None:
            return "nothing has been loaded yet"
        loads = warehouse.inventory().loads
        first = str(component.first_kept_day(Entry("record", ""), datetime.now(UTC)))
        stored = {(name, day) for name, days in loads.items() for day in days}
        shown = {
            ("/".join(key.path[-2:]), day)
            for schema in ("dixa_metrics", "dixa_records")
            for key in instance.get_asset_keys(prefix=component.names.key(schema, "").path[:-1])
            for day in loaded_partitions(instance, key)
            if schema == "dixa_metrics" or day >= first
        }
    if lost := sorted(shown - stored):
        reloaded = f"The last {component.history_days} days are reloaded. "
        print(
            f"! the database: {warehouse.name} lacks days that Dagster shows as loaded, such "
            f"as {lost[0][0]} of {lost[0][1]}. Did you change the database? "
            f"{reloaded * bool(component.history_days)}Materialize the other days that you need, "
            "or go back to the former database."
        )
    stored_days = len(shown) - len(lost)
    return f"holds {stored_days:,} of the {len(shown):,} asset days that Dagster shows as loaded"


def check_personal_data(component: DixaAnalytics, warehouse: Warehouse) -> str:
    """Report fields that are stored although the settings leave them out, and readable files."""
    if held := left_out_values(component, warehouse):
        print(
            f"! fields: the settings leave out values that are still stored ({'; '.join(held)}). "
            "Loads of these tables remove them. To remove them now, run "
            "`python -m dixa_assets forget --excluded`"
        )
    report = component.report_file
    files = [Path(".env"), Path(component.read_copy_path), *([report] if report else [])]
    files += [] if component.is_lake else [Path(component.duckdb_path)]
    for file in files:
        if file.is_file() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            print(f"! {file}: other users may have access (mode {mode:o}). Run `chmod 600 {file}`")
    policy = component.options(Catalogue()).policy()
    return (
        f"kept for {component.keep_days or 'all'} days; {len(policy.excluded)} fields excluded, "
        f"{len(policy.hashed)} hashed; docs/personal-data.md has the rest"
    )


def check_versions(_component: DixaAnalytics, _warehouse: Warehouse) -> str:
    """Report the versions of the packages and of the time zone rules."""
    installed = {each for each in PACKAGES if find_spec(each.replace("-", "_"))}
    named = ", ".join(f"{name} {version(name)}" for name in PACKAGES if name in installed)
    return f"{named}; time zone rules {rules_version()}"


CHECKS: list[tuple[str, Callable[[DixaAnalytics, Warehouse], str]]] = [
    ("days", check_settings),
    ("database", check_database),
    ("first day", check_first_day),
    ("API", check_api),
    ("rate limit", check_rate_limit),
    ("DAGSTER_HOME", check_dagster_home),
    ("folders", check_places),
    ("the database", check_history),
    ("personal data", check_personal_data),
    ("versions", check_versions),
]
