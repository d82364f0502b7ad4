"""Faults on demand: which request one strikes, and what it does to the answer."""

import asyncio
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.types import Send

from dixa_assets.simulator.operations import OPERATIONS
from dixa_assets.simulator.values import Json

# Kinds that make sense only once the first page was answered.
LATER_PAGES = frozenset({"expired_key", "shift"})
# Faults of the connection or the whole answer, of its links, and of what is in it.
KINDS = (
    frozenset({"status", "reset", "truncate", "slow", "malformed_json", "html"})
    | frozenset({"next_on_empty_page", "repeated_key", "foreign_host", *LATER_PAGES})
    | frozenset({"missing_data", "null_meta", "empty", "half_page", "duplicate_ids"})
    | frozenset({"unknown_type", "nan"})
)


@dataclass(slots=True)
class Fault:
    """A fault, whom it strikes, and how often it has met and struck someone."""

    id: int
    kind: str
    operation: str | None = None
    target: str | None = None
    skip: int = 0
    times: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0
    fired: int = 0


# Stands for a fault where a request suffers none.
NO_FAULT = Fault(0, "none")


class Faults:
    """The faults set up so far; the first one that fits strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last = 0

    def add(self, wish: Json) -> Fault:
        """Set up a fault from its JSON form, and return it."""
        known = ("kind", "operation", "id", "skip", "times")
        kind, operation, times = wish.get("kind"), wish.get("operation"), wish.get("times")
        if kind not in KINDS:
            raise ValueError(f"unknown kind of fault: {kind!r}")
        if operation not in {None, *OPERATIONS.values()}:
            raise ValueError(f"unknown operation: {operation!r}")
        self._last += 1
        fault = Fault(
            self._last,
            kind,
            operation,
            wish.get("id"),
            int(wish.get("skip") or 0),
            None if times is None else int(times),
            {name: value for name, value in wish.items() if name not in known},
        )
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove every fault."""
        self._faults.clear()

    def to_json(self) -> list[Json]:
        """Every fault with how often it has fired."""
        return [asdict(fault) for fault in self._faults]

    def strike(self, operation: str | None, about: str | None, has_key: bool) -> Fault:
        """Find the fault a request suffers, and count it."""
        for fault in self._faults:
            fits = fault.operation in (None, operation) and fault.target in (None, about)
            if not fits or (fault.kind in LATER_PAGES and not has_key):
                continue
            fault.seen += 1
            if fault.seen > fault.skip and (fault.times is None or fault.fired < fault.times):
                fault.fired += 1
                return fault
        return NO_FAULT


def reset(send: Send) -> None:
    """Close the connection without an answer.

    ASGI has no word for that: the transport is that of uvicorn's request cycle.
    """
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    transport.abort()


async def truncate(response: Response, send: Send) -> None:
    """Announce the whole body and send half of it; the server then closes the connection."""
    body = bytes(response.body)
    start = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


def instead(fault: Fault) -> Response | None:
    """The answer given in place of the real one."""
    params = fault.params
    match fault.kind:
        case "status":
            return Response(
                params.get("body", '{"message":"There was an error"}'),
                int(params.get("status", 500)),
                {str(name): str(value) for name, value in params.get("headers", {}).items()},
                params.get("content_type", "application/json"),
            )
        case "html":
            return Response("<html><body>Please stand by</body></html>", media_type="text/html")
        case "malformed_json":
            return Response('{"data": [{"id": ', media_type="application/json")
    return None


def misdirect(
    fault: Fault, number: int, following: int | None, base: str
) -> tuple[int | None, str]:
    """The page number and host that the link to the next page shall have."""
    match fault.kind:
        case "next_on_empty_page":
            return number + 1, base
        case "repeated_key":
            return max(number, 1), base
        case "foreign_host":
            return number + 1, str(fault.params.get("host", "http://elsewhere.example"))
    return following, base


def disfigure(fault: Fault, payload: Json) -> Json:
    """The answer's body as the fault leaves it."""
    data = payload["data"]
    match fault.kind:
        case "missing_data":
            return {key: value for key, value in payload.items() if key != "data"}
        case "null_meta":
            return {**payload, "meta": None}
        case "empty":
            return {"data": [] if isinstance(data, list) else {**data, "aggregates": []}}
        case "half_page" if isinstance(data, list):
            return {"data": data[: len(data) // 2]}
        case "duplicate_ids" if isinstance(data, list):
            return {**payload, "data": data + data[:1]}
        case "unknown_type":
            payload = deepcopy(payload)
            _make_strange(payload["data"], str(fault.params.get("type", "HologramField")))
        case "nan":
            payload = deepcopy(payload)
            _spoil_number(payload["data"])
    return payload


def _make_strange(node: Any, type_name: str) -> None:
    if isinstance(node, (list, dict)):
        for item in node if isinstance(node, list) else node.values():
            _make_strange(item, type_name)
    if isinstance(node, dict) and "_type" in node:
        node |= {"_type": type_name, "depth": {"unit": "cm", "of": [1, 2]}}


def _spoil_number(node: Any) -> bool:
    """Make the first number NaN, and tell whether there was one."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, item in list(items):
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            node[key] = math.nan
            return True
        if isinstance(item, (dict, list)) and _spoil_number(item):
            return True
    return False
