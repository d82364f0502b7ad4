"""Rows whose order changes between two requests: a day has exactly its rows, or it failed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import pytest

from dixa_assets.api import client as client_module
from dixa_assets.errors import DaysFailed
from dixa_assets.load import loader as loader_module
from dixa_assets.load.progress import LoadedDay
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day, days_from
from dixa_assets.model.options import LoadSpec
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import selected
from dixa_assets_tests.support.loading import load_days
from dixa_assets_tests.support.serve import serve
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND
from dixa_assets_tests.support.unstable import Event, UnstableVendor

StableVendor = partial(UnstableVendor, is_stable=True)
SPEC = LoadSpec(Entry("record", "events", "events"), COPENHAGEN)
DAYS = days_from(date(2025, 10, 26), 1, COPENHAGEN)
NOON = DAYS[0].period.start + timedelta(hours=12)
# Requests for a day whose rows have one timestamp.
MOST_REQUESTS = 12


def load(
    vendor: UnstableVendor, warehouse: Warehouse, days: Sequence[Day] = DAYS, spec: LoadSpec = SPEC
) -> list[LoadedDay]:
    with serve(vendor.answer) as server:
        return load_days(server.url, warehouse, spec, days)


def assert_exact(vendor: UnstableVendor, warehouse: Warehouse) -> None:
    found = selected(
        warehouse, "SELECT epoch_us(primary_timestamp), number FROM dixa_records.events"
    )
    expected = [(int(event.at.timestamp() * 1_000_000), event.number) for event in vendor.events]
    assert Counter(found) == Counter(expected)


def ties(rows: int, at: timedelta = timedelta(), *, kinds: int = 10_000) -> list[Event]:
    """Rows of one timestamp; `kinds` of them differ."""
    return [Event(NOON + at, number % kinds) for number in range(rows)]


def spread(rows: int) -> list[Event]:
    step = (DAYS[0].period.end - DAYS[0].period.start) / rows
    return [Event(DAYS[0].period.start + n * step, 100_000 + n) for n in range(rows)]


@pytest.mark.parametrize("is_newest_first", [False, True])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("before", [270, 299, 570])
def test_ties_across_the_end_of_a_page_are_stored_once(
    before: int, seed: int, is_newest_first: bool, warehouse: Warehouse
) -> None:
    early = [Event(NOON - timedelta(minutes=n + 1), 10**6 + n) for n in range(before)]
    late = [Event(NOON + timedelta(minutes=n + 1), 10**7 + n) for n in range(270)]
    vendor = UnstableVendor([*early, *ties(40), *late], seed, is_newest_first=is_newest_first)
    load(vendor, warehouse)
    assert_exact(vendor, warehouse)


@pytest.mark.parametrize("is_end_exclusive", [False, True])
@pytest.mark.parametrize("largest_page", [300, 70])
@pytest.mark.parametrize("rows", [100, 300, 600, 700])
def test_a_day_of_one_timestamp_is_loaded_with_few_requests_if_its_order_is_stable(
    rows: int, largest_page: int, is_end_exclusive: bool, warehouse: Warehouse
) -> None:
    vendor = StableVendor(
        ties(rows, timedelta(microseconds=400)),
        largest_page=largest_page,
        is_end_exclusive=is_end_exclusive,
    )
    load(vendor, warehouse)
    assert_exact(vendor, warehouse)
    pages = -(-rows // largest_page)
    assert len(vendor.requests) <= max(MOST_REQUESTS, 4 * pages + 4)


@pytest.mark.parametrize("at", [timedelta(hours=-12), timedelta(hours=13) - MILLISECOND])
@pytest.mark.parametrize("rows", [100, 300, 700])
def test_rows_of_the_first_or_last_millisecond_of_a_day_are_loaded(
    rows: int, at: timedelta, warehouse: Warehouse
) -> None:
    vendor = StableVendor(ties(rows, at))
    load(vendor, warehouse)
    assert_exact(vendor, warehouse)
    assert len(vendor.requests) <= MOST_REQUESTS


@pytest.mark.parametrize("kinds", [10_000, 1, 2])
@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("rows", [40, 100, 300, 301, 700])
def test_a_day_of_one_timestamp_in_unstable_order_is_exact_or_failed(
    rows: int, seed: int, kinds: int, warehouse: Warehouse
) -> None:
    vendor = UnstableVendor(ties(rows, kinds=kinds), seed)
    if rows <= 300 or kinds == 1:
        load(vendor, warehouse)
        assert_exact(vendor, warehouse)
    else:
        with pytest.raises(DaysFailed, match="two readings of the period from .* do not agree"):
            load(vendor, warehouse)
        assert selected(warehouse, "SELECT * FROM dixa_catalogue.loads") == []
    assert len(vendor.requests) <= MOST_REQUESTS


def test_equal_rows_across_the_end_of_a_page_are_all_stored(warehouse: Warehouse) -> None:
    vendor = StableVendor([Event(NOON + timedelta(seconds=n // 3), n // 3) for n in range(901)])
    load(vendor, warehouse)
    assert_exact(vendor, warehouse)


@pytest.mark.parametrize("seed", range(2))
def test_many_timestamps_with_ties_in_unstable_order_are_exact(
    seed: int, warehouse: Warehouse
) -> None:
    events = [Event(NOON + timedelta(seconds=n // 70), n) for n in range(4000)]
    vendor = UnstableVendor(events, seed)
    (loaded,) = load(vendor, warehouse)
    assert_exact(vendor, warehouse)
    # Without ties the day would need 14 pages.
    assert loaded.usage.requests == len(vendor.requests) < 10 * 14


@pytest.mark.parametrize("seed", range(2))
def test_rows_in_random_order_are_exact(seed: int, warehouse: Warehouse) -> None:
    vendor = UnstableVendor(spread(1000), seed, is_shuffled=True)
    load(vendor, warehouse)
    assert_exact(vendor, warehouse)


@pytest.mark.parametrize("rows", [100, 300, 700])
def test_rows_that_another_timestamp_selects_are_loaded_too(
    rows: int, warehouse: Warehouse
) -> None:
    vendor = StableVendor(ties(rows))
    load(vendor, warehouse, spec=replace(SPEC, selects_by_primary_timestamp=False))
    assert_exact(vendor, warehouse)


@pytest.mark.parametrize("precision", [1_000_000, 3600 * 1_000_000, 10**15])
def test_a_vendor_that_rounds_periods_fails_the_day_in_words(
    precision: int, warehouse: Warehouse
) -> None:
    events = [Event(NOON + n * 7 * MILLISECOND, n) for n in range(400)]
    vendor = StableVendor(events[:300], precision=precision)
    with pytest.raises(DaysFailed, match="has rows of other parts.*probe"):
        load(vendor, warehouse)
    assert len(vendor.requests) < 40


def test_a_day_in_too_many_parts_fails_in_words(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "MAX_PARTS", 3)
    events = [Event(NOON + timedelta(seconds=n // 70), n) for n in range(4000)]
    with pytest.raises(DaysFailed, match="a row is on two pages"):
        load(UnstableVendor(events), warehouse)


def test_rows_of_one_timestamp_are_compared_in_a_time_that_grows_with_their_number(
    warehouse: Warehouse,
) -> None:
    vendor = StableVendor(ties(6050))
    load(vendor, warehouse)
    assert_exact(vendor, warehouse)
    assert len(vendor.requests) == -(-6050 // client_module.PAGE_SIZE)
