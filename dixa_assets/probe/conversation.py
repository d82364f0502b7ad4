"""A polite conversation with an account's API: how it is asked, and when to stop asking."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote

from dixa_assets.api.client import PAGE_SIZES, DixaClient
from dixa_assets.api.requests import Request
from dixa_assets.errors import ApiError, ApiRefused, ApiUnavailable
from dixa_assets.model.catalogue import Catalogue, Entry, Kind
from dixa_assets.model.days import Window
from dixa_assets.model.values import parse_instant

# The conversation is not longer than this, with the catalogue before it.
MOST_REQUESTS = 80
# It ends when so many requests in a row had no answer.
MOST_SILENCE = 3
# A filter attribute of more pages of values is not tried.
PAGES_OF_VALUES = 3
# Rows of days that are compared come in so many pages at most.
PAGES_OF_ROWS = 6
# Records in which one is looked for that has few rows.
RECORDS_TRIED = 4
# Attributes that are tried as a filter of all their values.
ATTRIBUTES = 6

Json = dict[str, Any]


class Ended(Exception):
    """There is nothing more to ask; its text says why."""


@dataclass
class Conversation:
    """What was asked and answered so far.

    Args:
        client: At half the account's pace.
        catalogue: What the account offers.
        timezone: The zone whose days are asked for.
        today: In that zone.
        spent: Requests that were sent before, for the catalogue.

    Attributes:
        filters: Where a filter is compulsory: by kind of entry, the one that is sent.
        day: Which is asked about.
        rows: Of the record, on that day.
        aggregates: The types of metrics' values so far.
        page_size: The largest page that was accepted.
        longest: Days in the longest period that was accepted.
    """

    client: DixaClient
    catalogue: Catalogue
    timezone: str
    today: date
    spent: int = 0
    filters: dict[Kind, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    rows: list[Json] = field(default_factory=list)
    aggregates: set[str | None] = field(default_factory=set)
    page_size: int = PAGE_SIZES[0]
    longest: int = 1

    def __post_init__(self) -> None:
        self.day = self.days_ago(2)
        self._metric, self._record = self._subjects()
        self._values: dict[str, list[str]] = {}
        # Of which day they are, and per attribute.
        self._counts: tuple[Window | None, dict[str, float]] = None, {}
        self._silence = 0

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return self.spent + self.client.requests

    @property
    def metric(self) -> Entry:
        """The metric that is asked about: with a Count, filters and a record behind it, if any."""
        return _needed(self._metric, "metric with Count")

    @property
    def record(self) -> Entry:
        """The record that is asked about, the one behind the metric if there is one."""
        return _needed(self._record, "record")

    def _subjects(self) -> tuple[Entry | None, Entry | None]:
        records = {one.id: one for one in self.catalogue.live if one.kind == "record"}
        metrics = [
            one
            for one in self.catalogue.live
            if one.kind == "metric" and any(item.measure == "Count" for item in one.aggregations)
        ]

        def suits(one: Entry) -> tuple[bool, bool, bool, str]:
            has_record = any(each in records for each in one.related_ids)
            return not has_record, not one.filters, one.id != "closed_conversations", one.id

        metric = min(metrics, key=suits, default=None)
        related = (
            [records[each] for each in metric.related_ids if each in records] if metric else []
        )
        return metric, next(itertools.chain(related, records.values()), None)

    def days_ago(self, days: int) -> Window:
        """The day so many days before today."""
        return Window.of_day(self.today - timedelta(days=days), self.timezone)

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """The whole answer to one request.

        Raises:
            Ended: It is not asked.
        """
        if self.requests >= MOST_REQUESTS:
            raise Ended(f"all {MOST_REQUESTS} requests were spent before")
        if self._silence >= MOST_SILENCE:
            raise Ended(f"{MOST_SILENCE} requests in a row had no answer")
        try:
            answer = self.client.ask(method, path, body=body, params=params)
        except ApiUnavailable:
            self._silence += 1
            raise
        except ApiError:
            self._silence = 0
            raise
        self._silence = 0
        return answer

    def body(
        self, entry: Entry, window: Window, filters: Mapping[str, Sequence[str]] | None = None
    ) -> Json:
        """The question for a window, with the filter that is compulsory unless others are given."""
        if filters is None:
            filters = self.filters.get(entry.kind, {})
            if not filters.keys() <= entry.attributes:
                own = entry.compulsory_filter(next(iter(filters)))
                filters = {own: self.values_of(own)} if own else {}
        return Request(entry, filters).body(window)

    def aggregates_of(
        self, entry: Entry, window: Window, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[Json]:
        """A metric's aggregates."""
        answer = self.ask("POST", "/metrics", body=self.body(entry, window, filters))
        found: list[Json] = (answer.get("data") or {}).get("aggregates") or []
        self.aggregates |= {each.get("_type") for each in found}
        return found

    def count(self, window: Window, filters: Mapping[str, Sequence[str]] | None = None) -> float:
        """The metric's Count; 0 where there is none."""
        for each in self.aggregates_of(self.metric, window, filters):
            if each.get("measure") == "Count":
                return number(each.get("value")) or 0
        return 0

    def count_of_days(self, days: int, *, back: int = 0) -> float:
        """Of so many days in one period, up to the day that is asked about or one before it."""
        last = Window.of_day(self.day.day - timedelta(days=back), self.timezone)
        start = Window.of_day(last.day - timedelta(days=days - 1), self.timezone).start
        return self.count(Window(last.day, start, last.end, self.timezone))

    def counts(self) -> Mapping[str, float]:
        """How many a filter of all values leaves of the day, per attribute; asked for once."""
        day, counts = self._counts
        if day != self.day:
            counts = {}
            for attribute in sorted(self.metric.attributes)[:ATTRIBUTES]:
                if values := self.values_of(attribute):
                    # A server may not like one of them.
                    with suppress(ApiRefused):
                        counts[attribute] = self.count(self.day, {attribute: values})
            self._counts = self.day, counts
        return counts

    def values_of(self, attribute: str) -> list[str]:
        """Those of a filter attribute, asked for once; none of one that is refused or very long."""
        if attribute not in self._values:
            values: list[str] = []
            with suppress(ApiRefused, LookupError):
                path = f"/filter/{quote(attribute, safe='')}"
                pages = list(self._pages("GET", path, most=PAGES_OF_VALUES))
                values = [str(each["value"]) for page in pages for each in page]
            self._values[attribute] = values
        return self._values[attribute]

    def page(
        self,
        entry: Entry,
        window: Window,
        filters: Mapping[str, Sequence[str]] | None = None,
        *,
        size: int | None = None,
    ) -> Json:
        """The first page of a record's rows, as large as the server gives one."""
        body = self.body(entry, window, filters)
        for each in [size] if size else [one for one in PAGE_SIZES if one <= self.page_size]:
            try:
                answer = self.ask("POST", "/records", body=body, params={"pageLimit": f"{each}"})
            except ApiRefused as error:
                if error.status != 400:
                    raise
                refusal = error
            else:
                self.page_size = min(self.page_size, each) if size is None else self.page_size
                return {**answer, "data": answer.get("data") or []}
        raise refusal

    def short_page(self) -> Json:
        """Of the day's rows, a page of two that another follows."""
        payload = self.page(self.record, self.day, size=2)
        if self.client.next_page(payload) is None:
            raise LookupError(
                f"'{self.record.id}' of {self.day.day} has no second page of two rows"
            )
        return payload

    def quiet_record(self) -> Entry:
        """A record whose rows of the day are on one page: the one that is asked about, if it is."""
        others = [each for each in self.catalogue.live if each.kind == "record"]
        for record in dict.fromkeys([self.record, *others][: 1 + RECORDS_TRIED]):
            payload = self.page(record, self.day)
            if payload["data"] and self.client.next_page(payload) is None:
                return record
        raise LookupError(f"no record tried has its rows of {self.day.day} on one page")

    def rows_in(self, record: Entry, window: Window) -> list[Json]:
        """All rows of a window, but for those on its end, which the next one has."""
        first = self.page(record, window)
        body = self.body(record, window)
        rest = self._pages("POST", "/records", body=body, most=PAGES_OF_ROWS, first=first)
        return [row for page in rest for row in page if instant_of(row) != window.end]

    def _pages(
        self,
        method: str,
        path: str,
        *,
        most: int,
        body: Json | None = None,
        first: Json | None = None,
    ) -> Iterator[list[Json]]:
        key: Mapping[str, str] | None = None
        for _ in range(most):
            payload = first if first and not key else self.ask(method, path, body=body, params=key)
            rows = payload.get("data") or []
            yield rows
            key = self.client.next_page(payload)
            if key is None or not rows:
                return
        raise LookupError(f"{path} has more than {most} pages")


def instant_of(row: Json) -> datetime | None:
    """A row's primary timestamp."""
    primary = row.get("primaryTimestampField")
    return parse_instant(primary.get("timestamp")) if isinstance(primary, dict) else None


def number(value: Any) -> float | None:
    """The number that a value is, or has in it."""
    inner = value.get("value") if isinstance(value, dict) else value
    return float(inner) if isinstance(inner, (int, float)) else None


def _needed(entry: Entry | None, what: str) -> Entry:
    if entry is None:
        raise LookupError(f"the catalogue has no {what}")
    return entry
