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
# The search for a filter tries at most MAX_ATTRIBUTES attributes, and skips an attribute whose
# values have TOO_MANY_PAGES pages or more.
MAX_ATTRIBUTES = 6
TOO_MANY_PAGES = 4

Json = dict[str, Any]
Filters = Mapping[str, Sequence[str]]


class NoAnswer(Exception):
    """The account's data, or the limits of the probe, allow no answer. The message says why."""


class ProbeSession:
    """The requests of one probe, and the results that later questions use.

    Attributes:
        scheme: The word before the token that the API accepts. Empty: the raw token.
        day: The day of the questions: one with data, if the probe finds one.
        required: The attribute by which metrics must be filtered. Empty: none.
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
        """The metric of the questions: one with a Count, if possible with a record and filters."""
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
        """The record of the questions: the one with the metric's rows, if there is one."""
        records = [each for each in self._catalogue.live if each.kind == "record"]
        if not records:
            raise NoAnswer("the catalogue has no record")
        return max(records, key=lambda each: each.id in self.metric.related_ids)

    def days_ago(self, days: int) -> Day:
        """The day `days` days before today."""
        return Day.of(self._today - timedelta(days=days), self._timezone)

    def request(self, method: str, path: str, body: Json | None, **params: str) -> Json:
        """Send a request and return the whole response.

        Raises:
            NoAnswer: The probe has reached its limit of requests.
        """
        if self.client.requests >= MAX_REQUESTS:
            raise NoAnswer(f"the limit of {MAX_REQUESTS} requests was reached")
        return self.client.request(method, path, body=body, params=params)

    def pages(
        self, method: str, path: str, body: Json | None = None, **params: str
    ) -> Iterator[list[Any]]:
        """Yield the pages of a list, up to an empty page or one without a link."""
        following: Mapping[str, str] | None = params
        while following is not None:
            response = self.request(method, path, body, **following)
            yield (rows := response.get("data") or [])
            following = self.client.next_page(response) if rows else None

    def body(self, entry: Entry, period: Period, filters: Filters) -> Json:
        """The request body of an entry for a period."""
        return Request(LoadSpec(entry, self._timezone), filters).body(period)

    def count(self, filters: Filters) -> float:
        """Request the metric's Count of the day; 0 if the response has none."""
        response = self.request(
            "POST", "/metrics", self.body(self.metric, self.day.period, filters)
        )
        for each in (response.get("data") or {}).get("aggregates") or []:
            if each.get("measure") == "Count":
                return float(each.get("value") or 0)
        return 0

    def counts_by_attribute(self) -> dict[str, float]:
        """Request the Count of the day with a filter on all values, for each attribute.

        An attribute is absent if the API rejects the filter or its values.
        """
        counts = {}
        for attribute in sorted(self.metric.attributes)[:MAX_ATTRIBUTES]:
            if values := self.values_of(attribute):
                with suppress(ApiRefused):
                    counts[attribute] = self.count({attribute: values})
        return counts

    def _fetch_values(self, attribute: str) -> list[str]:
        """Request the values of an attribute; none if the API rejects it or has too many."""
        listed = self.pages("GET", f"/filter/{quote(attribute, safe='')}")
        try:
            pages = [*islice(listed, TOO_MANY_PAGES)]
        except ApiRefused:
            return []
        values = [str(each["value"]) for page in pages for each in page]
        return values if len(pages) < TOO_MANY_PAGES else []

    def page(self, period: Period) -> list[Json]:
        """Request the record's first rows, on the largest page that the API accepts."""
        body = self.body(self.record, period, self.filters)
        sizes = [each for each in PAGE_SIZES if each <= self.page_size]
        while True:
            size = sizes.pop(0)
            try:
                response = self.request("POST", "/records", body, pageLimit=f"{size}")
            except ApiRefused as error:
                if error.status != 400 or not sizes:
                    raise
            else:
                self.page_size = size
                return response.get("data") or []


def instants_of(rows: Sequence[Json]) -> list[datetime]:
    """The sorted primary timestamps of rows."""
    primaries = (row.get("primaryTimestampField") for row in rows)
    stamps = (each.get("timestamp") for each in primaries if isinstance(each, dict))
    return sorted(each for each in map(parse_instant, stamps) if each)
