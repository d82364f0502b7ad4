"""`python -m dixa_assets`: commands for the project in the working folder.

Like Dagster, they read settings from `.env`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dixa_assets import __version__, doctor, forget
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError, DixaAssetsError, printable
from dixa_assets.marts.builder import Marts
from dixa_assets.orchestration import state
from dixa_assets.orchestration.dbt import write_dbt
from dixa_assets.probe.run import probe_account
from dixa_assets.project import known_catalogue, load_components, read_env_file
from dixa_assets.report.render import write_report
from dixa_assets.settings.messages import accept_every_character
from dixa_assets.settings.paths import beginning_at, database_path, resolved

# The days of a report.
DAYS = 91


def main() -> int:
    """Run a command; 0 if it succeeds."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets", description=__doc__)
    parser.add_argument("--version", action="version", version=f"dixa_assets {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    diagnosis = commands.add_parser("doctor", help="say whether the settings can work")
    probe = commands.add_parser("probe", help="test what Dixa does not document, and adapt to it")
    report = commands.add_parser("report", help="write the report for managers, in one HTML file")
    report.add_argument("--output", metavar="PATH", help="the file; by default beside the database")
    report.add_argument(
        "--days", type=int, default=DAYS, help="how many days it shows (default: %(default)s)"
    )
    move = commands.add_parser(
        "move", help="copy a database file into the empty database that the settings name"
    )
    move.add_argument("file", metavar="FILE", help="the file; it is not changed")
    known = commands.add_parser(
        "catalogue", help="write the known catalogue into the project, to commit it"
    )
    dbt = commands.add_parser("dbt", help="write sources.yml and profiles.yml for a dbt project")
    dbt.add_argument("folder", metavar="DIR", help="the folder of the files")
    erase = commands.add_parser(
        "forget", help="blank a person's values in every table, now and in later loads"
    )
    erase.add_argument("value", metavar="VALUE", nargs="*", help="such as an e-mail address")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.add_argument("--dry-run", action="store_true", help="only show where the values stand")
    erase.add_argument(
        "--excluded", action="store_true", help="remove the fields that the settings leave out"
    )
    for command in (diagnosis, probe, report, move, known, dbt, erase):
        command.add_argument(
            "--account", metavar="NAME", help="one account; by default every one of the project"
        )
    accept_every_character()
    arguments = parser.parse_args()
    try:
        read_env_file()
        components = load_components(arguments.account)
        # Relative paths on the command line begin at the working folder.
        with beginning_at(Path.cwd()):
            return _run(arguments, components)
    except (DixaAssetsError, OSError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace, components: Sequence[DixaAnalytics]) -> int:
    match arguments.command:
        case "doctor":
            return _for_each(components, doctor.diagnose)
        case "probe":
            return _for_each(components, probe_account)
        case "move":
            _move(_only(components, "move"), arguments.file)
        case "catalogue":
            for component in components:
                _catalogue(component)
        case "dbt":
            _dbt(_only(components, "dbt"), Path(arguments.folder))
        case "forget":
            if bool(arguments.value) == arguments.excluded:
                raise ConfigError("forget", "name one or more values, or --excluded.")
            for component in components:
                changed = (
                    forget.remove_left_out(component, dry_run=arguments.dry_run)
                    if arguments.excluded
                    else forget.forget(component, arguments.value, arguments.yes, arguments.dry_run)
                )
                if changed:
                    _publish_again(component)
        case "report":
            if arguments.output and len(components) > 1:
                several = "is one file for several accounts; name an --account."
                raise ConfigError("--output", several)
            days = max(arguments.days, 1)
            return _for_each(components, lambda each: _report(each, arguments.output, days))
    return 0


def _only(components: Sequence[DixaAnalytics], command: str) -> DixaAnalytics:
    """The only account, for a command that cannot run for several."""
    if len(components) > 1:
        raise ConfigError(command, "there are several accounts; name an --account.")
    return components[0]


def _for_each(components: Sequence[DixaAnalytics], run: Callable[[DixaAnalytics], object]) -> int:
    """Run a command for each account; 1 if it failed or returned False for one of them."""
    code = 0
    for component in components:
        try:
            has_failed = run(component) is False
        except (DixaAssetsError, OSError) as error:
            print(f"✗ {error}", file=sys.stderr)
            has_failed = True
        code |= has_failed
    return code


def _move(component: DixaAnalytics, file: str) -> None:
    warehouse = component.build_warehouse()
    moved = warehouse.copy_from(database_path("move", file))
    if component.marts is not False:
        Marts.of(
            warehouse.catalogue(),
            component.wants,
            component.marts,
            week_starts_on=component.week_starts_on,
        ).make(warehouse)
    for name, rows in moved.items():
        print(f"  {printable(name)}: {rows:,} rows, the same at both ends")
    print(f"✓ {warehouse.name}: {len(moved)} tables")


def _catalogue(component: DixaAnalytics) -> None:
    catalogue = known_catalogue(component, component.build_warehouse())
    if not catalogue.entries:
        nothing = "nothing is known yet. Run `dg utils refresh-defs-state` first."
        raise ConfigError("catalogue", nothing)
    if component.catalogue_file is None:
        raise ConfigError("catalogue", "this component has no folder in a project.")
    state.write(component.catalogue_file, catalogue)
    print(f"✓ {component.catalogue_file}: {len(catalogue.entries)} metrics and records")


def _dbt(component: DixaAnalytics, folder: Path) -> None:
    catalogue = known_catalogue(component, component.build_warehouse())
    specs = component.build_definitions(catalogue).resolve_all_asset_specs()
    database = component.read_copy_path or component.duckdb_path
    for path in write_dbt(folder, specs, catalogue, database, setting="dbt"):
        print(f"✓ {path}")


def _publish_again(component: DixaAnalytics) -> None:
    """Replace the read copy, the report and the Parquet files, if they exist."""
    copy, report = component.read_copy_path, component.report_file
    if copy and Path(copy).exists():
        component.build_warehouse().publish(Path(copy))
        print(f"✓ {copy}: made anew")
    if report and report.exists():
        _report(component, None, DAYS)
    if component.parquet_path:
        component.build_warehouse().export(component.parquet_path)
        print(f"✓ {component.parquet_path}: made anew")


def _report(component: DixaAnalytics, output: str | None, days: int) -> None:
    warehouse = component.build_warehouse()
    path = resolved("--output", output) if output else component.report_file
    if path is None:
        raise ConfigError("report_path", "is empty, and a lake has no default. Set a path.")
    options = component.options(known_catalogue(component, warehouse))
    setting = "--output" if output else "report_path"
    report = write_report(warehouse, path, options=options, days=days, setting=setting)
    for part, reason in report.failures.items():
        print(f"! {part} is not in the report: {reason}", file=sys.stderr)
    if not report.days:
        demo = Path(".demo/dixa_report.html")
        other = f" The demo's report is {demo}." if demo.exists() else ""
        print(f"! Nothing is loaded yet, so the report is empty.{other}", file=sys.stderr)
    print(f"✓ {path}: {len(report.pages)} metrics and records, {len(report.days)} days")


if __name__ == "__main__":
    sys.exit(main())
