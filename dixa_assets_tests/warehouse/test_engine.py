"""The database file, while other processes read, write, wait or die."""

import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dixa_assets.errors import ConfigError, DixaAssetsError, WarehouseBusy
from dixa_assets.model.values import BIGINT, DOUBLE, VARCHAR, Value
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import (
    DAY,
    DAYS,
    integers,
    load,
    noted_rows,
    numbers_by_day,
    record,
    selected,
)
from dixa_assets_tests.support.processes import child, hold

pytestmark = pytest.mark.file

# Other processes with the same file


def test_a_load_waits_for_another_process_to_close_the_file(warehouse: Warehouse) -> None:
    load(warehouse, record(), DAY, integers(1))
    with (
        child(hold, str(warehouse.path)) as (_, pipe),
        ThreadPoolExecutor() as pool,
    ):
        assert pipe.recv() == "held"
        waiting = pool.submit(load, warehouse, record(), DAY, integers(2))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        pipe.send("let go")
        waiting.result(timeout=10)

    assert numbers_by_day(warehouse) == {DAY: [2]}


def test_a_process_that_keeps_the_file_open_is_named_and_nothing_is_written(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    load(warehouse, record(), DAY, integers(1), run_id="first")
    impatient = Warehouse(warehouse.path, WarehouseSettings(database_wait_seconds=0.5))
    with child(hold, str(warehouse.path)) as (process, pipe):
        assert pipe.recv() == "held"
        with pytest.raises(WarehouseBusy, match=rf"\(process {process.pid}\)") as raised:
            load(impatient, record(), DAY, integers(2), run_id="second")

    assert raised.value.retryable
    (warning,) = {each.message for each in caplog.records if each.name.endswith("warehouse.file")}
    assert str(raised.value) in warning
    assert "read copy" in warning
    assert numbers_by_day(warehouse) == {DAY: [1]}
    assert noted_rows(warehouse) == {("dixa_records/conversations", DAY): (1, "first")}


def test_waiting_for_other_loads_ends(warehouse: Warehouse) -> None:
    impatient = Warehouse(warehouse.path, WarehouseSettings(database_wait_seconds=0.3))
    warehouse.check()
    with (
        child(hold, str(warehouse.path)) as (_, pipe),
        ThreadPoolExecutor() as pool,
    ):
        assert pipe.recv() == "held"
        first = pool.submit(load, warehouse, record(), DAY, integers(1))
        with pytest.raises(TimeoutError):
            first.result(timeout=0.3)
        with pytest.raises(WarehouseBusy, match="other loads of this project"):
            load(impatient, record(), DAY, integers(2))
        pipe.send("let go")
        first.result(timeout=10)

    assert numbers_by_day(warehouse) == {DAY: [1]}


@pytest.mark.parametrize(
    "place",
    ["a folder", "a file/below.duckdb", "a file", "/dev/null", "/proc/nowhere/dixa.duckdb"],
)
def test_a_path_that_cannot_be_a_database_is_refused_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("no database\n" * 1000)
    warehouse = Warehouse(tmp_path / place, WarehouseSettings(database_wait_seconds=30))

    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"^duckdb_path: "):
        warehouse.check()

    assert time.monotonic() - began < 5
    assert (tmp_path / "a file").read_text() == "no database\n" * 1000


def check_without_rights(path: str, wait_seconds: float, pipe: Connection) -> None:
    """Send the error of `check`, as a user without the right to write."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        Warehouse(path, WarehouseSettings(database_wait_seconds=wait_seconds)).check()
        pipe.send(("nothing", ""))
    except (DixaAssetsError, OSError) as error:
        pipe.send((type(error).__name__, str(error)))


@pytest.mark.parametrize("exists", [False, True], ids=["a new file", "a file of someone else"])
def test_a_place_without_the_right_to_write_is_refused_at_once(exists: bool) -> None:
    # Not below tmp_path, which pytest keeps to its owner.
    with TemporaryDirectory() as name:
        path = Path(name) / "test.duckdb"
        if exists:
            Warehouse(path).check()
            for each in path.parent.iterdir():
                each.chmod(0o444)
        path.parent.chmod(0o555)
        with child(check_without_rights, str(path), 5.0) as (_, pipe):
            assert pipe.poll(3), "it waits"
            kind, message = pipe.recv()
        path.parent.chmod(0o755)

    assert kind == "ConfigError"
    assert message.startswith("duckdb_path: ")


def write_again_and_again(path: str, numbers: list[int], pipe: Connection) -> None:
    warehouse = Warehouse(path)
    pipe.recv()
    for _ in range(5):
        load(warehouse, record(), DAY, integers(*numbers))
    pipe.send("done")


def test_two_processes_that_write_one_day_leave_the_rows_of_one(warehouse: Warehouse) -> None:
    versions = [[1, 1, 1], [2, 2, 2, 2, 2]]
    path = str(warehouse.path)
    with (
        child(write_again_and_again, path, versions[0]) as (_, one),
        child(write_again_and_again, path, versions[1]) as (_, other),
    ):
        for pipe in (one, other):
            pipe.send("go")
        assert [pipe.recv() for pipe in (one, other)] == ["done", "done"]

    [numbers] = numbers_by_day(warehouse).values()
    assert numbers in versions
    assert noted_rows(warehouse) == {
        ("dixa_records/conversations", DAY): (len(numbers), "a-run"),
    }


def write_days_with_a_column(path: str, days: list[str], column: str, pipe: Connection) -> None:
    warehouse = Warehouse(path)
    with ThreadPoolExecutor(max_workers=2) as pool:
        rows = [{"number": Value(BIGINT, 1), column: Value(VARCHAR, column)}]
        list(pool.map(lambda day: load(warehouse, record(), day, rows), days))
    pipe.send("done")


def test_many_writers_of_different_days_lose_none(warehouse: Warehouse) -> None:
    path = str(warehouse.path)
    with (
        child(write_days_with_a_column, path, DAYS[0::3], "a") as (_, one),
        child(write_days_with_a_column, path, DAYS[1::3], "b") as (_, two),
        child(write_days_with_a_column, path, DAYS[2::3], "c") as (_, three),
    ):
        assert [pipe.recv() for pipe in (one, two, three)] == ["done"] * 3

    assert numbers_by_day(warehouse) == {day: [1] for day in DAYS}
    assert len(noted_rows(warehouse)) == len(DAYS)
    by_column = "SELECT partition_date::VARCHAR, coalesce(a, b, c) FROM dixa_records.conversations"
    assert dict(selected(warehouse, by_column)) == {
        day: "abc"[number % 3] for number, day in enumerate(DAYS)
    }


# Killed processes


def write_days(path: str, version: int, pipe: Connection) -> None:
    """Write every day, with a column of this version's own, and send each written day."""
    warehouse = Warehouse(path)
    rows = [
        {"number": Value(BIGINT, version), f"in_{version}": Value(DOUBLE, 0.5)} for _ in range(200)
    ]
    for day in DAYS:
        load(warehouse, record(), day, rows, run_id=str(version))
        pipe.send(day)


def test_killed_writers_leave_every_day_whole_and_lose_no_written_day(
    warehouse: Warehouse,
) -> None:
    moments = random.Random(20250102)
    expected: dict[str, int] = {}
    for version in range(10):
        acknowledged = set()
        with child(write_days, str(warehouse.path), version) as (process, pipe):
            acknowledged.add(pipe.recv())
            process.join(timeout=moments.uniform(0, 0.3))
            process.kill()
            process.join()
            while pipe.poll():
                try:
                    acknowledged.add(pipe.recv())
                except EOFError:
                    break

        found = numbers_by_day(warehouse)
        for day, numbers in found.items():
            assert numbers == [numbers[0]] * 200
            assert numbers[0] in {expected.get(day), version}
            assert numbers[0] == version or day not in acknowledged
        assert found.keys() >= expected.keys() | acknowledged
        expected = {day: numbers[0] for day, numbers in found.items()}
        assert noted_rows(warehouse) == {
            ("dixa_records/conversations", day): (200, str(number))
            for day, number in expected.items()
        }


# Staging


def staging_root(warehouse: Warehouse) -> Path:
    with warehouse.staging() as folder:
        return folder.parent


def test_a_staging_folder_is_next_to_the_database_and_removed_even_after_an_error(
    warehouse: Warehouse,
) -> None:
    with suppress(LookupError), warehouse.staging() as folder:
        (folder / "rows.jsonl").write_text("{}")
        assert folder.parent.parent == warehouse.path.parent
        raise LookupError
    assert list(folder.parent.iterdir()) == []


def stay_in_staging(path: str, pipe: Connection) -> None:
    with Warehouse(path).staging() as folder:
        (folder / "rows.jsonl").write_text("{}")
        pipe.send(str(folder))
        pipe.recv()
    pipe.send("left")


def test_the_staging_folder_of_a_living_process_stays(warehouse: Warehouse) -> None:
    with child(stay_in_staging, str(warehouse.path)) as (_, pipe):
        theirs = Path(pipe.recv())
        with warehouse.staging() as mine, warehouse.staging() as also_mine:
            assert {mine, also_mine, theirs} <= set(theirs.parent.iterdir())
            assert (theirs / "rows.jsonl").read_text() == "{}"
        pipe.send("leave")
        assert pipe.recv() == "left"

    assert list(theirs.parent.iterdir()) == []


@pytest.mark.parametrize("folder_is_gone", [False, True], ids=["folder and lock", "lock alone"])
def test_the_next_process_removes_the_staging_folder_of_a_killed_one(
    warehouse: Warehouse, folder_is_gone: bool
) -> None:
    with child(stay_in_staging, str(warehouse.path)) as (_, pipe):
        left = Path(pipe.recv())
    assert left.is_dir()
    if folder_is_gone:
        # The process was killed while it removed the folder, or before it made it.
        shutil.rmtree(left)

    root = staging_root(warehouse)

    assert root == left.parent
    assert list(root.iterdir()) == []


def test_a_staging_folder_that_is_a_link_is_refused_and_its_target_unchanged(
    warehouse: Warehouse,
) -> None:
    home = warehouse.path.parent / "home"
    (home / "precious").mkdir(parents=True)
    place = Path(f"{warehouse.path}.staging")
    place.symlink_to(home)

    with pytest.raises(ConfigError, match=f"^{place}: is not your own folder"):
        load(warehouse, record(), DAY, integers(1))

    assert [each.name for each in home.iterdir()] == ["precious"]


def test_a_staging_folder_that_cannot_be_made_is_named(warehouse: Warehouse) -> None:
    place = Path(f"{warehouse.path}.staging")
    place.touch()

    with pytest.raises(ConfigError, match=f"^{place}: File exists. Rows are staged there"):
        load(warehouse, record(), DAY, integers(1))


@pytest.mark.parametrize("place", ["a file/read.duckdb", "/proc/nowhere/read.duckdb", "read"])
def test_a_read_copy_that_cannot_be_written_is_named(warehouse: Warehouse, place: str) -> None:
    load(warehouse, record(), DAY, integers(1))
    (warehouse.path.parent / "a file").touch()
    path = warehouse.path.parent / place
    if place == "read":
        path.mkdir()

    with pytest.raises(
        ConfigError, match=r"^read_copy_path: .*(a file|nowhere|/read) (cannot be|was not w)"
    ):
        warehouse.publish(path)

    assert numbers_by_day(warehouse) == {DAY: [1]}
