"""Whatever a vendor cuts without a word, no day counts as loaded that lacks rows."""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dixa_assets.api.client import DixaClient
from dixa_assets.api.requests import Request
from dixa_assets.errors import DaysFailed
from dixa_assets.load.loader import Loader, Task
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import windows_from
from dixa_assets.model.tables import relation_of
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.silent import DAY, Silent, serving
from dixa_assets_tests.support.simulator import KEY

FIRST = date(2025, 6, 1)
MIDNIGHT = datetime(2025, 6, 1, tzinfo=UTC)
RECORD = Entry("record", "events", "events", "Events.")
Cut = Callable[[list[datetime], datetime, datetime], list[datetime]]


def load(vendor: Silent, path: Path, first: date, number: int, at_a_time: int = 3) -> None:
    warehouse = Warehouse(path, timezone="UTC")
    days = windows_from(first, number, "UTC")
    task = Task(RECORD, relation_of(RECORD), lambda _: Request(RECORD), days)

    def connect() -> DixaClient:
        return DixaClient(KEY, base_url=vendor.url, requests_per_second=100_000, burst=1000)

    with closing(Loader(connect, warehouse, at_a_time=at_a_time)) as loader:
        list(loader.load(task, run_id="a-run"))


def assert_whole(vendor: Silent, path: Path, first: date, number: int) -> None:
    """Every day is noted, and holds the rows that the vendor has of it."""
    found = Warehouse(path, timezone="UTC").query(
        "SELECT l.partition_date::DATE::VARCHAR AS day, l.rows, count(r.partition_date) AS there "
        "FROM dixa_catalogue.loads AS l LEFT JOIN dixa_records.events AS r USING (partition_date) "
        "WHERE l.partition_date BETWEEN ? AND ? GROUP BY ALL ORDER BY 1",
        [first, first + timedelta(days=number - 1)],
    )
    days = [str(first + timedelta(days=each)) for each in range(number)]
    truth = dict.fromkeys(days, 0)
    for at in vendor.instants:
        if str(at.date()) in truth:
            truth[str(at.date())] += 1
    assert dict(zip(found.day, found.there, strict=True)) == truth
    assert dict(zip(found.day, found.rows, strict=True)) == truth


def steady(days: int, a_day: int) -> list[datetime]:
    """So many rows on each day, from the first of June."""
    step = DAY / a_day
    return [MIDNIGHT + day * DAY + row * step for day in range(days) for row in range(a_day)]


def first_days(number: float) -> Cut:
    """Only the first so many days of a period, to the instant after them."""
    return lambda rows, start, _: [at for at in rows if at <= start + number * DAY]


def last_days(number: float) -> Cut:
    """Only the last so many days of a period."""
    return lambda rows, _, end: [at for at in rows if at >= end - number * DAY]


def first_rows(number: int) -> Cut:
    """Only the first so many rows of a period."""
    return lambda rows, *_: rows[:number]


@pytest.mark.parametrize(
    "cut",
    [
        *(first_days(7), last_days(7), first_days(1), first_days(30)),
        *(first_days(59.5), last_days(60.5), first_days(60), last_days(2.5)),
        *(first_rows(100), first_rows(200)),
    ],
)
def test_a_long_period_of_which_only_some_days_are_answered(cut: Cut, tmp_path: Path) -> None:
    with serving(Silent(steady(70, 4), cut)) as vendor:
        load(vendor, tmp_path / "w.duckdb", FIRST, 3)
        load(vendor, tmp_path / "w.duckdb", FIRST + 3 * DAY, 60)
        assert_whole(vendor, tmp_path / "w.duckdb", FIRST, 63)


@pytest.mark.parametrize("cut", [first_days(4), first_days(4.5), last_days(5.5), last_days(4.5)])
def test_days_that_are_loaded_again_lose_nothing_to_a_cut_within_a_day(
    cut: Cut, tmp_path: Path
) -> None:
    path = tmp_path / "w.duckdb"
    with serving(Silent(steady(20, 20), cut)) as vendor:
        for number in range(10):
            load(vendor, path, FIRST + number * DAY, 1)
        for number in range(8):
            load(vendor, path, FIRST + number * DAY, 5)
        assert_whole(vendor, path, FIRST, 12)


def test_rows_that_come_between_two_requests_are_no_cut(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [today - (10 - each) * DAY + hour * DAY / 24 for each in range(10) for hour in range(24)]
    # A joint answer is the earlier one: it does not have yesterday's last row yet.
    vendor = Silent(rows, lambda rows, start, end: rows[:-1] if end - start > DAY else rows)
    with serving(vendor):
        for number in range(5):
            load(vendor, path, (today - (10 - number) * DAY).date(), 1)
        load(vendor, path, (today - 5 * DAY).date(), 5)
        assert_whole(vendor, path, (today - 10 * DAY).date(), 10)
    assert Warehouse(path, timezone="UTC").volumes()["dixa_records/events"].was_cut is False


def test_a_joint_answer_whose_halves_are_cut_too_leaves_no_gap_between_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.duckdb"
    with serving(Silent(steady(70, 50), first_days(2), page=50)) as vendor:
        load(vendor, path, FIRST, 1)
        load(vendor, path, FIRST + DAY, 60)
        assert_whole(vendor, path, FIRST, 61)


def test_a_day_that_a_joint_answer_is_not_believed_for_keeps_its_rows_until_it_has_come_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.duckdb"
    with serving(Silent(steady(10, 4))) as vendor:
        for number in range(10):
            load(vendor, path, FIRST + number * DAY, 1)
        # No rows come after the last day, so that it is asked for alone.
        vendor.refused = [(MIDNIGHT + 9 * DAY, MIDNIGHT + 10 * DAY)]
        with pytest.raises(DaysFailed):
            load(vendor, path, FIRST + 5 * DAY, 5)
        assert_whole(vendor, path, FIRST, 10)


@pytest.mark.parametrize("limit", [100, 1000, 10_000])
def test_a_limit_on_the_rows_of_an_answer(limit: int, tmp_path: Path) -> None:
    with serving(Silent(steady(3, 2 * limit - 7), first_rows(limit))) as vendor:
        load(vendor, tmp_path / "w.duckdb", FIRST, 3)
        assert_whole(vendor, tmp_path / "w.duckdb", FIRST, 3)


def test_a_vendor_that_begins_to_cut_is_noticed_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with serving(Silent(steady(150, 5))) as vendor:
        load(vendor, path, FIRST, 3)
        load(vendor, path, FIRST + 3 * DAY, 40)
        vendor.cut = first_days(10)
        load(vendor, path, FIRST + 43 * DAY, 40)
        assert_whole(vendor, path, FIRST, 83)
        vendor.requests.clear()
        load(vendor, path, FIRST + 83 * DAY, 10)
        assert len(vendor.requests) == 10
        assert_whole(vendor, path, FIRST, 93)


@pytest.mark.parametrize("page", [300, 100])
def test_pages_that_end_at_some_depth(page: int, tmp_path: Path) -> None:
    with serving(Silent(steady(4, 2000), most_pages=3, page=page)) as vendor:
        load(vendor, tmp_path / "w.duckdb", FIRST, 3)
        assert_whole(vendor, tmp_path / "w.duckdb", FIRST, 3)


def test_a_link_that_is_forgotten_once_after_a_full_page(tmp_path: Path) -> None:
    with serving(Silent(steady(2, 1000), forgets=frozenset({2}))) as vendor:
        load(vendor, tmp_path / "w.duckdb", FIRST, 2)
        assert_whole(vendor, tmp_path / "w.duckdb", FIRST, 2)


def test_a_day_of_exactly_full_pages_is_whole(tmp_path: Path) -> None:
    with serving(Silent(steady(1, 600))) as vendor:
        load(vendor, tmp_path / "w.duckdb", FIRST, 1)
        assert_whole(vendor, tmp_path / "w.duckdb", FIRST, 1)


def test_more_rows_in_a_millisecond_than_a_page_holds_fail_the_day(tmp_path: Path) -> None:
    rows = [MIDNIGHT] * 700
    with (
        serving(Silent(rows, most_pages=2)) as vendor,
        pytest.raises(DaysFailed, match="a full page of 300 rows, and no link"),
    ):
        load(vendor, tmp_path / "w.duckdb", FIRST, 1)


def test_a_period_that_is_refused_is_halved_and_not_asked_day_by_day(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with serving(Silent(steady(70, 4), refuses=16 * DAY)) as vendor:
        load(vendor, path, FIRST, 3)
        vendor.requests.clear()
        load(vendor, path, FIRST + 3 * DAY, 60)
        assert_whole(vendor, path, FIRST, 63)
    assert len(vendor.requests) <= 8


@pytest.mark.parametrize("exclusive", [True, False])
def test_events_just_before_at_and_just_after_midnight_are_in_one_day_each(
    exclusive: bool, tmp_path: Path
) -> None:
    near = [timedelta(microseconds=each) for each in (-1000, -400, -1, 0, 1, 400)]
    rows = [MIDNIGHT + day * DAY + each for day in range(1, 6) for each in near]
    rows += [MIDNIGHT + timedelta(hours=each) for each in range(24)]
    with serving(Silent(rows, exclusive=exclusive)) as vendor:
        for number in range(5):
            load(vendor, tmp_path / "alone.duckdb", FIRST + number * DAY, 1)
        load(vendor, tmp_path / "joint.duckdb", FIRST, 1)
        load(vendor, tmp_path / "joint.duckdb", FIRST + DAY, 4)
        for name in ("alone", "joint"):
            assert_whole(vendor, tmp_path / f"{name}.duckdb", FIRST, 5)


@pytest.mark.slow
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    filled=st.lists(st.integers(0, 39), min_size=0, max_size=40),
    a_day=st.integers(1, 40),
    cut=st.one_of(
        st.none(),
        st.integers(4, 160).map(lambda quarters: first_days(quarters / 4)),
        st.integers(4, 160).map(lambda quarters: last_days(quarters / 4)),
        st.sampled_from([100, 200, 400]).map(first_rows),
    ),
    most_pages=st.sampled_from([1, 2, 10_000]),
)
def test_no_cut_costs_a_row(
    filled: Sequence[int],
    a_day: int,
    cut: Cut | None,
    most_pages: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("cuts") / "w.duckdb"
    rows = [at for day in {*filled} for at in (r + day * DAY for r in steady(1, a_day))]
    vendor = Silent(rows, cut or (lambda rows, *_: rows), most_pages=most_pages, page=300)
    with serving(vendor):
        load(vendor, path, FIRST, 2)
        load(vendor, path, FIRST + 2 * DAY, 38)
        load(vendor, path, FIRST + 10 * DAY, 30)
        assert_whole(vendor, path, FIRST, 40)


@pytest.mark.parametrize(
    ("a_day", "most"), [(1, 1), (5, 1), (300, 60)], ids=["sparse", "few", "dense"]
)
def test_proof_costs_next_to_nothing_where_nothing_is_cut(
    a_day: int, most: int, tmp_path: Path
) -> None:
    path = tmp_path / "w.duckdb"
    with serving(Silent(steady(70, a_day))) as vendor:
        load(vendor, path, FIRST, 3)
        vendor.requests.clear()
        load(vendor, path, FIRST + 3 * DAY, 60)
        assert_whole(vendor, path, FIRST, 63)
    assert len(vendor.requests) <= 1.15 * most + 1
