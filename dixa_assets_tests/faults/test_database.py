"""A full, forbidden or shared database, and a backfill across a change of the clocks."""

import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest

from dixa_assets_tests.support.faults import (
    CSAT,
    DAYS,
    FIRST,
    KEYS,
    MESSAGES,
    RATINGS,
    TRIES,
    Scene,
    can_retry,
    failed_steps,
    few,
    step,
)
from dixa_assets_tests.support.processes import child, hold
from dixa_assets_tests.support.scenario import failure_of

pytestmark = pytest.mark.slow


# The database


def load_and_tell(scene: Scene, pipe: Connection) -> None:
    """Load the days and send the message of each failed step, and whether a retry can help."""
    result = scene.load()
    said: dict[str, tuple[str, Any]] = {}
    for event in result.get_step_failure_events():
        data, key = event.step_failure_data, str(event.step_key).replace("__", "/")
        if data.user_failure_data is None:
            said[key] = (f"not an error of this project: {data.error}", None)
        else:
            said[key] = (failure_of(result, step(key)), can_retry(result, key))
    pipe.send(said)


def load_with_small_files(url: str, folder: str, limit: int, pipe: Connection) -> None:
    """Load with a limit on the size of files, as on a full disk."""
    scene = Scene.at(url, folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    load_and_tell(scene, pipe)


# The limits: no row fits; no rows of a record fit; all but the messages fit; all rows fit and the
# database's file does not.
@pytest.mark.parametrize("size", [300, 10_000, 60_000, 200_000])
def test_a_full_disk_fails_the_load_and_leaves_every_day_as_it_was(
    size: int, scene: Scene, tmp_path: Path
) -> None:
    before = scene.held()
    with child(load_with_small_files, scene.simulator.url, str(tmp_path), size) as (_, pipe):
        assert pipe.poll(60)
        said = pipe.recv()
    assert MESSAGES in said
    for words, retry in said.values():
        assert scene.analytics.duckdb_path in words
        assert any(day in words for day in DAYS)
        assert "too large" in words
        assert retry is False
    after = scene.held()
    assert {key for key, day in before if after[key, day] == before[key, day]} == set(said)
    scene.assert_whole()


def load_without_rights(url: str, folder: str, pipe: Connection) -> None:
    """Load as a user who may only read the database."""
    scene = Scene.at(url, folder)
    # Late imports must happen while this user may still read the modules.
    with TemporaryDirectory() as elsewhere:
        assert Scene.at(url, elsewhere).load(CSAT, last=FIRST).success
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    load_and_tell(scene, pipe)


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
def test_a_database_that_may_not_be_written_is_named_and_left_as_it_was(
    folder_mode: int, loaded: Path, scene: Scene
) -> None:
    # Not below tmp_path, which pytest keeps to its owner.
    with TemporaryDirectory() as name:
        there = replace(scene, analytics=few(scene.simulator, Path(name)))
        path = Path(shutil.copy(loaded, there.analytics.duckdb_path))
        before = there.held()
        for each in path.parent.iterdir():
            each.chmod(0o444)
        path.parent.chmod(folder_mode)
        with child(load_without_rights, scene.simulator.url, name) as (_, pipe):
            assert pipe.poll(60)
            said = pipe.recv()
        path.parent.chmod(0o755)
        for each in path.parent.iterdir():
            each.chmod(0o755 if each.is_dir() else 0o644)
        assert set(said) == set(KEYS)
        for words, retry in said.values():
            assert words.startswith("duckdb_path: ")
            assert name in words
            assert retry is False
        assert there.held() == before


def test_a_database_open_elsewhere_is_waited_for(scene: Scene) -> None:
    before = scene.held()
    with child(hold, scene.analytics.duckdb_path) as (_, pipe), ThreadPoolExecutor() as pool:
        assert pipe.recv() == "held"
        loading = pool.submit(scene.load)
        with pytest.raises(TimeoutError):
            loading.result(timeout=5)
        pipe.send("let go")
        assert loading.result(timeout=60).success
    after = scene.held()
    assert all(after[which] != before[which] for which in before)
    scene.assert_whole()


def test_a_database_that_stays_open_elsewhere_is_reported_with_its_holder(
    scene: Scene, tmp_path: Path
) -> None:
    before = scene.held()
    impatient = replace(scene, analytics=few(scene.simulator, tmp_path, database_wait_seconds=0.3))
    with child(hold, scene.analytics.duckdb_path) as (process, pipe):
        assert pipe.recv() == "held"
        holder = f"(process {process.pid})"
        result = impatient.load()
    assert failed_steps(result) == {step(key) for key in KEYS}
    for key in KEYS:
        said = failure_of(result, step(key))
        assert holder in said
        assert scene.analytics.duckdb_path in said
        assert can_retry(result, key) is True
    assert scene.held() == before


def load_twice(url: str, folder: str, pipe: Connection) -> None:
    """Load the same days two times; send each run with its failed steps."""
    scene = Scene.at(url, folder)
    pipe.send("ready")
    pipe.recv()
    for _ in range(2):
        result = scene.load()
        pipe.send((result.run_id, failed_steps(result)))


def test_two_processes_that_load_the_same_days_leave_one_version_of_each_whole(
    scene: Scene, tmp_path: Path
) -> None:
    with (
        child(load_twice, scene.simulator.url, str(tmp_path)) as (_, one),
        child(load_twice, scene.simulator.url, str(tmp_path)) as (_, other),
    ):
        assert [pipe.recv() for pipe in (one, other)] == ["ready", "ready"]
        for pipe in (one, other):
            pipe.send("go")
        ended = [pipe.recv() for pipe in (one, other, one, other)]
    assert [failed for _, failed in ended] == [set()] * 4
    scene.assert_whole()
    for key in KEYS:
        versions = scene.analytics.build_warehouse().query(
            "SELECT one.partition_date::VARCHAR AS day, list(DISTINCT one.run_id) AS runs, "
            "list(DISTINCT log.run_id) AS noted, count(DISTINCT log.rowid) AS lines "
            f"FROM {key.replace('/', '.')} AS one JOIN dixa_catalogue.loads AS log "
            "ON log.asset_key = ? AND log.partition_date = one.partition_date GROUP BY ALL",
            [key],
        )
        assert set(versions.day) == set(DAYS)
        for version in versions.itertuples():
            assert list(version.runs) == list(version.noted)
            assert version.runs[0] in {run_id for run_id, _ in ended}
            assert version.lines == 1


# The calendar


@pytest.mark.parametrize(
    ("changing", "hours"), [("2025-10-26", 25), ("2025-03-30", 23)], ids=["autumn", "spring"]
)
def test_a_clock_change_that_fails_in_a_backfill_is_repaired_by_loading_it_alone(
    changing: str,
    hours: int,
    scene: Scene,
    instance: dg.DagsterInstance,
    tmp_path: Path,
) -> None:
    (tmp_path / "new").mkdir()
    new = replace(scene, analytics=few(scene.simulator, tmp_path / "new"))
    around = [str(date.fromisoformat(changing) + timedelta(days=n)) for n in (-1, 0, 1)]
    new.fault("malformed_json", id="ratings", skip=1, times=TRIES)
    key = dg.AssetKey(RATINGS.split("/"))
    result = new.load(CSAT, RATINGS, first=around[0], last=around[2], instance=instance)
    assert failed_steps(result) == {step(RATINGS)}
    assert f"1 of 3 days failed ({changing})" in failure_of(result, step(RATINGS))
    assert instance.get_materialized_partitions(key) == {around[0], around[2]}
    assert new.load(RATINGS, first=changing, last=changing, instance=instance).success
    assert instance.get_materialized_partitions(key) == set(around)
    new.assert_whole(CSAT, RATINGS, days=around)
    length = new.noted(RATINGS, "date_diff('hour', interval_start, interval_end)")
    assert length == dict.fromkeys(around, 24) | {changing: hours}
