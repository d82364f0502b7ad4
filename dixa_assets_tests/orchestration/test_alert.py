"""A failed run is reported to a webhook, in one line without secrets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import AlertNotSent, ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.alert import post_alert
from dixa_assets_tests.support.processes import free_port
from dixa_assets_tests.support.scenario import load
from dixa_assets_tests.support.serve import Request, Response, serve
from dixa_assets_tests.support.simulator import KEY, Simulator


@dataclass
class Chat:
    """The webhook of a chat: the messages that it got, and the status of its answers."""

    url: str = ""
    messages: list[Any] = field(default_factory=list)
    status: int = 200

    def answer(self, request: Request) -> Response:
        assert request.headers["Content-Type"] == "application/json"
        self.messages.append(request.json())
        return Response({}, self.status)


@contextmanager
def running_chat() -> Iterator[Chat]:
    chat = Chat()
    with serve(chat.answer) as server:
        chat.url = f"{server.url}/hooks/secret-part"
        yield chat


@pytest.fixture
def chat() -> Iterator[Chat]:
    with running_chat() as chat:
        yield chat


def alert_sensors(definitions: dg.Definitions) -> list[Any]:
    return [each for each in definitions.sensors or () if each.name == "dixa_failure_alert"]


def test_a_failed_run_is_reported_in_one_line(
    simulator: Simulator,
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
    chat: Chat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIXA_ALERT_WEBHOOK", chat.url)
    simulator.tell("faults", kind="status", status=404, id="csat", times=None, body="gone")
    result = load(analytics, ["dixa_metrics/csat"], "2025-11-01", instance=instance)
    context = dg.build_run_status_sensor_context(
        sensor_name="dixa_failure_alert",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    ).for_run_failure()
    (sensor,) = alert_sensors(analytics.build_definitions(catalogue))
    sensor(context)
    (message,) = chat.messages
    assert set(message) == {"text"}
    text = message["text"]
    assert "\n" not in text
    assert KEY not in text
    for part in ("dixa_metrics/csat", "404", result.run_id[:8]):
        assert part in text


def test_without_a_webhook_there_is_no_alert_sensor(
    analytics: DixaAnalytics, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIXA_ALERT_WEBHOOK", raising=False)
    assert alert_sensors(analytics.build_definitions(catalogue)) == []


@pytest.mark.parametrize("status", [400, 404, 500])
def test_the_error_of_a_webhook_that_refuses_hides_its_address(chat: Chat, status: int) -> None:
    chat.status = status
    with pytest.raises(AlertNotSent, match=f"DIXA_ALERT_WEBHOOK .*{status}") as caught:
        post_alert(chat.url, "a line")
    assert "secret-part" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["", "hooks.example/x", "http://hooks.example/secret-part", "file:///etc/passwd"]
)
def test_an_address_without_encryption_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="DIXA_ALERT_WEBHOOK: is not an address") as refused:
        post_alert(address, "a line")
    assert "secret-part" not in str(refused.value)


def test_a_webhook_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(AlertNotSent, match="could not be reached"):
        post_alert(f"http://127.0.0.1:{free_port()}/secret-part", "a line")
