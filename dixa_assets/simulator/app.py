"""The HTTP side of the API: authorisation, rate limit, the seven operations, their errors."""

import asyncio
import json
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dixa_assets.simulator import faults
from dixa_assets.simulator.control import build_control
from dixa_assets.simulator.faults import NO_FAULT, Fault
from dixa_assets.simulator.operations import operation_of
from dixa_assets.simulator.paging import (
    Page,
    fingerprint_in,
    fingerprint_of,
    link_to,
    parse_page,
)
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.queries import ApiError, Query, bad_body, parse_query
from dixa_assets.simulator.state import Kind, Listed, State
from dixa_assets.simulator.values import Json, Row
from dixa_assets.simulator.world import offered

VERSIONS = ("/v1/", "/beta/")
RECORDS_PER_PAGE = 100
ENTRIES_PER_PAGE = 50
DAY = timedelta(days=1)

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
    fault: Fault


class Simulator:
    """The ASGI application: the API under its versions, and the control endpoints beside it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._control = build_control(state)
        self._thinking = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in any case, unless a fault says otherwise."""
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
        response, fault = self._refuse(request), NO_FAULT
        if state.settings.latency_ms:
            await asyncio.sleep(state.settings.latency_ms / 1000)
        if response is None:
            fault = state.faults.strike(call.operation, call.id, "pageKey" in call.query)
            if fault.kind == "reset":
                return faults.reset(send)
            if fault.kind == "slow":
                await asyncio.sleep(float(fault.params.get("seconds", 1.0)))
            response = await self._respond(replace(call, fault=fault))
        entry["status"] = response.status_code
        if fault.kind == "truncate":
            return await faults.truncate(response, send)
        return await response(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        state = self._state
        given = request.headers.get("authorization", "")
        forms = {"raw": (state.key,), "bearer": (f"Bearer {state.key}",)}
        if given not in forms.get(state.quirks.auth, (state.key, f"Bearer {state.key}")):
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
            payload = await self._answer(call)
        except ApiError as error:
            is_terse = self._state.quirks.is_terse and error.status == 400
            message = "Invalid value in request" if is_terse else error.message
            return _json({"message": message}, error.status)
        except Exception:
            traceback.print_exc()
            return _json({"message": "There was an internal server error"}, 500)
        return _json(faults.disfigure(call.fault, payload), 200, self._state.quirks.headers)

    async def _answer(self, call: Call) -> Json:
        if call.operation is None:
            raise ApiError(404, "Not Found")
        if call.fault.kind == "expired_key":
            raise ApiError(400, "Invalid value for: query parameter pageKey")
        self._state.shelf.welcome_late_metric()
        match call.operation:
            case "getAnalyticsMetrics":
                return self._list_entries(call, "metrics")
            case "getAnalyticsRecords":
                return self._list_entries(call, "records")
            case "getAnalyticsMetricsMetricid":
                return {"data": self._find("metrics", call.id).entry}
            case "getAnalyticsRecordsRecordid":
                return {"data": self._described("records", self._find("records", call.id))}
            case "postAnalyticsMetrics":
                return await self._metric_data(call)
            case "postAnalyticsRecords":
                return await self._record_data(call)
            case _:
                return self._list_filter_values(call)

    def _list_entries(self, call: Call, kind: Kind) -> Json:
        listed = self._state.shelf.entries(kind).values()
        return self._catalogue_page(call, [self._described(kind, one) for one in listed])

    def _described(self, kind: Kind, listed: Listed) -> Json:
        state = self._state
        if kind == "metrics" or not state.quirks.declares_its_fields:
            return listed.entry
        now = state.now()
        rows = state.world.rows(listed.like, start=now - 7 * DAY, end=now, now=now)
        extra = state.shelf.extra_fields.get(str(listed.entry["id"]), {})
        names = dict.fromkeys(name for row in rows for name in row.names)
        return state.quirks.entry(listed.entry, [*names, *extra])

    def _list_filter_values(self, call: Call) -> Json:
        values = filter_values(call.id or "")
        if values is None:
            raise ApiError(404, "Filter attribute not found")
        items: list[Json] = [{"value": one.value, "label": one.label} for one in values]
        return self._catalogue_page(call, items)

    def _find(self, kind: Kind, entry_id: str | None) -> Listed:
        listed = self._state.shelf.entries(kind).get(entry_id or "")
        if not listed:
            raise ApiError(404, "Metric not found" if kind == "metrics" else "Record not found")
        return listed

    async def _metric_data(self, call: Call) -> Json:
        world = self._state.world
        query, listed, found = await self._compute(
            call, "metrics", world.aggregate, world.aggregate_of_conversations
        )
        aggregates = self._state.quirks.aggregates(
            listed.like, found, query.aggregations, listed.measures
        )
        return {"data": {"id": query.id, "aggregates": aggregates}}

    async def _record_data(self, call: Call) -> Json:
        state = self._state
        if state.quirks.key_is_enough:
            call = self._whole(call)
        page = self._asked_page(call, RECORDS_PER_PAGE)
        query, listed, rows = await self._compute(
            call, "records", state.world.rows, state.world.rows_of_conversations
        )

        def to_api(row: Row) -> Json:
            return state.quirks.row(listed.like, state.shelf.extend(query.id, row.to_api()))

        answer = self._page(call, page, rows, to_api)
        return {**answer, "data": state.quirks.page(answer["data"])}

    def _whole(self, call: Call) -> Call:
        """The call with the body of the question that its page key continues."""
        questions = self._state.questions
        if "pageKey" not in call.query:
            questions[fingerprint_of(call.operation, call.id, call.body)] = call.body
            return call
        body = questions.get(fingerprint_in(call.query["pageKey"]))
        return replace(call, body=body, id=body["id"]) if body else call

    async def _compute(
        self,
        call: Call,
        kind: Kind,
        of_period: Callable[..., list[T]],
        of_conversations: Callable[..., list[T]],
    ) -> tuple[Query, Listed, list[T]]:
        """The query a call holds, the entry it is about, and what the world says."""
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
        longest = quirks.longest_days
        if longest and query.start and query.end and query.end - query.start > longest * DAY:
            raise ApiError(400, f"Invalid value for: body (a period has {longest} days at most)")
        listed = self._find(kind, query.id)
        filters = quirks.filters(offered(query.filters, listed.filters))
        about = {"now": now, "filters": filters}
        if query.start is None or query.end is None:
            return query, listed, of_conversations(listed.like, query.csids, **about)
        zone = call.body["timezone"]
        start, end = quirks.period(query.start, query.end, timezone=zone)
        compute = partial(of_period, listed.like, start=start, end=end, **about)

        def think() -> list[T]:
            # One at a time: two that ask for the same days would think them up twice.
            with self._thinking:
                return compute()

        # Off the event loop, or requests that come meanwhile would all seem to come at its end.
        return query, listed, await asyncio.to_thread(think)

    def _asked_page(self, call: Call, default: int) -> Page:
        fingerprint = fingerprint_of(call.operation, call.id, call.body)
        maximum = self._state.settings.max_page_limit
        return parse_page(call.query, fingerprint=fingerprint, default=default, maximum=maximum)

    def _catalogue_page(self, call: Call, items: list[Json]) -> Json:
        page = self._asked_page(call, ENTRIES_PER_PAGE)
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
        following, base = faults.misdirect(
            call.fault,
            page.number,
            page.number + 1 if page.stop < len(items) else None,
            call.base if next_form == "absolute" else "",
        )
        if self._state.quirks.links_to_an_empty_page and items[page.start : page.stop]:
            following = page.number + 1
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
    operation, about = operation_of(request.method, request.scope["path"])
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
        fault=NO_FAULT,
    )


def _json(payload: Any, status: int, headers: Mapping[str, str] | None = None) -> Response:
    # Not Starlette's JSONResponse: a bare NaN must be possible.
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")
