"""An error that comes with status 200 is retried, and never taken for an empty answer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from dixa_assets.api.requests import build_request
from dixa_assets.errors import ApiContractBroken, ApiUnavailable, ConfigError, DaysFailed
from dixa_assets.load.loader import Loader
from dixa_assets.model.days import days_from
from dixa_assets.model.tables import METRIC_VALUES, filter_relation
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.client import OPERATIONS, Impatient, records_of, truth
from dixa_assets_tests.support.errors_with_200 import BODIES
from dixa_assets_tests.support.loading import load_days, loader_for
from dixa_assets_tests.support.serve import Request, Response, serve
from dixa_assets_tests.support.simulator import COPENHAGEN, KEY, Json, Simulator
from dixa_assets_tests.support.staged import spec_of

FILTER = "getAnalyticsFilterFilterattribute"
DAYS = days_from(date(2025, 11, 5), 1, COPENHAGEN)
ENTRIES = {"record": spec_of("record", "ratings"), "metric": spec_of("metric", "csat")}
TABLES = {"record": "dixa_records.ratings", "metric": METRIC_VALUES.key.replace("/", ".")}
# An object of the vendor with an error in the place of its content.
OBJECTS: list[Json] = [
    {"data": {}},
    {"data": {"message": "Internal server error"}},
    {"data": {"id": "csat", "error": "timeout"}},
    {"data": {"id": "csat"}, "errors": ["timeout"]},
    {"data": {"id": "csat"}, "success": False},
    {"data": {"id": None, "aggregates": []}},
    {"data": []},
    {"data": "error"},
    {},
]


@pytest.mark.parametrize("body", [*BODIES, *OBJECTS], ids=str)
def test_no_operation_returns_an_error_with_status_200(body: Json) -> None:
    asked = {"GET": 0, "POST": 0}

    def answer(request: Request) -> Response:
        asked[request.method] += 1
        return Response(body)

    with serve(answer) as server, Impatient(base_url=server.url) as client:
        for name, operation in OPERATIONS.items():
            is_object = name.endswith(("id", "postAnalyticsMetrics"))
            if body not in BODIES and not is_object and not body.get("data"):
                # These are empty lists.
                continue
            with pytest.raises((ApiUnavailable, ApiContractBroken)) as caught:
                operation(client)
            if body in BODIES:
                assert isinstance(caught.value, ApiUnavailable)
                assert caught.value.status == 200
                assert "200 with " in str(caught.value)
    assert body not in BODIES or asked == {"GET": 5 * 8, "POST": 2 * 8}


@pytest.mark.parametrize("body", BODIES[::5], ids=str)
def test_an_error_with_status_200_is_retried(
    body: Json, simulator: Simulator, client: Impatient, world: World
) -> None:
    simulator.tell("faults", kind="status", status=200, body=json.dumps(body), skip=1, times=2)
    # The second page fails twice.
    assert records_of(client) == truth(world)
    assert len(client.waits) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": []},
        {"data": None},
        {"meta": {}},
        {"data": [], "meta": {"next": None}},
        {"data": [], "total": 0, "requestId": "a", "status": "ok", "success": True, "code": 200},
        {"data": [], "error": None, "errors": [], "errorCount": 0},
        {"data": [], "meta": {"errors": [], "status": 200, "took": 404}},
    ],
    ids=str,
)
def test_an_answer_without_rows_and_without_an_error_is_empty(body: Json) -> None:
    with serve(lambda _: Response(body)) as server, Impatient(base_url=server.url) as client:
        assert client.fetch_records() == records_of(client) == []
    assert client.waits == []


def test_the_error_quotes_the_servers_message_without_the_key() -> None:
    body = {"message": f"the key {KEY} is new", f"error\x1b[2J\n{KEY}": 1}
    with (
        serve(lambda _: Response(body)) as server,
        Impatient(base_url=server.url) as client,
        pytest.raises(ApiUnavailable) as caught,
    ):
        client.fetch_metrics()
    assert "the key *** is new." in str(caught.value)
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("body", BODIES[::10], ids=str)
@pytest.mark.parametrize("kind", ENTRIES)
def test_a_day_keeps_its_rows_when_its_reload_gets_an_error_with_status_200(
    kind: str, body: Json, simulator: Simulator, warehouse: Warehouse
) -> None:
    load_days(simulator.url, warehouse, ENTRIES[kind], DAYS)
    before = warehouse.query(f"SELECT * FROM {TABLES[kind]} ORDER BY ALL")
    assert len(before)
    simulator.tell("faults", kind="status", status=200, body=json.dumps(body))
    with pytest.raises(DaysFailed, match="200 with"):
        load_days(simulator.url, warehouse, ENTRIES[kind], DAYS)
    assert warehouse.query(f"SELECT * FROM {TABLES[kind]} ORDER BY ALL").equals(before)


@pytest.fixture
def loader(simulator: Simulator, warehouse: Warehouse) -> Iterator[Loader]:
    with loader_for(simulator.url, warehouse) as loader:
        yield loader


@pytest.mark.parametrize("body", BODIES[::10], ids=str)
def test_filter_values_are_kept_when_their_reload_gets_an_error_with_status_200(
    body: Json, loader: Loader, simulator: Simulator, warehouse: Warehouse
) -> None:
    relation = filter_relation("channel", "channel")
    assert loader.load_filter_values("channel", relation, run_id="one").rows
    table = relation.table.key.replace("/", ".")
    before = warehouse.query(f"SELECT * FROM {table} ORDER BY ALL")
    simulator.tell("faults", kind="status", status=200, body=json.dumps(body))
    with pytest.raises(ApiUnavailable, match="200 with"):
        loader.load_filter_values("channel", relation, run_id="two")
    assert warehouse.query(f"SELECT * FROM {table} ORDER BY ALL").equals(before)


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("body", [{"data": []}, {}, {"data": None}], ids=str)
def test_a_required_filter_without_values_sends_no_request_and_changes_nothing(
    kind: str, body: Json, simulator: Simulator, warehouse: Warehouse
) -> None:
    attribute = min(ENTRIES[kind].entry.attributes)
    spec = replace(ENTRIES[kind], required_filter=attribute)
    load_days(simulator.url, warehouse, spec, DAYS)
    before = warehouse.query(f"SELECT * FROM {TABLES[kind]} ORDER BY ALL")
    simulator.forget_requests()
    simulator.tell("faults", kind="status", status=200, body=json.dumps(body), operation=FILTER)
    with pytest.raises(ConfigError, match=f"'{attribute}' has no values.*at Dixa"):
        load_days(simulator.url, warehouse, spec, DAYS)
    assert warehouse.query(f"SELECT * FROM {TABLES[kind]} ORDER BY ALL").equals(before)
    assert [one["operation"] for one in simulator.requests()] == [FILTER]


def test_an_empty_filter_of_the_user_is_refused(client: Impatient) -> None:
    spec = spec_of("metric", "csat", filters={"channel": []})
    with pytest.raises(ConfigError, match="'channel' has no values"):
        build_request(client, spec)
