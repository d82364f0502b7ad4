"""The control endpoints of the simulator."""

import json

import httpx
import pytest

from dixa_assets_tests.support.asking import DEFAULTS, body, field_of, message, metric, records
from dixa_assets_tests.support.simulator import KEY


def test_requests_are_logged_in_order_and_without_headers(api: httpx.Client) -> None:
    api.get("/v1/analytics/filter/channel?pageLimit=2")
    api.post("/v1/analytics/metrics", json={"id": "nix"})
    requests = api.get("/simulator/requests").json()
    assert [request["operation"] for request in requests] == [
        "getAnalyticsFilterFilterattribute",
        "postAnalyticsMetrics",
    ]
    assert [request["status"] for request in requests] == [200, 400]
    assert requests[0]["query"] == {"pageLimit": "2"}
    assert requests[1]["body"] == {"id": "nix"}
    assert KEY not in json.dumps(requests)
    api.delete("/simulator/requests")
    assert api.get("/simulator/requests").json() == []


def test_a_summary_counts_operations_and_statuses(api: httpx.Client) -> None:
    api.get("/v1/analytics/metrics")
    api.get("/v1/analytics/metrics", headers={"Authorization": ""})
    summary = api.get("/simulator/summary").json()
    assert summary["operations"] == {"getAnalyticsMetrics": 2}
    assert summary["statuses"] == {"200": 1, "401": 1}


def test_invalid_settings_change_nothing(api: httpx.Client) -> None:
    message(api.post("/simulator/settings", json={"burst": 9, "end": "open"}), 400)
    message(api.post("/simulator/settings", json={"colour": "red"}), 400)
    assert api.get("/simulator/settings").json() == DEFAULTS


@pytest.mark.parametrize("entry_id", ["select", "an id with spaces", 'Naïve "quote"; drop/x'])
def test_a_metric_can_be_added_and_removed(api: httpx.Client, entry_id: str) -> None:
    entry = {"id": entry_id, "aggregations": [{"measure": "Count"}]}
    api.post("/simulator/metrics", json={"entry": entry, "like": "handling_time"})
    path = httpx.URL(str(api.base_url)).copy_with(path=f"/v1/analytics/metrics/{entry_id}")
    assert api.get(path).json() == {"data": entry}
    assert entry in api.get("/v1/analytics/metrics").json()["data"]
    (count,) = metric(api, body(entry_id))
    assert count == metric(api, body("handling_time", aggregations=["Count"]))[0]
    api.delete("/simulator/metrics", params={"id": entry_id})
    message(api.get(path), 404)
    message(api.post("/v1/analytics/metrics", json=body(entry_id)), 404)


def test_a_record_can_be_added_and_removed(api: httpx.Client) -> None:
    entry = {"id": "select", "description": "A copy"}
    api.post("/simulator/records", json={"entry": entry, "like": "ratings"})
    assert records(api, body("select")) == records(api, body("ratings"))
    api.delete("/simulator/records", params={"id": "select"})
    message(api.post("/v1/analytics/records", json=body("select")), 404)


def test_a_field_can_be_added_to_a_record_or_changed(api: httpx.Client) -> None:
    for name, data in (("mood", "glad"), ("survey_id", "not a uuid")):
        change = {"id": "ratings", "field": name, "data": {"_type": "StringField", "value": data}}
        api.post("/simulator/records/fields", json=change)
        assert {field_of(row, name)["value"] for row in records(api, body("ratings"))} == {data}
        api.post("/simulator/records/fields", json={**change, "data": None})
    assert "mood" not in [field["name"] for field in records(api, body("ratings"))[0]["fields"]]
