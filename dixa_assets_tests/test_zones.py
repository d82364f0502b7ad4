"""The newest rules of time zones on the machine decide, for partitions, windows and SQL alike."""

import ast
import os
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import tzdata

from dixa_assets.model.days import windows_from
from dixa_assets.orchestration.partitions import to_window
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import rows_of
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets.warehouse.zone_rules import odd_midnight
from dixa_assets.zones import is_same_zone, rules_version

DAYS = 400
# Zones whose latest rules DuckDB does not know yet; doctor says so to whoever uses one.
BEHIND_IN_DUCKDB = {
    *("America/Havana", "Cuba"),
    *("America/Winnipeg", "America/Rainy_River", "Canada/Central"),
}
ASK = """
from datetime import date
from dixa_assets.model.days import Window
from dixa_assets.zones import rules_version
print(rules_version(), Window.of_day(date(2026, 10, 1), "Africa/Casablanca").start.isoformat())
"""


def system_files(folder: Path, version: str) -> Path:
    """Zone files of a release, in which Casablanca has the rules of Kolkata."""
    (folder / "tzdata.zi").write_text(f"# version {version}\n")
    (folder / "Africa").mkdir()
    kolkata = Path(tzdata.__file__).parent / "zoneinfo" / "Asia" / "Kolkata"
    (folder / "Africa" / "Casablanca").write_bytes(kolkata.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("version", "start"),
    [("2025b", "2026-10-01T00:00:00+00:00"), ("2099a", "2026-09-30T18:30:00+00:00")],
)
def test_the_newer_of_the_systems_and_the_packages_rules_decides(
    version: str, start: str, tmp_path: Path
) -> None:
    settings = os.environ | {"PYTHONTZPATH": str(system_files(tmp_path, version))}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=settings, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [max(version, rules_version()), start]


@pytest.mark.parametrize("version", ["2025b", "2099a"])
def test_a_process_that_does_not_know_this_project_is_given_the_same_rules(
    version: str, tmp_path: Path
) -> None:
    settings = os.environ | {"PYTHONTZPATH": str(system_files(tmp_path, version))}
    ask = "from dixa_assets.zones import newest_rules_for_others as rules; print(rules())"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=settings, capture_output=True, text=True, check=True
    )
    for_others = ast.literal_eval(done.stdout)
    ask = (
        "from datetime import UTC, datetime; from zoneinfo import ZoneInfo; "
        "print(datetime(2026, 10, 1, tzinfo=UTC).astimezone(ZoneInfo('Africa/Casablanca')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], env=settings | for_others, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip().endswith("+05:30") == (version == "2099a")


@pytest.mark.slow
def test_partitions_windows_and_sql_agree_in_every_zone_for_each_of_the_next_days() -> None:
    today = datetime.now(UTC).date()
    behind = set()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for zone in sorted(zoneinfo.available_timezones()):
            windows = windows_from(today, DAYS, zone)
            days = dg.DailyPartitionsDefinition(str(today), timezone=zone, end_offset=DAYS + 2)
            keys = days.get_partition_keys()[:DAYS]
            assert keys == [str(window.day) for window in windows], zone
            for key, window in zip(keys, windows, strict=True):
                partition = days.time_window_for_partition_key(key)
                assert partition.start.timestamp() == window.start.timestamp(), (zone, key)
                assert partition.end.timestamp() == window.end.timestamp(), (zone, key)
                assert to_window(key, zone) == window
            if odd_midnight(partial(rows_of, connection), windows):
                behind.add(zone)
    assert behind <= BEHIND_IN_DUCKDB


def test_a_zone_is_the_same_under_an_older_name(tmp_path: Path) -> None:
    assert is_same_zone("Europe/Kiev", "Europe/Kyiv")
    assert not is_same_zone("Europe/Kyiv", "Europe/Copenhagen")
    old = Warehouse(tmp_path / "w.duckdb", WarehouseSettings(timezone="Asia/Calcutta"))
    old.check()
    old.query(
        "INSERT INTO dixa_catalogue.loads BY NAME SELECT 'a/b' AS asset_key, "
        "DATE '2025-01-01' AS partition_date"
    )
    Warehouse(tmp_path / "w.duckdb", WarehouseSettings(timezone="Asia/Kolkata")).check()
