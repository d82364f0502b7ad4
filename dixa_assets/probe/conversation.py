"""The requests of one probe: they are limited in number and stop when the API does not answer."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote

from dixa_assets.api.client import PAGE_SIZES, DixaClient
from dixa_assets.api.requests import Request
from dixa_assets.errors import ApiError, ApiRefused, ApiUnavailable
from dixa_assets.model.catalogue import Catalogue, Entry, Kind
from dixa_assets.model.days import Day, Period
from dixa_assets.model.options import LoadSpec
from dixa_assets.model.values import parse_instant

# Limit of a probe, including the requests for the catalogue.
MAX_REQUESTS = 80
# The probe stops after this number of requests in a row without an answer.
MAX_UNANSWERED = 3
# Limits for the search of a filter: attributes to try, and pages of values of each.
MAX_ATTRIBUTES = 6
MAX_VALUE_PAGES = 3

Json = dict[str, Any]


class NoAnswer(Exception):
    """The account's data, or the limits of the probe, allow no answer. The text says why."""


@dataclass
class Conversation:
    """The requests of one probe, and what several questions need from their answers.

    Args:
        client: Sends each request once, at half the account's rate.
        catalogue: The metrics and records of the account.
        timezone: The zone that bounds days.
        today: The date in that zone.
        sent_before: Requests that were sent for the catalogue.
        auth_scheme: The word before the token; empty for the raw token.
        is_raw_token_refused: True if the API refused the raw token.

    Attributes:
        day: The day that the questions are about: one with data, if the probe finds one.
        filters: The required filter with its values, by kind of entry.
        page_size: The largest page size that the API accepted.
        first_page: The answer with the record's first rows of the day; None before the request.
    """

    client: DixaClient
    catalogue: Catalogue
    timezone: str
    today: date
    sent_before: int = 0
    auth_scheme: str = ""
    is_raw_token_refused: bool = False
    filters: dict[Kind, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    page_size: int = PAGE_SIZES[0]
    first_page: Json | None = None

    def __post_init__(self) -> None:
        self.day = self.days_ago(2)
        self._values: dict[str, list[str]] = {}
        self._unanswered = 0

    @property
    def requests(self) -> int:
        """The number of requests sent so far."""
        return self.sent_before + self.client.requests

    @property
    def metric(self) -> Entry:
        """The metric to ask about: one with a Count, if possible with a record and filters."""
        records = {each.id for each in self.entries("record")}
        metrics = [
            each
            for each in self.entries("metric")
            if any(item.measure == "Count" for item in each.aggregations)
        ]
        if not metrics:
            raise NoAnswer("the catalogue has no metric with a Count")

        def rank(each: Entry) -> tuple[bool, bool, bool, str]:
            has_no_record = records.isdisjoint(each.related_ids)
            return has_no_record, not each.filters, each.id != "closed_conversations", each.id

        return min(metrics, key=rank)

    @property
    def record(self) -> Entry:
        """The record to ask about: the one with the metric's rows, if there is one."""
        records = self.entries("record")
        if not records:
            raise NoAnswer("the catalogue has no record")
        with suppress(NoAnswer):
            related = self.metric.related_ids
            records.sort(key=lambda each: each.id not in related)
        return records[0]

    @property
    def rows(self) -> list[Json]:
        """The record's first rows of the day."""
        if not self.first_page or not self.first_page["data"]:
            raise NoAnswer(f"no rows of {self.day}")
        rows: list[Json] = self.first_page["data"]
        return rows

    @property
    def instants(self) -> list[datetime]:
        """The primary timestamps of `rows`, in order."""
        return instants_of(self.rows)

    def entries(self, kind: Kind) -> list[Entry]:
        """The entries of one kind that Dixa lists now."""
        return [each for each in self.catalogue.live if each.kind == kind]

    def days_ago(self, days: int) -> Day:
        """The day `days` days before today."""
        return Day.of(self.today - timedelta(days=days), self.timezone)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request and return the whole answer.

        Raises:
            NoAnswer: A limit of the probe is reached.
        """
        if self.requests >= MAX_REQUESTS:
            raise NoAnswer(f"the limit of {MAX_REQUESTS} requests was reached before")
        if self._unanswered >= MAX_UNANSWERED:
            raise NoAnswer(f"{MAX_UNANSWERED} requests in a row had no answer")
        try:
            answer = self.client.request(method, path, body=body, params=params)
        except ApiUnavailable:
            self._unanswered += 1
            raise
        except ApiError:
            self._unanswered = 0
            raise
        self._unanswered = 0
        return answer

    def body(
        self, entry: Entry, period: Period, filters: Mapping[str, Sequence[str]] | None = None
    ) -> Json:
        """The request body for a period, by default with the required filter."""
        if filters is None:
            filters = self.filters.get(entry.kind, {})
            if not filters.keys() <= entry.attributes:
                own = entry.compulsory_filter(next(iter(filters)))
                filters = {own: self.values_of(own)} if own else {}
        return Request(LoadSpec(entry, self.timezone), filters, {}).body(period)

    def count(self, period: Period, filters: Mapping[str, Sequence[str]] | None = None) -> float:
        """The metric's Count; 0 if the answer has none."""
        answer = self.request("POST", "/metrics", body=self.body(self.metric, period, filters))
        for each in (answer.get("data") or {}).get("aggregates") or []:
            if each.get("measure") == "Count":
                return number_of(each.get("value")) or 0
        return 0

    def count_of_days(self, days: int, *, back: int = 0) -> float:
        """The Count of `days` days in one period that ends `back` days before the end of `day`."""
        last = self.day.date - timedelta(days=back)
        first = Day.of(last - timedelta(days=days - 1), self.timezone)
        return self.count(Period(first.period.start, Day.of(last, self.timezone).period.end))

    def counts_by_attribute(self) -> dict[str, float]:
        """The Count of the day with a filter of all values, for each filter attribute.

        An attribute is absent if the API refuses the filter or its values.
        """
        counts = {}
        for attribute in sorted(self.metric.attributes)[:MAX_ATTRIBUTES]:
            if values := self.values_of(attribute):
                with suppress(ApiRefused):
                    counts[attribute] = self.count(self.day.period, {attribute: values})
        return counts

    def values_of(self, attribute: str) -> list[str]:
        """The values of a filter attribute; none if the API refuses them or has too many."""
        if attribute not in self._values:
            self._values[attribute] = self._fetch_values(attribute)
        return self._values[attribute]

    def _fetch_values(self, attribute: str) -> list[str]:
        path, values, key = f"/filter/{quote(attribute, safe='')}", list[str](), None
        for _ in range(MAX_VALUE_PAGES):
            try:
                payload = self.request("GET", path, params=key)
            except ApiRefused:
                return []
            items = payload.get("data") or []
            values += [str(each["value"]) for each in items]
            key = self.client.next_page(payload)
            if key is None or not items:
                return values
        return []

    def page(
        self,
        entry: Entry,
        period: Period,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Json:
        """The first page of a record's rows, of the largest size that the API accepts."""
        body = self.body(entry, period, filters)
        sizes = [each for each in PAGE_SIZES if each <= self.page_size]
        while True:
            size = sizes.pop(0)
            try:
                answer = self.request(
                    "POST", "/records", body=body, params={"pageLimit": f"{size}"}
                )
            except ApiRefused as error:
                if error.status != 400 or not sizes:
                    raise
            else:
                self.page_size = size
                return {**answer, "data": answer.get("data") or []}


def instant_of(row: Json) -> datetime | None:
    """A row's primary timestamp."""
    primary = row.get("primaryTimestampField")
    return parse_instant(primary.get("timestamp")) if isinstance(primary, dict) else None


def instants_of(rows: Sequence[Json]) -> list[datetime]:
    """The primary timestamps of rows, in order."""
    return sorted(each for each in map(instant_of, rows) if each)


def number_of(value: Any) -> float | None:
    """The number in a value: the value itself, or its part `value`."""
    inner = value.get("value") if isinstance(value, dict) else value
    return float(inner) if isinstance(inner, (int, float)) else None
