"""Faults on demand: which request one strikes, and what it does to the answer."""

import asyncio
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Send

from dixa_assets.simulator.values import Json

# Kinds that make sense only once the first page was answered.
_LATER_PAGES = frozenset({"expired_key", "shift"})
KINDS = frozenset(
    {
        "status",
        "reset",
        "truncate",
        "slow",
        "malformed_json",
        "html",
        "missing_data",
        "null_meta",
        "empty",
        "next_on_empty_page",
        "repeated_key",
        "foreign_host",
        "unknown_type",
        "nan",
        "half_page",
        "duplicate_ids",
    }
    | _LATER_PAGES
)
OPERATIONS = frozenset(
    {
        "getAnalyticsMetrics",
        "getAnalyticsMetricsMetricid",
        "postAnalyticsMetrics",
        "getAnalyticsRecords",
        "getAnalyticsRecordsRecordid",
        "postAnalyticsRecords",
        "getAnalyticsFilterFilterattribute",
    }
)


@dataclass(slots=True)
class Fault:
    """A fault, whom it strikes, and how often it has met and struck someone."""

    number: int
    kind: str
    operation: str | None
    id: str | None
    skip: int
    times: int | None
    params: Mapping[str, Any]
    seen: int = 0
    fired: int = 0

    def to_json(self) -> Json:
        """The fault as sent to whoever set it up."""
        return {
            "id": self.number,
            "kind": self.kind,
            "operation": self.operation,
            "target": self.id,
            "skip": self.skip,
            "times": self.times,
            "params": dict(self.params),
            "seen": self.seen,
            "fired": self.fired,
        }


class Faults:
    """The faults set up so far; the first one that fits strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last = 0

    def add(self, wish: Json) -> Fault:
        """The fault now set up from its JSON form."""
        known = ("kind", "operation", "id", "skip", "times")
        kind, times = wish.get("kind"), wish.get("times")
        if kind not in KINDS:
            raise ValueError(f"unknown kind of fault: {kind!r}")
        if wish.get("operation") not in {None, *OPERATIONS}:
            raise ValueError(f"unknown operation: {wish['operation']!r}")
        self._last += 1
        fault = Fault(
            number=self._last,
            kind=kind,
            operation=wish.get("operation"),
            id=wish.get("id"),
            skip=int(wish.get("skip") or 0),
            times=None if times is None else int(times),
            params={name: value for name, value in wish.items() if name not in known},
        )
        self._faults.append(fault)
        return fault

    def clear(self) -> bool:
        """True: every fault is removed."""
        self._faults.clear()
        return True

    def to_json(self) -> list[Json]:
        """Every fault with how often it fired."""
        return [fault.to_json() for fault in self._faults]

    def strike(self, operation: str | None, about: str | None, has_key: bool) -> Fault | None:
        """The fault a request suffers, and counts it."""
        for fault in self._faults:
            fits = fault.operation in (None, operation) and fault.id in (None, about)
            if not fits or (fault.kind in _LATER_PAGES and not has_key):
                continue
            fault.seen += 1
            if fault.seen > fault.skip and (fault.times is None or fault.fired < fault.times):
                fault.fired += 1
                return fault
        return None


async def delay(fault: Fault | None) -> None:
    """After as long as a slow answer is to take."""
    if fault and fault.kind == "slow":
        await asyncio.sleep(float(fault.params.get("seconds", 1.0)))


def reset(send: Send) -> None:
    """Close the connection without an answer.

    ASGI has no word for that: the transport is that of uvicorn's request cycle.
    """
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    transport.abort()


async def truncate(response: Response, send: Send) -> None:
    """Announce the whole body and sends half of it; the server then closes the connection."""
    body = bytes(response.body)
    start = {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }
    await send(start)
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


def instead(fault: Fault | None) -> Response | None:
    """The answer given in place of the real one."""
    if fault is None:
        return None
    match fault.kind:
        case "status":
            params = fault.params
            status = int(params.get("status", 500))
            body = params.get("body", '{"message":"There was an error"}')
            headers = {str(name): str(value) for name, value in params.get("headers", {}).items()}
            return Response(
                body,
                status,
                headers=headers,
                media_type=params.get("content_type", "application/json"),
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


def disfigure(fault: Fault | None, payload: Json) -> Json:
    """The answer's body as the fault leaves it."""
    if fault is None:
        return payload
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
            return payload
        case "nan":
            payload = deepcopy(payload)
            _spoil_number(payload["data"])
            return payload
    return payload


def _make_strange(node: Any, type_name: str) -> None:
    if isinstance(node, list):
        for item in node:
            _make_strange(item, type_name)
    elif isinstance(node, dict):
        for item in node.values():
            _make_strange(item, type_name)
        if "_type" in node:
            node["_type"] = type_name
            node["depth"] = {"unit": "cm", "of": [1, 2]}


def _spoil_number(node: Any) -> bool:
    """Whether a number was found; the first one becomes NaN."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, item in list(items):
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            node[key] = math.nan
            return True
        if isinstance(item, (dict, list)) and _spoil_number(item):
            return True
    return False
