"""The same backfill by a textbook project and by this one: `python -m …bench.textbook`.

Both run in a real `dagster dev` over the simulator at the vendor's limit, and both are measured
by `dagster_runs.backfill`. The textbook project is `textbook_defs`, on Dagster's own settings.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dixa_assets_tests.bench import textbook_defs
from dixa_assets_tests.bench.dagster_runs import (
    ASSETS,
    VENDOR,
    Dagster,
    Timed,
    backfill,
    dagster_dev,
)
from dixa_assets_tests.bench.growth import settled
from dixa_assets_tests.conftest import running_simulator
from dixa_assets_tests.processes import free_port, graphql, running, settings_for, wait_until

# All of Dagster's defaults.
DAGSTER_YAML = "telemetry:\n  enabled: false\n"
DAYS, QUICK_DAYS = 10, 3


@dataclass(frozen=True)
class Textbook:
    """The backfill of the same metrics and days by both projects."""

    metrics: int
    days: int
    textbook: Timed
    ours: Timed

    def __str__(self) -> str:
        lines = [
            f"{name}: {timed.seconds:.1f} s in {timed.runs} runs, {timed.requests} requests of "
            f"which {timed.refused} refused, {timed.ratio:.1f} times the vendor's limit"
            for name, timed in (("textbook", self.textbook), ("ours", self.ours))
        ]
        return "\n".join([f"{self.metrics} metrics x {self.days} days", *lines])


def measure(folder: Path, *, quick: bool = False) -> Textbook:
    """Backfill the textbook's metrics with both projects, below `folder`."""
    days = QUICK_DAYS if quick else DAYS
    metrics = textbook_defs.METRICS
    with textbook_dev(folder / "textbook") as dagster:
        textbook = backfill(dagster, metrics, days)
        # No policy is one run per day: fewer would mean that the end came too early.
        assert textbook.runs == days, textbook
    with duckdb.connect(str(folder / "textbook" / "dixa.duckdb"), read_only=True) as connection:
        for metric in metrics:
            loaded = connection.execute(f"SELECT count(DISTINCT day) FROM {metric}").fetchone()
            assert loaded == (days,), (metric, loaded)
    with dagster_dev(folder / "ours", *VENDOR) as dagster:
        settled(dagster)
        ours = backfill(dagster, [f"dixa_metrics/{metric}" for metric in metrics], days)
    return Textbook(len(metrics), days, textbook, ours)


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
            dagster = Dagster(f"http://127.0.0.1:{port}", simulator, folder)
            wait_until(
                lambda: (graphql(dagster.url, ASSETS) or {}).get("assetNodes"),
                seconds=120,
                what="the assets",
            )
            yield dagster


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.bench.textbook")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DAYS} days, not {DAYS}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="textbook-") as folder:
        print(measure(Path(folder), quick=options.quick))


if __name__ == "__main__":
    main()
