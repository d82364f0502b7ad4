"""The newest rules of time zones on the machine hold for partitions, days and SQL."""

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

from dixa_assets.model.days import days_from
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import rows_of
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets.warehouse.zone_rules import first_differing_midnight
from dixa_assets.zones import is_same_zone, rules_version

DAYS = 400
# Zones whose latest rules DuckDB does not have yet. The doctor warns of them.
BEHIND_IN_DUCKDB = {
    *("America/Havana", "Cuba"),
    *("America/Winnipeg", "America/Rainy_River", "Canada/Central"),
}
RULES_AND_START = """
from datetime import date
from dixa_assets.model.days import Day
from dixa_assets.zones import rules_version
print(rules_version(), Day.of(date(2026, 10, 1), "Africa/Casablanca").period.start.isoformat())
"""
RULES_FOR_OTHERS = """
from dixa_assets.zones import newest_rules_for_others
print(newest_rules_for_others())
"""
# A program that does not import this project.
MIDNIGHT = """
from datetime import UTC, datetime
from zoneinfo import ZoneInfo
print(datetime(2026, 10, 1, tzinfo=UTC).astimezone(ZoneInfo("Africa/Casablanca")))
"""


def system_files(folder: Path, version: str) -> Path:
    """Zone files of a release, in which Casablanca has the rules of Kolkata."""
    (folder / "tzdata.zi").write_text(f"# version {version}\n")
    (folder / "Africa").mkdir()
    kolkata = Path(tzdata.__file__).parent / "zoneinfo" / "Asia" / "Kolkata"
    (folder / "Africa" / "Casablanca").write_bytes(kolkata.read_bytes())
    return folder


def output_of(code: str, **settings: str) -> str:
    """The output of a Python process with these environment variables."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("version", "start"),
    [("2025b", "2026-10-01T00:00:00+00:00"), ("2099a", "2026-09-30T18:30:00+00:00")],
)
def test_the_newer_rules_of_system_and_package_hold(
    version: str, start: str, tmp_path: Path
) -> None:
    folder = str(system_files(tmp_path, version))
    found = output_of(RULES_AND_START, PYTHONTZPATH=folder)
    assert found.split() == [max(version, rules_version()), start]


@pytest.mark.parametrize("version", ["2025b", "2099a"])
def test_processes_of_other_programs_get_the_same_rules(version: str, tmp_path: Path) -> None:
    settings = {"PYTHONTZPATH": str(system_files(tmp_path, version))}
    for_others = ast.literal_eval(output_of(RULES_FOR_OTHERS, **settings))
    midnight = output_of(MIDNIGHT, **(settings | for_others))
    assert midnight.endswith("+05:30") == (version == "2099a")


@pytest.mark.slow
def test_partitions_days_and_sql_agree_in_every_zone() -> None:
    today = datetime.now(UTC).date()
    behind = set()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for zone in sorted(zoneinfo.available_timezones()):
            days = days_from(today, DAYS, zone)
            partitions = dg.DailyPartitionsDefinition(
                str(today), timezone=zone, end_offset=DAYS + 2
            )
            keys = partitions.get_partition_keys()[:DAYS]
            assert keys == [*map(str, days)], zone
            for key, day in zip(keys, days, strict=True):
                partition = partitions.time_window_for_partition_key(key)
                assert partition.start.timestamp() == day.period.start.timestamp(), (zone, key)
                assert partition.end.timestamp() == day.period.end.timestamp(), (zone, key)
            if first_differing_midnight(partial(rows_of, connection), days):
                behind.add(zone)
    assert behind <= BEHIND_IN_DUCKDB


def test_an_older_name_of_a_zone_is_the_same_zone(tmp_path: Path) -> None:
    assert is_same_zone("Europe/Kiev", "Europe/Kyiv")
    assert not is_same_zone("Europe/Kyiv", "Europe/Copenhagen")
    old = Warehouse(tmp_path / "w.duckdb", WarehouseSettings(timezone="Asia/Calcutta"))
    old.check()
    old.query(
        "INSERT INTO dixa_catalogue.loads BY NAME SELECT 'a/b' AS asset_key, "
        "DATE '2025-01-01' AS partition_date"
    )
    Warehouse(tmp_path / "w.duckdb", WarehouseSettings(timezone="Asia/Kolkata")).check()
