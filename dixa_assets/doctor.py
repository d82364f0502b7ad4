"""Says before anything starts whether the settings can work: one line each, and what to do."""

import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

from dixa_assets.component import DixaAnalytics, load_component
from dixa_assets.errors import ApiUnavailable, ConfigError, DixaAssetsError
from dixa_assets.model.window import windows_from
from dixa_assets.model.zones import rules_version
from dixa_assets.warehouse.loads import spent
from dixa_assets.warehouse.quality import odd_midnight

# Requests a second and a day that Dixa allows a token, by its API standards.
RATE, QUOTA = 10, 864_000


def run() -> int:
    """Print a line per check; 1 if one failed, else 0."""
    try:
        component = load_component()
    except DixaAssetsError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    failed = False
    for name, check in _checks(component):
        try:
            print(f"✓ {name}: {check()}")
        except ApiUnavailable as error:
            print(f"! {name}: {error} What is loaded can be used; new loads wait for the API.")
        except DixaAssetsError as error:
            failed = True
            print(f"✗ {error}", file=sys.stderr)
    return int(failed)


def _checks(component: DixaAnalytics) -> Iterator[tuple[str, Callable[[], str]]]:
    def settings() -> str:
        zone = ZoneInfo(component.timezone)
        return (
            f"days of {component.timezone} (now {datetime.now(zone):%Y-%m-%d %H:%M}) from "
            f"{component.start_date}. Is that the zone of your Dixa organisation?"
        )

    def database() -> str:
        warehouse = component.build_warehouse(wait_seconds=5.0)
        today = datetime.now(ZoneInfo(component.timezone)).date()
        odd = odd_midnight(warehouse.query, windows_from(today, 400, component.timezone))
        if odd:
            print(
                f"! zone rules: DuckDB's own for {component.timezone} are older and differ from "
                f"{odd} on. The days are right; SQL that turns instants into local time is not."
            )
        copy = component.read_copy_path
        return f"{component.duckdb_path}, read copy: {copy or 'none, set DIXA_READ_COPY_PATH'}"

    def api() -> str:
        resource = component.build_dixa(os.environ.get("DIXA_API_KEY", ""))
        with resource.client(give_up_after=5.0) as client:
            metrics, records = client.fetch_metrics(), client.fetch_records()
        return (
            f"{component.base_url} takes the key and offers {len(metrics)} metrics and "
            f"{len(records)} records"
        )

    def headroom() -> str:
        requests, repeats = spent(component.build_warehouse(wait_seconds=5.0).query)
        return (
            f"{component.requests_per_second:g} of Dixa's {RATE} requests/s configured; "
            f"{requests:,} of {QUOTA:,} a day spent in the last 24 hours, "
            f"{repeats:,} of them repeats. If many are, lower requests_per_second: "
            "somebody else uses the token"
        )

    def dagster_home() -> str:
        home = os.environ.get("DAGSTER_HOME")
        if home is None:
            return "not set; `make dev` keeps Dagster's history in .dagster_home"
        if not Path(home).is_absolute() or not Path(home).is_dir():
            raise ConfigError("DAGSTER_HOME", f"'{home}' is no absolute path of a folder.")
        if not (Path(home) / "dagster.yaml").exists():
            return f"{home}, without a dagster.yaml: copy or link the project's there"
        return home

    def versions() -> str:
        packages = ("dagster", "dagster-duckdb", "dagster-webserver", "duckdb", "pandas")
        named = ", ".join(f"{name} {version(name)}" for name in packages)
        return f"{named}; time zone rules {rules_version()}"

    yield "days", settings
    yield "database", database
    yield "API", api
    yield "rate limit", headroom
    yield "DAGSTER_HOME", dagster_home
    yield "versions", versions
