"""A vendor that answers as a case of the fuzzing says."""

import copy
import json
import re
from dataclasses import dataclass
from typing import Any

from dixa_assets_tests.support.serve import Request, Response
from dixa_assets_tests.support.simulator import Json

BAD_KEY = {"message": "Invalid value for: query parameter pageKey"}


@dataclass
class Served:
    """An answer that was sent: its page key, and whether the client can read all of it."""

    key: str
    body: bytes
    is_whole: bool


class Vendor:
    """Answers with the pages of the current case, each changed as the case says."""

    def __init__(self) -> None:
        self.prepare({"changes": [], "wires": []}, [])

    def prepare(self, case: Json, pages: list[Json]) -> None:
        """Take another case and the pages that it changes."""
        self._case, self._pages = case, pages
        self.served: list[Served] = []

    def answer(self, request: Request) -> Response:
        key = request.query.get("pageKey", "")
        if key and key not in [f"K{number}" for number in range(1, len(self._pages))]:
            return self._send(key, Response(json.dumps(BAD_KEY).encode(), status=400))
        page = int(key[1:]) if key else 0
        before = sum(1 for one in self.served if one.key == key)

        def concerned(kind: str) -> list[Json]:
            """The changes or wires of this page and this try."""
            return [
                each
                for each in self._case[kind]
                if each["page"] % len(self._pages) == page and before < each["times"]
            ]

        payload: Any = copy.deepcopy(self._pages[page])
        for change in concerned("changes"):
            payload = changed(payload, copy.deepcopy(change))
        body, status, headers, part = to_text(payload).encode(), 200, dict[str, str](), 1.0
        for wire in concerned("wires"):
            status, part = wire.get("status", status), wire.get("cut", part)
            headers |= wire.get("headers", {})
            if "body" in wire:
                body = wire["body"].encode("utf-8", "surrogatepass")
            if "encoding" in wire:
                body = body.decode("utf-8", "replace").encode(wire["encoding"], "replace")
        return self._send(key, Response(body, status, headers, part))

    def _send(self, key: str, response: Response) -> Response:
        # Plain text under a header that says it is compressed cannot be read.
        is_plain = response.headers.get("content-encoding") not in ("gzip", "deflate")
        is_whole = 200 <= response.status < 300 and response.part == 1.0 and is_plain
        self.served.append(Served(key, response.content, is_whole))
        return response


def changed(payload: Any, change: Json) -> Any:
    """The payload after one change of a node; a path that leads nowhere ends at the last node."""
    holder: Any = {"": payload}
    name: Any = ""
    for step in change["path"]:
        node = holder[name]
        if not isinstance(node, (dict, list)) or not node:
            break
        holder, name = (
            node,
            (list(node)[step % len(node)] if isinstance(node, dict) else step % len(node)),
        )
    match change["do"]:
        case "drop" if name != "":
            del holder[name]
        case "duplicate" if isinstance(holder, list):
            holder.insert(name, copy.deepcopy(holder[name]))
        case "rename" if isinstance(holder, dict) and name != "":
            holder[str(change["value"])] = holder.pop(name)
        case "wrap":
            holder[name] = [holder[name]]
        case "as text":
            holder[name] = json.dumps(holder[name])
        case "type" if isinstance(holder, dict) and "_type" in holder:
            holder["_type"] = change["value"]
        case "name" if isinstance(holder, dict) and "name" in holder:
            holder["name"] = change["value"]
        case _:
            holder[name] = change["value"]
    return payload if holder is not None and name != "" else holder[""]


# Texts that no Python value has: `raw:` is sent as it is, `deep:` as nested lists.
_RAW = re.compile(r'"(raw|deep):([^"\\]*)"')


def to_text(payload: Any) -> str:
    """JSON, and what is not quite JSON."""
    return _RAW.sub(
        lambda found: found[2] if found[1] == "raw" else "[" * int(found[2]) + "]" * int(found[2]),
        json.dumps(payload),
    )
