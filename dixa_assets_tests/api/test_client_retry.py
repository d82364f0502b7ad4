"""Retries of the client: when it retries, how long it waits, and how it is stopped."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import Patience
from dixa_assets.errors import ApiError, ApiRefused, ApiUnavailable
from dixa_assets.model.counts import Usage
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.client import (
    OPERATIONS,
    Impatient,
    body_of,
    every_operation,
    listening,
    quick,
    records_of,
    truth,
)
from dixa_assets_tests.support.days import aggregates_of
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.simulator import KEY, Json, Simulator

# Retries.

STATUSES = (408, 429, 500, 502, 503, 504)
RETRYABLE: dict[str, Json] = {
    **{str(status): {"kind": "status", "status": status} for status in STATUSES},
    **{kind: {"kind": kind} for kind in ("reset", "truncate", "html", "malformed_json")},
}


def fail(
    simulator: Simulator, status: int = 503, retry_after: str | None = None, **more: Any
) -> None:
    """Make the simulator answer with a status and, if given, a `Retry-After` header."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    simulator.tell("faults", kind="status", status=status, headers=headers, **more)


@pytest.mark.parametrize("fault", RETRYABLE)
def test_a_temporary_fault_is_retried(
    simulator: Simulator, client: Impatient, world: World, fault: str
) -> None:
    simulator.tell("faults", **RETRYABLE[fault], times=2)
    assert records_of(client, "ratings") == truth(world, "ratings")
    assert [one["body"] for one in simulator.requests()] == [body_of("ratings")] * 3
    assert len(client.waits) == 2


@every_operation
def test_every_operation_is_retried(simulator: Simulator, client: Impatient, name: str) -> None:
    fail(simulator, times=1)
    OPERATIONS[name](client)
    assert [one["status"] for one in simulator.requests()] == [503, 200]
    assert len(client.waits) == 1


@pytest.mark.parametrize("fault", ["408", "429", "503", "reset", "truncate", "malformed_json"])
def test_a_permanent_fault_is_unavailable_after_the_last_try(
    simulator: Simulator, fault: str
) -> None:
    simulator.tell("faults", **RETRYABLE[fault])
    with (
        Impatient(patience=Patience(attempts=3), base_url=simulator.url) as client,
        pytest.raises(ApiUnavailable) as caught,
    ):
        client.fetch_metrics()
    assert caught.value.retryable
    assert len(simulator.requests()) == 3


def test_an_answer_with_a_nan_is_requested_again(
    simulator: Simulator, client: Impatient, world: World
) -> None:
    simulator.tell("faults", kind="nan", times=1)
    answer = client.fetch_metric_data(body_of("csat"), Usage())
    assert answer["aggregates"] == aggregates_of(world, "csat")
    assert len(client.waits) == 1
    simulator.tell("faults", kind="nan")
    with pytest.raises(ApiUnavailable, match="not JSON: NaN"):
        client.fetch_metric_data(body_of("csat"), Usage())


def test_a_fault_on_a_later_page_repeats_only_that_page(
    simulator: Simulator, client: DixaClient, world: World
) -> None:
    simulator.tell("faults", kind="truncate", skip=1, times=1)
    assert records_of(client) == truth(world)
    keys = [one["query"].get("pageKey") for one in simulator.requests()]
    assert keys[0] is None
    assert keys[1] == keys[2]
    assert len(set(keys)) == len(keys) - 1


def test_a_host_that_refuses_connections_is_unavailable() -> None:
    with listening() as (url, _):
        pass
    with (
        Impatient(patience=Patience(attempts=2), base_url=url) as client,
        pytest.raises(ApiUnavailable, match="Is the API reachable?") as caught,
    ):
        client.fetch_metrics()
    assert caught.value.status is None
    assert len(client.waits) == 1


def test_an_answer_that_takes_too_long_is_unavailable(simulator: Simulator) -> None:
    simulator.tell("faults", kind="slow", seconds=3600)
    with (
        Impatient(
            patience=Patience(attempts=2, answer_seconds=0.2), base_url=simulator.url
        ) as client,
        pytest.raises(ApiUnavailable, match="no complete answer"),
    ):
        client.fetch_metrics()
    assert len(simulator.requests()) == 2


def test_a_request_is_sent_eight_times_by_default(simulator: Simulator, client: Impatient) -> None:
    fail(simulator)
    with pytest.raises(ApiUnavailable):
        client.fetch_metrics()
    assert len(simulator.requests()) == 8


def test_waits_grow_from_half_a_second_to_a_minute(simulator: Simulator) -> None:
    fail(simulator)
    with (
        Impatient(patience=Patience(attempts=11), base_url=simulator.url) as client,
        pytest.raises(ApiUnavailable),
    ):
        client.fetch_metrics()
    for n, wait in enumerate(client.waits):
        assert min(0.5 * 2**n, 60) <= wait <= min(0.5 * 2**n + 1, 60)
    assert client.waits[-1] == 60


def test_no_request_is_sent_after_its_time(simulator: Simulator) -> None:
    fail(simulator)
    with (
        Impatient(patience=Patience(request_seconds=0.4), base_url=simulator.url) as client,
        pytest.raises(ApiUnavailable),
    ):
        client.fetch_metrics()
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_as_seconds_and_as_a_date(
    simulator: Simulator, client: Impatient, status: int
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    for header in ("17", format_datetime(until, usegmt=True)):
        fail(simulator, status, retry_after=header, times=1)
        client.fetch_metrics()
    seconds, left = client.waits
    assert seconds == 17
    assert 80 < left <= 100


@pytest.mark.parametrize(
    "header", ["0", "-5", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT", "2015-10-21", "nan"]
)
def test_a_past_or_unreadable_retry_after_is_ignored(
    simulator: Simulator, client: Impatient, header: str
) -> None:
    fail(simulator, 429, retry_after=header, times=1)
    client.fetch_metrics()
    (wait,) = client.waits
    assert 0.5 <= wait <= 1.5


def test_a_retry_after_of_hours_is_a_refusal(simulator: Simulator, client: Impatient) -> None:
    fail(simulator, 429, retry_after="7200")
    with pytest.raises(ApiRefused, match="429"):
        client.fetch_metrics()
    assert client.waits == []


def test_the_rate_limit_of_the_server_is_retried(simulator: Simulator, client: Impatient) -> None:
    simulator.tell("settings", rate=0.001, burst=1, retry_after=2)
    client.fetch_metrics()
    with pytest.raises(ApiUnavailable, match="429 Too Many Requests: Too Many Requests") as caught:
        client.fetch_metrics()
    assert caught.value.status == 429
    assert client.waits[0] == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_a_refusal_is_never_retried(simulator: Simulator, client: Impatient, status: int) -> None:
    fail(simulator, status, body='{"message": "no"}')
    with pytest.raises(ApiRefused) as caught:
        records_of(client)
    assert caught.value.status == status
    assert not caught.value.retryable
    assert client.waits == []
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_not_followed(
    simulator: Simulator, client: Impatient, status: int
) -> None:
    with listening() as (elsewhere, got):
        headers = {"Location": f"{elsewhere}/v1/analytics/metrics"}
        simulator.tell("faults", kind="status", status=status, headers=headers)
        with pytest.raises(ApiRefused, match="a redirect.*DIXA_BASE_URL"):
            client.fetch_metric_data(body_of("csat"), Usage())
    assert got == []
    assert client.waits == []
    assert len(simulator.requests()) == 1


# Stopping.


def test_close_ends_the_wait_for_a_retry(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    fail(simulator, 429, retry_after="250")
    with ThreadPoolExecutor(1) as pool:
        client = DixaClient(KEY, quick(base_url=simulator.url))
        fetch = pool.submit(client.fetch_metrics)
        wait_until(lambda: "Next attempt in 250" in caplog.text, what="a wait")
        client.close()
        with pytest.raises(ApiError) as caught:
            fetch.result(timeout=10)
    assert str(caught.value) == "GET /v1/analytics/metrics: not sent: the load is stopping."
    assert len(simulator.requests()) == 1


@every_operation
def test_a_closed_client_sends_nothing(simulator: Simulator, name: str) -> None:
    client = Impatient(base_url=simulator.url)
    client.close()
    with pytest.raises(ApiError, match="not sent"):
        OPERATIONS[name](client)
    assert simulator.requests() == []
