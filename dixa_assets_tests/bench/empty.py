"""A code location whose assets and job do nothing, to measure what Dagster itself takes.

`EMPTY_ASSETS` names a file that has the number of assets.
"""

import os
from datetime import date
from pathlib import Path

import dagster as dg

NUMBER = "EMPTY_ASSETS"
DAYS = dg.DailyPartitionsDefinition(date(2020, 1, 1).isoformat())


@dg.job(executor_def=dg.in_process_executor)
def nothing() -> None:
    """A run without a step."""


def empty(number: int) -> dg.AssetsDefinition:
    """An asset with days and as many checks as most of this project's have, and no work."""
    name = f"empty_{number}"
    checks = [dg.AssetCheckSpec(f"check_{each}", asset=name) for each in range(3)]

    @dg.asset(name=name, partitions_def=DAYS, check_specs=checks)
    def asset():  # noqa: ANN202
        pass

    return asset


@dg.definitions
def defs() -> dg.Definitions:
    """The assets, and the job."""
    number = int(Path(os.environ[NUMBER]).read_text())
    return dg.Definitions(assets=[*map(empty, range(number))], jobs=[nothing])
