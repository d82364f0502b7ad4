"""Every column of every mart equals the events of the simulator, added up in pandas."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from dixa_assets.simulator.world import World
from dixa_assets_tests.marts.oracle import (
    CLOSED,
    CREATED,
    FIELDS,
    MESSAGES,
    OFFERS,
    PRESENCE,
    RATINGS,
    Oracle,
    differences,
)
from dixa_assets_tests.support.marts import Account, filled
from dixa_assets_tests.support.scenario import days
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, running_simulator

DOCUMENTED = (RATINGS, CLOSED)


@dataclass(frozen=True)
class Case:
    """Loaded days.

    Args:
        zone: Their zone.
        first: The first one.
        last: The last one.
        records: The records of the catalogue.
        gaps: Days on which a record is not loaded.
        first_weekday: The first day of a week, by its name and by its number in Python.
        has_lists: Whether the values of the filters are loaded.
    """

    zone: str
    first: str
    last: str
    records: Sequence[str] = tuple(FIELDS)
    gaps: Sequence[tuple[str, str]] = ()
    first_weekday: tuple[str, int] = ("monday", 0)
    has_lists: bool = True

    @property
    def loaded(self) -> dict[str, list[date]]:
        return {
            record: [
                day for day in days(self.first, self.last) if (record, str(day)) not in self.gaps
            ]
            for record in self.records
        }


CASES = {
    "a day of 25 hours": Case(COPENHAGEN, "2025-10-25", "2025-10-27"),
    "days before and after a day of 23 hours, with gaps": Case(
        "America/Santiago",
        "2025-09-06",
        "2025-09-08",
        gaps=[
            (CREATED, "2025-09-07"),
            (MESSAGES, "2025-09-06"),
            (OFFERS, "2025-09-06"),
            (RATINGS, "2025-09-08"),
            (PRESENCE, "2025-09-06"),
        ],
    ),
    "a week of the two documented records, without lists": Case(
        COPENHAGEN,
        "2025-10-19",
        "2025-10-26",
        records=DOCUMENTED,
        first_weekday=("sunday", 6),
        has_lists=False,
    ),
}
LONG_CASES = {
    "a week with a day of 25 hours": Case(COPENHAGEN, "2025-10-20", "2025-10-27"),
    "a day of 24 hours and a half": Case("Australia/Lord_Howe", "2025-03-31", "2025-04-08"),
    "a day of 25 hours in Santiago": Case("America/Santiago", "2025-03-31", "2025-04-08"),
    "a zone between the hours": Case("Asia/Kolkata", "2025-10-20", "2025-10-27"),
}


def assert_equal(account: Account, folder: Path, case: Case) -> None:
    name, number = case.first_weekday
    warehouse, _ = filled(
        account,
        folder,
        case.zone,
        case.loaded,
        has_lists=case.has_lists,
        week_starts_on=name,
    )
    lists = account.lists() if case.has_lists else {}
    oracle = Oracle(account.world, case.zone, case.loaded, lists, number)
    differing, compared = differences(warehouse, oracle)
    assert differing[:20] == []
    assert compared > 5_000


@pytest.mark.parametrize("name", CASES)
def test_every_column_of_every_mart_equals_the_events(
    name: str, small: Account, tmp_path: Path
) -> None:
    assert_equal(small, tmp_path, CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG_CASES)
def test_every_column_equals_the_events_of_a_longer_time(
    name: str, small: Account, tmp_path: Path
) -> None:
    assert_equal(small, tmp_path, LONG_CASES[name])


@pytest.mark.slow
def test_a_month_of_a_larger_account_equals_its_events(tmp_path: Path) -> None:
    month_with_a_day_of_23_hours = Case(COPENHAGEN, "2025-02-26", "2025-04-02")
    with running_simulator("--rate", "0", "--now", NOW.isoformat()) as simulator:
        assert_equal(Account(simulator, World()), tmp_path, month_with_a_day_of_23_hours)


def test_the_oracle_notices_a_wrong_figure(small: Account, tmp_path: Path) -> None:
    case = Case(COPENHAGEN, "2025-10-25", "2025-10-26", DOCUMENTED)
    warehouse, _ = filled(small, tmp_path, case.zone, case.loaded, has_lists=False)
    oracle = Oracle(small.world, case.zone, case.loaded, lists={})
    assert differences(warehouse, oracle)[0] == []
    with warehouse.reading() as query:
        query(
            "UPDATE dixa_records.ratings SET value = 1 WHERE primary_timestamp = "
            "(SELECT min(primary_timestamp) FROM dixa_records.ratings WHERE value >= 4)"
        )
    columns = {(each[0], each[2]) for each in differences(warehouse, oracle)[0]}
    assert {("overview_daily", "csat"), ("satisfaction", "score")} <= columns
