"""A vendor of one record whose answers lack rows and do not say so."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dixa_assets_tests.support.serve import Request, Response, serve
from dixa_assets_tests.support.simulator import Json

DAY = timedelta(days=1)


@dataclass
class Silent:
    """Its rows, its limits, and the requests it got.

    `cut` gets the sorted rows of a period and the period, and returns the rows to answer with.
    After `most_pages` pages there is no link to another. The answers to the requests numbered
    `forgets` have no link. Periods longer than `refuses`, and the periods `refused`, get a 400.
    With `exclusive`, a row on the end of a period is left out.
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

    def answer(self, request: Request) -> Response:
        """The answer to a record query."""
        body = request.json()
        self.requests.append(body)
        period = body["periodFilter"]
        start, end = (datetime.fromisoformat(period[name]) for name in ("start", "end"))
        if end - start > self.refuses or (start, end) in self.refused:
            return Response({"message": "the period is too long"}, status=400)
        rows = [at for at in sorted(self.instants) if start <= at <= end]
        rows = self.cut([at for at in rows if at < end or not self.exclusive], start, end)
        number = int(request.query.get("pageKey", "0"))
        page = rows[number * self.page : (number + 1) * self.page]
        is_last = (number + 1) * self.page >= len(rows) or number + 1 >= self.most_pages
        link = f"/v1/analytics/records?pageKey={number + 1}"
        meta = {} if is_last or len(self.requests) in self.forgets else {"next": link}
        return Response({"data": [_row(at) for at in page], "meta": meta})


def _row(at: datetime) -> Json:
    text = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {
        "primaryTimestampField": {"name": "created_at", "timestamp": text},
        "fields": [{"name": "at", "field": {"_type": "StringField", "value": text}}],
    }


@contextmanager
def serving(vendor: Silent) -> Iterator[Silent]:
    """The vendor on a free port of this machine."""
    with serve(vendor.answer) as server:
        vendor.url = server.url
        yield vendor
