"""The backfill of a textbook project, `textbook_defs`, on Dagster's own settings.

In a real `dagster dev` over the simulator at the vendor's limit, measured as this project's is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from dixa_assets_tests.bench import textbook_defs
from dixa_assets_tests.bench.dagster_runs import ASSETS, VENDOR, Dagster, Timed, backfill
from dixa_assets_tests.support.processes import (
    free_port,
    graphql,
    running,
    settings_for,
    wait_until,
)
from dixa_assets_tests.support.simulator import running_simulator

# All of Dagster's defaults.
DAGSTER_YAML = "telemetry:\n  enabled: false\n"
DAYS = 10


def measure(folder: Path) -> Timed:
    """Backfill the textbook project's metrics, in `folder`."""
    with textbook_dev(folder) as dagster:
        timed = backfill(dagster, textbook_defs.METRICS, DAYS)
    # No policy is one run per day: fewer would mean that the end came too early.
    assert timed.runs == DAYS, timed
    with duckdb.connect(str(folder / "dixa.duckdb"), read_only=True) as connection:
        for metric in textbook_defs.METRICS:
            loaded = connection.execute(f"SELECT count(DISTINCT day) FROM {metric}").fetchone()
            assert loaded == (DAYS,), (metric, loaded)
    return timed


@contextmanager
def textbook_dev(folder: Path) -> Iterator[Dagster]:
    """The textbook project in a `dagster dev` of its own."""
    folder.mkdir(parents=True)
    port = free_port()
    command = ["dagster", "dev", "-f", textbook_defs.__file__, "-p", str(port)]
    with running_simulator(*VENDOR) as simulator:
        settings = settings_for(simulator, folder)
        (Path(settings["DAGSTER_HOME"]) / "dagster.yaml").write_text(DAGSTER_YAML)
        with running(command, settings, folder / "log"):
            dagster = Dagster(f"http://127.0.0.1:{port}", simulator, folder, settings)
            wait_until(
                lambda: (graphql(dagster.url, ASSETS) or {}).get("assetNodes"),
                seconds=120,
                what="the assets",
            )
            yield dagster
