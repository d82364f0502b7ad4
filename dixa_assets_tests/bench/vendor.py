"""An imitation of Dixa that serves one record as fast as one core can, for measuring the client.

Run as `python -m dixa_assets_tests.bench.vendor --rows-per-day 1000000`; the last word of the
line it prints is its address. Every local day holds the same number of rows, evenly spaced in
time. A period is answered with the rows whose instants lie in it, in their order, so a part of a
day has its part of the rows. Answers are the vendor's in every detail; what differs from row to row
are the timestamps and the conversation's id, the rest comes from prepared rows in turn.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from random import Random
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import uvicorn

from dixa_assets.simulator.paging import fingerprint_of, link_to, parse_page
from dixa_assets.simulator.people import AGENTS, QUEUES, TAGS
from dixa_assets.simulator.queries import ApiError, bad_body, parse_query
from dixa_assets.simulator.values import Choice, Int32, Row, to_instant

RECORD = "bench"
ZONE = "Europe/Copenhagen"
# The largest page the vendor's own clients ask for.
PAGE_LIMIT = 300
HOST = "127.0.0.1"
MILLISECOND = timedelta(milliseconds=1)
DAY_MS = 86_400_000
# Rows are numbered from here.
FIRST_DAY = date(2020, 1, 1)
# A prime, so that no page repeats another with only the timestamps changed.
PREPARED_ROWS = 997
# Conversation ids begin here: always twelve digits, the last part of a UUID as well.
FIRST_CSID = 100_000_000_000
# Field, description, whether it can be null.
FIELDS: tuple[tuple[str, str, bool], ...] = (
    ("csid", "Conversation id.", False),
    ("message_id", "Message id.", False),
    ("closed_at", "When the conversation was closed.", False),
    ("agent_id", "The agent.", True),
    ("queue_id", "The queue.", True),
    ("initial_direction", "Who began.", False),
    ("channel", "The channel.", False),
    ("contact_point", "The address.", False),
    ("is_within_sla", "Whether the answer came in time.", False),
    ("word_count", "Words in the message.", False),
    ("typing_share", "Part of the time spent typing.", True),
    ("tags", "Tags.", False),
)
CATALOGUE: dict[str, list[dict[str, Any]]] = {
    # The client takes a catalogue without a single metric for a fault.
    "/v1/analytics/metrics": [
        {"id": RECORD, "description": "Rows.", "aggregations": [{"measure": "Count"}]}
    ],
    "/v1/analytics/records": [
        {
            "id": RECORD,
            "description": "Many rows of twelve fields.",
            "filters": [],
            "relatedMetricIds": [],
            "fieldsMetadata": [
                {"field": name, "description": text, "nullable": nullable}
                for name, text, nullable in FIELDS
            ],
        }
    ],
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK = [
    to_instant(_EPOCH + timedelta(seconds=second))[10:20].encode() for second in range(86_400)
]
_ANY_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)


class Rows:
    """All rows there are: as many on every local day, evenly spaced, numbered through time."""

    def __init__(self, rows_per_day: int) -> None:
        self._rows_per_day = rows_per_day
        self._prepared = [_prepare(Random(number)) for number in range(PREPARED_ROWS)]

    def first_from(self, instant: datetime) -> int:
        """The number of the first row at or after an instant."""
        # Rows are at whole milliseconds: the first one not before the instant.
        millisecond = -((_EPOCH - instant) // MILLISECOND)
        day = (instant.astimezone(ZoneInfo(ZONE)).date() - FIRST_DAY).days
        start, length = _day(day)
        return day * self._rows_per_day - (start - millisecond) * self._rows_per_day // length

    def render(self, number: int) -> bytes:
        """One row as the API sends it."""
        day, row = divmod(number, self._rows_per_day)
        start, length = _day(day)
        utc_day, rest = divmod(start + row * length // self._rows_per_day, DAY_MS)
        second, millisecond = divmod(rest, 1000)
        at = b"%b%b%03dZ" % (_date(utc_day), _CLOCK[second], millisecond)
        csid = FIRST_CSID + number
        return self._prepared[number % PREPARED_ROWS] % (at, csid, csid, at)


class App:
    """The ASGI application: the API, and how often its records were asked for.

    Args:
        rows_per_day: Rows of every local day.
        latency: Seconds by which each answer is held back.
    """

    def __init__(self, rows_per_day: int, latency: float = 0.0) -> None:
        self._rows = Rows(rows_per_day)
        self._latency = latency
        self._asked = {"requests": 0, "rows": 0}

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if self._latency:
            await asyncio.sleep(self._latency)
        try:
            query = dict(parse_qsl(scope["query_string"].decode()))
            status, content = 200, self._answer(scope["method"], scope["path"], query, body)
        except ApiError as error:
            status, content = error.status, _encode({"message": error.message})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> bytes:
        match method, path:
            case "GET", _ if path in CATALOGUE:
                return _encode({"data": CATALOGUE[path], "meta": {}})
            case "POST", "/v1/analytics/metrics":
                first, stop = self._period(_decode(body), for_metric=True)
                count = {"_type": "LongAggregateValue", "measure": "Count", "value": stop - first}
                return _encode({"data": {"id": RECORD, "aggregates": [count]}})
            case "POST", "/v1/analytics/records":
                return self._records(path, query, _decode(body))
            case "GET", "/bench/requests":
                return _encode(self._asked)
            case "DELETE", "/bench/requests":
                self._asked = dict.fromkeys(self._asked, 0)
                return _encode({})
        raise ApiError(404, "Not Found")

    def _records(self, path: str, query: dict[str, str], body: Any) -> bytes:
        # A page key is good for the body it was given for, and for no other.
        page = parse_page(
            query, fingerprint=fingerprint_of(body), default=PAGE_LIMIT, maximum=PAGE_LIMIT
        )
        first, stop = self._period(body, for_metric=False)
        numbers = range(first, stop)[page.start : page.stop]
        self._asked["requests"] += 1
        self._asked["rows"] += len(numbers)
        meta = {}
        if page.number:
            meta["previous"] = link_to(path, page.key(page.number - 1))
        if numbers and numbers.stop < stop:
            meta["next"] = link_to(path, page.key(page.number + 1))
        rows = b",".join(map(self._rows.render, numbers))
        return b'{"data":[%b],"meta":%b}' % (rows, _encode(meta))

    def _period(self, body: Any, *, for_metric: bool) -> tuple[int, int]:
        """The numbers of the first row of the asked period and of the first one after it."""
        query = parse_query(
            body,
            now=datetime.now(UTC),
            for_metric=for_metric,
            require_filter=False,
            inclusive_end=True,
        )
        if query.id != RECORD:
            raise ApiError(404, "Record not found")
        if query.start is None or query.end is None:
            raise bad_body("only periods are served here")
        return self._rows.first_from(query.start), self._rows.first_from(query.end)


@dataclass(frozen=True)
class Vendor:
    """A running server: its address, and what it was asked for."""

    url: str

    def asked(self) -> dict[str, int]:
        """Record requests answered, and rows in them, since the start or `forget`."""
        found: dict[str, int] = httpx.get(f"{self.url}/bench/requests").json()
        return found

    def forget(self) -> None:
        """Count from zero again."""
        httpx.delete(f"{self.url}/bench/requests")


@contextmanager
def running_vendor(rows_per_day: int, *, latency_ms: float = 0.0) -> Iterator[Vendor]:
    """A server process on a free port, ended in any case."""
    command = [sys.executable, "-m", __name__, "--rows-per-day", str(rows_per_day)]
    command += ["--latency-ms", f"{latency_ms:g}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Vendor(process.stdout.readline().split()[-1])
        finally:
            process.kill()


@cache
def _day(number: int) -> tuple[int, int]:
    """Start of a local day, counted from the first, in milliseconds since 1970, and its length."""
    start, end = (
        datetime.combine(FIRST_DAY + timedelta(days=each), time(), ZoneInfo(ZONE)).astimezone(UTC)
        for each in (number, number + 1)
    )
    return (start - _EPOCH) // MILLISECOND, (end - start) // MILLISECOND


@cache
def _date(days_since_1970: int) -> bytes:
    return (_EPOCH + timedelta(days=days_since_1970)).date().isoformat().encode()


def _prepare(rng: Random) -> bytes:
    """A row with a place for its timestamp, twice for its number, and for the timestamp again."""
    channels = (Choice("EMAIL", "Email"), Choice("CHAT", "Chat"), Choice("PSTN_PHONE", "Phone"))
    address = Choice(f"kunde{rng.randrange(100_000)}@example.com", "Støtte & salg")
    message_id = UUID(f"{rng.getrandbits(32):08x}-0000-4000-8000-{FIRST_CSID}")
    row = Row(
        RECORD,
        "closed_at",
        at=_ANY_INSTANT,
        visible_at=_ANY_INSTANT,
        names=tuple(name for name, _, _ in FIELDS),
        values=(
            FIRST_CSID,
            message_id,
            _ANY_INSTANT,
            None if rng.random() < 0.1 else rng.choice(AGENTS),
            None if rng.random() < 0.1 else rng.choice(QUEUES),
            rng.choice((Choice("INBOUND", "Inbound"), Choice("OUTBOUND", "Outbound"))),
            rng.choice(channels),
            address,
            rng.random() < 0.8,
            Int32(rng.randint(3, 220)),
            None if rng.random() < 0.25 else round(rng.random(), 4),
            list(rng.sample(TAGS, k=rng.choice((0, 0, 1, 1, 2, 3)))),
        ),
    )
    text = json.dumps(row.to_api(), ensure_ascii=False, separators=(",", ":"))
    return (
        text.replace("%", "%%")
        .replace(str(FIRST_CSID), "%d")
        .replace(to_instant(_ANY_INSTANT), "%b")
        .encode()
    )


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise bad_body("no JSON") from None


def _encode(content: Any) -> bytes:
    return json.dumps(content).encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.bench.vendor")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--rows-per-day", type=int, default=100_000)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every answer")
    options = parser.parse_args(arguments)
    listener = socket.create_server((HOST, options.port), backlog=128)
    print(f"Bench vendor listening on http://{HOST}:{listener.getsockname()[1]}", flush=True)
    app = App(options.rows_per_day, options.latency_ms / 1000)
    config = uvicorn.Config(app, access_log=False, log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
