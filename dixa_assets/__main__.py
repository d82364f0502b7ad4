"""`python -m dixa_assets`: what can be done without Dagster's UI, in the project's folder.

Settings are read from `.env`, as Dagster does.
"""

import argparse
import sys
from pathlib import Path

from dotenv import load_dotenv

from dixa_assets import doctor
from dixa_assets.component import load_component
from dixa_assets.errors import DixaAssetsError
from dixa_assets.settings import resolved


def main() -> int:
    """Run the command that was asked for; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="say whether the settings can work")
    report = commands.add_parser("report", help="write every metric as a page, in one HTML file")
    report.add_argument("--output", metavar="PATH", help="the file; by default beside the database")
    report.add_argument(
        "--days", type=int, default=91, help="how many days it shows (default: %(default)s)"
    )
    arguments = parser.parse_args()
    load_dotenv(Path.cwd() / ".env", override=True)
    if arguments.command == "doctor":
        return doctor.run()
    return _report(arguments.output, max(arguments.days, 1))


def _report(output: str | None, days: int) -> int:
    from dixa_assets.report.render import beside, write_report

    try:
        component = load_component()
        warehouse = component.build_warehouse()
        # As for any command: from where it is given.
        path = resolved("--output", output, base=Path.cwd()) if output else beside(warehouse.path)
        report = write_report(warehouse, path, setup=component.setup, days=days)
    except (DixaAssetsError, OSError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    print(f"✓ {path}: {len(report.pages)} metrics and records, {len(report.days)} days")
    return 0


if __name__ == "__main__":
    sys.exit(main())
