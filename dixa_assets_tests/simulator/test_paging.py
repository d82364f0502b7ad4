"""The pages of the simulator: the forms of their links, and their sizes."""

import base64
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from dixa_assets.simulator.metrics import METRICS
from dixa_assets_tests.support.asking import END, body, message


def test_a_link_is_relative_and_its_key_contains_size_and_page(api: httpx.Client) -> None:
    answer = api.get("/beta/analytics/metrics?pageLimit=4").json()
    assert answer["meta"]["next"].startswith("/beta/analytics/metrics?pageKey=")
    key = parse_qs(urlsplit(answer["meta"]["next"]).query)["pageKey"][0]
    assert base64.b64decode(key).startswith(b"pageLimit=4&page=1")
    second = api.get(answer["meta"]["next"]).json()
    assert len(second["data"]) == 4
    assert second["data"][0] not in answer["data"]


def test_a_page_has_a_hundred_rows_by_default(api: httpx.Client) -> None:
    answer = api.post("/v1/analytics/records", json=body("messages_sent")).json()
    assert len(answer["data"]) == 100


def test_the_last_page_has_no_link(api: httpx.Client) -> None:
    answer = api.get("/v1/analytics/records?pageLimit=300").json()
    assert "next" not in answer["meta"]


def test_a_page_key_is_rejected_with_another_body(api: httpx.Client) -> None:
    first = api.post("/v1/analytics/records?pageLimit=5", json=body("messages_sent")).json()
    answer = api.post(first["meta"]["next"], json=body("messages_sent", end=END))
    assert "pageKey" in message(answer, 400)


def test_links_can_be_absolute(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"next_form": "absolute"})
    link = api.get("/v1/analytics/metrics?pageLimit=20").json()["meta"]["next"]
    assert link.startswith(f"{str(api.base_url).rstrip('/')}/v1/analytics/metrics?pageKey=")
    assert api.get(link).status_code == 200


def test_an_answer_can_have_a_bare_key_instead_of_a_link(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"next_form": "bare_key"})
    first = api.get("/v1/analytics/metrics?pageLimit=20").json()
    assert set(first) == {"data", "pageKey"}
    second = api.get("/v1/analytics/metrics", params={"pageKey": first["pageKey"]}).json()
    assert set(second) == {"data"}
    assert len(first["data"]) + len(second["data"]) == len(METRICS)


def test_a_setting_limits_the_pages_of_catalogues(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"catalogue_page_limit": 3})
    answer = api.get("/v1/analytics/records?pageLimit=300").json()
    assert len(answer["data"]) == 3
    assert unquote(answer["meta"]["next"])


def test_a_setting_lowers_the_maximum_page_limit(api: httpx.Client) -> None:
    api.post("/simulator/settings", json={"max_page_limit": 50})
    url = "/v1/analytics/records?pageLimit="
    message(api.post(f"{url}51", json=body("messages_sent")), 400)
    assert len(api.post(f"{url}50", json=body("messages_sent")).json()["data"]) == 50
