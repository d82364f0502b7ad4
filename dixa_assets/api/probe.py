"""What an account's API does where the vendor's documentation is silent: asked once, politely.

Nothing here changes anything in the account, and no finding holds a row's content: ids of metrics,
records and attributes, counts, types and statuses only.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from dixa_assets.api.client import PAGE_SIZES, DixaClient
from dixa_assets.api.extract import AGGREGATES
from dixa_assets.api.requests import Request, fetch_filter_values
from dixa_assets.errors import ApiError, ApiRefused
from dixa_assets.model.catalogue import Catalogue, Entry, Fact, Kind
from dixa_assets.model.rows import Usage
from dixa_assets.model.values import FIELD_TYPES, parse_instant
from dixa_assets.model.window import MILLISECOND, Window

# The conversation is not longer than this, with some left for the catalogue before it and for the
# pages of a long list of filter values.
MOST_REQUESTS = 70
# So many days back are looked at for one with rows.
DAYS_BACK = 10
# History is told to so many days.
ENOUGH_DAYS = 7
# Attributes that are tried as a filter of all their values.
ATTRIBUTES = 6
AS_ASSUMED, HANDLED, NEEDS_YOU, UNKNOWN = (
    "as assumed",
    "otherwise: handled",
    "otherwise: needs you",
    "could not be told",
)
# Of records whose words are of time, so many are read; a unit is told from so many rows, of which
# each lasts at least so many seconds.
ABOUT_TIME = ("second", "duration", "time", "length", "wait", "presence")
RECORDS_OF_TIME = 4
ENOUGH_ROWS = 5
SHORTEST_LENGTH = 5
# What cannot be asked for without waiting for it, or without knowing the rows.
NOT_ASKED = (
    ("freshness", "the trailing days are reloaded", "only time shows how late rows arrive"),
)

Json = dict[str, Any]


class Spent(Exception):
    """The conversation is as long as it may be."""


@dataclass
class Probe:
    """One conversation about open questions.

    Args:
        client: At half the account's pace.
        catalogue: What the account offers.
        timezone: The zone whose days are asked for.
        today: In that zone.
        say: Told of each finding as it comes.
    """

    client: DixaClient
    catalogue: Catalogue
    timezone: str
    today: date
    say: Callable[[str], None] = field(default=lambda line: None)

    def __post_init__(self) -> None:
        self.usage = Usage()
        # Where a filter is compulsory: by kind of entry, the one that is sent.
        self.filters: dict[Kind, Mapping[str, Sequence[str]]] = {}
        self.metric, self.record = self._subjects()
        self.day = Window.of_day(self.today - timedelta(days=2), self.timezone)
        self.values: dict[str, list[str]] = {}
        self.counts: dict[str, float] = {}
        self.rows: list[Json] = []
        self.aggregates: set[str | None] = set()
        # Days in the longest period that was accepted.
        self.longest = 1

    def run(self, since: str, facts: Sequence[Fact] = ()) -> list[Fact]:
        """Every finding, those of `facts` first; `since` is the instant noted with them."""
        found = list(facts)
        for question, assumed, ask in self._questions():
            try:
                observed, verdict, evidence, *adapted = ask()
            except Spent:
                observed, verdict = "", UNKNOWN
                evidence, adapted = f"all {MOST_REQUESTS} requests were spent before", []
            except ApiError as error:
                observed, verdict, evidence, adapted = "", UNKNOWN, f"{error.answer}", []
            except LookupError as error:
                observed, verdict, evidence, adapted = "", UNKNOWN, str(error.args[0]), []
            setting, value = adapted or ("", "")
            fact = Fact(question, assumed, observed, verdict, evidence, since, setting, value)
            self.say(f"{len(found) + 1:2} {question}: {observed or evidence} ({verdict})")
            found.append(fact)
        return found + [
            Fact(question, assumed, "", UNKNOWN, why, since) for question, assumed, why in NOT_ASKED
        ]

    def _questions(self) -> Iterator[tuple[str, str, Callable[[], tuple[str, ...]]]]:
        yield "compulsory filter, metrics", "none", self._filter_for_metrics
        yield "compulsory filter, records", "none", self._filter_for_records
        yield "filter of all values", "may lose rows, so none is sent", self._all_values
        yield "largest page", f"{PAGE_SIZES[0]} rows", self._largest_page
        yield "link to the next page", "relative, absolute or a key", self._link
        yield "link after the last page", "possible", self._link_at_the_end
        yield "body with a page key", "is sent again", self._body_with_key
        yield "same question twice", "same rows in the same order", self._twice
        yield "end of a period", "belongs to it", self._end
        yield "timestamp of a period", "the row's primary timestamp", self._timestamp
        yield "days together", "the rows of each day alone", self._together
        yield "longest period", "found by halving what is refused", self._longest
        yield "empty period", "no value is no row, never 0", self._empty
        yield "measures left out", "those advertised are asked for", self._measures
        yield "zone beside an interval", "changes no number", self._zone
        yield "fields of records", "may differ from the catalogue", self._fields
        yield "types of values", "those documented", self._types
        yield "unit of durations", "none: numbers as given", self._unit
        yield "history", "asked for and seen", self._history
        yield "rate headers", "Retry-After is heeded, no other", self._rate_headers

    # One question each: what was observed, the verdict, the evidence, and what is adapted.

    def _filter_for_metrics(self) -> tuple[str, ...]:
        metric = self._needed(self.metric, "metric with Count")
        for back in range(2, DAYS_BACK):
            self.day = Window.of_day(self.today - timedelta(days=back), self.timezone)
            try:
                count = self._count(metric, self.day)
            except ApiRefused as error:
                if not self._is_about_filters(error):
                    raise
                return self._choose_filter(metric, error, "required_filter", "metric", "record")
            if count:
                return "none", AS_ASSUMED, f"'{metric.id}' of {self.day.day}: {count:g}"
        raise LookupError(f"no rows in the last {DAYS_BACK} days")

    def _choose_filter(
        self, metric: Entry, error: ApiRefused, setting: str, *kinds: Kind
    ) -> tuple[str, ...]:
        """Take the attribute with which most is left, since a filter is compulsory."""
        counts = self._counts(metric)
        if not counts:
            raise LookupError(f"refused with {error.status}, and '{metric.id}' has no filter")
        best = max(counts, key=lambda each: counts[each])
        self.filters |= dict.fromkeys(kinds, {best: self._values(best)})
        tried = ", ".join(f"{each} {count:g}" for each, count in counts.items())
        return (
            f"compulsory; {best} leaves most",
            NEEDS_YOU if len(set(counts.values())) > 1 else HANDLED,
            f"status {error.status} without one; '{metric.id}' of {self.day.day} by {tried}",
            setting,
            best,
        )

    def _filter_for_records(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        try:
            self.rows = self._page(record, self.day, {})["data"] or []
        except ApiRefused as error:
            if not self._is_about_filters(error):
                raise
            chosen: tuple[str, ...] = ("compulsory", HANDLED, f"status {error.status} without one")
            if not self.filters:
                metric, setting = self._needed(self.metric, "metric"), "required_filter_of_records"
                chosen = self._choose_filter(metric, error, setting, "record")
            self.rows = self._page(record, self.day)["data"] or []
            return chosen
        evidence = f"'{record.id}' of {self.day.day}: {len(self.rows)} rows"
        if self.filters.pop("record", None):
            return "none", AS_ASSUMED, evidence, "required_filter_of_records", ""
        return "none", AS_ASSUMED, evidence

    def _all_values(self) -> tuple[str, ...]:
        metric = self._needed(self.metric, "metric with Count")
        if "metric" in self.filters:
            raise LookupError("a filter is compulsory, so there is no total to compare with")
        total = self._count(metric, self.day) or 0
        counts = self._counts(metric)
        losing = [each for each, count in counts.items() if count < total]
        return (
            f"loses rows for {', '.join(losing)}" if losing else "loses no row",
            AS_ASSUMED,
            f"'{metric.id}' of {self.day.day}: {total:g}; "
            + ", ".join(f"{each} {count:g}" for each, count in counts.items()),
        )

    def _largest_page(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        body = self._body(record, self.day)
        without = len(self._ask("POST", "/records", body=body).get("data") or [])
        for size in PAGE_SIZES:
            try:
                payload = self._ask("POST", "/records", body=body, params={"pageLimit": f"{size}"})
            except ApiRefused as error:
                if error.status != 400:
                    raise
                continue
            rows = payload.get("data") or []
            evidence = f"pageLimit={size} gave {len(rows)} rows, none {without}"
            if size == PAGE_SIZES[0]:
                return f"{size} rows", AS_ASSUMED, evidence
            return f"{size} rows", HANDLED, evidence, "page_size", f"{size}"
        raise LookupError(f"each of {PAGE_SIZES} was refused")

    def _link(self) -> tuple[str, ...]:
        payload = self._short_page()
        link = (payload.get("meta") or {}).get("next")
        if isinstance(link, str):
            form = "an absolute link" if "://" in link else "a relative link"
        else:
            form = "a key beside the data"
        return form, AS_ASSUMED, "in meta.next" if link else "in pageKey"

    def _link_at_the_end(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        instants = sorted(filter(None, map(_instant, self.rows)))[:10]
        if len(instants) < 2 or instants[-1] <= self.day.start:
            raise LookupError(f"'{record.id}' of {self.day.day} has {len(self.rows)} rows")
        few = Window(self.day.day, self.day.start, instants[-1], self.timezone)
        rows = self._page(record, few)["data"]
        payload = self._page(record, few, size=len(rows))
        key = self.client.next_page(payload)
        if key is None:
            return "none", AS_ASSUMED, f"{len(rows)} rows in a page of as many, no link"
        then = self._ask("POST", "/records", body=self._body(record, few), params=key)
        link = "no link" if self.client.next_page(then) is None else "a link again"
        evidence = (
            f"a link after all {len(rows)} rows, then {len(then.get('data') or [])} and {link}"
        )
        return "there is one", HANDLED, evidence

    def _body_with_key(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        key = self.client.next_page(self._short_page())
        with_body = self._ask("POST", "/records", body=self._body(record, self.day), params=key)
        try:
            without = self._ask("POST", "/records", params=key)
        except ApiRefused as error:
            return "is needed", AS_ASSUMED, f"status {error.status} without it"
        same = _sorted(without.get("data")) == _sorted(with_body.get("data"))
        return (
            ("is not needed" if same else "changes the rows"),
            AS_ASSUMED,
            "asked with and without",
        )

    def _twice(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        pages = [self._page(record, self.day)["data"] or [] for _ in range(2)]
        if pages[0] == pages[1]:
            return "same rows, same order", AS_ASSUMED, f"{len(pages[0])} rows twice"
        same = _sorted(pages[0]) == _sorted(pages[1])
        return (
            "same rows in another order" if same else "other rows",
            HANDLED if same else NEEDS_YOU,
            f"{len(pages[0])} and {len(pages[1])} rows",
        )

    def _end(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        instants = sorted(filter(None, map(_instant, self.rows)))
        inside = [each for each in instants if self.day.start < each < self.day.end]
        if not inside:
            raise LookupError(f"no row of '{record.id}' lies inside {self.day.day}")
        end = inside[len(inside) // 2]
        until = Window(self.day.day, self.day.start, end, self.timezone)
        rows = self._page(record, until)["data"] or []
        here = sum(_instant(row) == end for row in rows)
        expected = sum(each < end for each in instants)
        evidence = f"{len(rows)} rows up to one row's instant, {expected} before it"
        if here:
            return "belongs to it", AS_ASSUMED, evidence
        return "does not belong to it", HANDLED, evidence, "period_end", "exclusive"

    def _timestamp(self) -> tuple[str, ...]:
        """Whether rows are where they were asked for: in the day, and in one row's millisecond."""
        record = self._needed(self.record, "record")
        instants = sorted(each for each in map(_instant, self.rows) if each)
        if not instants:
            raise LookupError(f"no rows of {self.day.day}")
        outside = sum(not self.day.start <= each <= self.day.end for each in instants)
        one = instants[len(instants) // 2]
        after = one + MILLISECOND
        here, later = (
            [_instant(row) for row in self._page(record, window)["data"] or []]
            for window in (
                Window(self.day.day, one, after, self.timezone),
                Window(self.day.day, after, after + timedelta(hours=1), self.timezone),
            )
        )
        others = sum(each not in (one, after) for each in here)
        evidence = (
            f"{outside} of {len(instants)} rows lie outside {self.day.day}; one row's millisecond "
            f"gave {here.count(one)} of its time and {others} of others, the hour after it "
            f"{later.count(one)} of its time"
        )
        if not outside and set(here) <= {one, after} and one in here and one not in later:
            return "the primary timestamp", AS_ASSUMED, evidence
        return "another one", NEEDS_YOU, evidence

    def _together(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        days = [
            Window.of_day(self.day.day - timedelta(days=back), self.timezone) for back in (2, 1, 0)
        ]
        alone = [row for day in days for row in self._all_rows(record, day)]
        joint = Window(days[0].day, days[0].start, days[-1].end, self.timezone)
        together = self._all_rows(record, joint)
        evidence = f"{len(alone)} rows of three days alone, {len(together)} together"
        if _sorted(alone) == _sorted(together):
            return "the same rows", AS_ASSUMED, evidence
        return "other rows", HANDLED, evidence, "days_together", "1"

    def _longest(self) -> tuple[str, ...]:
        metric = self._needed(self.metric, "metric with Count")
        accepted = 1
        for days in (92, 366):
            try:
                self._count_of_days(metric, days)
            except ApiRefused as error:
                evidence = f"{days} days were refused with {error.status}"
                if accepted > 1:
                    evidence = f"{accepted} days were accepted, {evidence}"
                    return f"less than {days} days", HANDLED, evidence
                accepted = self.longest = self._accepted(metric, (31, 7))
                evidence = f"{accepted} days were accepted, {evidence}"
                setting = "longest_period", f"{accepted}"
                return f"less than {days} days", HANDLED, evidence, *setting
            accepted = self.longest = days
        return f"at least {accepted} days", AS_ASSUMED, f"{accepted} days were accepted"

    def _accepted(self, metric: Entry, candidates: Sequence[int]) -> int:
        """The first number of days that is accepted as one period; 1 if none is."""
        for days in candidates:
            with suppress(ApiRefused):
                self._count_of_days(metric, days)
                return days
        return 1

    def _history(self) -> tuple[str, ...]:
        """Years back, then halving between the last with values and the first without."""
        metric = self._needed(self.metric, "metric with Count")
        days = min(self.longest, 7)
        there, gone = 0, 0
        for years in (1, 2, 3, 5, 8):
            if not self._count_of_days(metric, days, back=365 * years):
                gone = 365 * years
                break
            there = 365 * years
        while gone - there > ENOUGH_DAYS:
            middle = (there + gone) // 2
            if self._count_of_days(metric, days, back=middle):
                there = middle
            else:
                gone = middle
        earliest = self.day.day - timedelta(days=there)
        evidence = f"'{metric.id}' of {earliest} has a value"
        if gone:
            evidence += f", none {gone - there} days before"
        return f"to {earliest} at least", AS_ASSUMED, evidence

    def _empty(self) -> tuple[str, ...]:
        metric = self._needed(self.metric, "metric with Count")
        answer = self._metric(metric, Window.of_day(date(2001, 1, 1), self.timezone))
        values = [each.get("value") for each in answer.get("aggregates") or []]
        if not values:
            return "no aggregate", AS_ASSUMED, f"'{metric.id}' of 2001-01-01"
        said = "0" if 0 in map(_number, values) else "null"
        return said, AS_ASSUMED if said == "null" else HANDLED, f"'{metric.id}' of 2001-01-01"

    def _measures(self) -> tuple[str, ...]:
        metrics = [each for each in self.catalogue.live if each.kind == "metric"]
        metric = max(metrics, key=lambda each: len(each.aggregations), default=None)
        metric = self._needed(metric, "metric")
        body = self._body(metric, self.day)
        body.pop("aggregations", None)
        answer = self._ask("POST", "/metrics", body=body).get("data") or {}
        came = sorted(str(each.get("measure")) for each in answer.get("aggregates") or [])
        advertised = sorted(item.measure for item in metric.aggregations)
        said = "all of them" if came == advertised else ", ".join(came) or "none"
        return f"{said} came", AS_ASSUMED, f"'{metric.id}' advertises {', '.join(advertised)}"

    def _zone(self) -> tuple[str, ...]:
        metric = self._needed(self.metric, "metric with Count")
        body = self._body(metric, self.day)
        here, there = (
            self._ask("POST", "/metrics", body=body | {"timezone": zone}).get("data")
            for zone in (self.timezone, "Pacific/Auckland")
        )
        if here == there:
            return "changes nothing", AS_ASSUMED, f"'{metric.id}' of {self.day.day} in two zones"
        return "changes the number", NEEDS_YOU, f"'{metric.id}' of {self.day.day} in two zones"

    def _fields(self) -> tuple[str, ...]:
        record = self._needed(self.record, "record")
        if not self.rows:
            raise LookupError(f"no rows of {self.day.day}")
        seen = {str(name) for row in self.rows for name, _ in _fields_of(row)}
        declared = {item.field for item in record.fields}
        if seen == declared:
            return "those of the catalogue", AS_ASSUMED, f"'{record.id}': {len(seen)} fields"
        return (
            "differ from the catalogue",
            HANDLED,
            f"'{record.id}': {len(seen - declared)} only in rows, "
            f"{len(declared - seen)} only in the catalogue",
        )

    def _types(self) -> tuple[str, ...]:
        seen = {
            value.get("_type")
            for row in self.rows
            for _, value in _fields_of(row)
            if isinstance(value, dict)
        }
        if not seen | self.aggregates:
            raise LookupError(f"no rows of {self.day.day}")
        known = sorted(map(str, seen | self.aggregates))
        if odd := sorted(map(str, (seen - FIELD_TYPES) | (self.aggregates - {*AGGREGATES}))):
            return f"also {', '.join(odd)}", HANDLED, f"kept as JSON; of {len(known)} types"
        return "those documented", AS_ASSUMED, ", ".join(known)

    def _unit(self) -> tuple[str, ...]:
        """A hint: values of rows that are as long as the time between two of their instants."""
        records = [each for each in self.catalogue.live if each.kind == "record"]
        timed = [
            each
            for each in records
            if any(word in f"{each.id} {each.description}".lower() for word in ABOUT_TIME)
        ]
        votes: Counter[str] = Counter()
        for record in timed[:RECORDS_OF_TIME]:
            for row in self._page(record, self.day)["data"] or []:
                votes.update(_units_of(row))
        evidence = ", ".join(f"{count} rows fit {unit}" for unit, count in sorted(votes.items()))
        for unit, other in (("seconds", "milliseconds"), ("milliseconds", "seconds")):
            if votes[unit] >= ENOUGH_ROWS and votes[unit] > ENOUGH_ROWS * votes[other]:
                return unit, AS_ASSUMED, f"{evidence}, in {len(timed[:RECORDS_OF_TIME])} records"
        raise LookupError(f"no value tells by itself: {evidence or 'no row fits any unit'}")

    def _rate_headers(self) -> tuple[str, ...]:
        seen, asked = self.client.rate_headers, self.usage.requests
        if seen:
            return ", ".join(sorted(seen)), AS_ASSUMED, f"in {asked} answers"
        raise LookupError(f"none in {asked} answers, and no 429 was drawn")

    # How they ask.

    def _subjects(self) -> tuple[Entry | None, Entry | None]:
        """A metric with a Count, filters and one record behind it, and that record."""
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

    def _needed(self, entry: Entry | None, what: str) -> Entry:
        if entry is None:
            raise LookupError(f"the catalogue has no {what}")
        return entry

    def _counts(self, metric: Entry) -> Mapping[str, float]:
        """How many are left by a filter of all values, per attribute; asked for once."""
        for attribute in sorted(metric.attributes)[:ATTRIBUTES] if not self.counts else ():
            if values := self._values(attribute):
                self.counts[attribute] = self._count(metric, self.day, {attribute: values}) or 0
        return self.counts

    def _values(self, attribute: str) -> list[str]:
        """Those of a filter attribute, asked for once; none of one that is refused."""
        if attribute not in self.values:
            self._pay()
            self.values[attribute] = []
            with suppress(ApiRefused):
                found = fetch_filter_values(self.client, attribute, self.usage)
                self.values[attribute] = [each.value for each in found]
        return self.values[attribute]

    def _body(
        self, entry: Entry, window: Window, filters: Mapping[str, Sequence[str]] | None = None
    ) -> Json:
        if filters is None:
            filters = self.filters.get(entry.kind, {})
            if not filters.keys() <= entry.attributes:
                own = entry.compulsory_filter(next(iter(filters)))
                filters = {own: self._values(own)} if own else {}
        return Request(entry, filters).body(window)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        self._pay()
        return self.client.ask(method, path, self.usage, body=body, params=params or {})

    def _pay(self) -> None:
        if self.usage.requests >= MOST_REQUESTS:
            raise Spent

    def _metric(
        self, entry: Entry, window: Window, filters: Mapping[str, Sequence[str]] | None = None
    ) -> Json:
        body = self._body(entry, window, filters)
        data: Json = self._ask("POST", "/metrics", body=body).get("data") or {}
        self.aggregates |= {each.get("_type") for each in data.get("aggregates") or []}
        return data

    def _count(
        self, entry: Entry, window: Window, filters: Mapping[str, Sequence[str]] | None = None
    ) -> float | None:
        for each in self._metric(entry, window, filters).get("aggregates") or []:
            if each.get("measure") == "Count":
                return _number(each.get("value"))
        return None

    def _count_of_days(self, entry: Entry, days: int, *, back: int = 0) -> float | None:
        """Of so many days in one period, up to the probe's own or so many days before it."""
        last = Window.of_day(self.day.day - timedelta(days=back), self.timezone)
        start = Window.of_day(last.day - timedelta(days=days - 1), self.timezone).start
        return self._count(entry, Window(last.day, start, last.end, self.timezone))

    def _page(
        self,
        entry: Entry,
        window: Window,
        filters: Mapping[str, Sequence[str]] | None = None,
        *,
        size: int | None = None,
    ) -> Json:
        body = self._body(entry, window, filters)
        if size is None:
            self._pay()
            payload = self.client.fetch_first_page(body, self.usage)
        else:
            payload = self._ask("POST", "/records", body=body, params={"pageLimit": str(size)})
        return {"data": payload.get("data") or [], **payload}

    def _short_page(self) -> Json:
        record = self._needed(self.record, "record")
        payload = self._page(record, self.day, size=2)
        if self.client.next_page(payload) is None:
            raise LookupError(f"'{record.id}' of {self.day.day} has no second page of two rows")
        return payload

    def _all_rows(self, entry: Entry, window: Window) -> list[Json]:
        payload = self._page(entry, window)
        rows: list[Json] = list(payload["data"])
        for _ in range(6):
            key = self.client.next_page(payload)
            if key is None or not payload["data"]:
                # A row on the end is left to the next day.
                return [row for row in rows if _instant(row) != window.end]
            payload = self._ask("POST", "/records", body=self._body(entry, window), params=key)
            payload = {"data": payload.get("data") or [], **payload}
            rows += payload["data"]
        raise LookupError(f"'{entry.id}' has too many pages to compare")

    @staticmethod
    def _is_about_filters(error: ApiRefused) -> bool:
        return error.status == 400 and "filter" in error.answer.lower()


def to_markdown(facts: Sequence[Fact], *, host: str, asked: int) -> str:
    """The findings as a page that can go with a bug report."""
    lines = [
        f"# What Dixa's API at {host} does",
        "",
        f"{asked} requests, none of which changed anything. No row's content stands here.",
        "",
        "| question | assumed | observed | | evidence |",
        "|---|---|---|---|---|",
        *(
            f"| {fact.question} | {fact.assumed} | {fact.observed or '-'} | {fact.verdict} "
            f"| {fact.evidence} |"
            for fact in facts
        ),
    ]
    return "\n".join(lines) + "\n"


def _units_of(row: Json) -> set[str]:
    """The units in which the row's value is the time between two of its instants."""
    value = _number(row.get("value"))
    stamps = {
        parse_instant(each.get("value") or each.get("timestamp"))
        for _, each in _fields_of(row)
        if isinstance(each, dict) and each.get("_type") in ("InstantField", "TimestampField")
    }
    instants = sorted(each for each in {_instant(row), *stamps} if each)
    if value is None:
        return set()
    lengths = {
        (last - first).total_seconds() for first, last in itertools.combinations(instants, 2)
    }
    return {
        unit
        for unit, parts in (("seconds", 1), ("milliseconds", 1000))
        for length in lengths
        # A moment fits any unit.
        if length >= SHORTEST_LENGTH and abs(value / parts - length) <= 1
    }


def _sorted(rows: Sequence[Json] | None) -> list[str]:
    return sorted(map(str, rows or []))


def _fields_of(row: Json) -> Iterator[tuple[Any, Any]]:
    for item in row.get("fields") or []:
        if isinstance(item, dict):
            yield item.get("name"), item.get("field")


def _instant(row: Json) -> datetime | None:
    primary = row.get("primaryTimestampField")
    return parse_instant(primary.get("timestamp")) if isinstance(primary, dict) else None


def _number(value: Any) -> float | None:
    inner = value.get("value") if isinstance(value, dict) else value
    return float(inner) if isinstance(inner, (int, float)) else None
