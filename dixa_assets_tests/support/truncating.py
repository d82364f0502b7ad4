"""A vendor of one record that truncates its answers and does not say so."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dixa_assets_tests.support.serve import Request, Response
from dixa_assets_tests.support.simulator import Json


@dataclass
class TruncatingVendor:
    """Answers record queries from a list of primary timestamps.

    Args:
        instants: The primary timestamps of all rows.
        most_rows: Rows of an answer, over all its pages. The last page has no link.
        page: Rows of a page, whatever the client requests.
        unlinked: The numbers of the requests whose answers have no link, beginning with 1.
        is_newest_first: The order of rows, so which rows a truncated answer lacks.
        is_end_exclusive: True to leave out rows at the end of a period.
    """

    instants: Sequence[datetime]
    most_rows: int = 1_000_000
    page: int = 300
    unlinked: frozenset[int] = frozenset()
    is_newest_first: bool = False
    is_end_exclusive: bool = False
    requests: list[Json] = field(default_factory=list)

    def answer(self, request: Request) -> Response:
        """One page of an answer."""
        body = request.json()
        self.requests.append(body)
        has_link = len(self.requests) not in self.unlinked
        start, end = (
            datetime.fromisoformat(body["periodFilter"][each]) for each in ("start", "end")
        )
        rows = [
            at
            for at in sorted(self.instants, reverse=self.is_newest_first)
            if start <= at < end or (at == end and not self.is_end_exclusive)
        ][: self.most_rows]
        first = int(request.query.get("pageKey", 0))
        last = first + self.page
        has_link &= last < len(rows)
        link = {"next": f"/v1/analytics/records?pageKey={last}"}
        return Response({"data": [*map(_row, rows[first:last])], "meta": link if has_link else {}})


def _row(at: datetime) -> Json:
    text = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"primaryTimestampField": {"name": "created_at", "timestamp": text}, "fields": []}
