"""A small account, and databases that are filled from it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dixa_assets.marts.builder import Marts
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.marts import Account, filled
from dixa_assets_tests.support.simulator import NOW, running_simulator

# Besides these, each day has 24 conversations with every kind of event.
CONVERSATIONS_PER_DAY = 6


@pytest.fixture(scope="session")
def small() -> Iterator[Account]:
    """A small account."""
    options = ("--rate", "0", "--now", NOW.isoformat())
    size = ("--conversations-per-day", str(CONVERSATIONS_PER_DAY))
    with running_simulator(*options, *size) as simulator:
        yield Account(simulator, World(conversations_per_day=CONVERSATIONS_PER_DAY))


@pytest.fixture
def fill(small: Account, tmp_path: Path) -> Callable[..., tuple[Warehouse, Marts]]:
    """Fills a database in `tmp_path` from the small account."""
    return lambda *arguments, **more: filled(small, tmp_path, *arguments, **more)
