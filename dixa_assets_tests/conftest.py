"""Fixtures of all tests: one simulated Dixa, its truth, a component and an empty warehouse."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import settings

from dixa_assets.__main__ import main
from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.privacy import STORE_ALL, FieldPolicy
from dixa_assets.model.tables import METRIC_VALUES
from dixa_assets.simulator.world import World
from dixa_assets.staging import Staged
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.processes import settings_for
from dixa_assets_tests.support.scenario import component, fetched
from dixa_assets_tests.support.services import new_database, open_database
from dixa_assets_tests.support.simulator import NOW, Simulator, running_simulator
from dixa_assets_tests.support.wheels import built_wheel

# Files in memory, if there is room: thousands of commits to small databases then wait for no disk.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4_000_000_000:
    os.environ.setdefault("TMPDIR", str(MEMORY))
    tempfile.tempdir = None
# A busy machine must not fail a test.
settings.register_profile("dixa_assets", deadline=None)
settings.load_profile("dixa_assets")
# Asserts in these modules show their values, as asserts in a test do.
pytest.register_assert_rewrite(
    *(
        f"dixa_assets_tests.support.{name}"
        for name in ("asking", "catalogues", "columns", "faults", "staged", "truth")
    )
)


# Otherwise each new Dagster instance reads Dagster's ninety migrations.
_from_config = ScriptDirectory.from_config
_migrations: dict[str | None, ScriptDirectory] = {}


def _migrations_once(config: Config) -> ScriptDirectory:
    place = config.get_main_option("script_location")
    if place not in _migrations:
        _migrations[place] = _from_config(config)
    return _migrations[place]


ScriptDirectory.from_config = _migrations_once


# Modules that begin first, because they take minutes: none is waited for in the end.
LONGEST = (
    "test_new_project",
    "test_reuse",
    "test_demo",
    "test_launch",
    "test_many_machines",
    "test_end_to_end",
)


@dataclass(frozen=True)
class Done:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lake", action="store_true", help="run on a lake instead of a file")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores, at most four. With `-m slow`, whose tests wait: two more."""
    more = 2 * (config.option.markexpr == "slow")
    return min((os.cpu_count() or 1) + 1, 4) + more


def pytest_collection_finish() -> None:
    # The modules are many objects: collections of garbage leave them out, and come less often.
    gc.freeze()
    gc.set_threshold(100_000)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [*LONGEST, item.path.stem].index(item.path.stem))
    if config.getoption("lake"):
        chosen = [*_of_a_lake(items)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def _of_a_lake(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Select the tests that a lake can fail.

    A lake has other SQL and the same values, so the first and the last case of a test are enough.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("services"):
            yield item
        elif "database" in getattr(item, "fixturenames", ()) and not item.get_closest_marker(
            "file"
        ):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for first, *others in cases.values():
        yield from (first, *others[-1:])


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    with running_simulator("--rate", "0") as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """The session's simulator with its built-in catalogue, no faults, no limit, clock at NOW."""
    simulator_process.tell("reset", now=NOW.isoformat())
    return simulator_process


@pytest.fixture(scope="session")
def world() -> World:
    """The simulator's truth, computed in this process."""
    return World()


@pytest.fixture
def analytics(simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    """A component with the default settings that loads from the simulator."""
    return component(simulator, tmp_path)


@pytest.fixture(scope="session")
def catalogue(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The simulator's built-in catalogue, fetched once."""
    simulator_process.tell("reset", now=NOW.isoformat())
    return fetched(component(simulator_process, tmp_path_factory.mktemp("catalogue")))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this project."""
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of its own."""
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def command(
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Done]:
    """Runs `dixa_assets` with arguments, in `tmp_path`; keywords are environment variables."""
    for name in [each for each in os.environ if each.startswith(("DIXA_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, **settings: str) -> Done:
        with monkeypatch.context() as process:
            for name, value in settings_for(simulator, tmp_path, **settings).items():
                process.setenv(name, value)
            process.setattr(sys, "argv", ["dixa_assets", *arguments])
            code = main()
        return Done(code, *capsys.readouterr())

    return command


@pytest.fixture
def database(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[dict[str, str]]:
    """The address of a new database, for tests whose processes open it too."""
    with new_database(tmp_path, is_lake=pytestconfig.getoption("lake")) as where:
        yield where


@pytest.fixture
def warehouse(database: dict[str, str]) -> Warehouse:
    return open_database(database, wait_seconds=10)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Staged]]:
    """Opens files of staged rows, which the end of the test removes."""
    made: list[Staged] = []

    def open_staged(table: Any = METRIC_VALUES, policy: FieldPolicy = STORE_ALL) -> Staged:
        made.append(Staged(tmp_path / f"{len(made)}.jsonl", table, policy))
        return made[-1]

    yield open_staged
    for staged in made:
        staged.discard()
