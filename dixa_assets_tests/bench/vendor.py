"""A server of one record that answers as fast as one core can, for measuring the client.

Every day in UTC has the same number of rows, evenly spaced. A period is answered with the rows
whose instants lie in it. Only the instant and the conversation id differ from row to row; the rest
comes from prepared rows in turn. Nothing here uses the client's code.
"""

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import httpx

from dixa_assets.simulator.people import AGENTS, QUEUES, TAGS
from dixa_assets.simulator.values import Choice, Int32, Row, to_instant
from dixa_assets_tests.support.serve import Answer, Request, Response

RECORD, ASSET = "bench", "dixa_records/bench"
PATH = "/v1/analytics/records"
# The largest page that the vendor's own clients request.
PAGE_LIMIT = 300
# A prime, so that two pages differ in more than their timestamps.
PREPARED_ROWS = 997
# Conversation ids begin here: they have twelve digits, as has the last part of a UUID.
FIRST_CSID = 100_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY_MS = 86_400_000


def vendor(rows_per_day: int) -> Answer:
    """The answers; `GET /bench/requests` has the number of requests for rows so far."""
    prepared = [_prepare(Random(number)) for number in range(PREPARED_ROWS)]
    catalogue = _catalogue([{"field": name, "nullable": True} for name in _fields(Random(0))])
    # `next` of a count is one step for all threads.
    requests = count()

    def first_from(instant: str, later: timedelta = timedelta()) -> int:
        """The number of the first row at or after an instant; rows are numbered from 1970 on."""
        milliseconds = (datetime.fromisoformat(instant) + later - EPOCH) // MILLISECOND
        return -(-milliseconds * rows_per_day // DAY_MS)

    def render(number: int) -> bytes:
        at = to_instant(EPOCH + number * DAY_MS // rows_per_day * MILLISECOND).encode()
        csid = FIRST_CSID + number
        return prepared[number % PREPARED_ROWS] % (at, csid, csid, at)

    def answer(request: Request) -> Response:
        if request.path == "/bench/requests":
            return Response(next(requests))
        if request.method == "GET":
            return Response({"data": catalogue[request.path], "meta": {}})
        next(requests)
        period, offset = request.json()["periodFilter"], int(request.query.get("pageKey", 0))
        # The end is part of the period.
        start, stop = first_from(period["start"]), first_from(period["end"], MILLISECOND)
        page = range(start, stop)[offset : offset + PAGE_LIMIT]
        meta = {"next": f"{PATH}?pageKey={offset + len(page)}"} if page.stop < stop else {}
        rows = b",".join(map(render, page))
        return Response(b'{"data":[%b],"meta":%b}' % (rows, json.dumps(meta).encode()))

    return answer


def wide(columns: int) -> Answer:
    """The answers of a record with many fields and one row a day."""
    names = [f"field_{number}" for number in range(columns)]
    fields = [{"field": name, "nullable": True, "description": f"A {name}."} for name in names]
    catalogue = _catalogue(fields)
    values = [{"name": each, "field": {"_type": "LongField", "value": 1}} for each in names]

    def answer(request: Request) -> Response:
        if request.method == "GET":
            return Response({"data": catalogue[request.path], "meta": {}})
        primary = {"name": "closed_at", "timestamp": request.json()["periodFilter"]["start"]}
        row = {"primaryTimestampField": primary, "fields": values}
        return Response({"data": [row], "meta": {}})

    return answer


def requests_to(url: str) -> int:
    """How many requests for rows a vendor has answered. Call it once: it counts itself too."""
    return int(httpx.get(f"{url}/bench/requests").text)


def _catalogue(fields: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    record = {"id": RECORD, "description": "Many rows or many fields.", "fieldsMetadata": fields}
    # A catalogue without a metric counts as a fault.
    metric = {"id": RECORD, "description": "Rows.", "aggregations": [{"measure": "Count"}]}
    return {"/v1/analytics/metrics": [metric], PATH: [record]}


def _fields(rng: Random) -> dict[str, Any]:
    """The fields of a row."""
    channels = (Choice("EMAIL", "Email"), Choice("CHAT", "Chat"), Choice("PSTN_PHONE", "Phone"))
    return {
        "csid": FIRST_CSID,
        "message_id": UUID(f"{rng.getrandbits(32):08x}-0000-4000-8000-{FIRST_CSID}"),
        "closed_at": EPOCH,
        "agent_id": None if rng.random() < 0.1 else rng.choice(AGENTS),
        "queue_id": None if rng.random() < 0.1 else rng.choice(QUEUES),
        "initial_direction": rng.choice((Choice("INBOUND", "In"), Choice("OUTBOUND", "Out"))),
        "channel": rng.choice(channels),
        "contact_point": Choice(f"kunde{rng.randrange(100_000)}@example.com", "Støtte & salg"),
        "is_within_sla": rng.random() < 0.8,
        "word_count": Int32(rng.randint(3, 220)),
        "typing_share": None if rng.random() < 0.25 else round(rng.random(), 4),
        "tags": list(rng.sample(TAGS, k=rng.choice((0, 0, 1, 1, 2, 3)))),
    }


def _prepare(rng: Random) -> bytes:
    """A row with places for its instant, its number, its number again and the instant again."""
    fields = _fields(rng)
    row = Row(
        RECORD,
        "closed_at",
        at=EPOCH,
        visible_at=EPOCH,
        names=tuple(fields),
        values=tuple(fields.values()),
    )
    text = json.dumps(row.to_api(), ensure_ascii=False, separators=(",", ":")).replace("%", "%%")
    text = text.replace(str(FIRST_CSID), "%d").replace(to_instant(EPOCH), "%b")
    return text.encode()
