"""The simulator's server: authorisation, rate limit, rejections, and the end of the process."""

import base64
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from dixa_assets_tests.support.asking import NOW, body, fail, message, metric
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.simulator import KEY, running

# Authorisation, rate limit, errors.


@pytest.mark.parametrize("header", [KEY, f"Bearer {KEY}"])
def test_the_key_is_accepted_with_and_without_bearer(api: httpx.Client, header: str) -> None:
    answer = api.get("/beta/analytics/metrics", headers={"Authorization": header})
    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["", "wrong", f"Basic {KEY}"])
def test_any_other_key_is_unauthorised(api: httpx.Client, header: str) -> None:
    answer = api.get("/v1/analytics/metrics", headers={"Authorization": header})
    assert message(answer, 401) == "Unauthorized"


def test_a_burst_is_allowed_and_the_next_request_gets_429(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 4})
    answers = [api.get("/v1/analytics/filter/channel") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
    assert message(answers[4], 429) == "Too Many Requests"
    assert "retry-after" not in answers[4].headers


def test_all_paths_of_both_versions_share_one_bucket(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 2})
    assert api.get("/beta/analytics/records").status_code == 200
    assert api.get("/v1/nowhere").status_code == 404
    assert api.get("/v1/analytics/metrics/csat").status_code == 429


def test_a_wrong_key_and_control_endpoints_take_no_token(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 1})
    assert api.get("/v1/analytics/metrics", headers={"Authorization": "?"}).status_code == 401
    assert api.get("/simulator/summary").status_code == 200
    assert api.get("/v1/analytics/metrics").status_code == 200


def test_a_setting_adds_the_header_retry_after(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"rate": 0.001, "burst": 1, "retry_after": 3})
    api.get("/v1/analytics/metrics")
    assert api.get("/v1/analytics/metrics").headers["retry-after"] == "3"


@pytest.mark.parametrize(
    "change",
    [
        {"id": 5},
        {"timezone": None},
        {"timezone": "Europe/Atlantis"},
        {"timezone": "Europe"},
        {"periodFilter": None},
        {"csidFilter": [1]},
        {"periodFilter": {"_type": "Preset", "value": "PreviousYear"}},
        {"periodFilter": {"_type": "Custom", "value": {}}},
        {"periodFilter": {"_type": "Interval", "start": "2025-03-01T00:00:00Z"}},
        {
            "periodFilter": {
                "_type": "Interval",
                "start": "2025-03-01T00:00:00",
                "end": "2025-03-02T00:00:00Z",
            }
        },
        {
            "periodFilter": {
                "_type": "Interval",
                "start": "2025-03-03T00:00:00Z",
                "end": "2025-03-02T00:00:00Z",
            }
        },
        {"filters": [{"attribute": "channel", "values": []}]},
        {"filters": [{"values": ["EMAIL"]}]},
        {"aggregations": ["Median"]},
    ],
)
def test_an_invalid_body_is_rejected(api: httpx.Client, change: dict[str, Any]) -> None:
    answer = api.post("/v1/analytics/metrics", json={**body("csat"), **change})
    assert message(answer, 400).startswith("Invalid value for: body")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_body_that_is_not_an_object_is_rejected(api: httpx.Client, content: bytes) -> None:
    answer = api.post("/v1/analytics/records", content=content)
    assert message(answer, 400).startswith("Invalid value for: body")


def test_aggregations_are_rejected_for_records(api: httpx.Client) -> None:
    answer = api.post("/v1/analytics/records", json=body("ratings", aggregations=["Count"]))
    assert "aggregations" in message(answer, 400)


@pytest.mark.parametrize("limit", ["0", "-1", "301", "many", ""])
def test_a_page_limit_out_of_range_is_rejected(api: httpx.Client, limit: str) -> None:
    url = f"/v1/analytics/records?pageLimit={limit}"
    assert "pageLimit" in message(api.post(url, json=body("ratings")), 400)


@pytest.mark.parametrize("key", ["", "x", base64.b64encode(b"pageLimit=50&page=1").decode()])
def test_an_invalid_page_key_is_rejected(api: httpx.Client, key: str) -> None:
    answer = api.get("/v1/analytics/metrics", params={"pageKey": key})
    assert "pageKey" in message(answer, 400)


@pytest.mark.parametrize("path", ["metrics/nix", "records/nix", "filter/nix", "nix", "filter"])
def test_an_unknown_id_or_path_is_not_found(api: httpx.Client, path: str) -> None:
    message(api.get(f"/v1/analytics/{path}"), 404)


@pytest.mark.parametrize("kind", ["metrics", "records"])
def test_data_of_an_unknown_id_are_not_found(api: httpx.Client, kind: str) -> None:
    message(api.post(f"/v1/analytics/{kind}", json=body("nix")), 404)


def test_a_setting_requires_a_filter_with_a_period(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"require_filter": True})
    assert "filters" in message(api.post("/v1/analytics/metrics", json=body("csat")), 400)
    metric(api, body("csat", filters=[{"attribute": "channel", "values": ["EMAIL"]}]))


# The process.


def test_many_connections_are_served_at_once(api: httpx.Client, address: str) -> None:
    def request(_: int) -> int:
        headers = {"Authorization": KEY}
        with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
            return client.get("/v1/analytics/filter/channel").status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(request, range(40))) == {200}


def test_a_metric_can_join_the_catalogue_while_the_server_runs() -> None:
    with running("--add-metric-after", "0", "--now", NOW.isoformat()) as (_, base_url):
        headers = {"Authorization": KEY}
        with httpx.Client(base_url=base_url, headers=headers, timeout=60) as client:
            entries = client.get("/v1/analytics/metrics").json()["data"]
            assert entries[-1]["id"] == "reopened_conversations"
            assert metric(client, body("reopened_conversations"))[0]["value"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_although_an_answer_is_pending(number: signal.Signals) -> None:
    with (
        running() as (process, base_url),
        httpx.Client(base_url=base_url, headers={"Authorization": KEY}, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        fail(client, "slow", seconds=3600)
        answer = pool.submit(client.get, "/v1/analytics/metrics")
        wait_until(lambda: client.get("/simulator/faults").json()[0]["fired"], what="a request")
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        with pytest.raises(httpx.TransportError):
            answer.result()
