"""The code location's entry: everything under `defs/`."""

from functools import cache
from importlib import import_module
from pathlib import Path

import dagster as dg

HOUSE = Path(__file__).parent


# A code server calls this twice: first to learn that it is a function, then for its result.
@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The components of this project, all of whose runs are loads."""
    return dg.Definitions.merge(
        _components(),
        # Loads wait for the API, not for a core: one process is enough, also for the UI's runs.
        dg.Definitions(executor=dg.in_process_executor),
    )


def _components() -> dg.Definitions:
    if (HOUSE.parent / "pyproject.toml").is_file():
        return dg.load_from_defs_folder(path_within_project=HOUSE)
    # An installed wheel stands in no project: relative paths begin at the working folder.
    tree = dg.ComponentTree.from_module(
        defs_module=import_module("dixa_assets.defs"), project_root=Path.cwd()
    )
    return tree.build_defs()
