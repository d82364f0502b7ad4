"""Faults that tests switch on: which requests a fault applies to, and how it changes the answer.

Undocumented but correct behaviour of an account belongs in `quirks`.
"""

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

# Kinds that apply to the second and later pages only.
LATER_PAGES = frozenset({"expired_key", "shift"})
# In this order: faults of the connection or of the whole answer, of its links, of its content.
KINDS = (
    frozenset({"status", "reset", "truncate", "slow", "malformed_json", "html"})
    | frozenset({"next_on_empty_page", "repeated_key", "foreign_host", *LATER_PAGES})
    | frozenset({"missing_data", "null_meta", "empty", "half_page", "duplicate_ids"})
    | frozenset({"unknown_type", "nan"})
)


@dataclass(slots=True)
class Fault:
    """One fault: the requests it applies to, and its counters.

    `seen` counts the matching requests, `fired` those that got the fault. The first `skip` matching
    requests do not get it, and at most `times` do.
    """

    id: int
    kind: str
    operation: str | None = None
    target: str | None = None
    skip: int = 0
    times: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0
    fired: int = 0


# For a request without a fault.
NO_FAULT = Fault(0, "none")


class Faults:
    """The active faults. A request gets the first one that matches."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last = 0

    def add(self, spec: Json) -> Fault:
        """Add a fault from its JSON form, and return it.

        Raises:
            ValueError: The kind or the operation is unknown, or a number is none.
        """
        known = ("kind", "operation", "id", "skip", "times")
        kind, operation, times = spec.get("kind"), spec.get("operation"), spec.get("times")
        if kind not in KINDS:
            raise ValueError(f"unknown kind of fault: {kind!r}")
        if operation not in {None, *OPERATIONS.values()}:
            raise ValueError(f"unknown operation: {operation!r}")
        self._last += 1
        fault = Fault(
            self._last,
            kind,
            operation,
            spec.get("id"),
            int(spec.get("skip") or 0),
            None if times is None else int(times),
            {name: value for name, value in spec.items() if name not in known},
        )
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove every fault."""
        self._faults.clear()

    def to_json(self) -> list[Json]:
        """Every fault with its counters."""
        return [asdict(fault) for fault in self._faults]

    def take(self, operation: str | None, entry_id: str | None, has_key: bool) -> Fault:
        """Return the fault for a request, or `NO_FAULT`, and count the request."""
        for fault in self._faults:
            matches = fault.operation in (None, operation) and fault.target in (None, entry_id)
            if not matches or (fault.kind in LATER_PAGES and not has_key):
                continue
            fault.seen += 1
            if fault.seen > fault.skip and (fault.times is None or fault.fired < fault.times):
                fault.fired += 1
                return fault
        return NO_FAULT


def reset(send: Send) -> None:
    """Close the connection without an answer.

    ASGI cannot do that, so this takes the transport from uvicorn's request cycle.
    """
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    transport.abort()


async def truncate(response: Response, send: Send) -> None:
    """Announce the whole body and send half of it; the server then closes the connection."""
    body = bytes(response.body)
    start = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


def replacement(fault: Fault) -> Response | None:
    """The answer that a fault sends instead of the real one; None if it sends the real one."""
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


def next_link(
    fault: Fault, number: int, following: int | None, base: str
) -> tuple[int | None, str]:
    """The page number and the base address of the link to the next page.

    Args:
        fault: The fault of the request.
        number: The number of the current page.
        following: The correct number of the next page; None if this page is the last.
        base: The correct base address; empty for a relative link.
    """
    match fault.kind:
        case "next_on_empty_page":
            return number + 1, base
        case "repeated_key":
            return max(number, 1), base
        case "foreign_host":
            return number + 1, str(fault.params.get("host", "http://elsewhere.example"))
    return following, base


def changed_payload(fault: Fault, payload: Json) -> Json:
    """The JSON of an answer after the fault has changed it."""
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
            _replace_types(payload["data"], str(fault.params.get("type", "HologramField")))
        case "nan":
            payload = deepcopy(payload)
            _replace_first_number(payload["data"])
    return payload


def _replace_types(node: Any, type_name: str) -> None:
    if isinstance(node, (list, dict)):
        for item in node if isinstance(node, list) else node.values():
            _replace_types(item, type_name)
    if isinstance(node, dict) and "_type" in node:
        node |= {"_type": type_name, "depth": {"unit": "cm", "of": [1, 2]}}


def _replace_first_number(node: Any) -> bool:
    """Replace the first number with NaN; False if there is no number."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, item in list(items):
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            node[key] = math.nan
            return True
        if isinstance(item, (dict, list)) and _replace_first_number(item):
            return True
    return False
