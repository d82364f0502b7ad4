"""The client's retries and waits, what it never repeats, and how it is stopped."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ApiError, ApiRefused, ApiUnavailable, DixaAssetsError
from dixa_assets.model.counts import Usage
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.client import (
    END,
    OPERATIONS,
    START,
    Impatient,
    body_of,
    every_operation,
    listening,
    records_of,
    truth,
)
from dixa_assets_tests.support.simulator import KEY, NOW, Json, Simulator

# Retries.

RETRYABLE: dict[str, Json] = {
    **{str(status): {"kind": "status", "status": status} for status in (408, 429, 500)},
    **{str(status): {"kind": "status", "status": status} for status in (502, 503, 504)},
    **{kind: {"kind": kind} for kind in ("reset", "truncate", "html", "malformed_json")},
}


@pytest.mark.parametrize("fault", RETRYABLE)
def test_a_passing_fault_is_retried_until_the_answer_comes(
    simulator: Simulator, client: Impatient, world: World, fault: str
) -> None:
    simulator.tell("faults", **RETRYABLE[fault], times=2)
    assert records_of(client, "ratings") == truth(world, "ratings")
    assert [one["body"] for one in simulator.requests()] == [body_of("ratings")] * 3
    assert len(client.waits) == 2


@every_operation
def test_every_operation_is_retried(simulator: Simulator, client: Impatient, name: str) -> None:
    simulator.tell("faults", kind="status", status=503, times=1)
    OPERATIONS[name](client)
    assert [one["status"] for one in simulator.requests()] == [503, 200]
    assert len(client.waits) == 1


@pytest.mark.parametrize("fault", ["408", "429", "503", "reset", "truncate", "malformed_json"])
def test_a_lasting_fault_ends_as_unavailable_after_every_try(
    simulator: Simulator, fault: str
) -> None:
    simulator.tell("faults", **RETRYABLE[fault])
    with (
        Impatient(base_url=simulator.url, max_attempts=3) as client,
        pytest.raises(ApiUnavailable) as caught,
    ):
        client.fetch_metrics()
    assert caught.value.retryable
    assert len(simulator.requests()) == 3


def test_an_answer_with_a_nan_is_asked_for_again(
    simulator: Simulator, client: DixaClient, world: World
) -> None:
    simulator.tell("faults", kind="nan", times=1)
    answer = client.fetch_metric_data(body_of("csat"), Usage())
    assert answer["aggregates"] == world.aggregate("csat", start=START, end=END, now=NOW)
    assert len(simulator.requests()) == 2


def test_an_answer_that_stays_nan_is_unavailable(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="nan")
    with pytest.raises(ApiUnavailable, match="not JSON: NaN"):
        client.fetch_metric_data(body_of("csat"), Usage())


def test_a_fault_on_a_later_page_repeats_that_page_alone(
    simulator: Simulator, client: DixaClient, world: World
) -> None:
    simulator.tell("faults", kind="truncate", skip=1, times=1)
    assert records_of(client) == truth(world)
    keys = [one["query"].get("pageKey") for one in simulator.requests()]
    assert keys[0] is None
    assert keys[1] == keys[2]
    assert len(set(keys)) == len(keys) - 1


def test_a_host_that_does_not_listen_is_unavailable() -> None:
    with listening() as (url, _):
        pass
    with (
        Impatient(base_url=url, max_attempts=2) as client,
        pytest.raises(ApiUnavailable, match="Is the API reachable?") as caught,
    ):
        client.fetch_metrics()
    assert caught.value.status is None
    assert len(client.waits) == 1


def test_eight_tries_are_the_default(simulator: Simulator, client: Impatient) -> None:
    simulator.tell("faults", kind="status", status=503)
    with pytest.raises(ApiUnavailable):
        client.fetch_metrics()
    assert len(simulator.requests()) == 8


def test_waits_grow_from_half_a_second_to_a_minute(simulator: Simulator) -> None:
    simulator.tell("faults", kind="status", status=503)
    with (
        Impatient(base_url=simulator.url, max_attempts=11) as client,
        pytest.raises(ApiUnavailable),
    ):
        client.fetch_metrics()
    for n, wait in enumerate(client.waits):
        assert min(0.5 * 2**n, 60) <= wait <= min(0.5 * 2**n + 1, 60)
    assert client.waits[-1] == 60


def test_no_try_starts_once_the_time_is_up(simulator: Simulator) -> None:
    simulator.tell("faults", kind="status", status=503)
    with (
        Impatient(base_url=simulator.url, give_up_after=0.4) as client,
        pytest.raises(ApiUnavailable),
    ):
        client.fetch_metrics()
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_the_server_asks_for_in_seconds_is_kept(
    simulator: Simulator, client: Impatient, status: int
) -> None:
    headers = {"Retry-After": "17"}
    simulator.tell("faults", kind="status", status=status, headers=headers, times=1)
    client.fetch_metrics()
    assert client.waits == [17]


def test_a_wait_the_server_asks_for_as_a_date_is_kept(
    simulator: Simulator, client: Impatient
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    headers = {"Retry-After": format_datetime(until, usegmt=True)}
    simulator.tell("faults", kind="status", status=429, headers=headers, times=1)
    client.fetch_metrics()
    assert len(client.waits) == 1
    assert 80 < client.waits[0] <= 100


@pytest.mark.parametrize(
    "header", ["0", "-5", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT", "2015-10-21", "nan"]
)
def test_a_wait_that_is_over_or_unreadable_leaves_the_usual_one(
    simulator: Simulator, client: Impatient, header: str
) -> None:
    fault = {"kind": "status", "status": 429, "headers": {"Retry-After": header}}
    simulator.tell("faults", **fault, times=1)
    client.fetch_metrics()
    assert len(client.waits) == 1
    assert 0.5 <= client.waits[0] <= 1.5


def test_a_wait_of_hours_is_a_refusal(simulator: Simulator, client: Impatient) -> None:
    fault = {"kind": "status", "status": 429, "headers": {"Retry-After": "7200"}}
    simulator.tell("faults", **fault)
    with pytest.raises(ApiRefused, match="429"):
        client.fetch_metrics()
    assert client.waits == []


def test_the_vendors_own_limit_draws_retries_not_a_failure(
    simulator: Simulator, client: Impatient
) -> None:
    simulator.tell("settings", rate=0.001, burst=1, retry_after=2)
    client.fetch_metrics()
    with pytest.raises(ApiUnavailable, match="429 Too Many Requests: Too Many Requests") as caught:
        client.fetch_metrics()
    assert caught.value.status == 429
    assert client.waits[0] == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_a_refusal_is_never_retried(simulator: Simulator, client: Impatient, status: int) -> None:
    simulator.tell("faults", kind="status", status=status, body='{"message": "no"}')
    with pytest.raises(ApiRefused) as caught:
        records_of(client)
    assert caught.value.status == status
    assert not caught.value.retryable
    assert client.waits == []
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_its_target_never_asked(
    simulator: Simulator, client: Impatient, status: int
) -> None:
    with listening() as (elsewhere, got):
        headers = {"Location": f"{elsewhere}/v1/analytics/metrics"}
        simulator.tell("faults", kind="status", status=status, headers=headers)
        with pytest.raises(ApiRefused, match="redirected.*DIXA_BASE_URL"):
            client.fetch_metric_data(body_of("csat"), Usage())
    assert got == []
    assert client.waits == []
    assert len(simulator.requests()) == 1


# Stopping.


def test_closing_wakes_a_waiting_retry_and_sends_nothing_more(simulator: Simulator) -> None:
    asleep = threading.Event()
    caught: list[BaseException] = []

    client = DixaClient(KEY, base_url=simulator.url)
    sleep = client._transport._retrying.sleep

    def told_to_sleep(seconds: float) -> None:
        asleep.set()
        sleep(seconds)

    client._transport._retrying.sleep = told_to_sleep

    def fetch() -> None:
        try:
            client.fetch_metrics()
        except DixaAssetsError as error:
            caught.append(error)

    fault = {"kind": "status", "status": 429, "headers": {"Retry-After": "250"}}
    simulator.tell("faults", **fault)
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    assert asleep.wait(10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [str(error) for error in caught] == [
        "GET /v1/analytics/metrics: not sent: this load is being stopped."
    ]
    assert len(simulator.requests()) == 1


@every_operation
def test_a_closed_client_sends_nothing(simulator: Simulator, name: str) -> None:
    client = Impatient(base_url=simulator.url)
    client.close()
    with pytest.raises(ApiError, match="not sent"):
        OPERATIONS[name](client)
    assert simulator.requests() == []
