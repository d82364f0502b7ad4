"""A vendor of one record that cuts its answers short without a word."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dixa_assets_tests.support.simulator import Json

DAY = timedelta(days=1)


@dataclass
class Silent:
    """What it has, how it cuts, and what it was asked for.

    `cut` gets the rows of a period, sorted, with the period, and gives those it would answer with.
    `most_pages` are given at most, the last without a link. `forgets` are the numbers of requests
    whose answer loses its link. Periods longer than `refuses` are refused, as are those `refused`.
    An end is `exclusive` if rows on it are left out.
    """

    instants: Sequence[datetime]
    cut: Callable[[list[datetime], datetime, datetime], list[datetime]] = lambda rows, *_: rows
    most_pages: int = 10_000
    page: int = 300
    forgets: frozenset[int] = frozenset()
    refuses: timedelta = timedelta(days=10_000)
    refused: Sequence[tuple[datetime, datetime]] = ()
    exclusive: bool = False
    requests: list[Json] = field(default_factory=list)
    url: str = ""

    def answer(self, body: Json, query: dict[str, list[str]]) -> tuple[int, Json]:
        """The status and the payload for a record query."""
        self.requests.append(body)
        period = body["periodFilter"]
        start, end = (datetime.fromisoformat(period[name]) for name in ("start", "end"))
        if end - start > self.refuses or (start, end) in self.refused:
            return 400, {"message": "the period is too long"}
        rows = [at for at in sorted(self.instants) if start <= at <= end]
        rows = self.cut([at for at in rows if at < end or not self.exclusive], start, end)
        number = int(query.get("pageKey", ["0"])[0])
        page = rows[number * self.page : (number + 1) * self.page]
        is_last = (number + 1) * self.page >= len(rows) or number + 1 >= self.most_pages
        link = f"/v1/analytics/records?pageKey={number + 1}"
        meta = {} if is_last or len(self.requests) in self.forgets else {"next": link}
        return 200, {"data": [_row(at) for at in page], "meta": meta}


def _row(at: datetime) -> Json:
    text = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {
        "primaryTimestampField": {"name": "created_at", "timestamp": text},
        "fields": [{"name": "at", "field": {"_type": "StringField", "value": text}}],
    }


@contextmanager
def serving(vendor: Silent) -> Iterator[Silent]:
    """The vendor on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, payload = vendor.answer(body, parse_qs(urlsplit(self.path).query))
            content = json.dumps(payload).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        vendor.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield vendor
        finally:
            server.shutdown()
            thread.join()
