"""Every fault of the simulator."""

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from dixa_assets.simulator.metrics import METRICS
from dixa_assets_tests.support.asking import body, fail, field_of, message, records


def test_a_fault_applies_to_matching_requests_and_counts_them(api: httpx.Client) -> None:
    number = fail(api, "status", operation="postAnalyticsMetrics", id="csat", skip=1, times=2)
    ids = ("nps", "csat", "csat", "csat", "csat")
    answers = [api.post("/v1/analytics/metrics", json=body(metric_id)) for metric_id in ids]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 500, 200]
    (fault,) = api.get("/simulator/faults").json()
    assert (fault["id"], fault["fired"]) == (number, 2)


@pytest.mark.parametrize("spec", [{"kind": "flood"}, {"kind": "nan", "operation": "getMetrics"}])
def test_an_unknown_fault_is_rejected(api: httpx.Client, spec: dict[str, Any]) -> None:
    message(api.post("/simulator/faults", json=spec), 400)
    assert api.get("/simulator/faults").json() == []


def test_a_status_can_have_any_text_and_header(api: httpx.Client) -> None:
    fail(
        api, "status", status=503, body="busy", content_type="text/plain", headers={"X-Why": "load"}
    )
    answer = api.get("/v1/analytics/metrics")
    assert (answer.status_code, answer.text, answer.headers["x-why"]) == (503, "busy", "load")
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_connection_can_be_closed_without_an_answer(api: httpx.Client) -> None:
    fail(api, "reset")
    with pytest.raises(httpx.TransportError):
        api.get("/v1/analytics/metrics")


def test_a_body_can_be_truncated(api: httpx.Client) -> None:
    fail(api, "truncate")
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        api.get("/v1/analytics/metrics")


def test_a_slow_answer_does_not_delay_other_requests(api: httpx.Client) -> None:
    fail(api, "slow", seconds=3600)
    with pytest.raises(httpx.ReadTimeout):
        api.get("/v1/analytics/metrics", timeout=httpx.Timeout(60, read=0.05))
    assert api.get("/v1/analytics/metrics").status_code == 200


@pytest.mark.parametrize("kind", ["malformed_json", "html"])
def test_a_body_can_be_invalid_json(api: httpx.Client, kind: str) -> None:
    fail(api, kind)
    answer = api.get("/v1/analytics/metrics")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Expecting"):
        answer.json()


def test_data_and_meta_can_be_missing_null_or_empty(api: httpx.Client) -> None:
    url = "/v1/analytics/metrics"
    fail(api, "missing_data")
    assert "data" not in api.get(url).json()
    fail(api, "null_meta")
    assert api.get(url).json()["meta"] is None
    fail(api, "empty")
    assert api.get(url).json() == {"data": []}


def test_an_empty_page_can_have_a_link(api: httpx.Client) -> None:
    fail(api, "next_on_empty_page", times=None)
    first = api.get("/v1/analytics/metrics").json()
    second = api.get(first["meta"]["next"]).json()
    assert second["data"] == []
    assert second["meta"]["next"]


def test_a_page_key_can_be_repeated(api: httpx.Client) -> None:
    fail(api, "repeated_key", times=None)
    first = api.get("/v1/analytics/metrics?pageLimit=5").json()
    second = api.get(first["meta"]["next"]).json()
    assert second["meta"]["next"] == first["meta"]["next"]


def test_a_link_can_point_to_another_host(api: httpx.Client) -> None:
    fail(api, "foreign_host")
    link = api.get("/v1/analytics/metrics").json()["meta"]["next"]
    assert urlsplit(link).hostname == "elsewhere.example"


def test_a_page_key_can_expire(api: httpx.Client) -> None:
    link = api.get("/v1/analytics/metrics?pageLimit=5").json()["meta"]["next"]
    fail(api, "expired_key")
    assert api.get("/v1/analytics/metrics").status_code == 200
    assert "pageKey" in message(api.get(link), 400)


def test_types_can_be_unknown(api: httpx.Client) -> None:
    fail(api, "unknown_type")
    row = records(api, body("handling_time"))[0]
    assert row["value"]["_type"] == "HologramField"
    assert field_of(row, "csid")["_type"] == "HologramField"


def test_a_number_can_be_nan(api: httpx.Client) -> None:
    fail(api, "nan")
    assert "NaN" in api.post("/v1/analytics/metrics", json=body("csat")).text


def test_half_a_page_can_be_missing(api: httpx.Client) -> None:
    fail(api, "half_page")
    answer = api.get("/v1/analytics/metrics").json()
    assert set(answer) == {"data"}
    assert len(answer["data"]) == len(METRICS) // 2


def test_an_id_can_be_repeated(api: httpx.Client) -> None:
    fail(api, "duplicate_ids")
    ids = [entry["id"] for entry in api.get("/v1/analytics/metrics").json()["data"]]
    assert len(ids) == len(METRICS) + 1
    assert ids[-1] == ids[0]


def test_a_row_at_the_front_shifts_the_later_pages(api: httpx.Client) -> None:
    unchanged = records(api, body("ratings"), limit=20)
    fail(api, "shift", times=None)
    assert records(api, body("ratings"), limit=20) == unchanged[:20] + unchanged[19:]
