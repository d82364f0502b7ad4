"""Requests to the simulator over plain HTTP, without this project's client."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from dixa_assets_tests.support.simulator import MILLISECOND

NOW = datetime(2025, 4, 2, 12, tzinfo=UTC)
START = datetime(2025, 3, 24, 23, tzinfo=UTC)
END = START + timedelta(days=1)
DEFAULTS = {
    "rate": 0,
    "burst": 4,
    "latency_ms": 0,
    "max_page_limit": 300,
    "catalogue_page_limit": None,
    "require_filter": False,
    "end": "inclusive",
    "next_form": "relative",
    "retry_after": None,
}


def body(
    entry_id: str, start: datetime = START, end: datetime = END - MILLISECOND, **more: Any
) -> dict[str, Any]:
    period = {"_type": "Interval", "start": start.isoformat(), "end": end.isoformat()}
    return {"id": entry_id, "periodFilter": period, "timezone": "Europe/Copenhagen", **more}


def metric(api: httpx.Client, content: dict[str, Any]) -> list[dict[str, Any]]:
    answer = api.post("/v1/analytics/metrics", json=content)
    assert answer.status_code == 200, answer.text
    aggregates: list[dict[str, Any]] = answer.json()["data"]["aggregates"]
    return aggregates


def records(api: httpx.Client, content: dict[str, Any], limit: int = 300) -> list[dict[str, Any]]:
    url, rows = f"/v1/analytics/records?pageLimit={limit}", []
    while url:
        answer = api.post(url, json=content)
        assert answer.status_code == 200, answer.text
        rows += answer.json()["data"]
        url = answer.json()["meta"].get("next")
    return rows


def message(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["message"]
    text: str = answer.json()["message"]
    return text


def fail(api: httpx.Client, kind: str, **more: Any) -> int:
    answer = api.post("/simulator/faults", json={"kind": kind, "times": 1, **more})
    assert answer.status_code == 200, answer.text
    number: int = answer.json()["id"]
    return number


def field_of(row: dict[str, Any], name: str) -> Any:
    return next(one.get("field") for one in row["fields"] if one["name"] == name)
