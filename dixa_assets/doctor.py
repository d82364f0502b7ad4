"""Says before anything starts whether the settings can work: one line each, and what to do.

`python -m dixa_assets.doctor` in the project's folder reads `.env` as Dagster does and ends with
1 when something must be mended first.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
from dotenv import load_dotenv
from pydantic import ValidationError

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ApiUnavailable, DixaAssetsError


def main() -> int:
    """Print a line per check; 1 if one failed, else 0."""
    load_dotenv(Path.cwd() / ".env", override=True)
    try:
        component = load_component()
    except (DixaAssetsError, ValidationError) as error:
        for line in _problems(error):
            print(f"✗ {line}", file=sys.stderr)
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


def load_component() -> DixaAnalytics:
    """The component as `defs.yaml` and the environment configure it."""
    tree = dg.ComponentTree.for_project(Path(__file__).parent.parent)
    try:
        return tree.load_component(Path("dixa_analytics"), expected_type=DixaAnalytics)
    except Exception as error:
        # Dagster wraps what went wrong in the place where it did.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (DixaAssetsError, ValidationError)):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise


def _checks(component: DixaAnalytics) -> Iterator[tuple[str, Callable[[], str]]]:
    def settings() -> str:
        return f"days of {component.timezone} from {component.start_date}"

    def database() -> str:
        component.build_warehouse(wait_seconds=5.0).check()
        return component.duckdb_path

    def api() -> str:
        resource = component.build_dixa(os.environ.get("DIXA_API_KEY", ""))
        with resource.client(give_up_after=5.0) as client:
            metrics, records = client.fetch_metrics(), client.fetch_records()
        return f"{component.base_url} offers {len(metrics)} metrics and {len(records)} records"

    yield "settings", settings
    yield "database", database
    yield "API", api


def _problems(error: DixaAssetsError | ValidationError) -> Iterator[str]:
    if isinstance(error, ValidationError):
        for item in error.errors():
            setting = "DIXA_" + "_".join(str(part) for part in item["loc"]).upper()
            yield f"{setting}: {item['msg']}, not {item['input']!r}."
    else:
        yield str(error)


if __name__ == "__main__":
    sys.exit(main())
