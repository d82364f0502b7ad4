"""A vendor of one record whose order of rows with the same timestamp changes with each request."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dixa_assets_tests.support.serve import Request, Response
from dixa_assets_tests.support.simulator import Json


@dataclass(frozen=True)
class Event:
    """A row: its primary timestamp and its number, which other rows may have too."""

    at: datetime
    number: int

    def to_api(self) -> Json:
        stamp = self.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "primaryTimestampField": {"name": "created_at", "timestamp": stamp},
            "fields": [{"name": "number", "field": {"_type": "LongField", "value": self.number}}],
        }


@dataclass
class UnstableVendor:
    """Answers record queries; the order of ties is random for each request.

    Args:
        events: All rows.
        seed: Of the order.
        largest_page: The vendor's own limit of rows per page.
        is_end_exclusive: True to leave out rows at the end of a period.
        is_newest_first: The order of rows with different timestamps.
        is_shuffled: True if the order of all rows is random.
        is_stable: True for the same order in every request.
        precision: Timestamps are compared in multiples of this many microseconds.
    """

    events: Sequence[Event]
    seed: int = 1
    largest_page: int = 300
    is_end_exclusive: bool = False
    is_newest_first: bool = False
    is_shuffled: bool = False
    is_stable: bool = False
    precision: int = 1
    requests: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def answer(self, request: Request) -> Response:
        """One page of an answer."""
        body = request.json()
        self.requests.append(body)
        start, end = (
            self._rounded(datetime.fromisoformat(body["periodFilter"][each]))
            for each in ("start", "end")
        )
        found = [
            event
            for event in self.events
            if start <= self._rounded(event.at) < end
            or (self._rounded(event.at) == end and not self.is_end_exclusive)
        ]
        if not self.is_stable:
            self._random.shuffle(found)
        if not self.is_shuffled:
            found.sort(key=lambda event: event.at, reverse=self.is_newest_first)
        first, size = map(int, request.query.get("pageKey", "0_0").split("_"))
        size = size or min(int(request.query["pageLimit"]), self.largest_page)
        last = first + size
        meta = {"next": f"/v1/analytics/records?pageKey={last}_{size}"} if last < len(found) else {}
        return Response({"data": [each.to_api() for each in found[first:last]], "meta": meta})

    def _rounded(self, at: datetime) -> int:
        return int(at.timestamp() * 1_000_000) // self.precision
