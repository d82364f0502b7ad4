"""The HTTP side of the API: authorisation, rate limit, the seven operations, their errors."""

import asyncio
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dixa_assets.simulator import faults
from dixa_assets.simulator.control import build_control
from dixa_assets.simulator.faults import Fault
from dixa_assets.simulator.paging import Page, fingerprint_of, link_to, parse_page
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.queries import ApiError, Query, bad_body, parse_query
from dixa_assets.simulator.state import State
from dixa_assets.simulator.values import Json, Row

VERSIONS = ("/v1/", "/beta/")
_DEFAULT_RECORDS_PER_PAGE = 100
# Longer periods are computed off the event loop, so that they hold up no other request.
_LONG_PERIOD = timedelta(days=3)
_DEFAULT_ENTRIES_PER_PAGE = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API, read whole."""

    operation: str | None
    id: str | None
    method: str
    path: str
    base: str
    query: dict[str, str]
    body: Any
    fault: Fault | None = None

    def has_fault(self, kind: str) -> bool:
        """Whether this request is to suffer a kind of fault."""
        return self.fault is not None and self.fault.kind == kind


class Simulator:
    """The ASGI application: the API under its versions, and the control endpoints beside it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._control = build_control(state)
        self._operations: dict[str, Callable[[Call], Any]] = {
            "getAnalyticsMetrics": self._list_metrics,
            "getAnalyticsMetricsMetricid": self._describe_metric,
            "postAnalyticsMetrics": self._metric_data,
            "getAnalyticsRecords": self._list_records,
            "getAnalyticsRecordsRecordid": self._describe_record,
            "postAnalyticsRecords": self._record_data,
            "getAnalyticsFilterFilterattribute": self._list_filter_values,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guarantee an answer, unless a fault says otherwise."""
        if scope["type"] == "http" and scope["path"].startswith(VERSIONS):
            await self._serve(scope, receive, send)
        else:
            await self._control(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        call = await _read(request)
        entry: Json = {
            "at": datetime.now(UTC).isoformat(),
            "operation": call.operation,
            "method": call.method,
            "path": call.path,
            "query": call.query,
            "body": call.body,
            "status": None,
        }
        self._state.log.add(entry)
        response = self._refuse(request)
        if self._state.settings.latency_ms:
            await asyncio.sleep(self._state.settings.latency_ms / 1000)
        fault = None
        if response is None:
            fault = self._state.faults.strike(call.operation, call.id, "pageKey" in call.query)
            if fault and fault.kind == "reset":
                return faults.reset(send)
            await faults.delay(fault)
            response = await self._respond(replace(call, fault=fault))
        entry["status"] = response.status_code
        if fault and fault.kind == "truncate":
            return await faults.truncate(response, send)
        return await response(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        state = self._state
        given = request.headers.get("authorization", "")
        if given not in (state.key, f"Bearer {state.key}"):
            return _json({"message": "Unauthorized"}, 401)
        if state.bucket.take():
            return None
        refusal = _json({"message": "Too Many Requests"}, 429)
        if state.settings.retry_after is not None:
            refusal.headers["Retry-After"] = f"{state.settings.retry_after:g}"
        return refusal

    async def _respond(self, call: Call) -> Response:
        instead = faults.instead(call.fault)
        if instead:
            return instead
        try:
            if call.operation is None:
                raise ApiError(404, "Not Found")
            if call.has_fault("expired_key"):
                raise ApiError(400, "Invalid value for: query parameter pageKey")
            self._state.shelf.welcome_late_metric()
            payload = await self._operations[call.operation](call)
        except ApiError as error:
            return _json({"message": error.message}, error.status)
        except Exception:
            traceback.print_exc()
            return _json({"message": "There was an internal server error"}, 500)
        return _json(faults.disfigure(call.fault, payload), 200)

    async def _list_metrics(self, call: Call) -> Json:
        return self._catalogue_page(call, [one.entry for one in self._state.shelf.metrics.values()])

    async def _list_records(self, call: Call) -> Json:
        return self._catalogue_page(call, [one.entry for one in self._state.shelf.records.values()])

    async def _describe_metric(self, call: Call) -> Json:
        listed = self._state.shelf.metrics.get(call.id or "")
        if not listed:
            raise ApiError(404, "Metric not found")
        return {"data": listed.entry}

    async def _describe_record(self, call: Call) -> Json:
        listed = self._state.shelf.records.get(call.id or "")
        if not listed:
            raise ApiError(404, "Record not found")
        return {"data": listed.entry}

    async def _list_filter_values(self, call: Call) -> Json:
        values = filter_values(call.id or "")
        if values is None:
            raise ApiError(404, "Filter attribute not found")
        items: list[Json] = [{"value": one.value, "label": one.label} for one in values]
        return self._catalogue_page(call, items)

    async def _metric_data(self, call: Call) -> Json:
        world, now = self._state.world, self._state.clock.now()
        query = self._parse(call, now, for_metric=True)
        listed = self._state.shelf.metrics.get(query.id)
        if not listed:
            raise ApiError(404, "Metric not found")
        filters = [one for one in query.filters if one.attribute in listed.filters]

        def compute() -> list[Json]:
            if query.start is None or query.end is None:
                return world.aggregate_of_conversations(
                    listed.like, query.csids, now=now, filters=filters
                )
            return world.aggregate(
                listed.like, start=query.start, end=query.end, now=now, filters=filters
            )

        found = await _run(query, compute)
        # A measure the metric does not offer is left out, not refused.
        wanted = query.aggregations or listed.measures
        return {
            "data": {
                "id": query.id,
                "aggregates": [
                    one
                    for one in found
                    if not wanted or one.get("measure", "AgentPresenceDuration") in wanted
                ],
            }
        }

    async def _record_data(self, call: Call) -> Json:
        state, now = self._state, self._state.clock.now()
        page = self._parse_page(
            call, default=_DEFAULT_RECORDS_PER_PAGE, maximum=state.settings.max_page_limit
        )
        query = self._parse(call, now, for_metric=False)
        listed = state.shelf.records.get(query.id)
        if not listed:
            raise ApiError(404, "Record not found")
        filters = [one for one in query.filters if one.attribute in listed.filters]

        def compute() -> list[Row]:
            if query.start is None or query.end is None:
                return state.world.rows_of_conversations(
                    listed.like, query.csids, now=now, filters=filters
                )
            return state.world.rows(
                listed.like, start=query.start, end=query.end, now=now, filters=filters
            )

        rows = await _run(query, compute)
        return self._page(call, page, rows, lambda row: state.shelf.extend(query.id, row.to_api()))

    def _parse(self, call: Call, now: datetime, *, for_metric: bool) -> Query:
        settings = self._state.settings
        if call.body is None:
            raise bad_body("missing")
        return parse_query(
            call.body,
            now=now,
            for_metric=for_metric,
            require_filter=settings.require_filter,
            inclusive_end=settings.end == "inclusive",
        )

    def _parse_page(self, call: Call, *, default: int, maximum: int) -> Page:
        fingerprint = fingerprint_of(call.operation, call.id, call.body)
        return parse_page(call.query, fingerprint=fingerprint, default=default, maximum=maximum)

    def _catalogue_page(self, call: Call, items: list[Json]) -> Json:
        settings = self._state.settings
        page = self._parse_page(
            call, default=_DEFAULT_ENTRIES_PER_PAGE, maximum=settings.max_page_limit
        )
        if settings.catalogue_page_limit:
            page = replace(page, size=min(page.size, settings.catalogue_page_limit))
        return self._page(call, page, items, lambda item: item)

    def _page(
        self, call: Call, page: Page, items: Sequence[T], to_api: Callable[[T], Json]
    ) -> Json:
        if call.has_fault("shift"):
            items = [*items[:1], *items]
        more = page.stop < len(items)
        following: int | None = page.number + 1 if more else None
        base = call.base if self._state.settings.next_form == "absolute" else ""
        if call.fault:
            following, base = faults.misdirect(call.fault, page.number, following, base)
        answer: Json = {"data": [to_api(item) for item in items[page.start : page.stop]]}
        if self._state.settings.next_form == "bare_key":
            if following is not None:
                answer["pageKey"] = page.key(following)
            return answer
        answer["meta"] = {}
        if page.number:
            answer["meta"]["previous"] = link_to(call.path, page.key(page.number - 1), base=base)
        if following is not None:
            answer["meta"]["next"] = link_to(call.path, page.key(following), base=base)
        return answer


async def _read(request: Request) -> Call:
    operation, about = _route(request.method, request.scope["path"])
    raw = await request.body()
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = raw.decode(errors="replace")
    if operation and about is None and isinstance(body, dict) and isinstance(body.get("id"), str):
        about = body["id"]
    return Call(
        operation=operation,
        id=about,
        method=request.method,
        path=request.scope["path"],
        base=str(request.base_url).rstrip("/"),
        query=dict(request.query_params),
        body=body,
    )


async def _run(query: Query, compute: Callable[[], T]) -> T:
    if query.start is None or query.end is None or query.end - query.start <= _LONG_PERIOD:
        return compute()
    return await asyncio.to_thread(compute)


def _route(method: str, path: str) -> tuple[str | None, str | None]:
    """The operation and the id a path names, None for what does not exist."""
    match (method, *path.split("/", 4)[2:]):
        case ("GET", "analytics", "metrics"):
            return "getAnalyticsMetrics", None
        case ("POST", "analytics", "metrics"):
            return "postAnalyticsMetrics", None
        case ("GET", "analytics", "records"):
            return "getAnalyticsRecords", None
        case ("POST", "analytics", "records"):
            return "postAnalyticsRecords", None
        case ("GET", "analytics", "metrics", metric_id):
            return "getAnalyticsMetricsMetricid", metric_id
        case ("GET", "analytics", "records", record_id):
            return "getAnalyticsRecordsRecordid", record_id
        case ("GET", "analytics", "filter", attribute):
            return "getAnalyticsFilterFilterattribute", attribute
    return None, None


def _json(payload: Any, status: int) -> Response:
    # Not Starlette's JSONResponse: a bare NaN must be possible.
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")
