"""The questions of the probe: the answer to each changes loads, or needs a person.

To add a question, write a function from `ProbeSession` to `Answer` and add it to `QUESTIONS`. No
request changes anything in the account. No answer contains the content of a row: only ids of
metrics, records and attributes, counts, dates and statuses.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from dixa_assets.api.client import PAGE_SIZES
from dixa_assets.errors import ApiError, ApiRefused
from dixa_assets.model.catalogue import Fact
from dixa_assets.model.days import MILLISECOND, Period
from dixa_assets.probe.session import NoAnswer, ProbeSession, instants_of

# The search for a day with data: the first and the last number of days before today.
FIRST_DAY_BACK, LAST_DAY_BACK = 2, 9
# The setting for the filter of records, if it differs from the filter of metrics.
OF_RECORDS = "required_filter_of_records"


class Verdict(StrEnum):
    """How an answer compares with what loads assume."""

    AS_ASSUMED = "as assumed"
    HANDLED = "otherwise: handled"
    NEEDS_YOU = "otherwise: needs you"
    UNKNOWN = "could not be told"


class Answer(NamedTuple):
    """The behaviour of the API in a few words, and the counts, dates and statuses behind it.

    `setting` and `value` are read by `Adaptation.of`; without a setting, loads do not adapt.
    """

    observed: str
    evidence: str
    setting: str = ""
    value: str = ""
    needs_you: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One question to an account's API, and what loads assume without an answer.

    The name identifies stored findings. The advice says what a person should do if the verdict is
    `NEEDS_YOU`.
    """

    name: str
    assumed: str
    answer: Callable[[ProbeSession], Answer]
    advice: str = ""

    def ask(self, api: ProbeSession, now: str) -> Fact:
        """The finding; one with the verdict `UNKNOWN` if there is no answer."""
        try:
            answer = self.answer(api)
        except ApiError as error:
            # The API's message is not stored: it may repeat values of the request.
            answer = Answer("", f"status {error.status}" if error.status else "no usable answer")
        except NoAnswer as error:
            answer = Answer("", str(error))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            answer = Answer("", f"the answer has another form ({type(error).__name__})")
        observed, evidence, setting, value, needs_you = answer
        if not observed:
            verdict = Verdict.UNKNOWN
        elif observed == self.assumed:
            verdict = Verdict.AS_ASSUMED
        elif needs_you:
            verdict = Verdict.NEEDS_YOU
        else:
            verdict = Verdict.HANDLED
        return Fact(self.name, self.assumed, observed, verdict, evidence, now, setting, value)


def token_form(api: ProbeSession) -> Answer:
    """The form of the token that the catalogue was fetched with."""
    if not api.scheme:
        return Answer("the raw token", "status 200")
    return Answer(f"'{api.scheme}' before it", "status 200", "auth_scheme", api.scheme)


def filter_of_metrics(api: ProbeSession) -> Answer:
    """Whether a metric needs a filter. Also find the latest day with data for later questions."""
    for days in range(FIRST_DAY_BACK, LAST_DAY_BACK + 1):
        api.day = api.days_ago(days)
        try:
            count = api.count({})
        except ApiRefused as error:
            counts = _counts_with_filter(api, error)
            if any(counts.values()):
                return _choose_filter(api, counts, "required_filter")
        else:
            if count:
                return Answer("none", f"'{api.metric.id}' of {api.day}: {count:g}")
    raise NoAnswer(f"no rows {FIRST_DAY_BACK} to {LAST_DAY_BACK} days ago")


def filter_of_records(api: ProbeSession) -> Answer:
    """Whether a record needs a filter. Also read the day's first page for later questions."""
    record, day = api.record, api.day.period
    try:
        api.rows = api.page(day)
    except ApiRefused as error:
        if api.required and error.status == 400:
            answer = Answer("compulsory", "status 400 without one")
        else:
            answer = _choose_filter(api, _counts_with_filter(api, error), OF_RECORDS)
        own = record.required_filter_attribute(api.required)
        api.filters = {own: api.values_of(own)} if own else {}
        api.rows = api.page(day)
        return answer
    evidence = f"'{record.id}' of {api.day}: {len(api.rows)} rows"
    # Without this setting, loads would filter records as metrics.
    return Answer("none", evidence, OF_RECORDS if api.required else "")


def _counts_with_filter(api: ProbeSession, error: ApiRefused) -> Mapping[str, float]:
    """Count with each filter. If one is accepted, the API only required a filter."""
    # The API's message is not compared: it varies.
    counts = api.counts_by_attribute() if error.status == 400 else {}
    if not counts:
        raise error
    return counts


def _choose_filter(api: ProbeSession, counts: Mapping[str, float], setting: str) -> Answer:
    """Choose the attribute with the highest Count; among equals, one that is never null."""
    never_null = {item.field for item in api.record.fields if not item.nullable}
    best = api.required = max(counts, key=lambda each: (counts[each], each in never_null))
    kept = ", ".join(f"{each} {count:g}" for each, count in counts.items())
    evidence = f"status 400 without one; '{api.metric.id}' of {api.day} by {kept}"
    may_miss_rows = len({*counts.values()}) > 1
    return Answer(f"compulsory; {best} leaves most", evidence, setting, best, may_miss_rows)


def largest_page(api: ProbeSession) -> Answer:
    """The size of the first page: the largest that the API accepted."""
    if api.rows is None:
        raise NoAnswer("the API returned no page of records")
    size = api.page_size
    evidence = f"pageLimit={size} gave {len(api.rows)} rows"
    if size < PAGE_SIZES[0]:
        return Answer(f"{size} rows", evidence, "page_size", f"{size}")
    return Answer(f"{size} rows", evidence)


def order_of_rows(api: ProbeSession) -> Answer:
    """Whether two smaller pages return the rows of the first page in the same order.

    If only the order differs, loads notice a row that is on two pages and request the day in
    smaller parts. If rows differ although the day is over, no load of it can be certain.
    """
    rows = api.rows or []
    if len(rows) < 2:
        raise NoAnswer(f"fewer than two rows of '{api.record.id}' on {api.day}")
    half = (len(rows) + 1) // 2
    body = api.body(api.record, api.day.period, api.filters)
    pages = api.pages("POST", "/records", body, pageLimit=f"{half}")
    again = [row for page in islice(pages, 2) for row in page][: len(rows)]
    evidence = f"{len(rows)} rows on one page, then on pages of {half}"
    if rows == again:
        return Answer("same rows in the same order", evidence)
    if missing := (Counter(map(str, rows)) - Counter(map(str, again))).total():
        evidence += f"; {missing} did not come again"
        return Answer("other rows", evidence, needs_you=True)
    return Answer("same rows in another order", evidence)


def end_of_period(api: ProbeSession) -> Answer:
    """Whether a row exactly at the end of a period belongs to it."""
    day, instants = api.day.period, instants_of(api.rows or [])
    inside = [each for each in instants if day.start < each < day.end]
    if not inside:
        raise NoAnswer(f"no row of '{api.record.id}' lies inside {api.day}")
    end = inside[len(inside) // 2]
    found = instants_of(api.page(Period(day.start, end)))
    before = sum(each < end for each in instants)
    evidence = f"{len(found)} rows up to the time of one row, {before} before it"
    if len(found) - found.count(end) != before:
        raise NoAnswer(evidence)
    if end in found:
        return Answer("belongs to it", evidence)
    return Answer("does not belong to it", evidence, "period_end", "exclusive")


def timestamp_of_period(api: ProbeSession) -> Answer:
    """Whether a period selects rows by their primary timestamp.

    All rows of the day must lie in it, and the millisecond of one row must return only rows with
    that timestamp.
    """
    day, instants = api.day.period, instants_of(api.rows or [])
    if not instants:
        raise NoAnswer(f"no row of '{api.record.id}' on {api.day}")
    outside = sum(not day.start <= each <= day.end for each in instants)
    one = instants[len(instants) // 2]
    here = instants_of(api.page(Period(one, one + MILLISECOND)))
    others = sum(each not in (one, one + MILLISECOND) for each in here)
    evidence = (
        f"{outside} of {len(instants)} rows lie outside {api.day}; the millisecond of one row "
        f"gave {here.count(one)} of its time and {others} of other times"
    )
    if one in here and not outside and not others:
        return Answer("the row's primary timestamp", evidence)
    observed = "not the primary timestamp"
    return Answer(observed, evidence, "period_timestamp", "not primary", needs_you=True)


ABOUT_FILTERS = (
    "Dixa rejects requests without a filter, so loads send all values of one attribute: the one "
    "with the highest Count. Rows without a value of it are not loaded. If every conversation has "
    "a value of another attribute, set DIXA_REQUIRED_FILTER to that attribute."
)
# In this order: the first questions find the day, the filter and the rows for the later ones.
QUESTIONS: Sequence[Question] = (
    Question("form of the token", "the raw token", token_form),
    Question("compulsory filter, metrics", "none", filter_of_metrics, ABOUT_FILTERS),
    Question("compulsory filter, records", "none", filter_of_records, ABOUT_FILTERS),
    Question("largest page", f"{PAGE_SIZES[0]} rows", largest_page),
    Question(
        "same question twice",
        "same rows in the same order",
        order_of_rows,
        "Two requests for the same day returned different rows. Run the probe again: if rows were "
        "added in between, the answer changes. Otherwise loads can miss rows. The check "
        "`reconciliation` compares the rows of a day with their metric. Reload the days that it "
        "shows.",
    ),
    Question("end of a period", "belongs to it", end_of_period),
    Question(
        "timestamp of a period",
        "the row's primary timestamp",
        timestamp_of_period,
        "Dixa does not select the rows of a day by their primary timestamp. Loads keep all rows "
        "and count those outside their day in `rows_outside_window`. Group by `partition_date` for "
        "Dixa's days, by `primary_timestamp` for the row's own.",
    ),
)
