"""A load that Ctrl-C stops, and the next start."""

import re
from pathlib import Path

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.launch.stopped import missing_days
from dixa_assets_tests.support.graphql import ASSETS, BACKFILL, assets_in
from dixa_assets_tests.support.launched import Launched, launched
from dixa_assets_tests.support.processes import (
    graphql,
    outside_settings,
    run,
    settings_for,
    wait_until,
)
from dixa_assets_tests.support.scenario import days, load
from dixa_assets_tests.support.simulator import KEY, Simulator, running_simulator

KEYS = ["dixa_metrics/csat", "dixa_records/ratings"]
CHOSEN = [str(day) for day in days("2025-06-01", "2025-09-30")]


def stopped_line(dev: Launched) -> str:
    wait_until(lambda: "Ctrl-C stops" in dev.console.read_text(), what="the banner")
    wait_until(lambda: graphql(dev.url, ASSETS) is not None, what="the UI")
    return "\n".join(line for line in dev.lines() if "missing" in line)


def test_days_that_failed_are_named_until_they_are_loaded(
    analytics: DixaAnalytics, simulator: Simulator, tmp_path: Path
) -> None:
    home = Path(settings_for(simulator, tmp_path)["DAGSTER_HOME"])
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert load(analytics, KEYS, "2025-11-01", instance=instance).success
        simulator.tell("faults", kind="status", status=400, id="csat", times=None, body="no")
        assert not load(analytics, KEYS, "2025-11-01", "2025-11-04", instance=instance).success
        line = missing_days(home, "{assets} for {days}")
        assert "! A load was stopped or failed. 3 asset days of 1 assets are missing. " in line
        assert line.endswith("To load them: dixa_metrics/csat for 2025-11-02...2025-11-04")
        simulator.tell("reset")
        assert load(analytics, KEYS, "2025-11-02", "2025-11-04", instance=instance).success
    assert missing_days(home, "{assets} for {days}") == ""


@pytest.mark.slow
def test_the_next_start_names_the_days_of_a_stopped_backfill_and_the_command_that_loads_them(
    tmp_path: Path,
) -> None:
    with running_simulator("--rate", "10") as simulator:
        settings = {
            "DIXA_API_KEY": KEY,
            "DIXA_BASE_URL": simulator.url,
            "DIXA_HISTORY_DAYS": "0",
            "DIXA_DUCKDB_PATH": str(tmp_path / "dixa.duckdb"),
        }
        with launched("dev", tmp_path, **settings) as dev:
            assert stopped_line(dev) == ""
            wait_until(lambda: {*KEYS} <= assets_in(graphql(dev.url, ASSETS)), what="assets")
            graphql(dev.url, BACKFILL, keys=[{"path": k.split("/")} for k in KEYS], days=CHOSEN)
            wait_until(dev.is_loading, what="a first day")
            assert dev.interrupt() == 0
        with launched("dev", tmp_path, **settings) as dev:
            line = stopped_line(dev)
            assert dev.interrupt() == 0
        named = re.search(
            r"(\d+) asset days of \d assets .*make load ASSETS=(\S+) DAYS=(\S+)$", line
        )
        assert named, line
        count, assets, range_ = named.groups()
        assert 0 < int(count) < len(KEYS) * len(CHOSEN)
        assert {*assets.split(",")} <= {*KEYS}
        # This is what `make load` runs.
        home = tmp_path / ".dagster_home"
        own = outside_settings() | settings | {"HOME": str(tmp_path), "DAGSTER_HOME": str(home)}
        target = ["-m", "dixa_assets.definitions", "--select", assets, "--partition-range", range_]
        run(["dagster", "asset", "materialize", *target], own, ok=True)
        assert missing_days(home, "") == ""
