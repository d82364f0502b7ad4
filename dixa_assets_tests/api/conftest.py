"""A client of the simulator, for whatever tests the project's side of the API."""

from collections.abc import Iterator

import pytest

from dixa_assets_tests.support.client import Impatient
from dixa_assets_tests.support.simulator import Simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Impatient]:
    with Impatient(base_url=simulator.url) as client:
        yield client
