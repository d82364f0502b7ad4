"""A truncated day is requested again in halves, so no day lacks rows and counts as loaded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dixa_assets.errors import DaysFailed
from dixa_assets.load.progress import LoadedDay
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day, days_from
from dixa_assets.model.options import LoadSpec
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.loading import load_days
from dixa_assets_tests.support.serve import serve
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND
from dixa_assets_tests.support.truncating import TruncatingVendor

SPEC = LoadSpec(Entry("record", "events", "events"), COPENHAGEN)
# The second of these days has 25 hours.
DAYS = days_from(date(2025, 10, 25), 3, COPENHAGEN)
Load = Callable[..., list[LoadedDay]]


@pytest.fixture
def load(warehouse: Warehouse) -> Iterator[Load]:
    """Loads days from a vendor."""

    def run(vendor: TruncatingVendor, days: Sequence[Day] = DAYS) -> list[LoadedDay]:
        with serve(vendor.answer) as server:
            return load_days(server.url, warehouse, SPEC, days)

    return run


def spread(day: Day, rows: int, within: timedelta | None = None) -> list[datetime]:
    """`rows` instants of a day, at equal distances, none of them at a boundary of halves."""
    step = (within or day.period.end - day.period.start) / max(rows, 1)
    return [day.period.start + (number + 0.5) * step for number in range(rows)]


def stored(warehouse: Warehouse) -> list[tuple[str, datetime]]:
    """The day and the primary timestamp of every stored row."""
    found = warehouse.query(
        "SELECT partition_date::DATE::VARCHAR AS day, primary_timestamp AS at "
        "FROM dixa_records.events ORDER BY ALL"
    )
    return [(day, at.to_pydatetime()) for day, at in zip(found.day, found["at"], strict=True)]


def expected(vendor: TruncatingVendor, days: Sequence[Day] = DAYS) -> list[tuple[str, datetime]]:
    """The day and the primary timestamp of every row that the vendor has on the days."""
    return sorted(
        (str(day), at)
        for day in days
        for at in vendor.instants
        if day.period.start <= at < day.period.end
    )


@dataclass(frozen=True)
class Case:
    """A day, its vendor, and the pages that the load requests."""

    name: str
    rows: int
    requests: int
    most_rows: int = 1_000_000
    page: int = 300
    unlinked: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("empty", rows=0, requests=1),
    Case("one page", rows=299, requests=1),
    Case("two pages", rows=301, requests=2),
    # These answers are whole and look truncated.
    Case("full pages", rows=600, requests=2 + 2 * 1 + 4 * 1),
    Case("a round number", rows=100, requests=1 + 2 * 1),
    # These answers are truncated.
    Case("a limit of rows", rows=1993, most_rows=1000, requests=4 + 2 * 4),
    Case("a limit of one page", rows=500, most_rows=300, requests=1 + 2 * 1),
    Case("a limit of pages", rows=1002, most_rows=900, requests=3 + 2 * 2),
    Case("truncated halves", rows=2004, most_rows=900, requests=3 + 2 * 3 + 4 * 2),
    Case("small pages", rows=500, most_rows=240, page=120, requests=2 + 2 * 2 + 4 * 2),
    Case("a lost link", rows=1002, unlinked=frozenset({2}), requests=2 + 2 * 2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_day_that_looks_truncated_is_requested_again_in_halves(
    case: Case, load: Load, warehouse: Warehouse
) -> None:
    rows = spread(DAYS[0], case.rows)
    vendor = TruncatingVendor(rows, case.most_rows, case.page, case.unlinked)
    (loaded,) = load(vendor, DAYS[:1])
    assert stored(warehouse) == expected(vendor)
    assert loaded.counts.rows == case.rows
    # The usage includes the truncated answers.
    assert len(vendor.requests) == loaded.usage.requests == loaded.usage.pages == case.requests
    log = warehouse.query("SELECT rows, requests, pages FROM dixa_catalogue.loads")
    assert log.to_numpy().tolist() == [[case.rows, case.requests, case.requests]]


def test_only_the_truncated_day_is_requested_in_halves(load: Load, warehouse: Warehouse) -> None:
    counts = {DAYS[0]: 50, DAYS[1]: 1500, DAYS[2]: 50}
    vendor = TruncatingVendor([at for day in DAYS for at in spread(day, counts[day])], 1000)
    load(vendor)
    assert stored(warehouse) == expected(vendor)
    periods = {tuple(body["periodFilter"].values())[1:] for body in vendor.requests}
    assert len(periods) == 3 + 2


def test_the_warning_names_the_record_and_the_number_of_rows(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    load(TruncatingVendor(spread(DAYS[0], 150), most_rows=100), DAYS[:1])
    (warning,) = [record.message for record in caplog.records if "smaller parts" in record.message]
    assert "for 'events': exactly 100 rows" in warning


def test_more_rows_in_one_millisecond_than_an_answer_holds_fail_only_their_day(
    load: Load, warehouse: Warehouse
) -> None:
    neighbours = [at for day in (DAYS[0], DAYS[2]) for at in spread(day, 700)]
    vendor = TruncatingVendor([*neighbours, *spread(DAYS[1], 1) * 700], most_rows=600)
    with pytest.raises(DaysFailed, match="a full page of 300 rows, and no link") as caught:
        load(vendor)
    assert [*caught.value.failed] == [str(DAYS[1])]
    assert stored(warehouse) == expected(TruncatingVendor(neighbours))


@pytest.mark.parametrize("is_end_exclusive", [True, False])
@pytest.mark.parametrize("most_rows", [100, 1000])
def test_rows_around_midnight_and_around_the_middle_of_a_day_are_stored_once(
    most_rows: int, is_end_exclusive: bool, load: Load, warehouse: Warehouse
) -> None:
    near = [timedelta(microseconds=each) for each in (-1000, -400, -1, 0, 1, 400, 1000)]
    middle = DAYS[0].period.halves()[1].start
    boundaries = [middle, *(day.period.start for day in DAYS)]
    rows = [boundary + each for boundary in boundaries for each in near]
    rows += [at for day in DAYS for at in spread(day, 150)]
    vendor = TruncatingVendor(rows, most_rows, is_end_exclusive=is_end_exclusive)
    load(vendor)
    assert stored(warehouse) == expected(vendor)


@st.composite
def vendors(draw: st.DrawFn) -> TruncatingVendor:
    """Vendors that truncate at a round number of rows, or after some pages of any size."""
    page, pages = draw(st.sampled_from([50, 100, 120, 300])), draw(st.integers(1, 10))
    rows = [
        at
        for day in DAYS
        for at in spread(
            day,
            draw(st.integers(0, 1200)),
            draw(st.sampled_from([None, timedelta(hours=1), 500 * MILLISECOND])),
        )
    ]
    return TruncatingVendor(
        rows,
        most_rows=draw(st.sampled_from([100 * pages, page * (pages + 1)])),
        page=page,
        is_newest_first=draw(st.booleans()),
        is_end_exclusive=draw(st.booleans()),
    )


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(vendor=vendors())
def test_no_truncation_loses_a_row(
    vendor: TruncatingVendor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("truncated")
    warehouse = Warehouse(folder / "w.duckdb", WarehouseSettings(timezone=COPENHAGEN))
    with serve(vendor.answer) as server:
        loaded = load_days(server.url, warehouse, SPEC, DAYS)
    assert stored(warehouse) == expected(vendor)
    assert sum(day.usage.requests for day in loaded) == len(vendor.requests)
