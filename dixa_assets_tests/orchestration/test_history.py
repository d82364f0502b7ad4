"""The history sensor loads missing days, and names loads that the database has lost."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.history import NO_LOAD_IS_DUE
from dixa_assets_tests.support.days import today_in_copenhagen
from dixa_assets_tests.support.processes import child, hold
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import NOW, Simulator
from dixa_assets_tests.support.ticks import first_seen, history_tick, keys_of, ranges_of, tables_of

CSAT, RATINGS = "dixa_metrics/csat", "dixa_records/ratings"

# Missing days


def test_a_new_asset_gets_the_days_before_it_appeared_in_one_run(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    tick = history_tick(analytics, first_seen(catalogue), instance)
    assert ranges_of(tick) == [("2025-10-11", "2025-11-09")]
    undated, daily = tick.run_requests or ()
    assert len(daily.asset_selection or ()) == len(catalogue.entries)
    schemas = {key.path[0] for key in undated.asset_selection or ()}
    assert schemas == {"dixa_catalogue", "dixa_filters"}


def test_only_gaps_between_loaded_days_are_requested(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=5, include=["csat"])
    known = first_seen(catalogue)
    for first, last in (("2025-11-05", "2025-11-06"), ("2025-11-08", "2025-11-08")):
        load(analytics, [CSAT], first, last, instance=instance, catalogue=known)
    tick = history_tick(analytics, known, instance)
    assert ranges_of(tick) == [("2025-11-07", "2025-11-07"), ("2025-11-09", "2025-11-09")]


def test_a_lost_or_another_database_is_filled_again(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=3, include=["csat"])
    known = first_seen(catalogue)
    filters = [f"dixa_filters/{name}" for name in known.filter_names.values()]
    keys = [CSAT, *tables_of(known), *filters]
    load(analytics, keys, "2025-11-07", "2025-11-09", instance=instance, catalogue=known)
    done = history_tick(analytics, known, instance)
    assert not done.run_requests
    assert keys_of(history_tick(analytics, known, instance, done.cursor)) == set()
    other = analytics.model_copy(update={"duckdb_path": str(tmp_path / "other.duckdb")})
    assert keys_of(history_tick(other, known, instance, done.cursor)) == set(keys)
    Path(analytics.duckdb_path).unlink()
    assert keys_of(history_tick(analytics, known, instance, done.cursor)) == set(keys)


def test_a_load_is_requested_again_after_a_pause_only(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    first = history_tick(analytics, catalogue, instance)
    assert first.run_requests
    assert not history_tick(analytics, catalogue, instance, first.cursor).run_requests
    cursor = json.loads(first.cursor or "{}")
    # A clock that was ahead has noted a try in the future.
    for offset in (-timedelta(hours=1), timedelta(days=1)):
        tried = (datetime.now(UTC) + offset).timestamp()
        cursor["tries"] = dict.fromkeys(cursor["tries"], [1, tried])
        later = history_tick(analytics, catalogue, instance, json.dumps(cursor))
        assert keys_of(later) == keys_of(first)


def test_no_history_is_loaded_for_zero_days(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=0)
    assert ranges_of(history_tick(analytics, catalogue, instance)) == []


def test_weeks_and_months_that_are_switched_on_later_are_loaded_for_the_history(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    chosen: dict[str, Any] = {"history_days": 10, "include": ["csat", "ratings"]}
    daily = component(simulator, tmp_path, **chosen)
    known = first_seen(catalogue)
    # Longer than the history: the week to 2025-10-26 is not in it.
    loaded = load(
        daily, [CSAT, RATINGS], "2025-10-26", "2025-11-09", instance=instance, catalogue=known
    )
    assert loaded.success
    before = history_tick(daily, known, instance)
    assert ranges_of(before) == []
    weekly = component(simulator, tmp_path, periods=["week", "month"], **chosen)
    tick = history_tick(weekly, known, instance, before.cursor)
    ends = ["2025-10-31", "2025-11-02", "2025-11-09"]
    assert ranges_of(tick) == [(day, day) for day in ends]
    assert keys_of(tick) == {CSAT}
    assert load(weekly, [CSAT], ends[0], ends[-1], instance=instance, catalogue=known).success
    done = history_tick(weekly, known, instance, tick.cursor)
    assert not done.run_requests
    # Another first day is another week.
    sunday = component(
        simulator, tmp_path, periods=["week", "month"], week_starts_on="sunday", **chosen
    )
    tick = history_tick(sunday, known, instance, done.cursor)
    assert ranges_of(tick) == [("2025-11-01", "2025-11-01"), ("2025-11-08", "2025-11-08")]


def test_a_changed_catalogue_loads_its_tables_again(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, history_days=0)
    tables = tables_of(catalogue)
    load(analytics, tables, instance=instance, catalogue=catalogue)
    assert keys_of(history_tick(analytics, catalogue, instance)).isdisjoint(tables)
    simulator.tell("metrics", entry={"id": "brand_new"}, like="csat")
    later = fetched(analytics, catalogue)
    assert keys_of(history_tick(analytics, later, instance)) > {*tables}


# Another database, or an earlier state of the same


@dataclass
class Place:
    """A metric and a record with five days of history, and their database."""

    analytics: DixaAnalytics
    catalogue: Catalogue
    instance: dg.DagsterInstance
    cursor: str | None = None

    @property
    def database(self) -> Path:
        return Path(self.analytics.duckdb_path)

    def load(self, first: str, last: str, *keys: str) -> None:
        done = load(
            self.analytics,
            keys or (CSAT, RATINGS),
            first,
            last,
            instance=self.instance,
            catalogue=self.catalogue,
        )
        assert done.success

    def tick(self) -> dg.SensorResult:
        tick = history_tick(self.analytics, self.catalogue, self.instance, self.cursor)
        self.cursor = tick.cursor
        return tick

    def said(self) -> str:
        """The message of a tick that requests nothing."""
        tick = self.tick()
        assert not tick.run_requests
        return str(tick.skip_reason and tick.skip_reason.skip_message)


@pytest.fixture(scope="module")
def loaded(
    simulator_process: Simulator, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a database and a Dagster home that have the history and every table."""
    simulator_process.tell("reset", now=NOW.isoformat())
    folder = tmp_path_factory.mktemp("loaded")
    (folder / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(folder / "home")) as instance:
        place = Place(five_days_of(simulator_process, folder), first_seen(catalogue), instance)
        keys = [*tables_of(catalogue), *filters_of(catalogue), CSAT, RATINGS]
        place.load(*HISTORY, *keys)
    return folder


@pytest.fixture
def place(
    loaded: Path, simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> Iterator[Place]:
    """A copy of what is loaded, after a tick."""
    shutil.copytree(loaded, tmp_path, dirs_exist_ok=True)
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        place = Place(five_days_of(simulator, tmp_path), first_seen(catalogue), instance)
        assert place.said() == NO_LOAD_IS_DUE
        yield place


def five_days_of(simulator: Simulator, folder: Path) -> DixaAnalytics:
    return component(simulator, folder, history_days=5, include=["csat", "ratings"])


def filters_of(catalogue: Catalogue) -> list[str]:
    return [f"dixa_filters/{name}" for name in catalogue.filter_names.values()]


HISTORY = ("2025-11-05", "2025-11-09")


def copied(backup: Path, database: Path) -> None:
    shutil.copy(backup, database)


def moved(backup: Path, database: Path) -> None:
    os.replace(backup, database)


def copied_with_its_time(backup: Path, database: Path) -> None:
    shutil.copy2(backup, database)


@pytest.mark.parametrize("restore", [copied, moved, copied_with_its_time])
def test_days_that_a_restored_backup_lacks_are_loaded_again(
    restore: Callable[[Path, Path], None], place: Place, tmp_path: Path
) -> None:
    backup = Path(shutil.copy(place.database, tmp_path / "backup.duckdb"))
    without_loads(backup, "partition_date BETWEEN '2025-11-07' AND '2025-11-08'")

    restore(backup, place.database)

    tick = place.tick()
    assert ranges_of(tick) == [("2025-11-07", "2025-11-08")]
    assert keys_of(tick) == {CSAT, RATINGS}
    place.load("2025-11-07", "2025-11-08")
    assert place.said() == NO_LOAD_IS_DUE


def without_loads(database: Path, where: str) -> None:
    """Make a database as it was before some loads."""
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"DELETE FROM dixa_catalogue.loads WHERE {where}")
        connection.execute(f"DELETE FROM dixa_records.ratings WHERE {where}")
        connection.execute(f"DELETE FROM dixa_metrics.metric_values WHERE {where}")


def test_lost_days_before_the_history_are_named(place: Place, tmp_path: Path) -> None:
    backup = shutil.copy(place.database, tmp_path / "backup.duckdb")
    place.load("2025-10-01", "2025-10-03", RATINGS)
    assert place.said() == NO_LOAD_IS_DUE

    shutil.copy(backup, place.database)

    for _ in range(2):
        said = place.said()
        assert "dixa_records/ratings (3 days from 2025-10-01 to 2025-10-03)" in said
        assert str(place.database) in said
        assert "csat" not in said
    place.load("2025-10-01", "2025-10-03", RATINGS)
    assert place.said() == NO_LOAD_IS_DUE


@pytest.mark.parametrize("is_deleted", [True, False])
def test_lost_days_of_the_latest_history_are_loaded_again_long_after_an_asset_appeared(
    is_deleted: bool, place: Place, tmp_path: Path
) -> None:
    backup = shutil.copy(place.database, tmp_path / "backup.duckdb")
    recent, older = days_before_today(4, 2), days_before_today(20, 19)
    place.load(*recent)
    place.load(*older, RATINGS)
    assert place.said() == NO_LOAD_IS_DUE

    if is_deleted:
        place.database.unlink()
    else:
        shutil.copy(backup, place.database)

    tick = place.tick()
    assert recent in ranges_of(tick)
    assert older not in ranges_of(tick)
    assert {CSAT, RATINGS} <= keys_of(tick)
    said = place.said()
    assert f"{RATINGS} (2 days from {older[0]} to {older[1]})" in said
    assert CSAT not in said
    assert recent[0] not in said
    if not is_deleted:
        place.load(*recent)
        assert RATINGS in place.said()
        place.load(*older, RATINGS)
        assert place.said() == NO_LOAD_IS_DUE


def test_lost_days_of_the_latest_history_are_not_requested_if_they_are_not_kept(
    place: Place,
) -> None:
    first, last = days_before_today(4, 2)
    place.load(first, last)
    without_loads(place.database, f"partition_date >= '{first}'")
    place.analytics = place.analytics.model_copy(update={"keep_days": 3})

    tick = place.tick()

    assert [*zip(map(sorted_keys, tick.run_requests or ()), ranges_of(tick), strict=True)] == [
        ([CSAT], (first, last)),
        ([RATINGS], days_before_today(3, 2)),
    ]
    assert place.said() == NO_LOAD_IS_DUE


def days_before_today(first: int, last: int) -> tuple[str, str]:
    """Two of the days that end a history as of today."""
    today = today_in_copenhagen()
    return str(today - timedelta(days=first)), str(today - timedelta(days=last))


def sorted_keys(request: dg.RunRequest) -> list[str]:
    return sorted(key.to_user_string() for key in request.asset_selection or ())


def test_a_day_of_which_a_backup_has_an_older_load_is_loaded_again(
    place: Place, tmp_path: Path
) -> None:
    backup = shutil.copy(place.database, tmp_path / "backup.duckdb")
    place.load("2025-11-08", "2025-11-08", RATINGS)

    shutil.copy(backup, place.database)

    tick = place.tick()
    assert (keys_of(tick), ranges_of(tick)) == ({RATINGS}, [("2025-11-08", "2025-11-08")])
    place.load("2025-11-08", "2025-11-08", RATINGS)
    assert place.said() == NO_LOAD_IS_DUE


def test_lost_days_are_noticed_after_another_day_was_loaded(place: Place) -> None:
    without_loads(place.database, "partition_date >= '2025-11-07'")
    place.load("2025-11-09", "2025-11-09")

    assert ranges_of(place.tick()) == [("2025-11-07", "2025-11-08")]


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_deleted_database_is_filled_again_and_its_older_days_are_named(
    is_made_again: bool, place: Place
) -> None:
    place.load("2025-11-01", "2025-11-01", CSAT)
    place.database.unlink()
    if is_made_again:
        # Often the new file gets the number of the deleted one.
        place.load("2025-11-08", "2025-11-08", CSAT)

    tick = place.tick()

    every = {*tables_of(place.catalogue), *filters_of(place.catalogue), CSAT, RATINGS}
    assert keys_of(tick) == every
    first, last = HISTORY
    parts = [(first, "2025-11-07"), (last, last)] if is_made_again else []
    assert ranges_of(tick) == [HISTORY, *parts] or ranges_of(tick) == [*parts, HISTORY]
    assert f"{CSAT} (1 days from 2025-11-01 to 2025-11-01)" in place.said()


def test_lost_days_of_a_record_that_are_not_kept_are_neither_named_nor_requested(
    place: Place,
) -> None:
    place.load("2025-11-01", "2025-11-01")
    place.database.unlink()
    kept = (today_in_copenhagen() - date(2025, 11, 8)).days
    place.analytics = place.analytics.model_copy(update={"keep_days": kept})

    tick = place.tick()

    requested = {each for each in ranges_of(tick) if each}
    assert requested == {HISTORY, ("2025-11-08", "2025-11-09")}
    said = place.said()
    assert f"{CSAT} (1 days from 2025-11-01 to 2025-11-01)" in said
    assert RATINGS not in said


def test_lost_tables_without_days_are_loaded_again(place: Place) -> None:
    with duckdb.connect(str(place.database)) as connection:
        connection.execute("DROP TABLE dixa_filters.channel; DROP TABLE dixa_catalogue.metrics")

    assert keys_of(place.tick()) == {"dixa_filters/channel", "dixa_catalogue/metrics"}


def test_days_of_a_dropped_table_are_loaded_again(place: Place) -> None:
    with duckdb.connect(str(place.database)) as connection:
        connection.execute("ALTER TABLE dixa_records.ratings RENAME TO mine")
        connection.execute("DROP TABLE dixa_metrics.metric_values")

    tick = place.tick()
    assert (keys_of(tick), ranges_of(tick)) == ({CSAT, RATINGS}, [HISTORY])
    place.load("2025-11-05", "2025-11-05")
    with duckdb.connect(str(place.database), read_only=True) as connection:
        ((kept,),) = connection.execute("SELECT count(*) FROM dixa_records.mine").fetchall()
        assert kept > 0
    place.cursor = None
    assert ranges_of(place.tick()) == [("2025-11-06", "2025-11-09")]


def test_lost_days_of_a_retired_entry_are_named_and_not_requested(
    simulator: Simulator, place: Place
) -> None:
    without_loads(place.database, "partition_date = '2025-11-08'")
    simulator.withdraw("metrics", "csat")
    place.catalogue = fetched(place.analytics, place.catalogue)

    tick = place.tick()

    assert CSAT not in keys_of(tick)
    assert RATINGS in keys_of(tick)
    assert f"{CSAT} (1 days from 2025-11-08 to 2025-11-08)" in place.said()


def test_an_asset_that_a_person_removed_from_dagster_is_not_loaded_again(place: Place) -> None:
    place.instance.wipe_assets([dg.AssetKey(CSAT.split("/"))])
    without_loads(place.database, "partition_date < '2000-01-01'")

    assert place.said() == NO_LOAD_IS_DUE


def test_a_tick_does_not_open_a_database_that_has_not_changed(place: Place) -> None:
    with child(hold, str(place.database)) as (_, pipe):
        assert pipe.recv() == "held"
        assert place.said() == NO_LOAD_IS_DUE


def test_a_cursor_of_an_earlier_release_keeps_what_is_complete(place: Place) -> None:
    place.instance.wipe_assets([dg.AssetKey(CSAT.split("/"))])
    tries = json.loads(place.cursor or "{}")["tries"]
    place.cursor = json.dumps({"database": f"{place.database} 4711", "tries": tries})

    assert place.said() == NO_LOAD_IS_DUE
