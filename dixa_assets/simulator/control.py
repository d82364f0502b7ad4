"""The control endpoints below `/simulator`, through which tests inspect and change the server.

They need no key, do not count against the rate limit and are not part of the imitated API.
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

from dixa_assets.simulator.state import Kind, State, with_changes
from dixa_assets.simulator.values import Json


def build_control(state: State) -> Starlette:
    """The application that serves `/simulator`."""
    return Starlette(
        routes=[
            _post("reset", lambda body: _reset(state, body)),
            _get("requests", lambda: list(state.log)),
            _delete("requests", lambda _: state.log.clear()),
            _get("summary", lambda: _summary(state)),
            _get("settings", lambda: asdict(state.settings)),
            _post("settings", lambda body: _change_settings(state, body)),
            _post("quirks", lambda body: _change_quirks(state, body)),
            _post("clock", lambda body: _set_clock(state, body)),
            _get("faults", state.faults.to_json),
            _post("faults", lambda body: {"id": state.faults.add(body).id}),
            _delete("faults", lambda _: state.faults.clear()),
            _post("metrics", lambda body: _put_entry(state, "metrics", body)),
            _delete("metrics", lambda entry_id: state.catalogue.metrics.pop(entry_id)),
            _post("records", lambda body: _put_entry(state, "records", body)),
            _delete("records", lambda entry_id: state.catalogue.records.pop(entry_id)),
            _post("records/fields", lambda body: _set_extra_field(state, body)),
        ]
    )


def parse_now(text: str) -> datetime:
    """Parse an instant with an offset.

    Raises:
        ValueError: The text is no instant or has no offset.
    """
    now = datetime.fromisoformat(text)
    if now.tzinfo is None:
        raise ValueError(f"an instant needs an offset: {text}")
    return now.astimezone(UTC)


def _get(path: str, read: Callable[[], Any]) -> Route:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(read())

    return Route(f"/simulator/{path}", endpoint, methods=["GET"])


def _post(path: str, change: Callable[[Json], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict):
                raise ValueError("expected a JSON object")
            return JSONResponse(change(body))
        except (ValueError, KeyError, TypeError) as error:
            return JSONResponse({"message": f"{type(error).__name__}: {error}"}, 400)

    return Route(f"/simulator/{path}", endpoint, methods=["POST"])


def _delete(path: str, remove: Callable[[str], object]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            remove(request.query_params.get("id", ""))
        except KeyError:
            return JSONResponse({"message": "no such id"}, 404)
        return JSONResponse({})

    return Route(f"/simulator/{path}", endpoint, methods=["DELETE"])


def _reset(state: State, body: Json) -> Json:
    state.reset(now=parse_now(body["now"]) if body.get("now") else None)
    return {}


def _summary(state: State) -> Json:
    """The number of requests: in total, by operation and by status."""
    return {
        "total": len(state.log),
        "operations": Counter(str(entry["operation"]) for entry in state.log),
        "statuses": Counter(str(entry["status"]) for entry in state.log),
    }


def _change_settings(state: State, body: Json) -> Json:
    state.settings = with_changes(state.settings, body)
    if {"rate", "burst"} & set(body):
        state.fill_bucket()
    return asdict(state.settings)


def _change_quirks(state: State, body: Json) -> Json:
    state.quirks = with_changes(state.quirks, body)
    return {}


def _set_clock(state: State, body: Json) -> Json:
    state.stopped_at = None if body["now"] is None else parse_now(body["now"])
    return {"now": state.now().isoformat()}


def _put_entry(state: State, kind: Kind, body: Json) -> Json:
    entry = body["entry"]
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise ValueError("an entry is an object with an id")
    state.catalogue.put(kind, entry, str(body.get("like", entry["id"])))
    return entry


def _set_extra_field(state: State, body: Json) -> Json:
    record_id, name = str(body["id"]), str(body["field"])
    if record_id not in state.catalogue.records:
        raise ValueError(f"no such record: {record_id!r}")
    extra = state.catalogue.extra_fields.setdefault(record_id, {})
    extra.pop(name, None)
    if body["data"] is not None:
        extra[name] = body["data"]
    return {"id": record_id, "extra": extra}
