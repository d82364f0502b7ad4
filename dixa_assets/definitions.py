"""The code location's entry: everything under `defs/`."""

from functools import cache
from pathlib import Path

import dagster as dg


# A code server calls this twice: first to learn that it is a function, then for its result.
@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The components of this project, all of whose runs are loads."""
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        # Loads wait for the API, not for a core: one process is enough, also for the UI's runs.
        dg.Definitions(executor=dg.in_process_executor),
    )
