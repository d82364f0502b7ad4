"""A client of the simulator that does not wait, and a call of each operation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import ApiSettings, Patience
from dixa_assets.model.counts import Usage
from dixa_assets.simulator.values import to_instant
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.days import END, START, rows_of
from dixa_assets_tests.support.serve import Request, Response, serve
from dixa_assets_tests.support.simulator import KEY, MILLISECOND, Json

Operation = Callable[[DixaClient], Any]


def quick(**settings: Any) -> ApiSettings:
    """Settings without a rate limit that a test would notice."""
    return ApiSettings(**{"requests_per_second": 100_000, "burst": 1000, **settings})


class Impatient(DixaClient):
    """A client that records its waits and does not wait."""

    def __init__(
        self, api_key: str = KEY, patience: Patience | None = None, **settings: Any
    ) -> None:
        self.waits: list[float] = []
        super().__init__(api_key, quick(**settings), patience, sleep=self.waits.append)


@contextmanager
def listening() -> Iterator[tuple[str, list[Json]]]:
    """A server that is not Dixa: its address, and the requests it got with their headers."""
    got: list[Json] = []

    def answer(request: Request) -> Response:
        got.append({"path": request.path, "headers": dict(request.headers)})
        return Response({"data": []})

    with serve(answer) as server:
        yield server.url, got


def body_of(entry_id: str) -> Json:
    end = to_instant(END - MILLISECOND)
    period = {"_type": "Interval", "start": to_instant(START), "end": end}
    return {"id": entry_id, "periodFilter": period, "timezone": "Europe/Copenhagen"}


def records_of(
    client: DixaClient, entry_id: str = "messages_sent", usage: Usage | None = None
) -> list[Json]:
    pages = client.fetch_record_pages(body_of(entry_id), usage or Usage())
    return [row for page in pages for row in page]


def truth(world: World, entry_id: str = "messages_sent") -> list[Json]:
    return [row.to_api() for row in rows_of(world, entry_id)]


# One call of each operation, by the operation's name at the vendor.
OPERATIONS: dict[str, Operation] = {
    "getAnalyticsMetrics": lambda client: client.fetch_metrics(),
    "getAnalyticsMetricsMetricid": lambda client: client.fetch_metric("csat"),
    "postAnalyticsMetrics": lambda client: client.fetch_metric_data(body_of("csat"), Usage()),
    "getAnalyticsRecords": lambda client: client.fetch_records(),
    "getAnalyticsRecordsRecordid": lambda client: client.fetch_record("ratings"),
    "postAnalyticsRecords": lambda client: records_of(client, "ratings"),
    "getAnalyticsFilterFilterattribute": lambda client: client.fetch_filter_values("channel"),
}
every_operation = pytest.mark.parametrize("name", OPERATIONS)
a_list = pytest.mark.parametrize("name", ["getAnalyticsMetrics", "postAnalyticsRecords"])
