"""The demo's code location: the component in plain Python, with breakdowns to look at.

Apart from `defs.yaml`, so that the demo shows the same whatever that file has been made to say.
"""

import os
from functools import cache

import dagster as dg

from dixa_assets.component import build_definitions


# A code server calls this twice: first to learn that it is a function, then for its result.
@dg.definitions
@cache
def defs() -> dg.Definitions:
    """What `dixa_assets.launch.demo` sets up."""
    return build_definitions(
        base_url=os.environ["DIXA_BASE_URL"],
        timezone=os.environ["DIXA_TIMEZONE"],
        start_date=os.environ["DIXA_START_DATE"],
        history_days=int(os.environ["DIXA_HISTORY_DAYS"]),
        duckdb_path=os.environ["DIXA_DUCKDB_PATH"],
        read_copy_path=os.environ["DIXA_READ_COPY_PATH"],
        catalogue_refresh_seconds=int(os.environ["DIXA_CATALOGUE_REFRESH_SECONDS"]),
        owners=["team:support-analytics"],
        # Eleven values: as many more requests for each of the days.
        breakdowns={"closed_conversations": ["channel", "queue_id"]},
    )
