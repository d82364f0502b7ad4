"""The questions of the probe: each needs an answer that changes a load, or that a person acts on.

To add a question, write a function from `Conversation` to `Answer` and add it to `QUESTIONS`. No
request changes anything in the account. No answer contains the content of a row: only ids of
metrics, records and attributes, counts, dates and statuses.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from dixa_assets.api.client import PAGE_SIZES
from dixa_assets.errors import ApiError, ApiRefused
from dixa_assets.model.catalogue import Kind
from dixa_assets.model.days import MILLISECOND, Period
from dixa_assets.model.values import parse_instant
from dixa_assets.probe.conversation import (
    Conversation,
    Json,
    NoAnswer,
    instant_of,
    instants_of,
    number_of,
)

# The search for a day with data ends at this number of days before today.
MAX_DAYS_BACK = 10
# The start of history is found to this number of days.
HISTORY_DAYS = 7
# The unit of durations: read this number of records whose id or description has one of the words,
# take values of at least this number of seconds, and need this number of matching rows.
DURATION_WORDS = ("second", "duration", "time", "length", "wait", "presence")
DURATION_RECORDS = 4
MIN_SECONDS = 5
MIN_ROWS = 5
# The question about the zone compares the account's zone with the first other one.
ZONES = ("Pacific/Auckland", "Europe/Copenhagen")


class Verdict(StrEnum):
    """How an answer compares with what loads assume."""

    AS_ASSUMED = "as assumed"
    HANDLED = "otherwise: handled"
    NEEDS_YOU = "otherwise: needs you"
    UNKNOWN = "could not be told"


@dataclass(frozen=True, slots=True)
class Answer:
    """The API's answer to one question.

    Args:
        observed: What the API does, in a few words; empty without an answer.
        verdict: How that compares with the assumption.
        evidence: The counts, dates and statuses behind it.
        setting: The name that `Adaptation.of` reads, if loads adapt; empty: they do not.
        value: The value of that setting.
    """

    observed: str
    verdict: Verdict
    evidence: str
    setting: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One question to an account's API.

    Args:
        name: The question in a few words; stored findings are known by it.
        assumed: What loads assume without an answer.
        answer: Sends the requests and returns the answer. It may raise `NoAnswer` or `ApiError`.
        advice: What a person should know and do if the verdict is `NEEDS_YOU`.
    """

    name: str
    assumed: str
    answer: Callable[[Conversation], Answer]
    advice: str = ""

    def ask(self, api: Conversation) -> Answer:
        """The answer; one with the verdict `UNKNOWN` if there is none."""
        try:
            return self.answer(api)
        except ApiError as error:
            # The API's message is left out: it may repeat values of the request.
            evidence = f"status {error.status}" if error.status else "no usable answer"
        except NoAnswer as error:
            evidence = str(error)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            evidence = f"the answer has another form ({type(error).__name__})"
        return Answer("", Verdict.UNKNOWN, evidence)


def token_form(api: Conversation) -> Answer:
    """The form of the token that the catalogue was fetched with."""
    observed = f"'{api.auth_scheme}' before it" if api.auth_scheme else "the raw token"
    if not api.is_raw_token_refused:
        return Answer(observed, Verdict.AS_ASSUMED, "status 200")
    evidence = "status 401 for the raw token"
    return Answer(observed, Verdict.HANDLED, evidence, "auth_scheme", api.auth_scheme)


def filter_of_metrics(api: Conversation) -> Answer:
    """Whether a metric needs a filter. Also finds the latest day with data for later questions."""
    for days in range(2, MAX_DAYS_BACK):
        api.day = api.days_ago(days)
        try:
            count = api.count(api.day.period)
        except ApiRefused as error:
            # The message varies. If the request succeeds with a filter, the filter was missing.
            counts = api.counts_by_attribute() if error.status == 400 else {}
            if not counts:
                raise
            if any(counts.values()):
                return _require_filter(api, error, counts, "required_filter", "metric", "record")
        else:
            if count:
                evidence = f"'{api.metric.id}' of {api.day}: {count:g}"
                return Answer("none", Verdict.AS_ASSUMED, evidence)
    raise NoAnswer(f"no rows in the last {MAX_DAYS_BACK} days")


def filter_of_records(api: Conversation) -> Answer:
    """Whether a record needs a filter. Also reads the day's first page for later questions."""
    record, day = api.record, api.day.period
    try:
        api.first_page = api.page(record, day, {})
    except ApiRefused as error:
        if error.status != 400:
            raise
        answer = Answer("compulsory", Verdict.HANDLED, f"status {error.status} without one")
        if not api.filters:
            counts = api.counts_by_attribute()
            if not counts:
                raise
            setting = "required_filter_of_records"
            answer = _require_filter(api, error, counts, setting, "record")
        api.first_page = api.page(record, day)
        return answer
    evidence = f"'{record.id}' of {api.day}: {len(api.first_page['data'])} rows"
    # Without this setting, loads would filter records as metrics.
    setting = "required_filter_of_records" if api.filters.pop("record", None) else ""
    return Answer("none", Verdict.AS_ASSUMED, evidence, setting)


def _require_filter(
    api: Conversation,
    error: ApiRefused,
    counts: Mapping[str, float],
    setting: str,
    *kinds: Kind,
) -> Answer:
    """Choose the attribute that keeps most, and filter later requests by all its values."""
    # Among equals, prefer an attribute that every row has by the catalogue.
    always = {item.field for item in api.record.fields if not item.nullable}
    best = max(counts, key=lambda each: (counts[each], each in always))
    api.filters |= dict.fromkeys(kinds, {best: api.values_of(best)})
    kept = ", ".join(f"{each} {count:g}" for each, count in counts.items())
    return Answer(
        f"compulsory; {best} leaves most",
        Verdict.NEEDS_YOU if len({*counts.values()}) > 1 else Verdict.HANDLED,
        f"status {error.status} without one; '{api.metric.id}' of {api.day} by {kept}",
        setting,
        best,
    )


def largest_page(api: Conversation) -> Answer:
    """The size of the first page: the largest that the API accepted."""
    if api.first_page is None:
        raise NoAnswer("the API returned no page of records")
    size, rows = api.page_size, len(api.first_page["data"])
    evidence = f"pageLimit={size} gave {rows} rows"
    key = api.client.next_page(api.first_page)
    if key and rows < size:
        body = api.body(api.record, api.day.period)
        if api.request("POST", "/records", body=body, params=key).get("data"):
            return Answer(f"{rows} rows", Verdict.HANDLED, f"{evidence}, and the next page more")
    if size == PAGE_SIZES[0]:
        return Answer(f"{size} rows", Verdict.AS_ASSUMED, evidence)
    return Answer(f"{size} rows", Verdict.HANDLED, evidence, "page_size", f"{size}")


def order_of_rows(api: Conversation) -> Answer:
    """Whether the rows of the first page come again, in the same order, on two smaller pages.

    A load reads the pages of a day one after the other. If the order changes between two requests,
    a row can move from a page that is still to be read to one that was read before, or back.
    """
    rows, again = api.rows, list[Json]()
    if len(rows) < 2:
        raise NoAnswer(f"'{api.record.id}' of {api.day} has only one row")
    body, half = api.body(api.record, api.day.period), (len(rows) + 1) // 2
    params: dict[str, str] | None = {"pageLimit": f"{half}"}
    while params and len(again) < len(rows):
        payload = api.request("POST", "/records", body=body, params=params)
        again += payload.get("data") or []
        params = api.client.next_page(payload) if payload.get("data") else None
    again = again[: len(rows)]
    instants = Counter(api.instants)
    shared = sum(count for count in instants.values() if count > 1)
    evidence = (
        f"{len(rows)} rows on one page, then on pages of {half}; {shared} share their millisecond "
        "with another row"
    )
    if rows == again:
        return Answer("same rows, same order", Verdict.AS_ASSUMED, evidence)
    missing = (Counter(map(str, rows)) - Counter(map(str, again))).total()
    if missing:
        return Answer("other rows", Verdict.NEEDS_YOU, f"{evidence}; {missing} did not come again")
    return Answer("same rows in another order", Verdict.NEEDS_YOU, evidence)


def end_of_period(api: Conversation) -> Answer:
    """Whether a row exactly at the end of a period belongs to it."""
    record, day = api.record, api.day.period
    inside = [each for each in api.instants if day.start < each < day.end]
    if not inside:
        raise NoAnswer(f"no row of '{record.id}' lies inside {api.day}")
    end = inside[len(inside) // 2]
    found = instants_of(api.page(record, Period(day.start, end))["data"])
    before, after = sum(each < end for each in api.instants), sum(each > end for each in found)
    evidence = f"{len(found)} rows up to the time of one row, {before} before it"
    if after:
        raise NoAnswer(f"{evidence}, and {after} of them after it")
    if end in found:
        return Answer("belongs to it", Verdict.AS_ASSUMED, evidence)
    if len(found) != before:
        raise NoAnswer(evidence)
    return Answer("does not belong to it", Verdict.HANDLED, evidence, "period_end", "exclusive")


def timestamp_of_period(api: Conversation) -> Answer:
    """Whether a period selects rows by their primary timestamp.

    All rows of the day must lie in it. One row must come for its own millisecond, and not for the
    hour after it.
    """
    day, instants = api.day.period, api.instants
    outside = sum(not day.start <= each <= day.end for each in instants)
    one = instants[len(instants) // 2]
    after = one + MILLISECOND
    here, later = (
        instants_of(api.page(api.record, period)["data"])
        for period in (Period(one, after), Period(after, after + timedelta(hours=1)))
    )
    others = sum(each not in (one, after) for each in here)
    evidence = (
        f"{outside} of {len(instants)} rows lie outside {api.day}; rows of one time: "
        f"{here.count(one)} in its millisecond, {later.count(one)} in the hour after it; rows of "
        f"other times in its millisecond: {others}"
    )
    if not outside and not others and one in here and one not in later:
        return Answer("the primary timestamp", Verdict.AS_ASSUMED, evidence)
    observed = "not the primary timestamp"
    return Answer(observed, Verdict.NEEDS_YOU, evidence, "period_timestamp", "not primary")


def zone_of_period(api: Conversation) -> Answer:
    """Whether a request's zone changes a metric, though its period is given in UTC."""
    body = api.body(api.metric, api.day.period)
    other = next(each for each in ZONES if each != api.timezone)
    here, there = (
        api.request("POST", "/metrics", body={**body, "timezone": zone}).get("data")
        for zone in (api.timezone, other)
    )
    evidence = f"'{api.metric.id}' of {api.day} in {api.timezone} and in {other}"
    if here == there:
        return Answer("changes nothing", Verdict.AS_ASSUMED, evidence)
    return Answer("changes the number", Verdict.NEEDS_YOU, evidence)


def unit_of_durations(api: Conversation) -> Answer:
    """A hint: the unit in which values equal the time between two instants of their row."""
    records = [
        each
        for each in api.entries("record")
        if any(word in f"{each.id} {each.description}".lower() for word in DURATION_WORDS)
    ][:DURATION_RECORDS]
    votes: Counter[str] = Counter()
    for record in records:
        for row in api.page(record, api.day.period)["data"]:
            votes.update(_units_of(row))
    evidence = ", ".join(f"{count} rows fit {unit}" for unit, count in sorted(votes.items()))
    for unit, other in (("seconds", "milliseconds"), ("milliseconds", "seconds")):
        if votes[unit] >= MIN_ROWS and votes[unit] > MIN_ROWS * votes[other]:
            return Answer(unit, Verdict.AS_ASSUMED, f"{evidence}, in {len(records)} records")
    raise NoAnswer(f"no unit fits enough rows: {evidence or 'none fits any'}")


def _units_of(row: Json) -> set[str]:
    """The units in which the row's value is the time between two of its instants."""
    value = number_of(row.get("value"))
    if value is None:
        return set()
    fields = [item.get("field") for item in row.get("fields") or [] if isinstance(item, dict)]
    stamps = {
        parse_instant(each.get("value") or each.get("timestamp"))
        for each in fields
        if isinstance(each, dict) and each.get("_type") in ("InstantField", "TimestampField")
    }
    instants = sorted(each for each in {instant_of(row), *stamps} if each)
    lengths = {
        (last - first).total_seconds() for first, last in itertools.combinations(instants, 2)
    }
    return {
        unit
        for unit, parts in (("seconds", 1), ("milliseconds", 1000))
        for length in lengths
        # A very short time fits both units.
        if length >= MIN_SECONDS and abs(value / parts - length) <= 1
    }


def start_of_history(api: Conversation) -> Answer:
    """Goes back by years to a week without data, then halves the time up to that week."""
    if not api.count_of_days(HISTORY_DAYS):
        raise NoAnswer(f"no rows of the {HISTORY_DAYS} days to {api.day}")
    there, gone = 0, 0
    for years in (1, 2, 3, 5, 8):
        if not api.count_of_days(HISTORY_DAYS, back=365 * years):
            gone = 365 * years
            break
        there = 365 * years
    while gone - there > HISTORY_DAYS:
        middle = (there + gone) // 2
        if api.count_of_days(HISTORY_DAYS, back=middle):
            there = middle
        else:
            gone = middle
    earliest = api.day.date - timedelta(days=there)
    evidence = f"'{api.metric.id}' of the {HISTORY_DAYS} days to {earliest} has a value"
    if gone:
        evidence += f", and none {gone - there} days before"
    return Answer(f"to {earliest} at least", Verdict.AS_ASSUMED, evidence)


_ABOUT_FILTERS = (
    "Dixa rejects requests without a filter, so loads send all values of one attribute: the one "
    "that keeps most. Rows without a value of it are not loaded. If every conversation has a value "
    "of another attribute, name that one in DIXA_REQUIRED_FILTER."
)
# In this order: the first questions find the filter, the day and the rows for the later ones.
QUESTIONS: Sequence[Question] = (
    Question("form of the token", "the raw token", token_form),
    Question("compulsory filter, metrics", "none", filter_of_metrics, _ABOUT_FILTERS),
    Question("compulsory filter, records", "none", filter_of_records, _ABOUT_FILTERS),
    Question("largest page", f"{PAGE_SIZES[0]} rows", largest_page),
    Question(
        "same question twice",
        "same rows in the same order",
        order_of_rows,
        "Dixa does not keep the order of rows. On a day with more rows than one page, a load can "
        "store one row twice and miss another, and does not always notice. The check "
        "`reconciliation` compares the rows of a day with their metric: load the days again on "
        "which it fails.",
    ),
    Question("end of a period", "belongs to it", end_of_period),
    Question(
        "timestamp of a period",
        "the row's primary timestamp",
        timestamp_of_period,
        "Dixa selects the rows of a day by a timestamp that is not in the row. Loads keep all rows "
        "and count those outside their day in `rows_outside_window`. Group by `partition_date` for "
        "Dixa's days, by `primary_timestamp` for the row's own.",
    ),
    Question(
        "zone of a request",
        "changes no number",
        zone_of_period,
        "Dixa reads a period in the request's zone, though it is given in UTC. Set DIXA_TIMEZONE "
        "to the zone of your Dixa organisation: with another zone, numbers belong to other hours.",
    ),
    Question("unit of durations", "none: numbers as given", unit_of_durations),
    Question("history", "none: days without data are empty", start_of_history),
)
