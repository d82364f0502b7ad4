"""The code location of the demo: the component in plain Python, with breakdowns as an example.

It does not read `defs.yaml`, so that the demo is the same whatever that file contains.
"""

import os
from functools import cache

import dagster as dg

from dixa_assets.component import build_definitions


# A code server calls this twice: once to inspect the function, once for the result.
@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The definitions, with the settings from the environment that `demo` prepares."""
    return build_definitions(
        base_url=os.environ["DIXA_BASE_URL"],
        timezone=os.environ["DIXA_TIMEZONE"],
        start_date=os.environ["DIXA_START_DATE"],
        history_days=int(os.environ["DIXA_HISTORY_DAYS"]),
        duckdb_path=os.environ["DIXA_DUCKDB_PATH"],
        read_copy_path=os.environ["DIXA_READ_COPY_PATH"],
        catalogue_refresh_seconds=int(os.environ["DIXA_CATALOGUE_REFRESH_SECONDS"]),
        owners=["team:support-analytics"],
        # Both attributes together have eleven values, so each day takes eleven more requests.
        breakdowns={"closed_conversations": ["channel", "queue_id"]},
        periods=["week", "month"],
    )
