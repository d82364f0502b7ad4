"""Control endpoints under `/simulator`: what tests ask the server and tell it to do.

They need no key, count against no limit and are no part of the imitated API.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dixa_assets.simulator.state import Kind, State, changed
from dixa_assets.simulator.values import Json


def build_control(state: State) -> Starlette:
    """The application behind `/simulator`."""

    def get(path: str, read: Callable[[], Any]) -> Route:
        async def endpoint(_: Request) -> Response:
            return JSONResponse(read())

        return Route(f"/simulator/{path}", endpoint, methods=["GET"])

    def post(path: str, change: Callable[[State, Json], Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                wish = json.loads(await request.body())
                if not isinstance(wish, dict):
                    raise ValueError("expected a JSON object")
                return JSONResponse(change(state, wish))
            except (ValueError, KeyError, TypeError) as error:
                return JSONResponse({"message": f"{type(error).__name__}: {error}"}, 400)

        return Route(f"/simulator/{path}", endpoint, methods=["POST"])

    def delete(path: str, remove: Callable[[str], object]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                remove(request.query_params.get("id", ""))
            except KeyError:
                return JSONResponse({"message": "no such id"}, 404)
            return JSONResponse({})

        return Route(f"/simulator/{path}", endpoint, methods=["DELETE"])

    return Starlette(
        routes=[
            post("reset", _reset),
            get("requests", lambda: list(state.log)),
            delete("requests", lambda _: state.log.clear()),
            get("summary", lambda: _summary(state)),
            get("settings", lambda: asdict(state.settings)),
            post("settings", _change_settings),
            post("quirks", _change_quirks),
            post("clock", _set_clock),
            get("faults", state.faults.to_json),
            post("faults", lambda state, wish: {"id": state.faults.add(wish).id}),
            delete("faults", lambda _: state.faults.clear()),
            post("metrics", lambda state, wish: _put_entry(state, "metrics", wish)),
            delete("metrics", lambda entry_id: state.shelf.metrics.pop(entry_id)),
            post("records", lambda state, wish: _put_entry(state, "records", wish)),
            delete("records", lambda entry_id: state.shelf.records.pop(entry_id)),
            post("records/fields", _set_extra_field),
        ]
    )


def parse_now(text: str) -> datetime:
    """The instant a text with an offset names."""
    now = datetime.fromisoformat(text)
    if now.tzinfo is None:
        raise ValueError(f"an instant needs an offset: {text}")
    return now.astimezone(UTC)


def _reset(state: State, wish: Json) -> Json:
    state.reset(now=parse_now(wish["now"]) if wish.get("now") else None)
    return {}


def _summary(state: State) -> Json:
    """How many requests there were, by operation and by status."""
    return {
        "total": len(state.log),
        "operations": Counter(str(entry["operation"]) for entry in state.log),
        "statuses": Counter(str(entry["status"]) for entry in state.log),
    }


def _change_settings(state: State, wish: Json) -> Json:
    state.settings = changed(state.settings, wish)
    if {"rate", "burst"} & set(wish):
        state.fill_bucket()
    return asdict(state.settings)


def _change_quirks(state: State, wish: Json) -> Json:
    state.quirks = changed(state.quirks, wish)
    return {}


def _set_clock(state: State, wish: Json) -> Json:
    state.stopped_at = None if wish["now"] is None else parse_now(wish["now"])
    return {"now": state.now().isoformat()}


def _put_entry(state: State, kind: Kind, wish: Json) -> Json:
    entry = wish["entry"]
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise ValueError("an entry is an object with an id")
    state.shelf.put(kind, entry, str(wish.get("like", entry["id"])))
    return entry


def _set_extra_field(state: State, wish: Json) -> Json:
    record_id, name = str(wish["id"]), str(wish["field"])
    if record_id not in state.shelf.records:
        raise ValueError(f"no such record: {record_id!r}")
    extra = state.shelf.extra_fields.setdefault(record_id, {})
    extra.pop(name, None)
    if wish["data"] is not None:
        extra[name] = wish["data"]
    return {"id": record_id, "extra": extra}
