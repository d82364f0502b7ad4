"""`python -m dixa_assets.report`: write the report of the configured warehouse."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from dotenv import load_dotenv
from pydantic import ValidationError

from dixa_assets.doctor import load_component
from dixa_assets.errors import DixaAssetsError
from dixa_assets.report import Settings, beside, write_report


def main() -> int:
    """Write it and say where; 1 if that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets.report", description=__doc__)
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help="the file; by default beside the database"
    )
    parser.add_argument(
        "--days", type=int, default=Settings().days, help="how many days it shows (%(default)s)"
    )
    arguments = parser.parse_args()
    load_dotenv(Path.cwd() / ".env", override=True)
    try:
        component = load_component()
        warehouse = component.build_warehouse()
        path = arguments.output or beside(warehouse.path)
        settings = replace(component.report_settings, days=max(arguments.days, 1))
        report = write_report(warehouse, path, settings=settings)
    except (DixaAssetsError, ValidationError, OSError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    print(f"✓ {path}: {len(report.pages)} metrics and records, {len(report.days)} days")
    return 0


if __name__ == "__main__":
    sys.exit(main())
