"""The server that answers as a case of the fuzzing says."""

import copy
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from dixa_assets_tests.support.simulator import Json


@dataclass
class Served:
    """An answer that went out: to which page key, and whether all of it could be read."""

    key: str
    body: bytes
    is_whole: bool


class Vendor(BaseHTTPRequestHandler):
    """Answers page by page what the current case says."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    case: ClassVar[Json] = {}
    pages: ClassVar[list[Json]] = []
    served: ClassVar[list[Served]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = parse_qs(urlsplit(self.path).query).get("pageKey", [""])[0]
        if key and key not in [f"K{number}" for number in range(1, len(self.pages))]:
            self._send(key, 400, b'{"message": "Invalid value for: query parameter pageKey"}', {})
            return
        page = int(key[1:]) if key else 0
        before = sum(1 for one in self.served if one.key == key)
        payload: Any = copy.deepcopy(self.pages[page])
        for change in self.case["changes"]:
            if change["page"] % len(self.pages) == page and before < change["times"]:
                payload = changed(payload, copy.deepcopy(change))
        body, status, headers, cut = to_text(payload).encode(), 200, {}, 1.0
        for wire in self.case["wires"]:
            if wire["page"] % len(self.pages) == page and before < wire["times"]:
                status = wire.get("status", status)
                headers |= wire.get("headers", {})
                cut = wire.get("cut", cut)
                if "body" in wire:
                    body = wire["body"].encode("utf-8", "surrogatepass")
                if "encoding" in wire:
                    text = body.decode("utf-8", "replace")
                    body = text.encode(wire["encoding"], "replace")
        self._send(key, status, body, headers, cut)

    def _send(
        self, key: str, status: int, body: bytes, headers: Mapping[str, str], cut: float = 1.0
    ) -> None:
        # What says it is compressed and is not cannot be read, and is asked for again.
        is_readable = headers.get("content-encoding") not in ("gzip", "deflate")
        self.served.append(Served(key, body, 200 <= status < 300 and cut == 1.0 and is_readable))
        self.send_response(status, "As it is")
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: int(len(body) * cut)])
        self.close_connection = cut < 1.0 or status < 200

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Keeps what went wrong in it, so that no fault of its own is taken for one of a case."""

    daemon_threads = True
    failure: BaseException | None = None

    def handle_error(self, *_: object) -> None:
        """Keep the exception, unless the client hung up."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.failure = error


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


# What no Python value can say: `raw:` goes out as it is, `deep:` as lists in lists.
_RAW = re.compile(r'"(raw|deep):([^"\\]*)"')


def to_text(payload: Any) -> str:
    """JSON, and what is not quite JSON."""
    return _RAW.sub(
        lambda found: found[2] if found[1] == "raw" else "[" * int(found[2]) + "]" * int(found[2]),
        json.dumps(payload),
    )
