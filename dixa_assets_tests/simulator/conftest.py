"""One simulator for the tests of the simulator, reset before each test."""

from collections.abc import Iterator

import httpx
import pytest

from dixa_assets_tests.support.asking import DEFAULTS, NOW
from dixa_assets_tests.support.simulator import KEY, running


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    with running("--rate", "0", "--now", NOW.isoformat()) as (_, base_url):
        yield base_url


@pytest.fixture
def api(address: str) -> Iterator[httpx.Client]:
    # A long timeout, so that no test depends on the load of the machine.
    with httpx.Client(base_url=address, headers={"Authorization": KEY}, timeout=60) as client:
        client.delete("/simulator/faults")
        client.delete("/simulator/requests")
        client.post("/simulator/settings", json=DEFAULTS)
        client.post("/simulator/clock", json={"now": NOW.isoformat()})
        yield client
