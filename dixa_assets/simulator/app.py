"""The HTTP API: authorisation, rate limit, the seven operations and their errors.

The data belong in `world`, the parsing of bodies in `queries`, control endpoints in `control`.
"""

import asyncio
import json
import threading
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
from dixa_assets.simulator.faults import NO_FAULT, Fault
from dixa_assets.simulator.measures import measure_of
from dixa_assets.simulator.operations import operation_of
from dixa_assets.simulator.paging import Page, fingerprint_of, link_to, parse_page
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.queries import ApiError, Query, bad_body, parse_query
from dixa_assets.simulator.state import CatalogueEntry, Kind, State
from dixa_assets.simulator.story import agents
from dixa_assets.simulator.values import Json, Row
from dixa_assets.simulator.world import offered

VERSIONS = ("/v1/", "/beta/")
RECORDS_PER_PAGE = 100
ENTRIES_PER_PAGE = 50
DAY = timedelta(days=1)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API, with its body decoded."""

    operation: str | None
    id: str | None
    method: str
    path: str
    base: str
    query: dict[str, str]
    body: Any
    fault: Fault


class Simulator:
    """The ASGI application: the API below `/v1` and `/beta`, and the control endpoints."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._control = build_control(state)
        self._computing = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith(VERSIONS):
            await self._serve(scope, receive, send)
        else:
            await self._control(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, request = self._state, Request(scope, receive)
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
        state.log.append(entry)
        response, fault = self._rejection(request), NO_FAULT
        if state.settings.latency_ms:
            await asyncio.sleep(state.settings.latency_ms / 1000)
        if response is None:
            fault = state.faults.take(call.operation, call.id, "pageKey" in call.query)
            if fault.kind == "reset":
                return faults.reset(send)
            if fault.kind == "slow":
                await asyncio.sleep(float(fault.params.get("seconds", 1.0)))
            response = await self._respond(replace(call, fault=fault))
        entry["status"] = response.status_code
        if fault.kind == "truncate":
            return await faults.truncate(response, send)
        return await response(scope, receive, send)

    def _rejection(self, request: Request) -> Response | None:
        """The answer 401 or 429; None if the request is allowed."""
        state = self._state
        raw, bearer = state.key, f"Bearer {state.key}"
        accepted = {"raw": (raw,), "bearer": (bearer,), "either": (raw, bearer)}
        if request.headers.get("authorization", "") not in accepted[state.quirks.auth]:
            return _json({"message": "Unauthorized"}, 401)
        if state.bucket.take():
            return None
        rejection = _json({"message": "Too Many Requests"}, 429)
        if state.settings.retry_after is not None:
            rejection.headers["Retry-After"] = f"{state.settings.retry_after:g}"
        return rejection

    async def _respond(self, call: Call) -> Response:
        replacement = faults.replacement(call.fault)
        if replacement:
            return replacement
        try:
            payload = await self._answer(call)
        except ApiError as error:
            is_terse = self._state.quirks.is_terse and error.status == 400
            message = "Invalid value in request" if is_terse else error.message
            return _json({"message": message}, error.status)
        except Exception:
            traceback.print_exc()
            return _json({"message": "There was an internal server error"}, 500)
        return _json(faults.changed_payload(call.fault, payload), 200)

    async def _answer(self, call: Call) -> Json:
        if call.operation is None:
            raise ApiError(404, "Not Found")
        if call.fault.kind == "expired_key":
            raise ApiError(400, "Invalid value for: query parameter pageKey")
        self._state.catalogue.add_late_metric_if_due()
        match call.operation:
            case "getAnalyticsMetrics":
                return self._list_entries(call, "metrics")
            case "getAnalyticsRecords":
                return self._list_entries(call, "records")
            case "getAnalyticsMetricsMetricid":
                return {"data": self._find("metrics", call.id).entry}
            case "getAnalyticsRecordsRecordid":
                return {"data": self._find("records", call.id).entry}
            case "postAnalyticsMetrics":
                return await self._metric_data(call)
            case "postAnalyticsRecords":
                return await self._record_data(call)
            case _:
                return self._list_filter_values(call)

    def _list_entries(self, call: Call, kind: Kind) -> Json:
        entries = self._state.catalogue.entries(kind).values()
        return self._catalogue_page(call, [entry.entry for entry in entries])

    def _list_filter_values(self, call: Call) -> Json:
        values = filter_values(call.id or "", agents(self._state.now().date()))
        if values is None:
            raise ApiError(404, "Filter attribute not found")
        items: list[Json] = [{"value": choice.value, "label": choice.label} for choice in values]
        return self._catalogue_page(call, items)

    def _find(self, kind: Kind, entry_id: str | None) -> CatalogueEntry:
        found = self._state.catalogue.entries(kind).get(entry_id or "")
        if not found:
            raise ApiError(404, "Metric not found" if kind == "metrics" else "Record not found")
        return found

    async def _metric_data(self, call: Call) -> Json:
        world = self._state.world
        query, entry, computed = await self._compute(
            call, "metrics", world.aggregate, world.aggregate_of_conversations
        )
        # Measures that the metric does not offer have no effect.
        measures = query.aggregations or entry.measures
        aggregates = [each for each in computed if not measures or measure_of(each) in measures]
        return {"data": {"id": query.id, "aggregates": aggregates}}

    async def _record_data(self, call: Call) -> Json:
        state = self._state
        page = self._requested_page(call, RECORDS_PER_PAGE)
        query, entry, rows = await self._compute(
            call, "records", state.world.rows, state.world.rows_of_conversations
        )

        def to_api(row: Row) -> Json:
            return state.catalogue.with_extra_fields(query.id, row.to_api())

        answer = self._page(call, page, rows, to_api)
        return {**answer, "data": state.quirks.page(answer["data"])}

    async def _compute(
        self,
        call: Call,
        kind: Kind,
        of_period: Callable[..., list[T]],
        of_conversations: Callable[..., list[T]],
    ) -> tuple[Query, CatalogueEntry, list[T]]:
        """The query of a call, its catalogue entry, and the rows or aggregates."""
        settings, quirks, now = self._state.settings, self._state.quirks, self._state.now()
        if call.body is None:
            raise bad_body("missing")
        query = parse_query(
            call.body,
            now=now,
            for_metric=kind == "metrics",
            require_filter=settings.require_filter or quirks.needs_filter == kind,
            inclusive_end=settings.end == "inclusive",
        )
        entry = self._find(kind, query.id)
        filters = offered(query.filters, entry.filters)
        if query.start is None or query.end is None:
            found = of_conversations(entry.source, query.csids, now=now, filters=filters)
            return query, entry, found
        shift = timedelta(minutes=quirks.looks_back_minutes)
        start, end = query.start + shift, query.end + shift

        def compute() -> list[T]:
            # One thread at a time, or two requests for the same days would create them twice.
            with self._computing:
                return of_period(entry.source, start=start, end=end, now=now, filters=filters)

        # In a thread, so that the rate limit sees other requests when they arrive.
        return query, entry, await asyncio.to_thread(compute)

    def _requested_page(self, call: Call, default: int) -> Page:
        fingerprint = fingerprint_of(call.operation, call.id, call.body)
        maximum = self._state.settings.max_page_limit
        return parse_page(call.query, fingerprint=fingerprint, default=default, maximum=maximum)

    def _catalogue_page(self, call: Call, items: list[Json]) -> Json:
        page = self._requested_page(call, ENTRIES_PER_PAGE)
        limit = self._state.settings.catalogue_page_limit
        if limit:
            page = replace(page, size=min(page.size, limit))
        return self._page(call, page, items, lambda item: item)

    def _page(
        self, call: Call, page: Page, items: Sequence[T], to_api: Callable[[T], Json]
    ) -> Json:
        next_form = self._state.settings.next_form
        if call.fault.kind == "shift":
            items = [*items[:1], *items]
        following, base = faults.next_link(
            call.fault,
            page.number,
            page.number + 1 if page.stop < len(items) else None,
            call.base if next_form == "absolute" else "",
        )
        answer: Json = {"data": [to_api(item) for item in items[page.start : page.stop]]}
        if next_form == "bare_key":
            if following is not None:
                answer["pageKey"] = page.key(following)
            return answer
        answer["meta"] = {}
        if page.number:
            answer["meta"]["previous"] = link_to(call.path, page.key(page.number - 1), base=base)
        if following is not None:
            key = page.key(following)
            is_key = next_form == "key_for_link"
            answer["meta"]["next"] = key if is_key else link_to(call.path, key, base=base)
        return answer


async def _read(request: Request) -> Call:
    operation, entry_id = operation_of(request.method, request.scope["path"])
    raw = await request.body()
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = raw.decode(errors="replace")
    if operation and entry_id is None and isinstance(body, dict):
        entry_id = body["id"] if isinstance(body.get("id"), str) else None
    return Call(
        operation=operation,
        id=entry_id,
        method=request.method,
        path=request.scope["path"],
        base=str(request.base_url).rstrip("/"),
        query=dict(request.query_params),
        body=body,
        fault=NO_FAULT,
    )


def _json(payload: Any, status: int) -> Response:
    # Starlette's JSONResponse rejects NaN, which a fault needs.
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")
