"""The requests of one probe, limited in number, and the state that its questions share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from itertools import islice
from typing import Any
from urllib.parse import quote

from dixa_assets.api.client import PAGE_SIZES, DixaClient
from dixa_assets.api.requests import Request
from dixa_assets.errors import ApiRefused
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.days import Day, Period
from dixa_assets.model.options import LoadSpec
from dixa_assets.model.values import parse_instant

# Limit of a probe, including the requests for the catalogue.
MAX_REQUESTS = 80
# The search of a filter tries this number of attributes, and none with this number of pages.
MAX_ATTRIBUTES = 6
TOO_MANY_PAGES = 4

Json = dict[str, Any]
Filters = Mapping[str, Sequence[str]]


class NoAnswer(Exception):
    """The account's data, or the limits of the probe, allow no answer. The text says why."""


class ProbeSession:
    """The requests of one probe, and what one question learns for the next.

    Attributes:
        scheme: The word before the token that the API accepts; empty for the raw token.
        day: The day that the questions are about: one with data, if the probe finds one.
        required: The attribute that a metric has to be filtered by; empty: none.
        filters: The filter of later requests for rows.
        page_size: The largest page size that the API accepted.
        rows: The record's first rows of the day; None before the request.
    """

    def __init__(
        self, client: DixaClient, catalogue: Catalogue, today: date, timezone: str, scheme: str
    ) -> None:
        self.client = client
        self.scheme = scheme
        self._catalogue = catalogue
        self._today = today
        self._timezone = timezone
        self.day = self.days_ago(2)
        self.required = ""
        self.filters: Filters = {}
        self.page_size = PAGE_SIZES[0]
        self.rows: list[Json] | None = None
        self.values_of = cache(self._fetch_values)

    @cached_property
    def metric(self) -> Entry:
        """The metric to ask about: one with a Count, if possible with a record and filters."""
        live = self._catalogue.live
        records = {each.id for each in live if each.kind == "record"}
        metrics = [each for each in live if "Count" in {item.measure for item in each.aggregations}]
        if not metrics:
            raise NoAnswer("the catalogue has no metric with a Count")

        def rank(each: Entry) -> tuple[bool, bool, bool]:
            has_record = not records.isdisjoint(each.related_ids)
            return has_record, bool(each.filters), each.id == "closed_conversations"

        return max(metrics, key=rank)

    @cached_property
    def record(self) -> Entry:
        """The record to ask about: the one with the metric's rows, if there is one."""
        records = [each for each in self._catalogue.live if each.kind == "record"]
        if not records:
            raise NoAnswer("the catalogue has no record")
        return max(records, key=lambda each: each.id in self.metric.related_ids)

    def days_ago(self, days: int) -> Day:
        """The day `days` days before today."""
        return Day.of(self._today - timedelta(days=days), self._timezone)

    def request(self, method: str, path: str, body: Json | None, **params: str) -> Json:
        """The whole answer to one request; `NoAnswer` at the limit of the probe."""
        if self.client.requests >= MAX_REQUESTS:
            raise NoAnswer(f"the limit of {MAX_REQUESTS} requests was reached before")
        return self.client.request(method, path, body=body, params=params)

    def pages(
        self, method: str, path: str, body: Json | None = None, **params: str
    ) -> Iterator[list[Any]]:
        """The pages of a list, up to an empty page or one without a link."""
        following: Mapping[str, str] | None = params
        while following is not None:
            answer = self.request(method, path, body, **following)
            yield (rows := answer.get("data") or [])
            following = self.client.next_page(answer) if rows else None

    def body(self, entry: Entry, period: Period, filters: Filters) -> Json:
        """The request body of an entry for a period."""
        return Request(LoadSpec(entry, self._timezone), filters).body(period)

    def count(self, filters: Filters) -> float:
        """The metric's Count of the day; 0 if the answer has none."""
        answer = self.request("POST", "/metrics", self.body(self.metric, self.day.period, filters))
        for each in (answer.get("data") or {}).get("aggregates") or []:
            if each.get("measure") == "Count":
                return float(each.get("value") or 0)
        return 0

    def counts_by_attribute(self) -> dict[str, float]:
        """The Count of the day with a filter of all values, for each filter attribute.

        An attribute is absent if the API refuses the filter or its values.
        """
        counts = {}
        for attribute in sorted(self.metric.attributes)[:MAX_ATTRIBUTES]:
            if values := self.values_of(attribute):
                with suppress(ApiRefused):
                    counts[attribute] = self.count({attribute: values})
        return counts

    def _fetch_values(self, attribute: str) -> list[str]:
        """The values of a filter attribute; none if the API refuses them or has too many."""
        listed = self.pages("GET", f"/filter/{quote(attribute, safe='')}")
        try:
            pages = [*islice(listed, TOO_MANY_PAGES)]
        except ApiRefused:
            return []
        values = [str(each["value"]) for page in pages for each in page]
        return values if len(pages) < TOO_MANY_PAGES else []

    def page(self, period: Period) -> list[Json]:
        """The record's first rows, on a page of the largest size that the API accepts."""
        body = self.body(self.record, period, self.filters)
        sizes = [each for each in PAGE_SIZES if each <= self.page_size]
        while True:
            size = sizes.pop(0)
            try:
                answer = self.request("POST", "/records", body, pageLimit=f"{size}")
            except ApiRefused as error:
                if error.status != 400 or not sizes:
                    raise
            else:
                self.page_size = size
                return answer.get("data") or []


def instants_of(rows: Sequence[Json]) -> list[datetime]:
    """The primary timestamps of rows, in order."""
    primaries = (row.get("primaryTimestampField") for row in rows)
    stamps = (each.get("timestamp") for each in primaries if isinstance(each, dict))
    return sorted(each for each in map(parse_instant, stamps) if each)
