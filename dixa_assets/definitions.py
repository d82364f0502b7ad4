"""The code location's entry: everything under `defs/`."""

import gc
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path

import dagster as dg

PROJECT = Path(__file__).parents[1]


# A code server calls this twice: first to learn that it is a function, then for its result.
@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The components of this project, all of whose runs are loads."""
    # An installed wheel stands in no project: relative paths begin at the working folder.
    root = PROJECT if (PROJECT / "pyproject.toml").is_file() else Path.cwd()
    tree = dg.ComponentTree.from_module(
        defs_module=import_module("dixa_assets.defs"), project_root=root
    )
    with warnings.catch_warnings():
        # As Dagster does when it loads components.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        # `dg.load_from_defs_folder` would also describe every kind of component that is installed,
        # for each run again. That takes longer than these definitions, and the UI does not show it.
        components = tree.build_defs(Path())
    # They stay until the process ends. If collections of garbage skip them, a code server loads in
    # three quarters of the time.
    gc.freeze()
    # Loads wait for the API, not for a core: one process is enough, also for the UI's runs.
    return dg.Definitions.merge(
        components, dg.Definitions(executor=dg.in_process_executor, component_tree=tree)
    )
