"""What an account's API does where the vendor's documentation is silent: asked once, politely.

Nothing here changes anything in the account, and no finding holds a row's content: ids of metrics,
records and attributes, counts, types and statuses only.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from dixa_assets.api.client import PAGE_SIZES
from dixa_assets.api.extract import AGGREGATES
from dixa_assets.errors import ApiError, ApiRefused
from dixa_assets.model.catalogue import Fact, Kind
from dixa_assets.model.days import MILLISECOND, Window
from dixa_assets.model.values import FIELD_TYPES, parse_instant
from dixa_assets.probe.conversation import (
    Conversation,
    Ended,
    Json,
    instant_of,
    number,
)

# Two questions that are told beside each other.
ABOUT_FILTERS = ("compulsory filter, metrics", "compulsory filter, records")
# So many days back are looked at for one with rows.
DAYS_BACK = 10
# History is told to so many days.
ENOUGH_DAYS = 7
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


@dataclass
class Probe:
    """The open questions, asked in one conversation.

    Args:
        api: The conversation, not yet begun.
        say: Told of each finding as it comes.
    """

    api: Conversation
    say: Callable[[str], None] = field(default=lambda line: None)

    def run(self, since: str, facts: Sequence[Fact] = ()) -> list[Fact]:
        """Every finding, those of `facts` first; `since` is the instant noted with them."""
        found = list(facts)
        for question, assumed, ask in self._questions():
            try:
                observed, verdict, evidence, *adapted = ask()
            except ApiError as error:
                # Not the vendor's words: they may repeat what was asked for.
                status = f"status {error.status}" if error.status else "no usable answer"
                observed, verdict, evidence, adapted = "", UNKNOWN, status, []
            except (Ended, LookupError) as error:
                observed, verdict, evidence, adapted = "", UNKNOWN, str(error.args[0]), []
            except (AttributeError, TypeError, ValueError) as error:
                observed, verdict, adapted = "", UNKNOWN, []
                evidence = f"the answer has another form ({type(error).__name__})"
            setting, value = adapted or ("", "")
            fact = Fact(question, assumed, observed, verdict, evidence, since, setting, value)
            self.say(f"{len(found) + 1:2} {question}: {observed or evidence} ({verdict})")
            found.append(fact)
        return found + [
            Fact(question, assumed, "", UNKNOWN, why, since) for question, assumed, why in NOT_ASKED
        ]

    def _questions(self) -> Iterator[tuple[str, str, Callable[[], tuple[str, ...]]]]:
        for_metrics, for_records = ABOUT_FILTERS
        yield for_metrics, "none", self._filter_for_metrics
        yield for_records, "none", self._filter_for_records
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
        for back in range(2, DAYS_BACK):
            self.api.day = self.api.days_ago(back)
            try:
                count = self.api.count(self.api.day)
            except ApiRefused as error:
                # Whatever it says: what is accepted with a filter lacked one.
                if error.status != 400 or not self.api.counts():
                    raise
                if any(self.api.counts().values()):
                    return self._choose_filter(error, "required_filter", "metric", "record")
            else:
                if count:
                    evidence = f"'{self.api.metric.id}' of {self.api.day.day}: {count:g}"
                    return "none", AS_ASSUMED, evidence
        raise LookupError(f"no rows in the last {DAYS_BACK} days")

    def _choose_filter(self, error: ApiRefused, setting: str, *kinds: Kind) -> tuple[str, ...]:
        """Take the attribute with which most is left, since a filter is compulsory."""
        metric, counts = self.api.metric, self.api.counts()
        if not counts:
            raise error
        # Among equals, one that every row has by the catalogue.
        always = {item.field for item in self.api.record.fields if not item.nullable}
        best = max(counts, key=lambda each: (counts[each], each in always))
        self.api.filters |= dict.fromkeys(kinds, {best: self.api.values_of(best)})
        tried = ", ".join(f"{each} {count:g}" for each, count in counts.items())
        return (
            f"compulsory; {best} leaves most",
            NEEDS_YOU if len(set(counts.values())) > 1 else HANDLED,
            f"status {error.status} without one; '{metric.id}' of {self.api.day.day} by {tried}",
            setting,
            best,
        )

    def _filter_for_records(self) -> tuple[str, ...]:
        record = self.api.record
        try:
            self.api.rows = self.api.page(record, self.api.day, {})["data"]
        except ApiRefused as error:
            if error.status != 400:
                raise
            chosen: tuple[str, ...] = ("compulsory", HANDLED, f"status {error.status} without one")
            if not self.api.filters:
                chosen = self._choose_filter(error, "required_filter_of_records", "record")
            self.api.rows = self.api.page(record, self.api.day)["data"]
            return chosen
        evidence = f"'{record.id}' of {self.api.day.day}: {len(self.api.rows)} rows"
        if self.api.filters.pop("record", None):
            return "none", AS_ASSUMED, evidence, "required_filter_of_records", ""
        return "none", AS_ASSUMED, evidence

    def _all_values(self) -> tuple[str, ...]:
        metric = self.api.metric
        if "metric" in self.api.filters:
            raise LookupError("a filter is compulsory, so there is no total to compare with")
        total = self.api.count(self.api.day)
        counts = self.api.counts()
        losing = [each for each, count in counts.items() if count < total]
        return (
            f"loses rows for {', '.join(losing)}" if losing else "loses no row",
            AS_ASSUMED,
            f"'{metric.id}' of {self.api.day.day}: {total:g}; "
            + ", ".join(f"{each} {count:g}" for each, count in counts.items()),
        )

    def _largest_page(self) -> tuple[str, ...]:
        record = self.api.record
        body = self.api.body(record, self.api.day)
        without = len(self.api.ask("POST", "/records", body=body).get("data") or [])
        for size in PAGE_SIZES:
            try:
                payload = self.api.ask(
                    "POST", "/records", body=body, params={"pageLimit": f"{size}"}
                )
            except ApiRefused as error:
                if error.status != 400:
                    raise
                continue
            rows = payload.get("data") or []
            evidence = f"pageLimit={size} gave {len(rows)} rows, none {without}"
            if len(rows) < size and self.api.client.next_page(payload) is not None:
                return f"{len(rows)} rows", HANDLED, f"{evidence}, and more followed"
            if size == PAGE_SIZES[0]:
                return f"{size} rows", AS_ASSUMED, evidence
            return f"{size} rows", HANDLED, evidence, "page_size", f"{size}"
        raise LookupError(f"each of {PAGE_SIZES} was refused")

    def _link(self) -> tuple[str, ...]:
        payload = self.api.short_page()
        link = (payload.get("meta") or {}).get("next")
        if isinstance(link, str) and "pageKey" in link:
            form = "an absolute link" if "://" in link else "a relative link"
        elif link:
            form = "a key in place of the link"
        else:
            form = "a key beside the data"
        return form, AS_ASSUMED, "in meta.next" if link else "in pageKey"

    def _link_at_the_end(self) -> tuple[str, ...]:
        record = self.api.record
        instants = sorted(filter(None, map(instant_of, self.api.rows)))[:10]
        if len(instants) < 2 or instants[-1] <= self.api.day.start:
            raise LookupError(f"'{record.id}' of {self.api.day.day} has {len(self.api.rows)} rows")
        few = Window(self.api.day.day, self.api.day.start, instants[-1], self.api.timezone)
        rows = self.api.page(record, few)["data"]
        payload = self.api.page(record, few, size=len(rows))
        key = self.api.client.next_page(payload)
        if key is None:
            return "none", AS_ASSUMED, f"{len(rows)} rows in a page of as many, no link"
        then = self.api.ask("POST", "/records", body=self.api.body(record, few), params=key)
        link = "no link" if self.api.client.next_page(then) is None else "a link again"
        evidence = (
            f"a link after all {len(rows)} rows, then {len(then.get('data') or [])} and {link}"
        )
        return "there is one", HANDLED, evidence

    def _body_with_key(self) -> tuple[str, ...]:
        record = self.api.record
        key = self.api.client.next_page(self.api.short_page())
        with_body = self.api.ask(
            "POST", "/records", body=self.api.body(record, self.api.day), params=key
        )
        try:
            without = self.api.ask("POST", "/records", params=key)
        except ApiRefused as error:
            return "is needed", AS_ASSUMED, f"status {error.status} without it"
        same = _sorted(without.get("data")) == _sorted(with_body.get("data"))
        return (
            ("is not needed" if same else "changes the rows"),
            AS_ASSUMED,
            "asked with and without",
        )

    def _twice(self) -> tuple[str, ...]:
        record = self.api.record
        pages = [self.api.page(record, self.api.day)["data"] for _ in range(2)]
        if pages[0] == pages[1]:
            return "same rows, same order", AS_ASSUMED, f"{len(pages[0])} rows twice"
        same = _sorted(pages[0]) == _sorted(pages[1])
        return (
            "same rows in another order" if same else "other rows",
            HANDLED if same else NEEDS_YOU,
            f"{len(pages[0])} and {len(pages[1])} rows",
        )

    def _end(self) -> tuple[str, ...]:
        record = self.api.record
        instants = sorted(filter(None, map(instant_of, self.api.rows)))
        inside = [each for each in instants if self.api.day.start < each < self.api.day.end]
        if not inside:
            raise LookupError(f"no row of '{record.id}' lies inside {self.api.day.day}")
        end = inside[len(inside) // 2]
        until = Window(self.api.day.day, self.api.day.start, end, self.api.timezone)
        rows = self.api.page(record, until)["data"]
        here = sum(instant_of(row) == end for row in rows)
        expected = sum(each < end for each in instants)
        evidence = f"{len(rows)} rows up to one row's instant, {expected} before it"
        if here:
            return "belongs to it", AS_ASSUMED, evidence
        if len(rows) != expected:
            raise LookupError(evidence)
        return "does not belong to it", HANDLED, evidence, "period_end", "exclusive"

    def _timestamp(self) -> tuple[str, ...]:
        """Whether rows are where they were asked for: in the day, and in one row's millisecond."""
        record = self.api.record
        instants = sorted(each for each in map(instant_of, self.api.rows) if each)
        if not instants:
            raise LookupError(f"no rows of {self.api.day.day}")
        outside = sum(not self.api.day.start <= each <= self.api.day.end for each in instants)
        one = instants[len(instants) // 2]
        after = one + MILLISECOND
        here, later = (
            [instant_of(row) for row in self.api.page(record, window)["data"]]
            for window in (
                Window(self.api.day.day, one, after, self.api.timezone),
                Window(self.api.day.day, after, after + timedelta(hours=1), self.api.timezone),
            )
        )
        others = sum(each not in (one, after) for each in here)
        evidence = (
            f"{outside} of {len(instants)} rows lie outside {self.api.day.day}; one row's "
            f"millisecond gave {here.count(one)} of its time and {others} of others, the hour "
            f"after it {later.count(one)} of its time"
        )
        if not outside and set(here) <= {one, after} and one in here and one not in later:
            return "the primary timestamp", AS_ASSUMED, evidence
        return "another one", NEEDS_YOU, evidence, "period_timestamp", "another"

    def _together(self) -> tuple[str, ...]:
        ago = (self.api.today - self.api.day.day).days
        days = [self.api.days_ago(ago + back) for back in (2, 1, 0)]
        record = self.api.quiet_record()
        alone = [row for day in days for row in self.api.rows_in(record, day)]
        joint = Window(days[0].day, days[0].start, days[-1].end, self.api.timezone)
        together = self.api.rows_in(record, joint)
        evidence = f"'{record.id}': {len(alone)} rows of three days alone, {len(together)} together"
        if _sorted(alone) == _sorted(together):
            return "the same rows", AS_ASSUMED, evidence
        return "other rows", HANDLED, evidence, "days_together", "1"

    def _longest(self) -> tuple[str, ...]:
        one, accepted = self.api.count_of_days(1), 1
        for days in (92, 366):
            try:
                count = self.api.count_of_days(days)
            except ApiRefused as error:
                if error.status != 400:
                    raise
                evidence = f"{days} days were refused with {error.status}"
                if accepted > 1:
                    evidence = f"{accepted} days were accepted, {evidence}"
                    return f"less than {days} days", HANDLED, evidence
                accepted = self.api.longest = self._accepted((31, 7))
                evidence = f"{accepted} days were accepted, {evidence}"
                setting = "longest_period", f"{accepted}"
                return f"less than {days} days", HANDLED, evidence, *setting
            if one and count <= one:
                return f"{days} days count no more than one", HANDLED, f"{count:g} and {one:g}"
            accepted = self.api.longest = days
        return f"at least {accepted} days", AS_ASSUMED, f"{accepted} days were accepted"

    def _accepted(self, candidates: Sequence[int]) -> int:
        """The first number of days that is accepted as one period; 1 if none is."""
        for days in candidates:
            with suppress(ApiRefused):
                self.api.count_of_days(days)
                return days
        return 1

    def _history(self) -> tuple[str, ...]:
        """Years back, then halving between the last with values and the first without."""
        metric = self.api.metric
        # Less than is accepted: a day of 25 hours may be among them.
        days = max(min(self.api.longest - 1, 6), 1)
        there, gone = 0, 0
        if not self.api.count_of_days(days):
            raise LookupError(f"no rows of the days to {self.api.day.day}")
        for years in (1, 2, 3, 5, 8):
            if not self.api.count_of_days(days, back=365 * years):
                gone = 365 * years
                break
            there = 365 * years
        while gone - there > ENOUGH_DAYS:
            middle = (there + gone) // 2
            if self.api.count_of_days(days, back=middle):
                there = middle
            else:
                gone = middle
        earliest = self.api.day.day - timedelta(days=there)
        evidence = f"'{metric.id}' of the {days} days to {earliest} has a value"
        if gone:
            evidence += f", none {gone - there} days before"
        return f"to {earliest} at least", AS_ASSUMED, evidence

    def _empty(self) -> tuple[str, ...]:
        metric, day = self.api.metric, Window.of_day(date(2001, 1, 1), self.api.timezone)
        values = [each.get("value") for each in self.api.aggregates_of(metric, day)]
        if not values:
            return "no aggregate", AS_ASSUMED, f"'{metric.id}' of 2001-01-01"
        said = "0" if 0 in map(number, values) else "null"
        return said, AS_ASSUMED if said == "null" else HANDLED, f"'{metric.id}' of 2001-01-01"

    def _measures(self) -> tuple[str, ...]:
        metrics = [each for each in self.api.catalogue.live if each.kind == "metric"]
        if not metrics:
            raise LookupError("the catalogue has no metric")
        metric = max(metrics, key=lambda each: len(each.aggregations))
        body = self.api.body(metric, self.api.day)
        body.pop("aggregations", None)
        answer = self.api.ask("POST", "/metrics", body=body).get("data") or {}
        came = sorted(str(each.get("measure")) for each in answer.get("aggregates") or [])
        advertised = sorted(item.measure for item in metric.aggregations)
        said = "all of them" if came == advertised else ", ".join(came) or "none"
        return f"{said} came", AS_ASSUMED, f"'{metric.id}' advertises {', '.join(advertised)}"

    def _zone(self) -> tuple[str, ...]:
        metric = self.api.metric
        body = self.api.body(metric, self.api.day)
        here, there = (
            self.api.ask("POST", "/metrics", body=body | {"timezone": zone}).get("data")
            for zone in (self.api.timezone, "Pacific/Auckland")
        )
        if here == there:
            return (
                "changes nothing",
                AS_ASSUMED,
                f"'{metric.id}' of {self.api.day.day} in two zones",
            )
        return "changes the number", NEEDS_YOU, f"'{metric.id}' of {self.api.day.day} in two zones"

    def _fields(self) -> tuple[str, ...]:
        record = self.api.record
        if not self.api.rows:
            raise LookupError(f"no rows of {self.api.day.day}")
        seen = {str(name) for row in self.api.rows for name, _ in _fields_of(row)}
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
            for row in self.api.rows
            for _, value in _fields_of(row)
            if isinstance(value, dict)
        }
        if not seen | self.api.aggregates:
            raise LookupError(f"no rows of {self.api.day.day}")
        known = sorted(map(str, seen | self.api.aggregates))
        if odd := sorted(map(str, (seen - FIELD_TYPES) | (self.api.aggregates - {*AGGREGATES}))):
            return f"also {', '.join(odd)}", HANDLED, f"kept as JSON; of {len(known)} types"
        return "those documented", AS_ASSUMED, ", ".join(known)

    def _unit(self) -> tuple[str, ...]:
        """A hint: values of rows that are as long as the time between two of their instants."""
        records = [each for each in self.api.catalogue.live if each.kind == "record"]
        timed = [
            each
            for each in records
            if any(word in f"{each.id} {each.description}".lower() for word in ABOUT_TIME)
        ]
        votes: Counter[str] = Counter()
        for record in timed[:RECORDS_OF_TIME]:
            for row in self.api.page(record, self.api.day)["data"]:
                votes.update(_units_of(row))
        evidence = ", ".join(f"{count} rows fit {unit}" for unit, count in sorted(votes.items()))
        for unit, other in (("seconds", "milliseconds"), ("milliseconds", "seconds")):
            if votes[unit] >= ENOUGH_ROWS and votes[unit] > ENOUGH_ROWS * votes[other]:
                return unit, AS_ASSUMED, f"{evidence}, in {len(timed[:RECORDS_OF_TIME])} records"
        raise LookupError(f"no value tells by itself: {evidence or 'no row fits any unit'}")

    def _rate_headers(self) -> tuple[str, ...]:
        seen, asked = self.api.client.rate_headers, self.api.requests
        if seen:
            return ", ".join(sorted(seen)), AS_ASSUMED, f"in {asked} answers"
        raise LookupError(f"none in {asked} answers, and no 429 was drawn")


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
    value = number(row.get("value"))
    stamps = {
        parse_instant(each.get("value") or each.get("timestamp"))
        for _, each in _fields_of(row)
        if isinstance(each, dict) and each.get("_type") in ("InstantField", "TimestampField")
    }
    instants = sorted(each for each in {instant_of(row), *stamps} if each)
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
