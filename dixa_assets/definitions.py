"""The code location's entry: everything under `defs/`."""

from functools import cache
from pathlib import Path

import dagster as dg


# A code server asks twice in a row, the first time to learn that this is a function to ask.
@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The components of this project."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
