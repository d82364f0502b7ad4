"""Control endpoints under `/simulator`: what tests ask the server and tell it to do.

They need no key, count against no limit and are no part of the imitated API.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dixa_assets.simulator.state import State
from dixa_assets.simulator.values import Json

Change = Callable[[Json], Any]
Kind = Literal["metrics", "records"]


def build_control(state: State) -> Starlette:
    """The application behind `/simulator`."""

    def get(path: str, read: Callable[[], Any]) -> Route:
        async def endpoint(_: Request) -> Response:
            return JSONResponse(read())

        return Route(f"/simulator/{path}", endpoint, methods=["GET"])

    def post(path: str, change: Change) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(change(_object(await request.body())))
            except (ValueError, KeyError, TypeError) as error:
                return JSONResponse({"message": f"{type(error).__name__}: {error}"}, 400)

        return Route(f"/simulator/{path}", endpoint, methods=["POST"])

    def delete(path: str, remove: Callable[[str | None], bool]) -> Route:
        async def endpoint(request: Request) -> Response:
            if not remove(request.query_params.get("id")):
                return JSONResponse({"message": "no such id"}, 404)
            return JSONResponse({})

        return Route(f"/simulator/{path}", endpoint, methods=["DELETE"])

    def reset(wish: Json) -> Json:
        state.reset(now=parse_now(wish["now"]) if wish.get("now") else None)
        return {}

    routes = [
        post("reset", reset),
        get("requests", state.log.to_json),
        delete("requests", lambda _: state.log.clear()),
        get("summary", state.log.summary),
        get("settings", state.settings.to_json),
        post("settings", lambda wish: _change_settings(state, wish)),
        post("clock", lambda wish: _set_clock(state, wish)),
        get("faults", state.faults.to_json),
        post("faults", lambda wish: {"id": state.faults.add(wish).number}),
        delete("faults", lambda _: state.faults.clear()),
        post("metrics", lambda wish: _put_entry(state, "metrics", wish)),
        delete("metrics", lambda id_: state.shelf.metrics.pop(id_ or "", None) is not None),
        post("records", lambda wish: _put_entry(state, "records", wish)),
        delete("records", lambda id_: state.shelf.records.pop(id_ or "", None) is not None),
        post("records/fields", lambda wish: _set_extra_field(state, wish)),
    ]
    return Starlette(routes=routes)


def _object(raw: bytes) -> Json:
    wish = json.loads(raw)
    if not isinstance(wish, dict):
        raise ValueError("expected a JSON object")
    return wish


def _change_settings(state: State, wish: Json) -> Json:
    state.settings.change(wish)
    if {"rate", "burst"} & set(wish):
        state.fill_bucket()
    return state.settings.to_json()


def _set_clock(state: State, wish: Json) -> Json:
    state.clock.stopped_at = None if wish["now"] is None else parse_now(wish["now"])
    return {"now": state.clock.now().isoformat()}


def parse_now(text: str) -> datetime:
    """The instant a text with an offset names."""
    now = datetime.fromisoformat(text)
    if now.tzinfo is None:
        raise ValueError(f"an instant needs an offset: {text}")
    return now.astimezone(UTC)


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
